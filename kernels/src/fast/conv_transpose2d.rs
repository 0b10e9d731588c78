//! 2-D transposed convolution: the passes of its adjoint convolution, exchanged.
//!
//! `x` and `y` may hold several samples one after another; gradients accumulate. Weights are packed by
//! [`PackedConv::pack`] with [`ConvTranspose2d::adjoint`].

use crate::fast::{conv2d, PackedConv, Scratch};
use crate::{ConvTranspose2d, Level};

fn fill_bias(bias: &[f32], plane: usize, y: &mut [f32]) {
    for (i, plane) in y.chunks_exact_mut(plane).enumerate() {
        plane.fill(bias[i % bias.len()]);
    }
}

fn add_plane_sums(plane: usize, dy: &[f32], db: &mut [f32]) {
    for (i, plane) in dy.chunks_exact(plane).enumerate() {
        db[i % db.len()] += plane.iter().sum::<f32>();
    }
}

/// [`conv_transpose2d`], by the definition.
pub fn conv_transpose2d_scalar(conv: &ConvTranspose2d, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
    fill_bias(bias, conv.out_height() * conv.out_width(), y);
    conv2d::conv2d_backward_data_scalar(&conv.adjoint(), x, w, y);
}

/// `y = conv_transpose(x, w) + bias` for each sample in `x`.
pub fn conv_transpose2d(
    level: Level,
    conv: &ConvTranspose2d,
    x: &[f32],
    w: &PackedConv,
    bias: &[f32],
    y: &mut [f32],
    scratch: &mut Scratch,
) {
    fill_bias(bias, conv.out_height() * conv.out_width(), y);
    conv2d::conv2d_backward_data(level, &conv.adjoint(), x, w, y, scratch);
}

/// `dx += dL/dx` from `dy = dL/dy`, for each sample.
pub fn conv_transpose2d_backward_data(
    level: Level,
    conv: &ConvTranspose2d,
    dy: &[f32],
    w: &PackedConv,
    dx: &mut [f32],
    scratch: &mut Scratch,
) {
    conv2d::accumulate(level, &conv.adjoint(), dy, w, dx, scratch);
}

/// `dw += dL/dw`, `db += dL/dbias`, summed over the samples in their order.
pub fn conv_transpose2d_backward_weights(
    level: Level,
    conv: &ConvTranspose2d,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    db: &mut [f32],
    scratch: &mut Scratch,
) {
    add_plane_sums(conv.out_height() * conv.out_width(), dy, db);
    conv2d::weight_products(level, &conv.adjoint(), dy, x, dw, scratch);
}
