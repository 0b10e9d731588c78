//! 2-D convolution of any window of the picture.

use crate::gather::Gather;
use crate::panel::{self, Pixels, Start};
use crate::{Level, Window};
use alloc::vec::Vec;

/// Channels and geometry of a convolution; the picture's sizes are in the [`Window`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

/// Weights in the order that the kernel reads.
#[derive(Clone, Debug)]
pub struct PackedConv {
    layer: Conv,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedConv {
    /// `w` is `[out][in][kernel][kernel]`, `bias` is `[out]`.
    pub fn new(layer: Conv, w: &[f32], bias: &[f32]) -> Self {
        let taps = layer.in_channels * layer.kernel * layer.kernel;
        assert!(layer.kernel > 0 && layer.stride > 0);
        assert_eq!((w.len(), bias.len()), (layer.out_channels * taps, layer.out_channels));
        let mut weights = Vec::with_capacity(w.len());
        panel::pack(layer.out_channels, taps, &mut weights, |o, tap| w[o * taps + tap]);
        PackedConv { layer, weights, bias: bias.to_vec() }
    }
}

/// The definition. `y[o][Y][X]` starts at `bias[o]`; then for input channels `c`, kernel rows `u` and kernel
/// columns `v` ascending, the innermost last, `w[o][c][u][v] * x[c][Y*stride + u - padding][X*stride + v - padding]`
/// is rounded and then added. `x` is 0 outside its window, which must hold all of the picture that the
/// outputs depend on.
pub fn conv2d_scalar(layer: &Conv, w: &[f32], bias: &[f32], xs: &Window, x: &[f32], ys: &Window, y: &mut [f32]) {
    let k = layer.kernel;
    let value = |c: usize, i: usize, j: usize| {
        let inside = |at: usize, from: usize, n: usize| at.checked_sub(layer.padding + from).filter(|&i| i < n);
        match (inside(i, xs.y0, xs.height), inside(j, xs.x0, xs.width)) {
            (Some(i), Some(j)) => x[(c * xs.height + i) * xs.width + j],
            _ => 0.0,
        }
    };
    for (at, y) in y.iter_mut().enumerate() {
        let (o, i, j) = (at / ys.width / ys.height, at / ys.width % ys.height, at % ys.width);
        let (top, left) = ((ys.y0 + i) * layer.stride, (ys.x0 + j) * layer.stride);
        *y = bias[o];
        for c in 0..layer.in_channels {
            for u in 0..k {
                for v in 0..k {
                    *y += w[((o * layer.in_channels + c) * k + u) * k + v] * value(c, top + u, left + v);
                }
            }
        }
    }
}

/// [`conv2d_scalar`] at any level: `y` (`[out][ys.height][ys.width]`) from `x` (`[in][xs.height][xs.width]`).
pub fn conv2d(level: Level, w: &PackedConv, xs: &Window, x: &[f32], ys: &Window, y: &mut [f32]) {
    let Conv { in_channels, out_channels, kernel, stride, padding } = w.layer;
    assert_eq!(x.len(), in_channels * xs.height * xs.width);
    assert_eq!(y.len(), out_channels * ys.height * ys.width);
    if y.is_empty() {
        return;
    }
    let gather = Gather {
        channels: in_channels,
        top: (ys.y0 * stride) as isize - padding as isize,
        left: (ys.x0 * stride) as isize - padding as isize,
        rows: (ys.height - 1) * stride + kernel,
        cols: (ys.width - 1) * stride + kernel,
        stride,
    };
    let (mut image, mut taps) = (Vec::new(), Vec::new());
    gather.fill(xs, x, &mut image);
    gather.taps(kernel, &mut taps);
    let plane = ys.height * ys.width;
    let pixels =
        Pixels { height: ys.height, width: ys.width, image_pitch: stride * gather.row_pitch(), out_pitch: ys.width };
    panel::accumulate(level, &w.weights, out_channels, &taps, &image, &pixels, Start::Bias(&w.bias), y, plane);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilefit_testing::noise;

    /// Every level has the definition's bits, for whole pictures and for windows.
    #[test]
    fn levels_agree() {
        let mut case = 0;
        for (kernel, stride, padding) in [(5, 2, 2), (1, 1, 0), (3, 1, 1), (4, 2, 1), (5, 3, 2), (2, 3, 0)] {
            for side in [1, 2, 7, 16, 33] {
                case += 1;
                let layer = Conv { in_channels: case % 5 + 1, out_channels: case % 11 + 1, kernel, stride, padding };
                let w = noise(layer.in_channels * layer.out_channels * kernel * kernel, case);
                let bias = noise(layer.out_channels, case + 1);
                let xs = Window { y0: case % 3, x0: case % 4, height: 9, width: 2 * side };
                let x = noise(layer.in_channels * xs.height * xs.width, case + 2);
                let ys = Window { y0: case % 5, x0: case % 2, height: 1 + case % 4, width: side };
                let packed = PackedConv::new(layer, &w, &bias);
                let mut want = vec![0f32; layer.out_channels * ys.height * ys.width];
                conv2d_scalar(&layer, &w, &bias, &xs, &x, &ys, &mut want);
                for level in Level::available() {
                    let mut got = vec![f32::NAN; want.len()];
                    conv2d(level, &packed, &xs, &x, &ys, &mut got);
                    let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{level:?} {layer:?} {xs:?} {ys:?}");
                }
            }
        }
    }
}
