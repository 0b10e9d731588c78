//! 2-D transposed convolution of any window of the picture, with an inverse GDN behind it where one is asked for.
//!
//! Outputs whose rows and whose columns have the same remainders by the stride (a *phase*) see the same taps: each
//! phase is an ordinary convolution of the input. All phases of a window share one *grid*: point `(m, n)` of phase
//! `(a, b)`, counted from the window's corner, is output `(m stride + a, n stride + b)`. Points are numbered with the
//! row pitch of the input, so that every tap is a fixed distance in memory, and a strip of points may run from one row
//! into the next; what falls between the rows is dropped.
//!
//! The inputs of a strip stay in L1 while all phases and all outputs pass.

use super::gdn::{self, is_negative_zero, PackedGdn};
use super::map::{Frame, Map};
use super::taps::{add_taps, surely_finite, Lists, Tap, NARROW, STRIP, WIDE};
use crate::vector::Simd;
use crate::{Level, Window};
use alloc::vec::Vec;
use std::ops::Range;

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
        // From the input that the last kernel position joins to the first output to the one that the first kernel
        // position joins to the last output.
        let side = |from: usize, n: usize| {
            let low = self.lowest(from);
            let high = ((from + n.max(1) - 1 + self.padding) / self.stride) as isize;
            (low, (high - low + 1).max(1) as usize)
        };
        let ((top, rows), (left, cols)) = (side(ys.y0, ys.height), side(ys.x0, ys.width));
        Frame { top, left, rows, cols }
    }

    /// The lowest input coordinate that reaches output coordinate `at` or a higher one.
    fn lowest(&self, at: usize) -> isize {
        let (at, stride) = ((at + self.padding) as isize, self.stride as isize);
        (at - self.kernel as isize + stride).div_euclid(stride)
    }

    /// Kernel positions `u` that reach outputs of remainder `r`, ascending.
    fn positions(&self, r: usize) -> impl Iterator<Item = usize> + Clone {
        ((r + self.padding) % self.stride..self.kernel).step_by(self.stride)
    }
}

/// A product of an output: `weight` times the input `row` rows and `col` columns from the lowest input that the output
/// depends on.
#[derive(Clone, Copy, Debug)]
struct Product {
    weight: f32,
    channel: u16,
    row: u8,
    col: u8,
}

/// Products of each output of each phase: `[row remainder][column remainder][out]`.
#[derive(Clone, Default, Debug)]
struct Products {
    list: Vec<Product>,
    /// Where each output's products end.
    ends: Vec<usize>,
}

/// A layer's parameters.
#[derive(Clone, Debug)]
pub struct PackedConvTranspose {
    layer: ConvTranspose,
    /// As they were given.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Without products that are 0 while all inputs are finite.
    finite: Products,
}

impl PackedConvTranspose {
    /// `w` is `[in][out][kernel][kernel]`, `bias` is `[out]`.
    ///
    /// # Panics
    /// Beyond 65,536 channels or a kernel of 256.
    pub fn new(layer: ConvTranspose, w: &[f32], bias: &[f32]) -> Self {
        assert!((1..=256).contains(&layer.kernel) && layer.stride > 0 && layer.in_channels <= 1 << 16);
        assert_eq!(w.len(), layer.in_channels * layer.out_channels * layer.kernel * layer.kernel);
        assert_eq!(bias.len(), layer.out_channels);
        let (weights, bias) = (w.to_vec(), bias.to_vec());
        let mut packed = PackedConvTranspose { layer, weights, bias, finite: Products::default() };
        packed.finite = packed.products(false);
        packed
    }

    /// Channels and geometry.
    pub fn layer(&self) -> &ConvTranspose {
        &self.layer
    }

    /// The products in the order of their sums. Without `keep_zeros` those of weight 0 are left out: where all inputs
    /// are finite they are 0 or -0, which changes no sum but one that began at -0.
    fn products(&self, keep_zeros: bool) -> Products {
        let PackedConvTranspose { layer, weights, bias, .. } = self;
        let (k, outputs) = (layer.kernel, layer.out_channels);
        let mut products = Products::default();
        for (a, b) in (0..layer.stride).flat_map(|a| (0..layer.stride).map(move |b| (a, b))) {
            let (us, vs) = (layer.positions(a), layer.positions(b));
            // Ascending kernel positions are joined to descending inputs, the last of them to the lowest.
            let (rows, cols) = (us.clone().count(), vs.clone().count());
            for (o, &bias) in bias.iter().enumerate() {
                let keep_zeros = keep_zeros || is_negative_zero(bias);
                for c in 0..layer.in_channels {
                    for (i, u) in us.clone().enumerate() {
                        for (j, v) in vs.clone().enumerate() {
                            let weight = weights[((c * outputs + o) * k + u) * k + v];
                            if weight != 0.0 || keep_zeros {
                                let (row, col) = ((rows - 1 - i) as u8, (cols - 1 - j) as u8);
                                products.list.push(Product { weight, channel: c as u16, row, col });
                            }
                        }
                    }
                }
                products.ends.push(products.list.len());
            }
        }
        products
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

/// Working memory of [`conv_transpose2d`]; contents mean nothing between calls.
#[derive(Clone, Default, Debug)]
pub struct Scratch {
    /// The products of the layer for inputs of one size.
    taps: Vec<Tap>,
    /// `[phase][out][point of the strip]`.
    sums: Vec<f32>,
    /// `[out][point of the strip]`.
    squares: Vec<f32>,
}

impl Scratch {
    /// Floats of a layer of this stride and so many outputs, besides its products.
    pub fn floats(stride: usize, outputs: usize) -> usize {
        (stride * stride + 1) * outputs * STRIP
    }
}

/// [`conv_transpose2d_scalar`], then [`inverse_gdn_scalar`](super::gdn::inverse_gdn_scalar) where there is a `gdn`, at
/// any level. `x` has the frame [`ConvTranspose::support`] of `ys`; the frame of `y` holds `ys`.
pub fn conv_transpose2d(
    level: Level,
    conv: &PackedConvTranspose,
    gdn: Option<&PackedGdn>,
    x: &Map,
    ys: &Window,
    y: &mut Map,
    scratch: &mut Scratch,
) {
    let layer = &conv.layer;
    assert_eq!(*x.frame(), layer.support(ys));
    assert_eq!((x.channels(), y.channels()), (layer.in_channels, layer.out_channels));
    assert!(gdn.is_none_or(|g| g.channels() == layer.out_channels));
    if y.channels() * ys.height * ys.width == 0 {
        return;
    }
    let any;
    let products = if surely_finite(level, x.planes()) {
        &conv.finite
    } else {
        any = conv.products(true);
        &any
    };
    assert!(x.values().len() <= u32::MAX as usize);
    let (plane, cols) = (x.plane(), x.frame().cols);
    let offset = |p: &Product| usize::from(p.channel) * plane + usize::from(p.row) * cols + usize::from(p.col);
    scratch.taps.clear();
    scratch.taps.extend(products.list.iter().map(|p| Tap { weight: p.weight, offset: offset(p) as u32 }));
    windows(level, conv, &products.ends, gdn, x, ys, y, scratch);
}

kernel! {
    fn windows(
        conv: &PackedConvTranspose,
        ends: &[usize],
        gdn: Option<&PackedGdn>,
        x: &Map,
        ys: &Window,
        y: &mut Map,
        scratch: &mut Scratch,
    ) = windows_lanes;
}

/// One phase of a window.
struct Phase<'a> {
    /// `a stride + b`.
    index: usize,
    /// The lowest input of the phase's first output.
    at: usize,
    lists: Lists<'a>,
}

#[inline(always)]
fn windows_lanes<S: Simd>(
    s: S,
    conv: &PackedConvTranspose,
    ends: &[usize],
    gdn: Option<&PackedGdn>,
    x: &Map,
    ys: &Window,
    y: &mut Map,
    scratch: &mut Scratch,
) {
    let PackedConvTranspose { layer, bias, .. } = conv;
    let (stride, outputs, frame) = (layer.stride, layer.out_channels, x.frame());
    let Scratch { taps, sums, squares } = scratch;
    sums.resize(stride * stride * outputs * STRIP, 0.0);
    squares.resize(outputs * STRIP, 0.0);
    let grid = Grid { cols: ys.width.div_ceil(stride), pitch: frame.cols };
    let points = (ys.height.div_ceil(stride) - 1) * grid.pitch + grid.cols;
    let mut phases = Vec::with_capacity(stride * stride);
    for (a, b) in (0..stride.min(ys.height)).flat_map(|a| (0..stride.min(ys.width)).map(move |b| (a, b))) {
        let (row, col) = (layer.lowest(ys.y0 + a) - frame.top, layer.lowest(ys.x0 + b) - frame.left);
        let remainder = (ys.y0 + a) % stride * stride + (ys.x0 + b) % stride;
        let lists = Lists::new(taps, ends, remainder * outputs..(remainder + 1) * outputs);
        let at = row as usize * frame.cols + col as usize;
        // Whole strips lie in the values.
        assert!(at + lists.farthest() + points.next_multiple_of(STRIP) <= x.values().len());
        phases.push(Phase { index: a * stride + b, at, lists });
    }
    for first in (0..points).step_by(STRIP) {
        let strip = first..points.min(first + STRIP);
        let vectors = strip.len().div_ceil(S::F32_LANES);
        for phase in &phases {
            let sums = &mut sums[phase.index * outputs * STRIP..][..outputs * STRIP];
            let image = x.values()[phase.at + first..].as_ptr();
            for v in (0..vectors).step_by(WIDE) {
                // SAFETY: by the assert above, each tap has a strip.
                unsafe {
                    if vectors - v > NARROW {
                        add_products::<S, WIDE>(s, phase.lists, bias, v, image, sums);
                    } else {
                        add_products::<S, NARROW>(s, phase.lists, bias, v, image, sums);
                    }
                }
                match gdn {
                    Some(g) if vectors - v > NARROW => gdn::strip::<S, WIDE>(s, g, v, sums, squares),
                    Some(g) => gdn::strip::<S, NARROW>(s, g, v, sums, squares),
                    None => {}
                }
            }
        }
        write_strip(stride, &grid, strip, sums, ys, y);
    }
}

/// `V` vectors of points of each output, from vector `first` on.
///
/// # Safety
/// `image` has a strip at each tap's offset.
#[inline(always)]
unsafe fn add_products<S: Simd, const V: usize>(
    s: S,
    lists: Lists,
    bias: &[f32],
    first: usize,
    image: *const f32,
    sums: &mut [f32],
) {
    let first = first * S::F32_LANES;
    assert!(first + V * S::F32_LANES <= STRIP);
    for ((taps, &bias), sums) in lists.iter().zip(bias).zip(sums.chunks_exact_mut(STRIP)) {
        // SAFETY: `V` vectors from `first` lie in a strip; the rest is the caller's promise.
        unsafe {
            let out = add_taps::<S, V>(s, taps, image.add(first), [s.splat(bias); V]);
            for v in 0..V {
                s.store_to(out[v], sums, first + v * S::F32_LANES);
            }
        }
    }
}

/// Points of a window's phases.
struct Grid {
    cols: usize,
    /// Numbers from a row to the next.
    pitch: usize,
}

/// Weaves the phases of the points `strip` into the rows of `y`.
#[inline(always)]
fn write_strip(stride: usize, grid: &Grid, strip: Range<usize>, sums: &[f32], ys: &Window, y: &mut Map) {
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
                    let part = |b: usize| &sums[((a * stride + b) * outputs + o) * STRIP + from..][..columns];
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
    fn run(
        level: Level,
        conv: &PackedConvTranspose,
        gdn: Option<&PackedGdn>,
        xs: &Window,
        x: &[f32],
        ys: &Window,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let layer = conv.layer;
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
        conv_transpose2d(level, conv, gdn, &map, ys, &mut out, scratch);
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
        let (mut case, mut scratch) = (0, Scratch::default());
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
                    let got = run(level, &packed, None, &xs, &x, &ys, &mut scratch);
                    assert!(same(&got, &want), "{level:?} {layer:?} {xs:?} {ys:?}");
                    let got = run(level, &packed, Some(&normalisation), &xs, &x, &ys, &mut scratch);
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
        let mut scratch = Scratch::default();
        let full = run(Level::best(), &packed, None, &whole, &x, &out, &mut scratch);
        for level in Level::available() {
            for (y0, x0, height, width) in [(0, 0, 7, 9), (11, 20, 1, 1), (13, 17, 25, 29), (37, 45, 1, 1)] {
                let cut = Window { y0, x0, height, width };
                let got = run(level, &packed, None, &whole, &x, &cut, &mut scratch);
                for (k, v) in got.iter().enumerate() {
                    let (o, i, j) = (k / width / height, k / width % height, k % width);
                    assert_eq!(v.to_bits(), full[(o * 38 + y0 + i) * 46 + x0 + j].to_bits(), "{level:?} {cut:?}");
                }
            }
        }
    }
}
