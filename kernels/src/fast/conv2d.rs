//! 2-D convolution: forward, backward to the input, backward to weights and bias.
//!
//! `x` and `y` may hold several samples one after another; gradients accumulate.

use crate::fast::scratch::grown;
use crate::fast::{outer, Scratch};
use crate::gather::Gather;
use crate::panel::{self, Pixels, Start};
use crate::phases::{Buffers, Transposed};
use crate::{Conv2d, Level, Window};

/// The weights of one convolution in the orders that the kernels read; packed once a step, shared by
/// all samples and threads.
#[derive(Clone, Debug, Default)]
pub struct PackedConv {
    forward: Vec<f32>,
    adjoint: Vec<f32>,
}

impl PackedConv {
    /// Packs `w` (`[out][in][kernel][kernel]`) for forward and backward; allocates in the first call only.
    pub fn pack(&mut self, conv: &Conv2d, w: &[f32]) {
        assert_eq!(w.len(), conv.weights_len());
        let taps = conv.in_channels * conv.kernel * conv.kernel;
        self.forward.clear();
        panel::pack(conv.out_channels, taps, &mut self.forward, |o, tap| w[o * taps + tap]);
        self.adjoint.clear();
        transposed(conv).pack(w, &mut self.adjoint);
    }
}

/// The backward pass to the input as a transposed convolution.
fn transposed(conv: &Conv2d) -> Transposed {
    Transposed {
        in_channels: conv.out_channels,
        out_channels: conv.in_channels,
        kernel: conv.kernel,
        stride: conv.stride,
        padding: conv.padding,
    }
}

fn whole(height: usize, width: usize) -> Window {
    Window { y0: 0, x0: 0, height, width }
}

/// The padded input that all outputs read, its columns in phases; `taps` gets the offset of each kernel
/// position of each channel.
fn gathered(conv: &Conv2d, taps: &mut Vec<u32>) -> Gather {
    let gather = Gather {
        channels: conv.in_channels,
        top: -(conv.padding as isize),
        left: -(conv.padding as isize),
        rows: (conv.out_height() - 1) * conv.stride + conv.kernel,
        cols: (conv.out_width() - 1) * conv.stride + conv.kernel,
        stride: conv.stride,
    };
    gather.taps(conv.kernel, taps);
    gather
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
    products(level, conv, x, w, Start::Bias(bias), y, scratch);
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
    add_plane_sums(conv.out_height() * conv.out_width(), dy, db);
    weight_products(level, conv, x, dy, dw, scratch);
}

/// `db[channel] += sum` of its planes.
pub(super) fn add_plane_sums(plane: usize, dy: &[f32], db: &mut [f32]) {
    for (i, plane) in dy.chunks_exact(plane).enumerate() {
        // Sixteen running sums, which vectorise; the order does not depend on the level.
        let (chunks, rest) = plane.as_chunks::<16>();
        let mut sums = [0f32; 16];
        for chunk in chunks {
            for k in 0..16 {
                sums[k] += chunk[k];
            }
        }
        db[i % db.len()] += sums.iter().chain(rest).sum::<f32>();
    }
}

/// `y = start + conv(x, w)` for each sample in `x`.
pub(super) fn products(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    w: &PackedConv,
    start: Start,
    y: &mut [f32],
    scratch: &mut Scratch,
) {
    assert_eq!(x.len() / conv.input_len(), y.len() / conv.output_len());
    let Buffers { image, taps, .. } = &mut scratch.buffers;
    let gather = gathered(conv, taps);
    let (height, width) = (conv.out_height(), conv.out_width());
    let pixels = Pixels { height, width, image_pitch: conv.stride * gather.row_pitch(), out_pitch: width };
    for (x, y) in x.chunks_exact(conv.input_len()).zip(y.chunks_exact_mut(conv.output_len())) {
        gather.fill(&whole(conv.in_height, conv.in_width), x, image);
        panel::accumulate_fused(level, &w.forward, conv.out_channels, taps, image, &pixels, start, y, height * width);
    }
}

/// `dx = dL/dx` (`+=` when `add`) from `dy = dL/dy`, for each sample.
pub fn conv2d_backward_data(
    level: Level,
    conv: &Conv2d,
    dy: &[f32],
    w: &PackedConv,
    add: bool,
    dx: &mut [f32],
    scratch: &mut Scratch,
) {
    adjoint(level, conv, add, dy, w, &[], dx, scratch);
}

/// `dx = bias + T(dy)`, or `+=` when `add`, where `T` is the adjoint of the convolution, for each sample.
pub(super) fn adjoint(
    level: Level,
    conv: &Conv2d,
    add: bool,
    dy: &[f32],
    w: &PackedConv,
    bias: &[f32],
    dx: &mut [f32],
    scratch: &mut Scratch,
) {
    assert_eq!(dx.len() / conv.input_len(), dy.len() / conv.output_len());
    let (from, to) = (whole(conv.out_height(), conv.out_width()), whole(conv.in_height, conv.in_width));
    let layer = transposed(conv);
    for (dx, dy) in dx.chunks_exact_mut(conv.input_len()).zip(dy.chunks_exact(conv.output_len())) {
        layer.run(level, panel::accumulate_fused, add, &w.adjoint, bias, &from, dy, &to, dx, &mut scratch.buffers);
    }
}

/// Pixels whose columns stay in L1 while all taps pass.
const PIXELS: usize = 256;

/// `dw += dL/dw`, summed over the samples in their order.
pub(super) fn weight_products(
    level: Level,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut Scratch,
) {
    assert_eq!(x.len() / conv.input_len(), dy.len() / conv.output_len());
    assert_eq!(dw.len(), conv.weights_len());
    let Scratch { buffers: Buffers { image, taps, .. }, columns, sums, .. } = scratch;
    let gather = gathered(conv, taps);
    let (height, width, channels) = (conv.out_height(), conv.out_width(), conv.out_channels);
    let rows = (PIXELS / width).clamp(1, height);
    let pitch = conv.stride * gather.row_pitch();
    let sums = grown(sums, outer::padded(channels) * taps.len());
    sums.fill(0.0);
    for (x, dy) in x.chunks_exact(conv.input_len()).zip(dy.chunks_exact(conv.output_len())) {
        gather.fill(&whole(conv.in_height, conv.in_width), x, image);
        for top in (0..height).step_by(rows) {
            let rows = rows.min(height - top);
            let columns = grown(columns, outer::padded(channels) * rows * width);
            outer::transpose(&dy[top * width..], channels, height * width, rows * width, columns);
            outer::accumulate(level, taps, &image[top * pitch..], rows, width, pitch, columns, sums);
        }
    }
    outer::add_to(sums, taps.len(), 1.0, dw);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tilefit_testing::noise;

    /// Largest difference relative to the largest value of `want` (at least 1).
    pub(in crate::fast) fn distance(got: &[f32], want: &[f32]) -> f32 {
        let scale = want.iter().fold(1f32, |m, v| m.max(v.abs()));
        got.iter().zip(want).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
    }

    fn shapes() -> Vec<Conv2d> {
        let mut all = Vec::new();
        for (kernel, stride, padding) in [(5, 2, 2), (1, 1, 0), (3, 1, 1), (4, 2, 1), (5, 3, 2), (2, 3, 0), (7, 2, 9)] {
            for side in [5, 6, 9, 16, 33, 67] {
                let n = all.len();
                all.push(Conv2d {
                    in_channels: n % 5 + 1,
                    out_channels: n % 19 + 1,
                    kernel,
                    stride,
                    padding,
                    in_height: 5 + n % 8,
                    in_width: side,
                });
            }
        }
        all.push(Conv2d {
            in_channels: 18,
            out_channels: 35,
            kernel: 5,
            stride: 2,
            padding: 2,
            in_height: 20,
            in_width: 24,
        });
        all
    }

    /// Every level, every pass, two samples: the definition's values, added to what was there.
    #[test]
    fn levels_agree() {
        let mut scratch = Scratch::default();
        for (n, conv) in shapes().iter().enumerate() {
            let (x, dy) = (noise(2 * conv.input_len(), n), noise(2 * conv.output_len(), n + 1));
            let (w, bias) = (noise(conv.weights_len(), n + 2), noise(conv.out_channels, n + 3));
            let mut packed = PackedConv::default();
            packed.pack(conv, &w);
            let mut y = vec![0.0; dy.len()];
            conv2d_scalar(conv, &x, &w, &bias, &mut y);
            let (mut dx, mut dw, mut db) = (x.clone(), w.clone(), bias.clone());
            conv2d_backward_data_scalar(conv, &dy, &w, &mut dx);
            conv2d_backward_weights_scalar(conv, &x, &dy, &mut dw, &mut db);
            for level in Level::available() {
                let mut got = vec![f32::NAN; dy.len()];
                conv2d(level, conv, &x, &packed, &bias, &mut got, &mut scratch);
                assert!(distance(&got, &y) < 2e-6, "{level:?} {conv:?}");
                let mut got = x.clone();
                conv2d_backward_data(level, conv, &dy, &packed, true, &mut got, &mut scratch);
                assert!(distance(&got, &dx) < 2e-6, "{level:?} {conv:?}");
                // Written anew, it is the same less what was there: `x`.
                let mut got = vec![f32::NAN; x.len()];
                conv2d_backward_data(level, conv, &dy, &packed, false, &mut got, &mut scratch);
                got.iter_mut().zip(&x).for_each(|(a, x)| *a += x);
                assert!(distance(&got, &dx) < 2e-6, "{level:?} {conv:?}");
                let (mut got, mut got_b) = (w.clone(), bias.clone());
                conv2d_backward_weights(level, conv, &x, &dy, &mut got, &mut got_b, &mut scratch);
                assert!(distance(&got, &dw) < 4e-6, "{level:?} {conv:?}");
                assert!(distance(&got_b, &db) < 4e-6, "{level:?} {conv:?}");
            }
        }
    }

    /// The definition in f64, written a second time from the formula.
    #[test]
    fn scalar_is_the_formula() {
        let conv =
            Conv2d { in_channels: 3, out_channels: 4, kernel: 5, stride: 2, padding: 2, in_height: 11, in_width: 9 };
        let (x, w, bias) = (noise(conv.input_len(), 1), noise(conv.weights_len(), 2), noise(4, 3));
        let mut y = vec![0.0; conv.output_len()];
        conv2d_scalar(&conv, &x, &w, &bias, &mut y);
        let at = |c: usize, i: isize, j: isize| {
            let inside = (0..11).contains(&i) && (0..9).contains(&j);
            if inside {
                x[(c * 11 + i as usize) * 9 + j as usize] as f64
            } else {
                0.0
            }
        };
        for (k, y) in y.iter().enumerate() {
            let (o, i, j) = (k / 30, k / 5 % 6, k % 5);
            let mut want = bias[o] as f64;
            for tap in 0..75 {
                let (c, u, v) = (tap / 25, tap / 5 % 5, tap % 5);
                want += w[o * 75 + tap] as f64 * at(c, (2 * i + u) as isize - 2, (2 * j + v) as isize - 2);
            }
            assert!((*y as f64 - want).abs() < 1e-5);
        }
    }

    /// The gradients of `<dy, conv(x)>`, bilinear in `x` and `w`, so that wide differences are exact.
    #[test]
    fn gradients() {
        let conv =
            Conv2d { in_channels: 2, out_channels: 3, kernel: 3, stride: 2, padding: 1, in_height: 6, in_width: 5 };
        let (mut x, mut w, mut bias) = (noise(conv.input_len(), 1), noise(conv.weights_len(), 2), noise(3, 3));
        let dy = noise(conv.output_len(), 4);
        let value = |x: &[f32], w: &[f32], bias: &[f32]| {
            let mut y = vec![0.0; dy.len()];
            conv2d_scalar(&conv, x, w, bias, &mut y);
            y.iter().zip(&dy).map(|(a, b)| (a * b) as f64).sum::<f64>()
        };
        let mut packed = PackedConv::default();
        packed.pack(&conv, &w);
        let mut scratch = Scratch::default();
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; 3]);
        conv2d_backward_data(Level::best(), &conv, &dy, &packed, false, &mut dx, &mut scratch);
        conv2d_backward_weights(Level::best(), &conv, &x, &dy, &mut dw, &mut db, &mut scratch);
        let close = |up: f64, down: f64, got: f32| assert!(((up - down) / 2.0 - got as f64).abs() < 1e-4);
        for i in 0..x.len() {
            let keep = x[i];
            x[i] = keep + 1.0;
            let up = value(&x, &w, &bias);
            x[i] = keep - 1.0;
            close(up, value(&x, &w, &bias), dx[i]);
            x[i] = keep;
        }
        for i in 0..w.len() {
            let keep = w[i];
            w[i] = keep + 1.0;
            let up = value(&x, &w, &bias);
            w[i] = keep - 1.0;
            close(up, value(&x, &w, &bias), dw[i]);
            w[i] = keep;
        }
        for i in 0..3 {
            let keep = bias[i];
            bias[i] = keep + 1.0;
            let up = value(&x, &w, &bias);
            bias[i] = keep - 1.0;
            close(up, value(&x, &w, &bias), db[i]);
            bias[i] = keep;
        }
    }
}
