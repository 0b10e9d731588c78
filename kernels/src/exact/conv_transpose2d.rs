//! 2-D transposed convolution of any window of the picture, with an inverse GDN behind it where one is asked for.
//!
//! Outputs whose rows and whose columns have the same remainders by the stride (a *phase*) see the same taps: each
//! phase is an ordinary convolution of the input. All phases of a window share one *grid*: point `(m, n)` of phase
//! `(a, b)`, counted from the window's corner, is output `(m stride + a, n stride + b)`. Grid points are numbered with
//! the row pitch of the input, so that every tap is a fixed distance in memory and vectors may run from one row into
//! the next; what falls between the rows is dropped.

use super::gdn::{self, is_negative_zero, strip_len, PackedGdn};
use super::map::{Frame, Map};
use super::taps::{add_taps, all_finite, Lists, TapLists, VECTORS};
use crate::vector::Simd;
use crate::{Level, Window};
use alloc::vec::Vec;

/// Channels and geometry of a transposed convolution; the picture's sizes are in the [`Window`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvTranspose {
    /// Feature maps in.
    pub in_channels: usize,
    /// Feature maps out.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Outputs per input along each axis.
    pub stride: usize,
    /// Rows and columns cut off at the low edges of the output.
    pub padding: usize,
}

impl ConvTranspose {
    /// The inputs that the outputs `ys` depend on; at the picture's edges the frame reaches beyond it.
    pub fn support(&self, ys: &Window) -> Frame {
        let side = |from: usize, n: usize| {
            // The first input that the first output's last kernel position reaches, and the last of the last output's
            // first.
            let (first, last) = (from + self.padding, from + n.max(1) - 1 + self.padding);
            let low =
                (first as isize + 1 - self.kernel as isize + self.stride as isize - 1).div_euclid(self.stride as isize);
            let high = (last / self.stride) as isize;
            (low, (high - low + 1).max(1) as usize)
        };
        let ((top, rows), (left, cols)) = (side(ys.y0, ys.height), side(ys.x0, ys.width));
        Frame { top, left, rows, cols }
    }

    /// Kernel positions `u` that reach outputs of remainder `r`, ascending.
    fn positions(&self, r: usize) -> impl Iterator<Item = usize> + Clone {
        ((r + self.padding) % self.stride..self.kernel).step_by(self.stride)
    }

    /// How far the input of kernel position `u` lies from `Y / stride` for outputs `Y` of remainder `r`.
    fn shift(&self, r: usize, u: usize) -> i32 {
        (r as i32 + self.padding as i32 - u as i32).div_euclid(self.stride as i32)
    }
}

/// A layer's parameters.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose {
    layer: ConvTranspose,
    /// `[row remainder][column remainder][out][in][u][v]`, kernel positions of the phase.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedConvTranspose {
    /// `w` is `[in][out][kernel][kernel]`, `bias` is `[out]`.
    pub fn new(layer: ConvTranspose, w: &[f32], bias: &[f32]) -> Self {
        assert!(layer.kernel > 0 && layer.stride > 0);
        assert_eq!(w.len(), layer.in_channels * layer.out_channels * layer.kernel * layer.kernel);
        assert_eq!(bias.len(), layer.out_channels);
        let mut weights = Vec::with_capacity(w.len());
        for a in 0..layer.stride {
            for b in 0..layer.stride {
                for (o, c) in (0..layer.out_channels).flat_map(|o| (0..layer.in_channels).map(move |c| (o, c))) {
                    for u in layer.positions(a) {
                        let row = ((c * layer.out_channels + o) * layer.kernel + u) * layer.kernel;
                        weights.extend(layer.positions(b).map(|v| w[row + v]));
                    }
                }
            }
        }
        PackedConvTranspose { layer, weights, bias: bias.to_vec() }
    }

    /// Channels and geometry.
    pub fn layer(&self) -> &ConvTranspose {
        &self.layer
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

/// What the taps depend on beside the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    plane: usize,
    cols: usize,
    finite: bool,
}

/// A layer at work: taps for inputs of one layout, laid out anew when it changes, and working memory.
#[derive(Clone, Debug)]
pub struct ConvTransposeRun<'a> {
    conv: &'a PackedConvTranspose,
    gdn: Option<&'a PackedGdn>,
    layout: Option<Layout>,
    /// `[row remainder][column remainder][out]`.
    lists: TapLists,
    /// `[row phase][column phase][out][strip]`.
    sums: Vec<f32>,
    /// `[out][strip]`.
    squares: Vec<f32>,
}

impl<'a> ConvTransposeRun<'a> {
    /// The layer `conv`, followed by the normalisation `gdn`.
    pub fn new(conv: &'a PackedConvTranspose, gdn: Option<&'a PackedGdn>) -> Self {
        assert!(gdn.is_none_or(|g| g.channels() == conv.layer.out_channels));
        ConvTransposeRun { conv, gdn, layout: None, lists: TapLists::default(), sums: Vec::new(), squares: Vec::new() }
    }

    /// Outputs `ys` at any level: [`conv_transpose2d_scalar`], then [`gdn::inverse_gdn_scalar`]. `x` has the frame
    /// [`ConvTranspose::support`] of `ys`; the frame of `y` holds `ys`.
    pub fn run(&mut self, level: Level, x: &Map, ys: &Window, y: &mut Map) {
        let layer = &self.conv.layer;
        assert_eq!(*x.frame(), layer.support(ys));
        assert_eq!((x.channels(), y.channels()), (layer.in_channels, layer.out_channels));
        if layer.out_channels * ys.height * ys.width == 0 {
            return;
        }
        let finite = all_finite(level, &x.values()[..layer.in_channels * x.plane()]);
        let layout = Layout { plane: x.plane(), cols: x.frame().cols, finite };
        if self.layout != Some(layout) {
            self.lay_out(&layout);
            self.layout = Some(layout);
        }
        run_layer(level, self, x, ys, y);
    }

    fn lay_out(&mut self, layout: &Layout) {
        let PackedConvTranspose { layer, weights, bias } = self.conv;
        assert!(layer.in_channels * layout.plane < 1 << 30, "a block of a picture");
        self.lists.clear();
        let mut weights = weights.iter();
        for (a, b) in (0..layer.stride).flat_map(|a| (0..layer.stride).map(move |b| (a, b))) {
            for bias in bias {
                let keep_zeros = !layout.finite || is_negative_zero(*bias);
                for c in 0..layer.in_channels {
                    for u in layer.positions(a) {
                        let row = (c * layout.plane) as i32 + layer.shift(a, u) * layout.cols as i32;
                        for (v, &weight) in layer.positions(b).zip(&mut weights) {
                            self.lists.push(weight, row + layer.shift(b, v), keep_zeros);
                        }
                    }
                }
                self.lists.end();
            }
        }
    }
}

kernel! {
    fn run_layer(run: &mut ConvTransposeRun, x: &Map, ys: &Window, y: &mut Map) = run_layer_lanes;
}

#[inline(always)]
fn run_layer_lanes<S: Simd>(s: S, run: &mut ConvTransposeRun, x: &Map, ys: &Window, y: &mut Map) {
    let ConvTransposeRun { conv, gdn, lists, sums, squares, .. } = run;
    let layer = &conv.layer;
    let (stride, outputs, frame) = (layer.stride, layer.out_channels, x.frame());
    let grid = Grid {
        cols: ys.width.div_ceil(stride),
        pitch: frame.cols,
        points: (ys.height.div_ceil(stride) - 1) * frame.cols + ys.width.div_ceil(stride),
    };
    let pitch = strip_len::<S>();
    sums.resize(stride * stride * outputs * pitch, 0.0);
    squares.resize(outputs * pitch, 0.0);
    // The lists of each phase that has outputs, and where its first grid point has `Y / stride`, `X / stride`.
    let mut phases = Vec::with_capacity(stride * stride);
    for (a, b) in (0..stride.min(ys.height)).flat_map(|a| (0..stride.min(ys.width)).map(move |b| (a, b))) {
        let (row, col) = (ys.y0 + a, ys.x0 + b);
        let (i, j) = ((row / stride) as isize - frame.top, (col / stride) as isize - frame.left);
        let origin = i * frame.cols as isize + j;
        let first = (row % stride * stride + col % stride) * outputs;
        let lists = lists.range(first..first + outputs);
        if let Some((low, high)) = lists.reach() {
            assert!(origin + low as isize >= 0);
            assert!(
                origin + high as isize + (grid.points.next_multiple_of(pitch) as isize) <= x.values().len() as isize
            );
        }
        phases.push((a * stride + b, origin, lists));
    }
    let mut first = 0;
    while first < grid.points {
        let narrow = grid.points - first <= pitch / 2;
        for &(phase, origin, lists) in &phases {
            let sums = &mut sums[phase * outputs * pitch..][..outputs * pitch];
            let image = x.values().as_ptr().wrapping_offset(origin + first as isize);
            // SAFETY: the asserts above, for the last strip.
            unsafe {
                if narrow {
                    strip::<S, { VECTORS / 2 }>(s, lists, &conv.bias, image, sums);
                } else {
                    strip::<S, VECTORS>(s, lists, &conv.bias, image, sums);
                }
            }
            match gdn {
                Some(g) if narrow => gdn::strip::<S, { VECTORS / 2 }>(s, g, sums, squares),
                Some(g) => gdn::strip::<S, VECTORS>(s, g, sums, squares),
                None => {}
            }
        }
        let end = (first + pitch).min(grid.points);
        write_strip(stride, &grid, first..end, pitch, sums, ys, y);
        first += if narrow { pitch / 2 } else { pitch };
    }
}

/// Points of a window's phases.
struct Grid {
    cols: usize,
    /// Numbers from a row to the next.
    pitch: usize,
    /// Numbers up to the last point.
    points: usize,
}

/// One phase of one strip: `V` vectors of sums for each output.
///
/// # Safety
/// `image` has `V` vectors at the offsets of all lists.
#[inline(always)]
unsafe fn strip<S: Simd, const V: usize>(s: S, lists: Lists, bias: &[f32], image: *const f32, sums: &mut [f32]) {
    for ((taps, &bias), sums) in lists.iter().zip(bias).zip(sums.chunks_exact_mut(strip_len::<S>())) {
        // SAFETY: the caller's promise; a strip has `V` vectors.
        unsafe {
            let out = add_taps::<S, V>(s, taps, image, 1, [s.splat(bias); V]);
            for v in 0..V {
                s.store_to(out[v], sums, v * S::F32_LANES);
            }
        }
    }
}

/// Weaves the phases of the grid points `strip` into the rows of `y`.
#[inline(always)]
fn write_strip(
    stride: usize,
    grid: &Grid,
    strip: std::ops::Range<usize>,
    pitch: usize,
    sums: &[f32],
    ys: &Window,
    y: &mut Map,
) {
    let outputs = y.channels();
    let mut point = strip.start;
    while point < strip.end {
        let (m, n) = (point / grid.pitch, point % grid.pitch);
        let stop = strip.end.min((m + 1) * grid.pitch);
        let columns = (stop - point).min(grid.cols.saturating_sub(n));
        let from = point - strip.start;
        if columns > 0 {
            let width = (columns * stride).min(ys.width - n * stride);
            for a in 0..stride.min(ys.height - m * stride) {
                for o in 0..outputs {
                    let to = &mut y.row_mut(o, ys.y0 + m * stride + a, ys.x0 + n * stride)[..width];
                    let part = |b: usize| &sums[((a * stride + b) * outputs + o) * pitch + from..][..columns];
                    weave(stride, part, to);
                }
            }
        }
        point = stop;
    }
}

/// `to[x] = part(x % stride)[x / stride]`.
#[inline(always)]
fn weave<'a>(stride: usize, part: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
    if stride != 2 {
        for b in 0..stride {
            to.iter_mut().skip(b).step_by(stride).zip(part(b)).for_each(|(to, &v)| *to = v);
        }
        return;
    }
    // The usual stride by pairs, which the compiler turns into shuffles.
    let (even, odd) = (part(0), part(1));
    let (pairs, last) = to.as_chunks_mut::<2>();
    for ((to, &a), &b) in pairs.iter_mut().zip(even).zip(odd) {
        *to = [a, b];
    }
    if let ([to], Some(&v)) = (last, even.last()) {
        *to = v;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::gdn::inverse_gdn_scalar;
    use tilefit_testing::noise;

    /// The values of `ys` from a map that may have been used before.
    fn run(run: &mut ConvTransposeRun, level: Level, xs: &Window, x: &[f32], ys: &Window) -> Vec<f32> {
        let layer = run.conv.layer;
        let frame = layer.support(ys);
        let inside = |from: usize, n: usize, low: isize, size: usize| {
            let lo = (from as isize).max(low) as usize;
            let hi = ((from + n) as isize).min(low + size as isize).max(lo as isize) as usize;
            (lo, hi - lo)
        };
        let (y0, height) = inside(xs.y0, xs.height, frame.top, frame.rows);
        let (x0, width) = inside(xs.x0, xs.width, frame.left, frame.cols);
        let (mut map, mut out) = (Map::default(), Map::default());
        // What was there before must not matter.
        let old = Window { y0: 0, x0: 0, height: 2 * frame.rows + 9, width: 2 * frame.cols + 9 };
        map.reset(layer.in_channels + 1, Frame::from(&old), &old);
        for (c, y) in (0..layer.in_channels).flat_map(|c| (0..old.height).map(move |y| (c, y))) {
            map.row_mut(c, y, 0).fill(f32::NAN);
        }
        map.reset(layer.in_channels, frame, &Window { y0, x0, height, width });
        for (c, y) in (0..layer.in_channels).flat_map(|c| (y0..y0 + height).map(move |y| (c, y))) {
            let from = (c * xs.height + y - xs.y0) * xs.width + x0 - xs.x0;
            map.row_mut(c, y, x0)[..width].copy_from_slice(&x[from..][..width]);
        }
        out.reset(layer.out_channels, Frame::from(ys), ys);
        run.run(level, &map, ys, &mut out);
        let rows = (0..layer.out_channels).flat_map(|o| (ys.y0..ys.y0 + ys.height).map(move |y| (o, y)));
        rows.flat_map(|(o, y)| out.row(o, y, ys.x0).to_vec()).collect()
    }

    fn same(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
    }

    /// Every level has the definition's bits, for whole pictures and for windows, with many weights of 0, sums that
    /// begin at -0, and inputs that are not finite.
    #[test]
    fn levels_agree() {
        let mut case = 0;
        for (kernel, stride, padding) in [(5, 2, 2), (1, 1, 0), (3, 1, 1), (4, 2, 1), (5, 3, 2), (2, 3, 0), (6, 2, 7)] {
            for side in [1, 2, 3, 5, 8, 17, 33] {
                case += 1;
                let layer =
                    ConvTranspose { in_channels: case % 5 + 1, out_channels: case % 7 + 1, kernel, stride, padding };
                let mut w = noise(layer.in_channels * layer.out_channels * kernel * kernel, case);
                if case % 2 == 0 {
                    w.iter_mut().enumerate().filter(|(i, _)| i % 5 > 1).for_each(|(_, w)| *w = 0.0);
                }
                let mut bias = noise(layer.out_channels, case + 1);
                bias[case % layer.out_channels] = -0.0;
                let xs = Window { y0: case % 3, x0: case % 4, height: side, width: 1 + case % 9 };
                let mut x = noise(layer.in_channels * xs.height * xs.width, case + 2);
                x.iter_mut().step_by(3).for_each(|x| *x = 0.0);
                if case % 4 == 0 {
                    let bad = x.len() / 2;
                    x[bad] = f32::INFINITY;
                }
                let ys = Window { y0: case % 5, x0: case % 2, height: 2 * side + 1, width: 67 - side };
                let packed = PackedConvTranspose::new(layer, &w, &bias);
                let mut want = vec![0f32; layer.out_channels * ys.height * ys.width];
                conv_transpose2d_scalar(&layer, &w, &bias, &xs, &x, &ys, &mut want);
                let (beta, gamma) = (noise(layer.out_channels, 7), noise(layer.out_channels * layer.out_channels, 8));
                let gamma: Vec<f32> = gamma.iter().map(|g| g.max(0.0)).collect();
                let normalisation = PackedGdn::new(&beta, &gamma);
                let mut normalised = want.clone();
                inverse_gdn_scalar(&beta, &gamma, ys.height * ys.width, &want, &mut normalised);
                for level in Level::available() {
                    let got = run(&mut ConvTransposeRun::new(&packed, None), level, &xs, &x, &ys);
                    assert!(same(&got, &want), "{level:?} {layer:?} {xs:?} {ys:?}");
                    let got = run(&mut ConvTransposeRun::new(&packed, Some(&normalisation)), level, &xs, &x, &ys);
                    assert!(same(&got, &normalised), "{level:?} {layer:?} {xs:?} {ys:?}");
                }
            }
        }
    }

    /// A region's outputs from the inputs that it depends on are the picture's, by bits, one run after another.
    #[test]
    fn region_equals_whole() {
        let layer = ConvTranspose { in_channels: 6, out_channels: 5, kernel: 5, stride: 2, padding: 2 };
        let (w, bias) = (noise(750, 1), noise(5, 2));
        let packed = PackedConvTranspose::new(layer, &w, &bias);
        let whole = Window { y0: 0, x0: 0, height: 19, width: 23 };
        let out = Window { y0: 0, x0: 0, height: 38, width: 46 };
        let x = noise(6 * 19 * 23, 3);
        let full = run(&mut ConvTransposeRun::new(&packed, None), Level::best(), &whole, &x, &out);
        for level in Level::available() {
            let mut layer_run = ConvTransposeRun::new(&packed, None);
            for (y0, x0, height, width) in [(0, 0, 7, 9), (11, 20, 1, 1), (13, 17, 25, 29), (37, 45, 1, 1)] {
                let cut = Window { y0, x0, height, width };
                let got = run(&mut layer_run, level, &whole, &x, &cut);
                for (k, v) in got.iter().enumerate() {
                    let (o, i, j) = (k / width / height, k / width % height, k % width);
                    assert_eq!(v.to_bits(), full[(o * 38 + y0 + i) * 46 + x0 + j].to_bits(), "{level:?} {cut:?}");
                }
            }
        }
    }
}
