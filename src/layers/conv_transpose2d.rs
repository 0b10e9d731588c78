//! 2-D transposed convolution with stride, the upsampling of the synthesis transform (Zeiler et al. 2010; used so by Balle,
//! Laparra, Simoncelli 2016): each input adds `w[c][o][u][v] x[c][i][j]` to
//! `y[o][stride i + u - kernel/2][stride j + v - kernel/2]`, which starts as `bias[o]`. The input is `[inputs][h][w]`, the
//! output `[outputs][stride h][stride w]`.

#[cfg(feature = "fit")]
use crate::tensor::Shape;
use kernels::exact::conv_transpose2d as exact;
#[cfg(feature = "fit")]
use kernels::fast::{self, PackedConv, Scratch};
#[cfg(feature = "fit")]
use kernels::Level;

/// The sizes of a transposed convolution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvTranspose2d {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Side of the kernel, odd; the padding is `kernel / 2`.
    pub kernel: usize,
    /// Step between the outputs of two inputs; the output padding is `stride - 1`.
    pub stride: usize,
}

impl ConvTranspose2d {
    /// Number of weights, `[inputs][outputs][kernel][kernel]`.
    pub fn weights_len(&self) -> usize {
        self.inputs * self.outputs * self.kernel * self.kernel
    }

    /// Weights as the decoder reads them; [`exact::conv_transpose2d`] is its pass.
    pub fn exact(&self, w: &[f32], bias: &[f32]) -> exact::PackedConvTranspose {
        let layer = exact::ConvTranspose {
            in_channels: self.inputs,
            out_channels: self.outputs,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.kernel / 2,
        };
        exact::PackedConvTranspose::new(layer, w, bias)
    }

    /// The inputs that outputs `from .. to` depend on along one axis of `side` inputs, as start and end.
    pub fn support(&self, from: usize, to: usize, side: usize) -> (usize, usize) {
        let reach = self.kernel / 2;
        let lo = from.saturating_sub(reach).div_ceil(self.stride).min(side);
        // `to` is at least 1 where there is anything to compute.
        let hi = ((to + reach).saturating_sub(1) / self.stride + 1).min(side);
        (lo, hi.max(lo))
    }
}

#[cfg(feature = "fit")]
impl ConvTranspose2d {
    /// The shape of the output for an input of shape `x`.
    pub fn output(&self, x: Shape) -> Shape {
        Shape::new(self.outputs, self.stride * x.height, self.stride * x.width)
    }

    /// The sizes in the form that the kernels take, for an input of shape `x`.
    pub fn sized(&self, x: Shape) -> kernels::ConvTranspose2d {
        kernels::ConvTranspose2d {
            in_channels: self.inputs,
            out_channels: self.outputs,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.kernel / 2,
            output_padding: self.stride - 1,
            in_height: x.height,
            in_width: x.width,
        }
    }

    /// Brings the weights into the order of the fast kernels, for any input shape.
    pub fn pack(&self, w: &[f32], packed: &mut PackedConv) {
        packed.pack(&self.sized(Shape::new(self.inputs, self.kernel, self.kernel)).adjoint(), w);
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
        fast::conv_transpose2d::conv_transpose2d(level, &self.sized(shape), x, w, bias, y, scratch);
    }

    /// Gradients from `dy`, the gradient by the output: `dx =` (`+=` with `add`) that by the input, `dw +=` and `db +=`
    /// those by weights and bias. An empty `dx` is not computed, with an empty `dw` neither `dw` nor `db`.
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
            fast::conv_transpose2d::conv_transpose2d_backward_data(level, &sized, dy, w, add, dx, scratch);
        }
        if !dw.is_empty() {
            fast::conv_transpose2d::conv_transpose2d_backward_weights(level, &sized, x, dy, dw, db, scratch);
        }
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::layers::check;
    use kernels::exact::map::{Frame, Map};
    use kernels::Window;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn backward_is_the_gradient_and_run_is_forward(
            inputs in 1usize..6, outputs in 1usize..6, half in 0usize..4, stride in 1usize..4,
            height in 1usize..9, width in 1usize..9, seed in 0usize..1000,
        ) {
            // A kernel narrower than the stride leaves outputs that depend on no input.
            prop_assume!(2 * half + 1 >= stride);
            let layer = ConvTranspose2d { inputs, outputs, kernel: 2 * half + 1, stride };
            let shape = Shape::new(inputs, height, width);
            let out = layer.output(shape);
            let (x, w, b) = (check::noise(shape.len(), seed), check::noise(layer.weights_len(), seed + 1), check::noise(outputs, seed + 2));
            let dy = check::noise(out.len(), seed + 3);
            let mut scratch = Scratch::default();
            let mut y = vec![0.0; dy.len()];
            let mut f = |x: &[f32], w: &[f32], b: &[f32]| {
                let mut packed = PackedConv::default();
                layer.pack(w, &mut packed);
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

            f(&x, &w, &b);
            let exact = layer.exact(&w, &b);
            let whole = Window { y0: 0, x0: 0, height, width };
            let all = Window { y0: 0, x0: 0, height: out.height, width: out.width };
            let (mut from, mut to) = (Map::default(), Map::default());
            from.reset(inputs, exact.layer().support(&all), &whole);
            for (c, y) in (0..inputs).flat_map(|c| (0..height).map(move |y| (c, y))) {
                from.row_mut(c, y, 0)[..width].copy_from_slice(&x[(c * height + y) * width..][..width]);
            }
            to.reset(outputs, Frame::from(&all), &all);
            exact::conv_transpose2d(check::level(), &exact, None, &from, &all, &mut to, &mut exact::Scratch::default());
            let run = (0..outputs).flat_map(|c| (0..out.height).map(move |y| (c, y))).flat_map(|(c, y)| to.row(c, y, 0));
            prop_assert!(run.zip(&y).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs())));
        }
    }

    /// `support` has exactly the inputs that the formula reads.
    #[test]
    fn support_is_tight() {
        for (kernel, stride) in [(5usize, 2usize), (1, 1), (3, 2), (7, 3)] {
            let layer = ConvTranspose2d { inputs: 1, outputs: 1, kernel, stride };
            let side = 9;
            for from in 0..side * stride {
                for to in from + 1..=side * stride {
                    let reads = |i: usize| {
                        (0..kernel)
                            .any(|u| (i * stride + u).checked_sub(kernel / 2).is_some_and(|y| from <= y && y < to))
                    };
                    let (lo, hi) = layer.support(from, to, side);
                    (0..side)
                        .for_each(|i| assert_eq!(reads(i), lo <= i && i < hi, "{kernel} {stride} {from} {to} {i}"));
                }
            }
        }
    }
}
