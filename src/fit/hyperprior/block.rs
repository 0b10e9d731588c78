//! The entropy model of codes over a block of positions, forward and backward: the float shadow of
//! [`Laws`](crate::models::hyperprior::Laws). It sees rounded codes; gradients pass the rounding unchanged.

use super::laplace::bits;
use super::planes::{Cells, Size};
use crate::image::Rect;
use crate::models::hyperprior::{HyperSpec, AROUND, CELL, EARLIER_CAP, FAR, LOG_OFFSET, NEAR, NEIGHBOURS, SCALE_HYPER};
use crate::models::transform::weights::count;

/// Positions next to one.
const DIRECT: [(isize, isize); 4] = [(0, -1), (0, 1), (-1, 0), (1, 0)];
/// The errors that the logarithms of a channel's own sum, with their weights.
const NEAR_SUM: [((isize, isize), f32); 4] = [((0, -1), 2.0), ((-1, 0), 2.0), ((-1, -1), 1.0), ((-1, 1), 1.0)];
const FAR_SUM: [((isize, isize), f32); 2] = [((0, -2), 1.0), ((-2, 0), 1.0)];
/// Units of a code.
const UNITS: f32 = 64.0;
/// Errors of earlier channels count as at most this.
const CAP: f32 = EARLIER_CAP as f32 / UNITS;
/// Codes count as at most this in locations.
const MAX_CODE: f32 = 511.0;

/// `log2` of errors in codes, linear between powers of two, as the decoder takes it; and its derivative.
#[inline]
fn linear_log2(errors: f32) -> (f32, f32) {
    let v = UNITS * errors + LOG_OFFSET as f32;
    let bits = v.to_bits();
    // The bits of a float are its logarithm, linear between powers of two.
    let log = bits as f32 * (1.0 / (1 << 23) as f32) - 127.0;
    let power = f32::from_bits(bits & 0x7f80_0000);
    (log, UNITS / power)
}

/// The logarithm of no errors.
const LEAST_LOG: f32 = LOG_OFFSET.ilog2() as f32;

/// How the bits of values change as they move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slope {
    /// By the density's derivative, for values with noise.
    Derivative,
    /// From the code below to the code above, for values that will be rounded.
    Steps,
}

/// Working memory: planes of all channels, one after another, and planes of one.
#[derive(Debug, Default)]
pub struct Block {
    size: Size,
    /// Codes, which the caller fills after [`Self::begin`].
    pub codes: Vec<f32>,
    /// What is to be coded: codes with noise, or before rounding. Filled by the caller.
    pub values: Vec<f32>,
    /// Gradients of the bits: by codes as contexts, by values.
    pub d_codes: Vec<f32>,
    pub d_values: Vec<f32>,
    /// Hyper-codes of the window, `[channels][window]`, their gradient, and their places.
    pub z: Vec<f32>,
    pub dz: Vec<f32>,
    pub cells: Cells,
    mu: Vec<f32>,
    errors: Vec<f32>,
    d_mu: Vec<f32>,
    d_errors: Vec<f32>,
    /// Logarithms of errors as later channels see them, and their gradients.
    here: Vec<f32>,
    direct: Vec<f32>,
    d_here: Vec<f32>,
    d_direct: Vec<f32>,
    /// Scales of one channel, logarithms of its own errors, their slopes.
    s: Vec<f32>,
    ds: Vec<f32>,
    near: Vec<f32>,
    far: Vec<f32>,
    near_slope: Vec<f32>,
    far_slope: Vec<f32>,
    sums: Vec<f32>,
    slopes: Vec<f32>,
    /// Weighted hyper-codes of one channel.
    weighted: Vec<f32>,
}

fn zeros(v: &mut Vec<f32>, n: usize) {
    v.clear();
    v.resize(n, 0.0);
}

impl Block {
    /// Prepares for `channels` channels of `all`. Codes and values are zeros.
    pub fn begin(&mut self, channels: usize, all: Rect) {
        self.size = Size { height: all.height(), width: all.width() };
        let n = channels * self.size.area();
        for v in [
            &mut self.codes,
            &mut self.values,
            &mut self.d_codes,
            &mut self.d_values,
            &mut self.mu,
            &mut self.errors,
            &mut self.d_mu,
            &mut self.d_errors,
            &mut self.here,
            &mut self.direct,
            &mut self.d_here,
            &mut self.d_direct,
        ] {
            zeros(v, n);
        }
    }

    fn plane(&self, c: usize) -> std::ops::Range<usize> {
        c * self.size.area()..(c + 1) * self.size.area()
    }

    /// Locations without what hyper-codes add, of all channels.
    pub fn locate(&mut self, spec: &HyperSpec, weights: &[f32]) {
        let (size, columns) = (self.size, spec.mean_columns());
        self.codes.iter_mut().for_each(|q| *q = q.clamp(-MAX_CODE, MAX_CODE));
        for c in 0..spec.n() {
            let w = &weights[c * columns.end..][..columns.end];
            let now = self.plane(c);
            let mu = &mut self.mu[now.clone()];
            mu.fill(w[0]);
            for (&w, by) in w[1..].iter().zip(NEIGHBOURS) {
                size.add(mu, w, &self.codes[now.clone()], by);
            }
            for l in 0..spec.leading().min(c) {
                let from = &self.codes[l * size.area()..][..size.area()];
                for (k, by) in AROUND.into_iter().enumerate() {
                    size.add(mu, w[columns.leading + l * AROUND.len() + k], from, by);
                }
            }
            for (e, from) in self.codes.chunks_exact(size.area()).enumerate().take(c) {
                size.add(mu, w[columns.earlier + e], from, (0, 0));
            }
        }
    }

    /// The mean logarithm of errors in each cell of `core`, which begins at `top`, `left` of the block: `[channels][cells]`.
    /// Locations are those of [`Self::locate`].
    pub fn activity(&self, channels: usize, (top, left): (usize, usize), core: Rect, out: &mut Vec<f32>) {
        let (rows, columns) = (core.height().div_ceil(CELL), core.width().div_ceil(CELL));
        out.clear();
        for c in 0..channels {
            let at = self.plane(c).start;
            for cell in 0..rows * columns {
                let (y0, x0) = (cell / columns * CELL, cell % columns * CELL);
                let (y1, x1) = ((y0 + CELL).min(core.height()), (x0 + CELL).min(core.width()));
                let mut sum = 0.0;
                for y in y0..y1 {
                    for p in at + (top + y) * self.size.width + left + x0..at + (top + y) * self.size.width + left + x1
                    {
                        sum += linear_log2((self.codes[p] - self.mu[p]).abs()).0 - LEAST_LOG;
                    }
                }
                out.push(sum / ((y1 - y0) * (x1 - x0)) as f32);
            }
        }
    }

    /// Bits of the values in `core` (of the block), with all gradients; `weights` are of both tensors, `d += ` theirs.
    /// [`Self::locate`] comes before. `least` is the least probability.
    pub fn bits(
        &mut self,
        spec: &HyperSpec,
        weights: &[f32],
        core: Rect,
        slope: Slope,
        least: f32,
        d: &mut [f32],
    ) -> f64 {
        let means = spec.n() * spec.mean_columns().end;
        debug_assert_eq!(weights.len(), count(&spec.tensors()));
        let (mean, scale) = weights.split_at(means);
        zeros(&mut self.dz, self.z.len());
        let mut bits = 0.0;
        for c in 0..spec.n() {
            bits += self.channel(spec, mean, scale, c, core, slope, least, &mut d[means..]);
        }
        self.backward(spec, mean, &mut d[..means]);
        bits
    }

    /// Hyper-codes weighted by `w`, to the window.
    fn weigh(&mut self, w: &[f32]) {
        let window = self.cells.window().area();
        zeros(&mut self.weighted, window);
        for (z, w) in self.z.chunks_exact(window).zip(w) {
            self.weighted.iter_mut().zip(z).for_each(|(to, z)| *to += w * z.clamp(-MAX_CODE, MAX_CODE));
        }
    }

    /// Takes the gradient of interpolated hyper-codes, `self.weighted` of the window, to them and their weights.
    fn weigh_back(&mut self, w: &[f32], dw: &mut [f32]) {
        let window = self.cells.window().area();
        for (k, (z, dz)) in self.z.chunks_exact(window).zip(self.dz.chunks_exact_mut(window)).enumerate() {
            dw[k] += z.iter().zip(&self.weighted).map(|(z, d)| z * d).sum::<f32>();
            dz.iter_mut().zip(&self.weighted).for_each(|(dz, d)| *dz += w[k] * d);
        }
    }

    /// The bits of channel `c`, whose gradients by locations, values and scales are left, with what the scales hang on.
    fn channel(
        &mut self,
        spec: &HyperSpec,
        mean: &[f32],
        scale: &[f32],
        c: usize,
        core: Rect,
        slope: Slope,
        least: f32,
        d: &mut [f32],
    ) -> f64 {
        let (size, now) = (self.size, self.plane(c));
        let columns = spec.scale_columns();
        let w = &scale[c * columns.end..][..columns.end];
        let m = &mean[c * spec.mean_columns().end..][..spec.mean_columns().end];
        let z_columns = spec.mean_columns().hyper..spec.mean_columns().leading;
        self.weigh(&m[z_columns]);
        self.cells.add(&mut self.mu[now.clone()], &self.weighted);
        let (codes, mu) = (&self.codes[now.clone()], &self.mu[now.clone()]);
        self.errors[now.clone()].iter_mut().zip(codes).zip(mu).for_each(|((e, q), mu)| *e = (q - mu).abs());
        // What later channels see.
        let errors = &self.errors[now.clone()];
        zeros(&mut self.sums, size.area());
        zeros(&mut self.slopes, size.area());
        self.slopes.iter_mut().zip(errors).for_each(|(s, e)| *s = e.min(CAP));
        DIRECT.into_iter().for_each(|by| size.add(&mut self.sums, 1.0, &self.slopes, by));
        for (p, at) in now.clone().enumerate() {
            self.here[at] = linear_log2(4.0 * self.slopes[p]).0 - LEAST_LOG;
            self.direct[at] = linear_log2(self.sums[p]).0 - LEAST_LOG;
        }
        // Its own errors.
        for (sum, log, slopes) in
            [(&NEAR_SUM[..], &mut self.near, &mut self.near_slope), (&FAR_SUM[..], &mut self.far, &mut self.far_slope)]
        {
            zeros(&mut self.sums, size.area());
            sum.iter().for_each(|&(by, w)| size.add(&mut self.sums, w, errors, by));
            log.clear();
            slopes.clear();
            for &e in &self.sums {
                let (l, s) = linear_log2(e);
                log.push(l);
                slopes.push(s);
            }
        }
        zeros(&mut self.s, size.area());
        self.s.fill(w[0]);
        size.add(&mut self.s, w[NEAR], &self.near, (0, 0));
        size.add(&mut self.s, w[FAR], &self.far, (0, 0));
        for e in 0..c {
            let from = self.plane(e);
            size.add(&mut self.s, w[columns.here + e], &self.here[from.clone()], (0, 0));
            size.add(&mut self.s, w[columns.direct + e], &self.direct[from], (0, 0));
        }
        self.weigh(&w[SCALE_HYPER..SCALE_HYPER + spec.hyper]);
        self.cells.add(&mut self.s, &self.weighted);
        // The bits.
        zeros(&mut self.ds, size.area());
        let mut total = 0.0;
        for y in core.y0..core.y1 {
            let mut row = 0f32;
            for p in y * size.width + core.x0..y * size.width + core.x1 {
                let at = now.start + p;
                let (value, mu, s) = (self.values[at], self.mu[at], self.s[p]);
                let b = match slope {
                    Slope::Derivative => bits(value - mu, s, least),
                    Slope::Steps => bits(value.round() - mu, s, least),
                };
                self.d_values[at] = match slope {
                    Slope::Derivative => b.d,
                    Slope::Steps => {
                        let below = value.floor();
                        bits(below + 1.0 - mu, s, least).bits - bits(below - mu, s, least).bits
                    }
                };
                self.d_mu[at] = -b.d;
                self.ds[p] = b.ds;
                row += b.bits;
            }
            total += f64::from(row);
        }
        // Scales back to their weights and features.
        let dw = &mut d[c * columns.end..][..columns.end];
        dw[0] += self.ds.iter().sum::<f32>();
        dw[NEAR] += size.dot(&self.ds, &self.near, (0, 0));
        dw[FAR] += size.dot(&self.ds, &self.far, (0, 0));
        for e in 0..c {
            let from = e * size.area()..(e + 1) * size.area();
            dw[columns.here + e] += size.dot(&self.ds, &self.here[from.clone()], (0, 0));
            dw[columns.direct + e] += size.dot(&self.ds, &self.direct[from.clone()], (0, 0));
            size.add(&mut self.d_here[from.clone()], w[columns.here + e], &self.ds, (0, 0));
            size.add(&mut self.d_direct[from], w[columns.direct + e], &self.ds, (0, 0));
        }
        self.cells.back(&self.ds, &mut self.weighted);
        self.weigh_back(&w[SCALE_HYPER..], &mut dw[SCALE_HYPER..]);
        for (sum, slopes, weight) in
            [(&NEAR_SUM[..], &self.near_slope, w[NEAR]), (&FAR_SUM[..], &self.far_slope, w[FAR])]
        {
            self.sums.clear();
            self.sums.extend(self.ds.iter().zip(slopes).map(|(d, s)| weight * d * s));
            sum.iter().for_each(|&(by, w)| size.add_back(&mut self.d_errors[now.clone()], w, &self.sums, by));
        }
        total
    }

    /// From the gradients by locations, and by errors as contexts, to codes and weights.
    fn backward(&mut self, spec: &HyperSpec, mean: &[f32], d: &mut [f32]) {
        let (size, columns) = (self.size, spec.mean_columns());
        for c in (0..spec.n()).rev() {
            let now = self.plane(c);
            // What later channels saw of the errors.
            zeros(&mut self.sums, size.area());
            self.slopes.clear();
            self.slopes.extend(self.errors[now.clone()].iter().map(|e| e.min(CAP)));
            DIRECT.into_iter().for_each(|by| size.add(&mut self.sums, 1.0, &self.slopes, by));
            for (s, d) in self.sums.iter_mut().zip(&self.d_direct[now.clone()]) {
                *s = d * linear_log2(*s).1;
            }
            zeros(&mut self.ds, size.area());
            DIRECT.into_iter().for_each(|by| size.add_back(&mut self.ds, 1.0, &self.sums, by));
            for (p, at) in now.clone().enumerate() {
                let e = self.errors[at];
                if e < CAP {
                    self.d_errors[at] += self.ds[p] + 4.0 * self.d_here[at] * linear_log2(4.0 * e).1;
                }
                let away = self.codes[at] - self.mu[at];
                let signed = if away == 0.0 { 0.0 } else { self.d_errors[at] * away.signum() };
                self.d_codes[at] += signed;
                self.d_mu[at] -= signed;
            }
            let (w, dw) = (&mean[c * columns.end..][..columns.end], &mut d[c * columns.end..][..columns.end]);
            let d_mu = &self.d_mu[now.clone()];
            dw[0] += d_mu.iter().sum::<f32>();
            for (k, by) in NEIGHBOURS.into_iter().enumerate() {
                dw[1 + k] += size.dot(d_mu, &self.codes[now.clone()], by);
                size.add_back(&mut self.d_codes[now.clone()], w[1 + k], d_mu, by);
            }
            for l in 0..spec.leading().min(c) {
                let from = l * size.area()..(l + 1) * size.area();
                for (k, by) in AROUND.into_iter().enumerate() {
                    let column = columns.leading + l * AROUND.len() + k;
                    dw[column] += size.dot(d_mu, &self.codes[from.clone()], by);
                    size.add_back(&mut self.d_codes[from.clone()], w[column], d_mu, by);
                }
            }
            for e in 0..c {
                let from = e * size.area()..(e + 1) * size.area();
                dw[columns.earlier + e] += size.dot(d_mu, &self.codes[from.clone()], (0, 0));
                size.add(&mut self.d_codes[from], w[columns.earlier + e], d_mu, (0, 0));
            }
            zeros(&mut self.weighted, self.cells.window().area());
            self.cells.back(&self.d_mu[now], &mut self.weighted);
            self.weigh_back(&w[columns.hyper..], &mut dw[columns.hyper..columns.leading]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::laplace::{costs, Laplace};
    use crate::fit::rng::Rng;
    use crate::models::hyperprior::Laws;
    use crate::models::transform::weights::Quantised;
    use crate::models::transform::TransformSpec;
    use proptest::prelude::*;

    fn spec(n: usize, channels: usize, hyper: usize) -> HyperSpec {
        HyperSpec { transform: TransformSpec { maps: [n, 1, 1], channels }, hyper }
    }

    /// Weights of about the size that fits end with, and scales of about a code: far from what is escaped.
    fn weights(spec: &HyperSpec, rng: &mut Rng) -> Vec<f32> {
        let tensors = spec.tensors();
        let mut w: Vec<f32> = (0..count(&tensors)).map(|_| 0.3 * (rng.unit() - 0.5)).collect();
        for row in tensors[1].range.clone().step_by(tensors[1].columns) {
            w[row] = 4.0;
        }
        w
    }

    struct Case {
        spec: HyperSpec,
        all: Rect,
        core: Rect,
        codes: Vec<f32>,
        values: Vec<f32>,
        z: Vec<f32>,
        weights: Vec<f32>,
    }

    impl Case {
        fn run(&self, slope: Slope, block: &mut Block, d: &mut [f32]) -> f64 {
            block.begin(self.spec.n(), self.all);
            block.codes.copy_from_slice(&self.codes);
            block.values.copy_from_slice(&self.values);
            block.cells.set(self.all, (0, 0), (self.all.y1.div_ceil(CELL), self.all.x1.div_ceil(CELL)));
            block.z.clone_from(&self.z);
            block.locate(&self.spec, &self.weights);
            block.bits(&self.spec, &self.weights, self.core, slope, 1.0 / 65536.0, d)
        }
    }

    fn case(n: usize, channels: usize, hyper: usize, (height, width): (usize, usize), seed: u64) -> Case {
        let (spec, mut rng) = (spec(n, channels, hyper), Rng::stream(seed, 3, 0));
        let all = Rect::whole(width, height);
        let mut cells = Cells::default();
        cells.set(all, (0, 0), (height.div_ceil(CELL), width.div_ceil(CELL)));
        let codes: Vec<f32> = (0..n * all.area()).map(|_| 6.0 * (rng.unit() - 0.5)).collect();
        Case {
            core: Rect::new(width / 5, height / 4, width, height),
            values: codes.iter().map(|q| q + rng.unit() - 0.5).collect(),
            z: (0..hyper * cells.window().area()).map(|_| 4.0 * (rng.unit() - 0.5)).collect(),
            weights: weights(&spec, &mut rng),
            codes,
            all,
            spec,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// All gradients, along random directions: of values, codes as contexts, hyper-codes and weights.
        #[test]
        fn gradients_are_those_of_the_bits(
            n in 1usize..6, grey: bool, hyper in 1usize..3, height in 1usize..10, width in 1usize..10, seed in 0u64..1 << 40,
        ) {
            let case = case(n, if grey { 1 } else { 3 }, hyper, (height, width), seed);
            let (mut block, mut d) = (Block::default(), vec![0.0; case.weights.len()]);
            case.run(Slope::Derivative, &mut block, &mut d);
            let gradients = [block.d_values.clone(), block.d_codes.clone(), block.dz.clone(), d];
            let mut rng = Rng::stream(seed, 4, 0);
            for which in 0..4 {
                let g = &gradients[which];
                let norm = g.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
                let direction: Vec<f32> = g.iter().map(|_| rng.unit() - 0.5).collect();
                let mut at = |h: f32| {
                    let mut moved = Case { codes: case.codes.clone(), values: case.values.clone(), z: case.z.clone(), weights: case.weights.clone(), ..case };
                    let to = [&mut moved.values, &mut moved.codes, &mut moved.z, &mut moved.weights];
                    to.into_iter().nth(which).unwrap().iter_mut().zip(&direction).for_each(|(x, d)| *x += h * d);
                    moved.run(Slope::Derivative, &mut block, &mut vec![0.0; case.weights.len()])
                };
                let h = 1e-3;
                // Logarithms of contexts have corners at powers of two. A corner that lies on one side leaves the other
                // difference as it is.
                let (before, here, after) = (at(-h), at(0.0), at(h));
                let differences = [here - before, after - here, 0.5 * (after - before)].map(|d| d / f64::from(h));
                let exact: f64 = g.iter().zip(&direction).map(|(a, b)| f64::from(a * b)).sum();
                let near = differences.iter().any(|numeric| (numeric - exact).abs() < 0.03 * norm + 0.05);
                prop_assert!(near, "{}: {:?} {} {}", which, differences, exact, norm);
            }
        }

        /// The bits are those that the decoder's integers ask for.
        #[test]
        fn the_integers_agree(n in 1usize..6, grey: bool, hyper in 1usize..3, height in 1usize..30, width in 1usize..30, seed in 0u64..1 << 40) {
            let [got, want, _] = both(n, grey, hyper, (height, width), seed);
            prop_assert!((got - want).abs() < 0.02 * want + 3.0, "{got} {want}");
        }
    }

    /// Bits by the law in f32, by the integers with at most 16 for a code, and by the integers.
    fn both(n: usize, grey: bool, hyper: usize, size: (usize, usize), seed: u64) -> [f64; 3] {
        let mut case = case(n, if grey { 1 } else { 3 }, hyper, size, seed);
        let tensors = case.spec.tensors();
        let quantised = Quantised::new(&tensors, &case.weights, vec![7, 6]);
        case.weights = quantised.dequantise(&tensors);
        case.codes.iter_mut().for_each(|q| *q = q.round());
        case.values = case.codes.clone();
        case.z.iter_mut().for_each(|z| *z = z.round());
        case.core = case.all;
        let (mut block, mut d) = (Block::default(), vec![0.0; case.weights.len()]);
        let law = case.run(Slope::Steps, &mut block, &mut d);
        let integers = |v: &[f32]| v.iter().map(|q| *q as i16).collect::<Vec<_>>();
        let (z, mut y, mut most, mut all) = (integers(&case.z), integers(&case.codes), 0.0, 0.0);
        let each = |mu, s, q| {
            let bits = f64::from(Laplace::new(mu, s).bits(costs(), q));
            all += bits;
            most += bits.min(16.0);
            q
        };
        Laws::new(case.spec, quantised).each(size, &z, &mut y, each).unwrap();
        [law, most, all]
    }

    /// Where a scale is so small that codes are escaped, the coder writes how far beyond its table they are, which the law in
    /// f32 leaves out: nothing else makes the difference.
    #[test]
    fn escapes_are_what_the_law_leaves_out() {
        let [law, most, all] = both(4, true, 1, (8, 15), 96_260_452_401);
        assert!((law - most).abs() < 0.02 * most + 3.0 && all > most + 3.0, "{law} {most} {all}");
    }
}
