//! The context network in integers, and the order in which the codes of a grid are coded.
//!
//! For each code the network gives location and scale of a Laplace distribution, from neighbours in the same grid that
//! are already coded and from features of coarser grids. It is autoregressive, but codes on a diagonal of the grid do not
//! depend on each other: the kernel computes a whole diagonal at once, one code a lane.

use super::quantised::Quantised;
use super::spec::{Group, Module, PyramidSpec, NEIGHBOURS};
use crate::entropy::laplace::{Laplace, WORK};
use crate::error::Result;
use crate::limits::try_vec;
use alloc::{vec, vec::Vec};
use kernels::exact::int_context::{int_context, Contexts, IntContext, Parts, FRACTION, LANES};
use kernels::Level;
use std::ops::Range;

/// How far the neighbours reach up, left and right, in codes: see [`NEIGHBOURS`].
const REACH: usize = 4;
/// Values that the kernel may read beyond the last lane.
const SLACK: usize = LANES + REACH;
/// Codes are clamped to `-MAX_CONTEXT - 1 ..= MAX_CONTEXT` in contexts, so that they fit an i16 with [`FRACTION`] fraction
/// bits.
const MAX_CONTEXT: i16 = i16::MAX >> FRACTION;

/// The codes of one grid over one tile. Codes outside count as 0.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// Codes in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// The grid is at `1/2^scale` of the picture's resolution.
    pub scale: u32,
    /// `[height][width]`
    pub codes: &'a [i16],
}

/// The linear feature layer of one scale.
#[derive(Clone, Debug)]
struct FeatureLayer {
    /// Weights `[features][inputs]` with [`ContextModel::feature_shift`] fraction bits.
    w: Vec<i16>,
    /// Biases with as many fraction bits.
    b: Vec<i32>,
}

/// The features of a grid, at half its resolution.
#[derive(Debug)]
pub struct FeatureMaps {
    width: usize,
    height: usize,
    /// `[features][height][width]`, [`FRACTION`] fraction bits.
    planes: Vec<Vec<i16>>,
}

/// The integer networks of a pyramid model, from contexts to [`Laplace`] distributions.
#[derive(Clone, Debug)]
pub struct ContextModel {
    /// Neighbours that the network sees.
    spatial: usize,
    /// Features that the network sees.
    features: usize,
    net: IntContext,
    /// Fraction bits of the feature weights.
    feature_shift: u32,
    /// Feature layers by scale; scales beyond have none.
    layers: Vec<FeatureLayer>,
    /// See [`skew`].
    skew: usize,
}

/// `v * 2^-from` in units of `2^-to`, halves rounded up.
fn rescale(v: i64, from: u32, to: u32) -> i64 {
    match to.checked_sub(from) {
        Some(up) => v << up,
        None => (v + (1 << (from - to - 1))) >> (from - to),
    }
}

/// Saturates.
fn sat32(v: i64) -> i32 {
    v.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Saturates.
fn sat16(v: i64) -> i16 {
    v.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// Nearest-neighbour upsampling by `2^shift`: position `(y, x)` of `out`, rows of `out_w`, takes `f` of the value at
/// `(y >> shift, x >> shift)` of `from`, `w x h`, or of its last row or column.
fn upsample<T>(from: &[i32], w: usize, h: usize, shift: u32, out: &mut [T], out_w: usize, f: impl Fn(i32) -> T) {
    for (y, row) in out.chunks_exact_mut(out_w).enumerate() {
        let from = &from[(y >> shift).min(h - 1) * w..][..w];
        match shift {
            0 if out_w <= w => row.iter_mut().zip(from).for_each(|(out, &v)| *out = f(v)),
            1 if out_w <= 2 * w => {
                for (pair, &v) in row.chunks_mut(2).zip(from) {
                    pair.iter_mut().for_each(|out| *out = f(v));
                }
            }
            _ => row.iter_mut().enumerate().for_each(|(x, out)| *out = f(from[(x >> shift).min(w - 1)])),
        }
    }
}

/// The smallest `skew` for which codes with equal `x + skew * y`, a diagonal, do not depend on each other: by how many
/// columns a diagonal moves to the left from one row to the next.
pub fn skew(spatial: usize) -> usize {
    let above = NEIGHBOURS[..spatial].iter().filter(|(dy, _)| *dy < 0);
    let need = above.map(|&(dy, dx)| dx.div_euclid(-dy) + 1).max().unwrap_or(0);
    need.max(0) as usize
}

impl ContextModel {
    /// The networks of a model of shape `spec` with these weights, which have the lengths of `spec`.
    pub fn new(spec: &PyramidSpec, quantised: &Quantised) -> Self {
        let tensors = spec.tensors();
        let find = |name: &str, index: usize| {
            let t = tensors.iter().find(|t| t.name == name && t.index == index && t.module != Module::Synthesis);
            let t = t.expect("every tensor of context and features is in the spec");
            (&quantised.values[t.range.clone()], quantised.exponent(t.group))
        };
        // The kernel has one number of fraction bits for all layers, 1 to 15: that of the finest.
        let finest = ["w1", "w3"].map(|name| find(name, 0).1).into_iter().max();
        let shift = finest.unwrap_or(0).clamp(1, 15);
        let scaled = |name, to| -> Vec<i64> {
            let (values, from) = find(name, 0);
            values.iter().map(|&v| rescale(v.into(), from, to)).collect()
        };
        let w = |name| -> Vec<i32> { scaled(name, shift).into_iter().map(sat32).collect() };
        let b = |name| -> Vec<i32> { scaled(name, shift + FRACTION).into_iter().map(sat32).collect() };
        let ((b3, from), (bs, _)) = (find("b3", 0), find("bs", 0));
        let b3 = |i: usize| sat32(rescale(i64::from(b3[i]) + i64::from(bs[i]), from, shift + FRACTION));
        let parts = Parts {
            w1: &w("w1"),
            w2: &w("w2"),
            w3: &w("w3"),
            ws: &w("ws"),
            b1: &b("b1"),
            b2: &b("b2"),
            b3: [b3(0), b3(1)],
        };
        let net = IntContext::new(spec.width(), shift, &parts);
        let feature_shift = quantised.exponent(Group::Features);
        let layers = (0..spec.feature_scales.min(spec.depth) as usize).filter(|_| spec.features > 0).map(|scale| {
            let (biases, from) = find("feature_b", scale);
            FeatureLayer {
                w: find("feature_w", scale).0.iter().map(|&v| sat16(v.into())).collect(),
                b: biases.iter().map(|&v| sat32(rescale(v.into(), from, feature_shift))).collect(),
            }
        });
        ContextModel {
            spatial: spec.spatial,
            features: spec.features,
            feature_shift,
            layers: layers.collect(),
            net,
            skew: skew(spec.spatial),
        }
    }

    /// The features of a grid of `width x height` at `scale`. `coarser` has the grids that were coded before it, in coding
    /// order. `None` stands for zeros.
    ///
    /// # Errors
    /// An allocation that fails.
    pub fn feature_maps(
        &self,
        scale: u32,
        width: usize,
        height: usize,
        coarser: &[Plane],
    ) -> Result<Option<FeatureMaps>> {
        let Some(layer) = self.layers.get(scale as usize) else { return Ok(None) };
        // Another grid of the same scale is no input.
        let coarser = coarser.iter().filter(|p| p.scale > scale).enumerate();
        let coarser: Vec<_> = coarser.filter(|(_, p)| !p.codes.is_empty()).collect();
        let (w2, h2) = (width.div_ceil(2), height.div_ceil(2));
        let inputs = layer.w.len() / self.features;
        let mut planes = Vec::new();
        for k in 0..self.features {
            // From the coarsest scale down: the sums are upsampled, then the terms of the next scale are added.
            let (mut sums, mut at_scale, mut w, mut h) = (vec![layer.b[k]], u32::MAX, 1, 1);
            for (i, plane) in &coarser {
                let weight = i32::from(layer.w[k * inputs + inputs - 1 - i]);
                if plane.scale != at_scale {
                    let shift = at_scale.wrapping_sub(plane.scale).min(31);
                    let mut finer = try_vec(plane.width * plane.height)?;
                    upsample(&sums, w, h, shift, &mut finer, plane.width, |v| v);
                    (sums, at_scale, w, h) = (finer, plane.scale, plane.width, plane.height);
                }
                for (sum, &code) in sums.iter_mut().zip(plane.codes) {
                    *sum = sum.wrapping_add(weight * i32::from(code));
                }
            }
            let shift = at_scale.wrapping_sub(scale + 1).min(31);
            let mut plane: Vec<i16> = try_vec(w2 * h2)?;
            let feature = |v: i32| sat16(rescale(v.into(), self.feature_shift, FRACTION));
            upsample(&sums, w, h, shift, &mut plane, w2, feature);
            planes.push(plane);
        }
        Ok(Some(FeatureMaps { width: w2, height: h2, planes }))
    }

    /// Visits all positions of a grid of `width x height` in coding order: diagonals `t = x + skew * y` with `t` rising, on
    /// each of them `y` rising. `visit(index, distribution)` is given the position `y * width + x` and the distribution of
    /// the code there, and returns the code.
    ///
    /// # Errors
    /// An allocation that fails, and those of `visit`.
    pub fn wavefront(
        &self,
        level: Level,
        width: usize,
        height: usize,
        features: Option<FeatureMaps>,
        mut visit: impl FnMut(usize, Laplace) -> Result<i16>,
    ) -> Result<()> {
        let skew = self.skew;
        let grid = Diagonals { skew, width, height };
        // The diagonals that are still needed are kept in a ring buffer, each from its first row on.
        let back = self.back();
        let ring = ring(&back);
        let stride = REACH + grid.longest() + SLACK;
        let mut diagonals: Vec<i16> = try_vec(ring * stride)?;
        let mut feature_rows: Vec<i16> = try_vec(if features.is_some() { self.features * stride } else { stride })?;
        let feature_stride = if features.is_some() { stride } else { 0 };
        let skewed = features.map(|f| f.skewed(skew)).transpose()?;
        let [mut mu, mut scale]: [Vec<i16>; 2] = [try_vec(stride)?, try_vec(stride)?];
        let mut at = vec![0; self.spatial];
        // The rows of the diagonals in the ring buffer. Those before the first diagonal are zeros.
        let mut spans = vec![0..0; ring];
        for t in 0..grid.count() as usize {
            let Range { start: y0, end: y1 } = grid.rows(t);
            let slot = t % ring;
            let old = std::mem::replace(&mut spans[slot], y0..y1);
            diagonals[slot * stride + REACH..][..old.len()].fill(0);
            if y0 >= y1 {
                continue; // an empty diagonal, of a grid narrower than the skew
            }
            for (at, (&back, (dy, _))) in at.iter_mut().zip(back.iter().zip(NEIGHBOURS)) {
                let from = (slot + ring - back) % ring;
                *at = from * stride + (REACH + y0 - spans[from].start).wrapping_add_signed(dy as isize);
            }
            if let Some(s) = &skewed {
                s.fill_rows(t, y0..y1, &mut feature_rows, stride);
            }
            let contexts = Contexts {
                plane: &diagonals,
                at: &at,
                features: &feature_rows,
                stride: feature_stride,
                lanes: y1 - y0,
            };
            int_context(level, &self.net, contexts, &mut mu, &mut scale);
            let out = diagonals[slot * stride + REACH..][..y1 - y0].iter_mut();
            let mut index = y0 * width + t - skew * y0;
            for (out, (&mu, &scale)) in out.zip(mu.iter().zip(&scale)) {
                let code = visit(index, Laplace::new(mu, scale))?;
                *out = code.clamp(-MAX_CONTEXT - 1, MAX_CONTEXT) << FRACTION;
                // After the last code of the diagonal this may pass 0; it is not used then.
                index = index.wrapping_add(width).wrapping_sub(skew);
            }
        }
        Ok(())
    }

    /// How many diagonals before its own each neighbour stands.
    fn back(&self) -> Vec<usize> {
        NEIGHBOURS[..self.spatial].iter().map(|&(dy, dx)| (-dx - self.skew as i32 * dy) as usize).collect()
    }

    /// Bytes that [`feature_maps`](Self::feature_maps) and [`wavefront`](Self::wavefront) allocate at most for a grid of
    /// `width x height` at `scale`. It is linear in the area of the grid, whatever its shape.
    pub fn memory(&self, scale: u32, width: usize, height: usize) -> u64 {
        let skew = self.skew;
        let stride = (REACH + Diagonals { skew, width, height }.longest() + SLACK) as u64;
        let rows = |features: usize| 2 * stride * (ring(&self.back()) + features.max(1) + 2) as u64;
        if self.layers.get(scale as usize).is_none() {
            return rows(0);
        }
        let halves = |n: usize, times: u32| n.div_ceil(1 << times);
        let area = |times: u32| halves(width, times) as u64 * halves(height, times) as u64;
        let half = Diagonals { skew, width: halves(width, 1), height: halves(height, 1) };
        let (maps, skewed) = (2 * area(1), 2 * half.count() * half.longest() as u64);
        let origins = half.count() * std::mem::size_of::<usize>() as u64;
        let features = self.features as u64;
        // The sums of one feature beside all maps; then the maps become skewed one by one.
        let sums = features * maps + 4 * (area(1) + area(2));
        sums.max(features * maps.max(skewed) + maps.min(skewed) + origins + rows(self.features))
    }

    /// Multiplications for a grid of `width x height` at `scale`: the kernel computes whole vectors of codes on a diagonal.
    pub fn work(&self, scale: u32, width: usize, height: usize) -> u64 {
        let grid = Diagonals { skew: self.skew, width, height };
        let (codes, inputs) = (width as u64 * height as u64, self.net.width() as u64);
        let lanes = codes + grid.count().min(codes) * (LANES as u64 - 1);
        let features = self.layers.get(scale as usize).map_or(0, |l| l.w.len() as u64);
        let network = lanes.saturating_mul(2 * inputs * inputs + 4 * inputs);
        network.saturating_add(codes.saturating_mul(WORK + features.div_ceil(4)))
    }

    /// Visits these rows of a known grid, code by code, with the distribution of each, the same as in
    /// [`wavefront`](Self::wavefront). `padded` comes from [`pad`].
    #[cfg(feature = "fit")]
    pub fn visit_rows(
        &self,
        level: Level,
        plane: &Plane,
        padded: &[i16],
        features: Option<&FeatureMaps>,
        rows: Range<usize>,
        mut visit: impl FnMut(i16, Laplace),
    ) {
        let width = plane.width;
        let stride = width + SLACK + REACH;
        let mut feature_rows = vec![0i16; if features.is_some() { self.features * stride } else { stride }];
        let feature_stride = if features.is_some() { stride } else { 0 };
        let [mut mu, mut scale] = [vec![0i16; width + SLACK], vec![0i16; width + SLACK]];
        let mut at = vec![0; self.spatial];
        for y in rows {
            for (at, (dy, dx)) in at.iter_mut().zip(NEIGHBOURS) {
                *at = ((y + REACH) * stride + REACH).wrapping_add_signed(dy as isize * stride as isize + dx as isize);
            }
            if let Some(f) = features {
                for (row, plane) in feature_rows.chunks_exact_mut(stride).zip(&f.planes) {
                    let from = &plane[y / 2 * f.width..][..f.width];
                    row.chunks_mut(2).zip(from).for_each(|(pair, &v)| pair.fill(v));
                }
            }
            let features = &feature_rows;
            let contexts = Contexts { plane: padded, at: &at, features, stride: feature_stride, lanes: width };
            int_context(level, &self.net, contexts, &mut mu, &mut scale);
            for (x, &code) in plane.codes[y * width..][..width].iter().enumerate() {
                visit(code, Laplace::new(mu[x], scale[x]));
            }
        }
    }
}

/// A grid as contexts see it: clamped, with [`FRACTION`] fraction bits and with zeros around it.
#[cfg(feature = "fit")]
pub fn pad(plane: &Plane) -> Vec<i16> {
    let stride = plane.width + SLACK + REACH;
    let mut padded = vec![0; (plane.height + REACH) * stride + SLACK];
    for (row, codes) in padded[REACH * stride..].chunks_exact_mut(stride).zip(plane.codes.chunks_exact(plane.width)) {
        for (v, code) in row[REACH..].iter_mut().zip(codes) {
            *v = (*code).clamp(-MAX_CONTEXT - 1, MAX_CONTEXT) << FRACTION;
        }
    }
    padded
}

/// The number of diagonals that a ring buffer holds.
fn ring(back: &[usize]) -> usize {
    back.iter().max().map_or(1, |m| m + 1)
}

/// The diagonals `t = x + skew * y` of a grid.
#[derive(Clone, Copy)]
struct Diagonals {
    skew: usize,
    width: usize,
    height: usize,
}

impl Diagonals {
    /// Number of diagonals.
    fn count(&self) -> u64 {
        self.width as u64 + self.skew as u64 * (self.height as u64 - 1)
    }

    /// The rows in which diagonal `t` lies in the grid. Diagonals of a grid narrower than the skew may be empty.
    #[inline]
    fn rows(&self, t: usize) -> Range<usize> {
        let start = if t < self.width { 0 } else { (t + 1 - self.width).div_ceil(self.skew.max(1)) };
        start..t.checked_div(self.skew).map_or(self.height, |y| (y + 1).min(self.height)).max(start)
    }

    /// Codes on the longest diagonal, at most.
    fn longest(&self) -> usize {
        match self.skew {
            0 => self.height,
            skew => self.height.min(self.width.div_ceil(skew)),
        }
    }
}

/// Features diagonal by diagonal: those of a diagonal of the grid are parts of two diagonals here.
struct Skewed {
    skew: usize,
    /// Where row 0 of each diagonal would be in a plane, modulo the size of the address space.
    origins: Vec<usize>,
    /// `[features][diagonals][longest diagonal]`, each diagonal from its first row on.
    planes: Vec<Vec<i16>>,
}

impl FeatureMaps {
    fn skewed(self, skew: usize) -> Result<Skewed> {
        let diagonals = Diagonals { skew, width: self.width, height: self.height };
        let longest = diagonals.longest();
        let mut origins: Vec<usize> = try_vec(diagonals.count() as usize)?;
        for (t, origin) in origins.iter_mut().enumerate() {
            *origin = (t * longest).wrapping_sub(diagonals.rows(t).start);
        }
        let mut planes = Vec::new();
        for plane in self.planes {
            let mut out: Vec<i16> = try_vec(origins.len() * longest)?;
            for (y, row) in plane.chunks_exact(self.width).enumerate() {
                for (&v, origin) in row.iter().zip(&origins[skew * y..]) {
                    out[origin.wrapping_add(y)] = v;
                }
            }
            planes.push(out);
        }
        Ok(Skewed { skew, origins, planes })
    }
}

impl Skewed {
    /// Where diagonal `t` has these rows.
    fn part(&self, t: usize, rows: Range<usize>) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let from = self.origins[t].wrapping_add(rows.start);
        from..from + rows.len()
    }

    /// Writes the features of diagonal `t` of the grid, rows `rows`, to `out`, `[features][stride]`. Rows `2i` of the grid
    /// see diagonal `t / 2`, rows `2i + 1` diagonal `(t - skew) / 2`: the result is these two interleaved.
    fn fill_rows(&self, t: usize, rows: Range<usize>, out: &mut [i16], stride: usize) {
        let even = self.part(t >> 1, rows.start.div_ceil(2)..rows.end.div_ceil(2));
        let odd = self.part(t.saturating_sub(self.skew) >> 1, rows.start / 2..rows.end / 2);
        for (row, plane) in out.chunks_exact_mut(stride).zip(&self.planes) {
            let (even, odd) = (&plane[even.clone()], &plane[odd.clone()]);
            let (first, odd) = odd.split_at(rows.start % 2);
            let (before, row) = row[..rows.len()].split_at_mut(first.len());
            before.copy_from_slice(first);
            let mut pairs = row.chunks_exact_mut(2);
            for (pair, (&a, &b)) in pairs.by_ref().zip(even.iter().zip(odd)) {
                pair.copy_from_slice(&[a, b]);
            }
            pairs.into_remainder().copy_from_slice(&even[odd.len()..]);
        }
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::entropy::range_coder::RangeDecoder;
    use crate::models::pyramid::quantised::Quantised;
    use tilefit_testing::Noise;

    #[test]
    fn skews_of_the_published_widths() {
        assert_eq!([1, 2, 4, 6, 10, 11, 14, 17, 18, 26].map(skew), [0, 1, 2, 2, 2, 2, 3, 3, 4, 4]);
    }

    /// The definition of the networks in floats, at one position: `(mu, s)`.
    fn float_parameters(spec: &PyramidSpec, weights: &[f32], planes: &[Plane], y: usize, x: usize) -> (f64, f64) {
        let tensors = spec.tensors();
        let get = |name: &str, index: usize| -> &[f32] {
            &weights[tensors.iter().find(|t| t.name == name && t.index == index).unwrap().range.clone()]
        };
        let (plane, coarser) = planes.split_last().unwrap();
        let mut c: Vec<f64> = NEIGHBOURS[..spec.spatial]
            .iter()
            .map(|&(dy, dx)| {
                let (y, x) = (y.wrapping_add_signed(dy as isize), x.wrapping_add_signed(dx as isize));
                if y < plane.height && x < plane.width {
                    f64::from(plane.codes[y * plane.width + x])
                } else {
                    0.0
                }
            })
            .collect();
        for k in 0..spec.features {
            let mut f = 0.0;
            if plane.scale < spec.feature_scales.min(spec.depth) {
                let (w, b) = (get("feature_w", plane.scale as usize), get("feature_b", plane.scale as usize));
                let inputs = spec.feature_inputs(plane.scale);
                f = f64::from(b[k]);
                for (i, p) in coarser.iter().rev().filter(|p| p.scale > plane.scale).enumerate() {
                    let d = p.scale - plane.scale;
                    f += f64::from(w[k * inputs + i]) * f64::from(p.codes[(y >> d) * p.width + (x >> d)]);
                }
            }
            c.push(f);
        }
        let d = c.len();
        let linear = |w: &[f32], b: &[f32], v: &[f64]| -> Vec<f64> {
            let rows = w.chunks(d).zip(b);
            rows.map(|(w, b)| w.iter().zip(v).map(|(w, v)| f64::from(*w) * v).sum::<f64>() + f64::from(*b)).collect()
        };
        let mut h = c.clone();
        for (w, b) in [("w1", "b1"), ("w2", "b2")] {
            let out = linear(get(w, 0), get(b, 0), &h);
            h = out.iter().zip(&h).map(|(o, h)| (o + h).max(0.0)).collect();
        }
        let (a, b) = (linear(get("w3", 0), get("b3", 0), &h), linear(get("ws", 0), get("bs", 0), &c));
        (a[0] + b[0], a[1] + b[1])
    }

    /// Codes drawn from the model itself cost hardly more by its integer networks than by the same networks in floats.
    #[test]
    fn integers_cost_next_to_nothing_over_floats() {
        let (mut float_bits, mut int_bits) = (0.0, 0.0);
        let cdf = |t: f64| if t < 0.0 { t.exp() / 2.0 } else { 1.0 - (-t).exp() / 2.0 };
        for (trial, log_b) in [-2.5f32, -1.8, -1.0, 0.0, 1.0].into_iter().enumerate() {
            let mut noise = Noise::new(trial as u64 + 7);
            let mut unit = || noise.signed() as f32;
            let spec = PyramidSpec::preset(3, 1, 10, 4, 8);
            let mut weights = vec![0f32; spec.weights_count()];
            for t in spec.tensors() {
                let size = match t.name {
                    "w1" | "w2" => 0.1,
                    "w3" | "ws" => 0.05,
                    "feature_w" => 0.3,
                    _ => 0.05,
                };
                weights[t.range.clone()].iter_mut().for_each(|w| *w = unit() * size * (-log_b.max(0.0)).exp());
                if t.name == "bs" {
                    weights[t.range.start + 1] = 4.0 + log_b;
                }
            }
            let q = Quantised::new(&spec, &weights, [7, 8, 7, 7, 8, 8, 8, 8]);
            let weights = q.dequantise(&spec);
            let model = ContextModel::new(&spec, &q);
            let (width, height) = (300usize, 190usize);
            let sizes: Vec<_> = spec
                .coding_order()
                .iter()
                .map(|g| (width.div_ceil(1 << g.scale), height.div_ceil(1 << g.scale), g.scale))
                .collect();
            let mut grids: Vec<Vec<i16>> = Vec::new();
            for &(w, h, scale) in &sizes {
                let bytes: Vec<u8> = (0..w * h * 3 + 99).map(|_| ((unit() + 1.0) * 8192.0) as u32 as u8).collect();
                let mut decoder = RangeDecoder::new(&bytes);
                let mut grid = vec![0; w * h];
                let planes: Vec<Plane> = grids
                    .iter()
                    .zip(&sizes)
                    .map(|(codes, &(width, height, scale))| Plane { width, height, scale, codes })
                    .collect();
                let maps = model.feature_maps(scale, w, h, &planes).unwrap();
                let decode = |at: usize, distribution: Laplace| {
                    grid[at] = distribution.decode(&mut decoder);
                    Ok(grid[at])
                };
                model.wavefront(Level::best(), w, h, maps, decode).unwrap();
                grids.push(grid);
            }
            let planes: Vec<Plane> = grids
                .iter()
                .zip(&sizes)
                .map(|(codes, &(width, height, scale))| Plane { width, height, scale, codes })
                .collect();
            // Without the bit in front of each grid that says that it is not all zeros.
            let ints = model.code_bits(Level::best(), &planes).iter().map(|b| b - 1.0).sum::<f64>();
            let mut floats = 0.0;
            for i in 0..planes.len() {
                let p = &planes[i];
                for at in 0..p.codes.len() {
                    let (mu, s) = float_parameters(&spec, &weights, &planes[..=i], at / p.width, at % p.width);
                    let b = (s - 4.0).clamp(-5.0, 5.0).exp();
                    let q = f64::from(p.codes[at]) - mu;
                    let tail = q.abs();
                    // By symmetry, on the side where the difference of the two does not lose digits.
                    let p = cdf((0.5 - tail) / b) - cdf((-0.5 - tail) / b);
                    floats -= p.max(0.5f64.powi(24)).log2();
                }
            }
            let codes: usize = planes.iter().map(|p| p.codes.len()).sum();
            println!(
                "log b {log_b}: {:.4} bits a code, integers {:+.4} %",
                floats / codes as f64,
                100.0 * (ints / floats - 1.0)
            );
            float_bits += floats;
            int_bits += ints;
            // Every symbol of a table has at least one unit: this costs up to 1.5e-4 bits a code.
            assert!((ints - floats).abs() < floats * 0.001 + codes as f64 * 3e-4, "{ints} bits, in floats {floats}");
        }
        assert!((int_bits / float_bits - 1.0).abs() < 0.001);
    }
}
