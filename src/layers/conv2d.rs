//! 2-D convolution with stride, the downsampling of the analysis transform (LeCun et al. 1989; used so by Balle, Laparra,
//! Simoncelli 2016):
//! `y[o][i][j] = bias[o] + sum_{c,u,v} w[o][c][u][v] x[c][stride i + u - kernel/2][stride j + v - kernel/2]` with zeros
//! outside. The input is `[inputs][h][w]`, the output `[outputs][ceil(h/stride)][ceil(w/stride)]`.

use crate::tensor::Shape;
use kernels::fast::{self, PackedConv, Scratch};
use kernels::Level;

/// The sizes of a convolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv2d {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the kernel, odd; the padding is `kernel / 2`.
    pub kernel: usize,
    /// Step between two outputs, in inputs.
    pub stride: usize,
}

impl Conv2d {
    /// Number of weights, `[outputs][inputs][kernel][kernel]`.
    pub fn weights_len(&self) -> usize {
        self.inputs * self.outputs * self.kernel * self.kernel
    }

    /// The shape of the output for an input of shape `x`.
    pub fn output(&self, x: Shape) -> Shape {
        let sized = self.sized(x);
        Shape::new(self.outputs, sized.out_height(), sized.out_width())
    }

    /// The sizes in the form that the kernels take, for an input of shape `x`.
    pub fn sized(&self, x: Shape) -> kernels::Conv2d {
        kernels::Conv2d {
            in_channels: self.inputs,
            out_channels: self.outputs,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.kernel / 2,
            in_height: x.height,
            in_width: x.width,
        }
    }

    /// Brings the weights into the order of the kernels, for any input shape.
    pub fn pack(&self, w: &[f32], packed: &mut PackedConv) {
        packed.pack(&self.sized(Shape::new(self.inputs, self.kernel, self.kernel)), w);
    }

    /// `y =` the output for input `x` of shape `shape`.
    pub fn forward(
        &self,
        level: Level,
        shape: Shape,
        x: &[f32],
        w: &PackedConv,
        bias: &[f32],
        y: &mut [f32],
        scratch: &mut Scratch,
    ) {
        fast::conv2d::conv2d(level, &self.sized(shape), x, w, bias, y, scratch);
    }

    /// Gradients from `dy`, the gradient by the output: `dx =` (`+=` with `add`) that by the input, `dw +=` and `db +=`
    /// those by weights and bias. An empty `dx` is not computed.
    pub fn backward(
        &self,
        level: Level,
        shape: Shape,
        x: &[f32],
        w: &PackedConv,
        dy: &[f32],
        add: bool,
        dx: &mut [f32],
        dw: &mut [f32],
        db: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let sized = self.sized(shape);
        if !dx.is_empty() {
            fast::conv2d::conv2d_backward_data(level, &sized, dy, w, add, dx, scratch);
        }
        fast::conv2d::conv2d_backward_weights(level, &sized, x, dy, dw, db, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn backward_is_the_gradient(
            inputs in 1usize..6, outputs in 1usize..6, half in 0usize..4, stride in 1usize..4,
            height in 1usize..12, width in 1usize..12, seed in 0usize..1000,
        ) {
            let layer = Conv2d { inputs, outputs, kernel: 2 * half + 1, stride };
            let shape = Shape::new(inputs, height, width);
            let (x, w, b) = (check::noise(shape.len(), seed), check::noise(layer.weights_len(), seed + 1), check::noise(outputs, seed + 2));
            let dy = check::noise(layer.output(shape).len(), seed + 3);
            prop_assert_eq!(layer.output(shape), Shape::new(outputs, height.div_ceil(stride), width.div_ceil(stride)));
            let mut scratch = Scratch::default();
            let mut f = |x: &[f32], w: &[f32], b: &[f32]| {
                let mut packed = PackedConv::default();
                layer.pack(w, &mut packed);
                let mut y = vec![0.0; dy.len()];
                layer.forward(check::level(), shape, x, &packed, b, &mut y, &mut scratch);
                check::dot(&y, &dy)
            };
            let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; outputs]);
            let mut packed = PackedConv::default();
            layer.pack(&w, &mut packed);
            layer.backward(check::level(), shape, &x, &packed, &dy, false, &mut dx, &mut dw, &mut db, &mut Scratch::default());
            check::gradient(&x, &dx, seed, |x| f(x, &w, &b));
            check::gradient(&w, &dw, seed, |w| f(&x, w, &b));
            check::gradient(&b, &db, seed, |b| f(&x, &w, b));
        }
    }
}
