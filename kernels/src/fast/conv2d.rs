//! 2-D convolution: forward, backward to the input, backward to weights and bias.
//!
//! `x` and `y` may hold several samples one after another; gradients accumulate.

use crate::fast::Scratch;
use crate::{Conv2d, Level};

/// The weights of one convolution in the orders that the kernels read; packed once a step, shared by
/// all samples and threads.
#[derive(Clone, Debug, Default)]
pub struct PackedConv {
    plain: Vec<f32>,
}

impl PackedConv {
    /// Packs `w` (`[out][in][kernel][kernel]`) for forward and backward; allocates in the first call only.
    pub fn pack(&mut self, conv: &Conv2d, w: &[f32]) {
        assert_eq!(w.len(), conv.weights_len());
        self.plain.clear();
        self.plain.extend_from_slice(w);
    }
}

/// Visits every product of one sample: `f(index of y, index of w, index of x)`.
fn each_product(conv: &Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = (conv.out_height(), conv.out_width());
    let (k, ih, iw) = (conv.kernel, conv.in_height, conv.in_width);
    for o in 0..conv.out_channels {
        for i in 0..oh {
            for j in 0..ow {
                for c in 0..conv.in_channels {
                    for u in 0..k {
                        for v in 0..k {
                            let (a, b) = (i * conv.stride + u, j * conv.stride + v);
                            let (Some(a), Some(b)) = (a.checked_sub(conv.padding), b.checked_sub(conv.padding)) else {
                                continue;
                            };
                            if a < ih && b < iw {
                                f(
                                    (o * oh + i) * ow + j,
                                    ((o * conv.in_channels + c) * k + u) * k + v,
                                    (c * ih + a) * iw + b,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// [`conv2d`], by the definition.
pub fn conv2d_scalar(conv: &Conv2d, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
    let plane = conv.out_height() * conv.out_width();
    for (x, y) in x.chunks_exact(conv.input_len()).zip(y.chunks_exact_mut(conv.output_len())) {
        for o in 0..conv.out_channels {
            y[o * plane..(o + 1) * plane].fill(bias[o]);
        }
        each_product(conv, |iy, iw, ix| y[iy] += w[iw] * x[ix]);
    }
}

/// [`conv2d_backward_data`], by the definition.
pub fn conv2d_backward_data_scalar(conv: &Conv2d, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    for (dx, dy) in dx.chunks_exact_mut(conv.input_len()).zip(dy.chunks_exact(conv.output_len())) {
        each_product(conv, |iy, iw, ix| dx[ix] += w[iw] * dy[iy]);
    }
}

/// [`conv2d_backward_weights`], by the definition.
pub fn conv2d_backward_weights_scalar(conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32], db: &mut [f32]) {
    let plane = conv.out_height() * conv.out_width();
    for (x, dy) in x.chunks_exact(conv.input_len()).zip(dy.chunks_exact(conv.output_len())) {
        for o in 0..conv.out_channels {
            db[o] += dy[o * plane..(o + 1) * plane].iter().sum::<f32>();
        }
        each_product(conv, |iy, iw, ix| dw[iw] += dy[iy] * x[ix]);
    }
}

/// `y = conv(x, w) + bias` for each sample in `x`.
pub fn conv2d(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    w: &PackedConv,
    bias: &[f32],
    y: &mut [f32],
    scratch: &mut Scratch,
) {
    let _ = (level, scratch);
    conv2d_scalar(conv, x, &w.plain, bias, y);
}

/// `dx += dL/dx` from `dy = dL/dy`, for each sample.
pub fn conv2d_backward_data(
    level: Level,
    conv: &Conv2d,
    dy: &[f32],
    w: &PackedConv,
    dx: &mut [f32],
    scratch: &mut Scratch,
) {
    let _ = (level, scratch);
    conv2d_backward_data_scalar(conv, dy, &w.plain, dx);
}

/// `dw += dL/dw`, `db += dL/dbias`, summed over the samples in their order.
pub fn conv2d_backward_weights(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: &mut [f32],
    scratch: &mut Scratch,
) {
    let plane = conv.out_height() * conv.out_width();
    for (i, plane) in dy.chunks_exact(plane).enumerate() {
        db[i % conv.out_channels] += plane.iter().sum::<f32>();
    }
    weight_products(level, conv, x, dy, dw, scratch);
}

/// `y += conv(x, w)`.
pub(super) fn accumulate(level: Level, conv: &Conv2d, x: &[f32], w: &PackedConv, y: &mut [f32], scratch: &mut Scratch) {
    let _ = (level, scratch);
    for (x, y) in x.chunks_exact(conv.input_len()).zip(y.chunks_exact_mut(conv.output_len())) {
        each_product(conv, |iy, iw, ix| y[iy] += w.plain[iw] * x[ix]);
    }
}

/// `dw += dL/dw`.
pub(super) fn weight_products(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut Scratch,
) {
    let _ = (level, scratch);
    for (x, dy) in x.chunks_exact(conv.input_len()).zip(dy.chunks_exact(conv.output_len())) {
        each_product(conv, |iy, iw, ix| dw[iw] += dy[iy] * x[ix]);
    }
}
