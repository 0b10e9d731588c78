//! 2-D transposed convolution of any window of the picture.

use super::Window;
use crate::Level;

/// Channels and geometry of a transposed convolution; the picture's sizes are in the [`Window`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvTranspose {
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
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
        assert_eq!(w.len(), layer.in_channels * layer.out_channels * layer.kernel * layer.kernel);
        assert_eq!(bias.len(), layer.out_channels);
        PackedConvTranspose { layer, weights: w.to_vec(), bias: bias.to_vec() }
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
    let _ = level;
    conv_transpose2d_scalar(&w.layer, &w.weights, &w.bias, xs, x, ys, y);
}
