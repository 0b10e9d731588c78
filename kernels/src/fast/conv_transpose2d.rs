//! 2-D transposed convolution: the passes of its adjoint convolution, exchanged.
//!
//! `x` and `y` may hold several samples one after another; gradients accumulate. Weights are packed by
//! [`PackedConv::pack`] with [`ConvTranspose2d::adjoint`].

use crate::fast::{conv2d, PackedConv, Scratch};
use crate::panel::Start;
use crate::{ConvTranspose2d, Level};

fn fill_bias(bias: &[f32], plane: usize, y: &mut [f32]) {
    for (i, plane) in y.chunks_exact_mut(plane).enumerate() {
        plane.fill(bias[i % bias.len()]);
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
    conv2d::adjoint(level, &conv.adjoint(), false, x, w, bias, y, scratch);
}

/// `dx = dL/dx` (`+=` when `add`) from `dy = dL/dy`, for each sample.
pub fn conv_transpose2d_backward_data(
    level: Level,
    conv: &ConvTranspose2d,
    dy: &[f32],
    w: &PackedConv,
    add: bool,
    dx: &mut [f32],
    scratch: &mut Scratch,
) {
    let start = if add { Start::Out } else { Start::Bias(&[]) };
    conv2d::products(level, &conv.adjoint(), dy, w, start, dx, scratch);
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
    conv2d::add_plane_sums(conv.out_height() * conv.out_width(), dy, db);
    conv2d::weight_products(level, &conv.adjoint(), dy, x, dw, scratch);
}

#[cfg(test)]
mod tests {
    use super::super::conv2d::tests::distance;
    use super::*;
    use tilefit_testing::noise;

    /// The definition: every product, from the formula.
    fn each_product(conv: &ConvTranspose2d, mut f: impl FnMut(usize, usize, usize)) {
        let (h, w, k) = (conv.out_height(), conv.out_width(), conv.kernel);
        for c in 0..conv.in_channels {
            for i in 0..conv.in_height {
                for j in 0..conv.in_width {
                    for o in 0..conv.out_channels {
                        for (u, v) in (0..k * k).map(|t| (t / k, t % k)) {
                            let (a, b) = (i * conv.stride + u, j * conv.stride + v);
                            if a >= conv.padding && b >= conv.padding && a - conv.padding < h && b - conv.padding < w {
                                let y = (o * h + a - conv.padding) * w + b - conv.padding;
                                let ix = (c * conv.in_height + i) * conv.in_width + j;
                                f(y, ((c * conv.out_channels + o) * k + u) * k + v, ix);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Every level and pass has the formula's values, and the passes are each other's gradients: all sum
    /// the same products of `<dy, y>`.
    #[test]
    fn levels_agree() {
        let mut scratch = Scratch::default();
        let mut n = 0;
        for (kernel, stride, padding, output_padding) in [
            (5, 2, 2, 1),
            (5, 2, 2, 0),
            (1, 1, 0, 0),
            (3, 1, 1, 0),
            (4, 2, 1, 0),
            (5, 3, 1, 2),
            (2, 3, 0, 1),
            (9, 2, 3, 1),
        ] {
            for side in [3, 4, 8, 17, 33] {
                n += 1;
                let (in_channels, out_channels, in_height) = (n % 5 + 1, n % 19 + 1, 3 + n % 6);
                let conv = ConvTranspose2d {
                    in_channels,
                    out_channels,
                    kernel,
                    stride,
                    padding,
                    output_padding,
                    in_height,
                    in_width: side,
                };
                let (x, dy) = (noise(conv.input_len(), n), noise(conv.output_len(), n + 1));
                let (w, bias) = (noise(conv.weights_len(), n + 2), noise(out_channels, n + 3));
                let mut packed = PackedConv::default();
                packed.pack(&conv.adjoint(), &w);
                let plane = conv.out_height() * conv.out_width();
                let mut y: Vec<f32> = (0..dy.len()).map(|i| bias[i / plane]).collect();
                let (mut dx, mut dw, mut db) = (x.clone(), w.clone(), bias.clone());
                each_product(&conv, |iy, iw, ix| {
                    y[iy] += w[iw] * x[ix];
                    dx[ix] += w[iw] * dy[iy];
                    dw[iw] += x[ix] * dy[iy];
                });
                for (i, v) in dy.iter().enumerate() {
                    db[i / plane] += v;
                }
                let mut got = vec![f32::NAN; dy.len()];
                conv_transpose2d_scalar(&conv, &x, &w, &bias, &mut got);
                assert!(distance(&got, &y) < 2e-6, "{conv:?}");
                for level in Level::available() {
                    got.fill(f32::NAN);
                    conv_transpose2d(level, &conv, &x, &packed, &bias, &mut got, &mut scratch);
                    assert!(distance(&got, &y) < 2e-6, "{level:?} {conv:?}");
                    let mut got = x.clone();
                    conv_transpose2d_backward_data(level, &conv, &dy, &packed, true, &mut got, &mut scratch);
                    assert!(distance(&got, &dx) < 2e-6, "{level:?} {conv:?}");
                    // Written anew, it is the same less what was there: `x`.
                    got.fill(f32::NAN);
                    conv_transpose2d_backward_data(level, &conv, &dy, &packed, false, &mut got, &mut scratch);
                    got.iter_mut().zip(&x).for_each(|(a, x)| *a += x);
                    assert!(distance(&got, &dx) < 2e-6, "{level:?} {conv:?}");
                    let (mut got, mut got_b) = (w.clone(), bias.clone());
                    conv_transpose2d_backward_weights(level, &conv, &x, &dy, &mut got, &mut got_b, &mut scratch);
                    assert!(distance(&got, &dw) < 4e-6, "{level:?} {conv:?}");
                    assert!(distance(&got_b, &db) < 4e-6, "{level:?} {conv:?}");
                }
            }
        }
    }
}
