//! What the codes of family `gdn` cost. In the first stage each channel has a learned density
//! ([`bottleneck`]). In the second the rate is what the adaptive coder charges, and which way is cheaper: the coder's
//! probabilities depend on a code's neighbours; here its counters become a table: for each channel and level of the
//! neighbourhood, the share of zeros and the mean size of the rest, taken from the present codes.

use crate::entropy::adaptive::level;
use crate::entropy::bottleneck;
use crate::fit::rng::Rng;
use crate::fit::transform::patch::Patch;
use crate::fit::transform::rate::{Moving, Noisy, Rate};
use crate::models::gdn::GdnModel;
use crate::models::transform::{Stored, TransformSpec};
use crate::models::{Codes, Encode, Grid};
use kernels::Level;
use rayon::prelude::*;

/// The rate of a model of `n` channels.
#[derive(Debug)]
pub struct GdnRate {
    n: usize,
    /// What the density makes of its parameters.
    prepared: Vec<f32>,
}

/// Codes of one channel, and their gradient.
#[derive(Debug, Default)]
pub struct Work {
    row: Vec<f32>,
    d_row: Vec<f32>,
}

impl GdnRate {
    pub fn new(n: usize) -> Self {
        GdnRate { n, prepared: vec![0.0; n * bottleneck::PARAMETERS] }
    }
}

/// What codes spread over about, at first.
const SPREAD: f32 = 10.0;

impl Rate for GdnRate {
    type Field = Rates;
    type Work = Work;

    const SPEED: f32 = 5.0;
    /// Of the density's bits: measured on the nebula.
    const CODED: f64 = 0.6;
    const ALIGN: usize = 1;
    const SORTS: bool = true;

    fn parameters(&self, rng: &mut Rng) -> Vec<f32> {
        let mut parameters = vec![0.0; self.n * bottleneck::PARAMETERS];
        bottleneck::start(self.n, SPREAD, || rng.unit(), &mut parameters);
        parameters
    }

    fn prepare(&mut self, parameters: &[f32], second: bool) {
        if !second {
            bottleneck::prepare(parameters, &mut self.prepared);
        }
    }

    fn unprepare(&self, parameters: &[f32], d: &mut [f32]) {
        bottleneck::unprepare(parameters, d);
    }

    fn noisy(&self, work: &mut Work, x: &Noisy, d: &mut [f32], d_parameters: &mut [f32], _: &mut Rng) -> f64 {
        let (inner, codes) = (x.patch.inner(0), x.patch.codes_shape(self.n));
        let Work { row, d_row } = work;
        let mut bits = 0.0;
        for c in 0..self.n {
            let rows = (inner.y0..inner.y1).map(|y| (c * codes.height + y) * codes.width);
            row.clear();
            rows.clone().for_each(|at| row.extend_from_slice(&x.noisy[at + inner.x0..at + inner.x1]));
            d_row.clear();
            d_row.resize(row.len(), 0.0);
            let p = c * bottleneck::PARAMETERS..(c + 1) * bottleneck::PARAMETERS;
            bits += bottleneck::bits(Level::best(), &self.prepared[p.clone()], row, d_row, &mut d_parameters[p]);
            for (at, d_row) in rows.zip(d_row.chunks_exact(inner.width())) {
                d[at + inner.x0..at + inner.x1].iter_mut().zip(d_row).for_each(|(d, r)| *d += x.gain * r);
            }
        }
        d_parameters.iter_mut().for_each(|d| *d *= x.gain);
        bits
    }

    fn field(&self, x: &Moving) -> Rates {
        let mut rates = Rates::default();
        self.refresh(&mut rates, x);
        rates
    }

    fn refresh(&self, field: &mut Rates, x: &Moving) {
        field.update(x.codes, x.shape.channels, x.shape.height, x.shape.width);
    }

    fn moving(&self, _: &mut Work, field: &Rates, x: &Moving, patch: &Patch, d: &mut Vec<f32>, _: &mut [f32]) -> f64 {
        d.clear();
        let core = patch.core;
        for (c, y) in (0..self.n).flat_map(|c| (core.y0..core.y1).map(move |y| (c, y))) {
            let from = (c * x.shape.height + y) * x.shape.width;
            d.extend((from + core.x0..from + core.x1).map(|k| {
                let rest = x.values[k] - f32::from(field.guess[k]);
                let slope = if rest.abs() < 1.0 { field.first[k] } else { field.further[k] };
                if rest < 0.0 {
                    -slope
                } else {
                    slope
                }
            }));
        }
        0.0
    }

    fn advance(&self, _: &mut Rates, _: usize, _: &Patch, _: &[f32], _: f64, _: f32, _: i32) {}

    fn add_weights_rate(&self, _: &[f32], _: &mut [f32], _: f32) {}

    fn weights_bits(&self, _: &[f32]) -> f64 {
        0.0
    }

    fn model(&self, spec: TransformSpec, stored: Stored, _: &[f32]) -> Box<dyn Encode> {
        Box::new(GdnModel::new(spec, stored))
    }

    fn codes(&self, _: &Rates, grid: Grid) -> Codes {
        vec![grid]
    }

    fn save(&self, _: &Rates, _: &mut Vec<u8>) {}

    fn restore(&self, _: &mut Rates, _: &mut &[u8]) -> bool {
        true
    }
}

const NEAR: usize = 12;
const LOUD: usize = 10;
/// A code counts as at most this much in other channels' neighbourhoods.
const LOUDEST: i32 = 31;

/// For each code, in bits: what a step away from its expected value costs if it is that value,
/// and each further step; and the expected value.
#[derive(Debug, Default)]
pub struct Rates {
    first: Vec<f32>,
    further: Vec<f32>,
    guess: Vec<i16>,
    activity: Vec<i32>,
    /// The loudness of each code's surroundings, sums over channels.
    loud: Vec<u8>,
    sums: Vec<i32>,
}

impl Rates {
    /// Reads the codes `[n][h][w]` of a picture anew.
    fn update(&mut self, codes: &[i16], n: usize, h: usize, w: usize) {
        let plane = h * w;
        self.first.resize(n * plane, 0.0);
        self.further.resize(n * plane, 0.0);
        self.guess.resize(n * plane, 0);
        self.activity.resize(n * plane, 0);
        // The guess where it pays: exactly as the coder would, but for its price.
        let guesses = self.guess.par_chunks_mut(plane).zip(self.activity.par_chunks_mut(plane)).enumerate();
        guesses.for_each(|(c, (guess, sizes))| {
            let q = &codes[c * plane..][..plane];
            let at = |y: isize, x: isize| match y >= 0 && x >= 0 && x < w as isize {
                true => i32::from(q[y as usize * w + x as usize]),
                false => 0,
            };
            let (mut plain, mut rest) = (0f64, 0f64);
            for i in 0..plane {
                let (y, x) = ((i / w) as isize, (i % w) as isize);
                let sum = 2 * (at(y, x - 1) + at(y - 1, x)) + at(y - 1, x + 1) - at(y - 1, x - 1);
                guess[i] = ((sum + 2) >> 2) as i16;
                plain += f64::from(1 + i32::from(q[i]).abs()).log2();
                rest += f64::from(1 + i32::from(q[i].wrapping_sub(guess[i])).abs()).log2();
            }
            if plain <= rest {
                guess.fill(0);
            }
            for i in 0..plane {
                sizes[i] = i32::from(q[i].wrapping_sub(guess[i])).abs();
            }
        });
        // Activity of the channels before, at each place.
        self.loud.resize(n * plane, 0);
        self.sums.clear();
        self.sums.resize(plane, 0);
        let (loud, sums) = (&mut self.loud, &mut self.sums);
        for c in 0..n {
            for i in 0..plane {
                let (y, x) = (i / w, i % w);
                let mut around = 4 * sums[i];
                around += if x > 0 { sums[i - 1] } else { 0 } + if x + 1 < w { sums[i + 1] } else { 0 };
                around += if y > 0 { sums[i - w] } else { 0 } + if y + 1 < h { sums[i + w] } else { 0 };
                loud[c * plane + i] = level(around as u32, LOUD - 1) as u8;
            }
            sums.iter_mut().zip(&self.activity[c * plane..]).for_each(|(s, a)| *s += (*a).min(LOUDEST));
        }
        let each = self.first.par_chunks_mut(plane).zip(self.further.par_chunks_mut(plane)).enumerate();
        let (activity, loud) = (&self.activity, &self.loud);
        each.for_each(|(c, (first, further))| {
            channel(&activity[c * plane..][..plane], &loud[c * plane..][..plane], w, first, further);
        });
    }
}

/// Writes the costs of one channel from its sizes.
fn channel(sizes: &[i32], loud: &[u8], w: usize, first: &mut [f32], further: &mut [f32]) {
    let near = |i: usize| {
        let x = i % w;
        let at = |there: bool, back: usize| if there { sizes[i - back] } else { 0 };
        let up = i >= w;
        let sum = 2 * (at(x > 0, 1) + at(up, w)) + at(up && x > 0, w + 1) + at(up && x + 1 < w, w.saturating_sub(1));
        level(sum as u32, NEAR - 1)
    };
    // Count, non-zeros, sum of sizes; a few of the whole channel's belong to each.
    let mut counts = [[0f64; 3]; NEAR * LOUD];
    let mut all = [0f64; 3];
    for (i, &s) in sizes.iter().enumerate() {
        let one = [1.0, f64::from(s.min(1)), f64::from(s)];
        let cell = &mut counts[near(i) * LOUD + usize::from(loud[i])];
        (0..3).for_each(|k| cell[k] += one[k]);
        (0..3).for_each(|k| all[k] += one[k]);
    }
    let share = 8.0 / (all[0] + 8.0);
    let mut table = [[0f64; 3]; NEAR * LOUD];
    for (cell, out) in counts.iter().zip(&mut table) {
        let (n, some, sum) =
            (cell[0] + share * all[0] + 1.0, cell[1] + share * all[1] + 0.3, cell[2] + share * all[2] + 0.36);
        let zero = 1.0 - some / n;
        // Sizes beyond 1 are geometric.
        let more = (1.0 - some / sum).clamp(0.02, 0.98);
        let one = -(some / n).log2() + 1.0 - (1.0 - more).log2();
        *out = [-zero.max(1e-4).log2(), one, -more.log2()];
    }
    for i in 0..sizes.len() {
        let [zero, one, more] = table[near(i) * LOUD + usize::from(loud[i])];
        first[i] = (one - zero) as f32;
        further[i] = more as f32;
    }
}
