//! 2-D transposed convolution of any window of the picture.

use crate::phases::{Buffers, Transposed};
use crate::{panel, Level, Window};
use alloc::vec::Vec;

/// Channels and geometry of a transposed convolution; the picture's sizes are in the [`Window`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvTranspose {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl ConvTranspose {
    fn transposed(&self) -> Transposed {
        Transposed {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
        }
    }
}

/// Weights in the order that the kernel reads.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose {
    layer: ConvTranspose,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedConvTranspose {
    /// `w` is `[in][out][kernel][kernel]`, `bias` is `[out]`.
    pub fn new(layer: ConvTranspose, w: &[f32], bias: &[f32]) -> Self {
        assert!(layer.kernel > 0 && layer.stride > 0);
        assert_eq!(bias.len(), layer.out_channels);
        let mut weights = Vec::with_capacity(w.len());
        layer.transposed().pack(w, &mut weights);
        PackedConvTranspose { layer, weights, bias: bias.to_vec() }
    }
}

/// The definition. `y[o][Y][X]` starts at `bias[o]`; then for input channels `c` ascending, kernel rows
/// `u` ascending, kernel columns `v` ascending, wherever `Y + padding - u = stride * i` and
/// `X + padding - v = stride * j`, `w[c][o][u][v] * x[c][i][j]` is rounded and then added. `x` is 0 outside
/// its window, which must hold all of the picture that the outputs depend on.
pub fn conv_transpose2d_scalar(
    layer: &ConvTranspose,
    w: &[f32],
    bias: &[f32],
    xs: &Window,
    x: &[f32],
    ys: &Window,
    y: &mut [f32],
) {
    let (k, stride) = (layer.kernel, layer.stride as isize);
    // The input coordinate that kernel position `u` joins to output coordinate `at`, if any.
    let source = |at: usize, u: usize| {
        let at = at as isize + layer.padding as isize - u as isize;
        (at.rem_euclid(stride) == 0).then_some(at.div_euclid(stride))
    };
    let value = |c: usize, i: isize, j: isize| {
        let (i, j) = (i - xs.y0 as isize, j - xs.x0 as isize);
        let inside = (0..xs.height as isize).contains(&i) && (0..xs.width as isize).contains(&j);
        if inside {
            x[(c * xs.height + i as usize) * xs.width + j as usize]
        } else {
            0.0
        }
    };
    for (at, y) in y.iter_mut().enumerate() {
        let (o, yy, xx) = (at / ys.width / ys.height, at / ys.width % ys.height, at % ys.width);
        *y = bias[o];
        for c in 0..layer.in_channels {
            for u in 0..k {
                let Some(i) = source(ys.y0 + yy, u) else { continue };
                for v in 0..k {
                    let Some(j) = source(ys.x0 + xx, v) else { continue };
                    *y += w[((c * layer.out_channels + o) * k + u) * k + v] * value(c, i, j);
                }
            }
        }
    }
}

/// [`conv_transpose2d_scalar`] at any level: `y` (`[out][ys.height][ys.width]`) from `x`
/// (`[in][xs.height][xs.width]`).
pub fn conv_transpose2d(level: Level, w: &PackedConvTranspose, xs: &Window, x: &[f32], ys: &Window, y: &mut [f32]) {
    let layer = w.layer.transposed();
    layer.run(level, panel::accumulate, false, &w.weights, &w.bias, xs, x, ys, y, &mut Buffers::default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;

    /// Every level has the definition's bits, for whole pictures and for windows.
    #[test]
    fn levels_agree() {
        let mut case = 0;
        for (kernel, stride, padding) in [(5, 2, 2), (1, 1, 0), (3, 1, 1), (4, 2, 1), (5, 3, 2), (2, 3, 0), (6, 2, 7)] {
            for side in [1, 2, 3, 5, 8, 17, 33] {
                case += 1;
                let layer =
                    ConvTranspose { in_channels: case % 5 + 1, out_channels: case % 7 + 1, kernel, stride, padding };
                let w = noise(layer.in_channels * layer.out_channels * kernel * kernel, case);
                let bias = noise(layer.out_channels, case + 1);
                let xs = Window { y0: case % 3, x0: case % 4, height: side, width: 1 + case % 9 };
                let x = noise(layer.in_channels * xs.height * xs.width, case + 2);
                let ys = Window { y0: case % 5, x0: case % 2, height: 2 * side + 1, width: 67 - side };
                let packed = PackedConvTranspose::new(layer, &w, &bias);
                let mut want = vec![0f32; layer.out_channels * ys.height * ys.width];
                conv_transpose2d_scalar(&layer, &w, &bias, &xs, &x, &ys, &mut want);
                for level in Level::available() {
                    let mut got = vec![f32::NAN; want.len()];
                    conv_transpose2d(level, &packed, &xs, &x, &ys, &mut got);
                    let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{level:?} {layer:?} {xs:?} {ys:?}");
                }
            }
        }
    }

    /// A region's outputs from the inputs that it depends on are the picture's, by bits.
    #[test]
    fn region_equals_whole() {
        let layer = ConvTranspose { in_channels: 6, out_channels: 5, kernel: 5, stride: 2, padding: 2 };
        let (w, bias) = (noise(750, 1), noise(5, 2));
        let packed = PackedConvTranspose::new(layer, &w, &bias);
        let whole = Window { y0: 0, x0: 0, height: 19, width: 23 };
        let out = Window { y0: 0, x0: 0, height: 38, width: 46 };
        let x = noise(6 * 19 * 23, 3);
        let mut full = vec![0.0; 5 * 38 * 46];
        conv_transpose2d(Level::best(), &packed, &whole, &x, &out, &mut full);
        for (y0, x0, height, width) in [(0, 0, 7, 9), (11, 20, 1, 1), (13, 17, 25, 29), (37, 45, 1, 1)] {
            let cut = Window { y0, x0, height, width };
            let (top, left) = ((y0 / 2).saturating_sub(1), (x0 / 2).saturating_sub(1));
            let end = |from: usize, n: usize, side: usize| ((from + n - 1) / 2 + 2).min(side);
            let (bottom, right) = (end(y0, height, 19), end(x0, width, 23));
            let part = Window { y0: top, x0: left, height: bottom - top, width: right - left };
            let inputs: Vec<f32> = (0..6 * part.height * part.width)
                .map(|k| {
                    let (c, i, j) = (k / part.width / part.height, k / part.width % part.height, k % part.width);
                    x[(c * 19 + top + i) * 23 + left + j]
                })
                .collect();
            for level in Level::available() {
                let mut got = vec![0.0; 5 * height * width];
                conv_transpose2d(level, &packed, &part, &inputs, &cut, &mut got);
                for (k, v) in got.iter().enumerate() {
                    let (o, i, j) = (k / width / height, k / width % height, k % width);
                    assert_eq!(v.to_bits(), full[(o * 38 + y0 + i) * 46 + x0 + j].to_bits(), "{level:?} {cut:?}");
                }
            }
        }
    }
}
