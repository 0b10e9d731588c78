//! The fully factorised density of Balle et al. 2018 (appendix 6.1): what the fit knows of the rate.
//!
//! Each channel has a monotone function `c(x)` whose logistic is the distribution function of a code plus
//! uniform noise: five affine layers of widths 1, 3, 3, 3, 3, 1 with positive matrices `softplus(H)`, and
//! `u + tanh(a) tanh(u)` behind all but the last. A value `y` costs
//! `-log2 max(logistic(c(y + 1/2)) - logistic(c(y - 1/2)), 1e-9)` bits.

use super::cdf::{Cdf, TailedCdf};
use crate::error::Result;
use kernels::fast::density::{self, LAST, LAYERS, WIDTH};
use kernels::Level;

pub use density::PARAMETERS;

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Writes starting parameters of `channels` channels whose values spread over about `scale`; `unit` gives
/// numbers in [0, 1).
pub fn start(channels: usize, scale: f32, mut unit: impl FnMut() -> f32, parameters: &mut [f32]) {
    let gain = scale.powf(1.0 / 5.0);
    for p in parameters.chunks_exact_mut(PARAMETERS).take(channels) {
        for (inputs, matrix, bias, a) in LAYERS {
            let h = (1.0 / gain / WIDTH as f32).exp_m1().ln();
            p[matrix..matrix + inputs * WIDTH].fill(h);
            p[bias..bias + WIDTH].iter_mut().for_each(|b| *b = unit() - 0.5);
            p[a..a + WIDTH].fill(0.0);
        }
        p[LAST.0..LAST.0 + WIDTH].fill((1.0 / gain).exp_m1().ln());
        p[LAST.1] = unit() - 0.5;
    }
}

/// `softplus` of the matrices and `tanh` of the `a`s, once a step.
pub fn prepare(parameters: &[f32], prepared: &mut [f32]) {
    prepared.copy_from_slice(parameters);
    for p in prepared.chunks_exact_mut(PARAMETERS) {
        for (inputs, matrix, _, a) in LAYERS {
            p[matrix..matrix + inputs * WIDTH].iter_mut().for_each(|h| *h = softplus(*h));
            p[a..a + WIDTH].iter_mut().for_each(|a| *a = a.tanh());
        }
        p[LAST.0..LAST.0 + WIDTH].iter_mut().for_each(|h| *h = softplus(*h));
    }
}

/// Gradients of the prepared values become, in place, those of the parameters.
pub fn unprepare(parameters: &[f32], gradients: &mut [f32]) {
    for (p, d) in parameters.chunks_exact(PARAMETERS).zip(gradients.chunks_exact_mut(PARAMETERS)) {
        for (inputs, matrix, _, a) in LAYERS {
            (matrix..matrix + inputs * WIDTH).for_each(|i| d[i] *= logistic(p[i]));
            (a..a + WIDTH).for_each(|i| d[i] *= 1.0 - p[i].tanh().powi(2));
        }
        (LAST.0..LAST.0 + WIDTH).for_each(|i| d[i] *= logistic(p[i]));
    }
}

/// The bits of `values` of one channel; `dy += ` and `dp += ` the gradients (of the prepared parameters `p`).
pub fn bits(level: Level, p: &[f32], values: &[f32], dy: &mut [f32], dp: &mut [f32]) -> f64 {
    density::bits(level, p, values, dy, dp)
}

/// Where the distribution function of one channel is one half.
pub fn median(p: &[f32]) -> f32 {
    let (mut low, mut high) = (-1e4f64, 1e4f64);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if density::cumulative_scalar(p, middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    (0.5 * (low + high)) as f32
}

/// Outliers beyond a side of a table are rarer than this.
const TAIL: f64 = 1.0 / (1u64 << 18) as f64;
/// Codes on a side of the median, at most.
const SIDE: i32 = 4000;

/// The density of one channel (of prepared parameters) as an integer table: a symbol for each code about the median
/// that is not an outlier, and the tail symbol for all that are.
pub fn table(p: &[f32]) -> Result<TailedCdf> {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    // The mass below and above the code `k - 1/2`, each exact where it is small.
    let below = |k: i32| logistic(density::cumulative_scalar(p, f64::from(k) - 0.5));
    let above = |k: i32| logistic(-density::cumulative_scalar(p, f64::from(k) - 0.5));
    let middle = (median(p).round() as i32).clamp(-20_000, 20_000);
    let low = (middle - SIDE..=middle).rev().find(|&k| below(k) < TAIL).unwrap_or(middle - SIDE);
    let end = (middle + 1..=middle + SIDE).find(|&k| above(k) < TAIL).unwrap_or(middle + SIDE);
    let mass = |k: i32| if k < middle { below(k + 1) - below(k) } else { above(k) - above(k + 1) };
    let mut pmf: Vec<f64> = (low..end).map(mass).collect();
    pmf.push(below(low) + above(end));
    TailedCdf::new(low as i16, Cdf::from_pmf(&pmf)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};
    use proptest::prelude::*;

    struct Noise(u64);
    impl Noise {
        fn unit(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        }
    }

    fn random_channel(seed: u64) -> Vec<f32> {
        let mut noise = Noise(seed);
        let mut p = vec![0.0; PARAMETERS];
        start(1, 4.0, || noise.unit(), &mut p);
        p.iter_mut().for_each(|p| *p += noise.unit() - 0.5);
        p
    }

    fn cost(p: &[f32], y: &[f32]) -> f64 {
        let mut prepared = p.to_vec();
        prepare(p, &mut prepared);
        bits(Level::best(), &prepared, y, &mut vec![0.0; y.len()], &mut vec![0.0; PARAMETERS])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn backward_is_the_gradient(seed in 0u64..1 << 40, n in 1usize..60) {
            let p = random_channel(seed);
            let mut noise = Noise(seed + 77);
            let y: Vec<f32> = (0..n).map(|_| 8.0 * noise.unit() - 4.0).collect();
            let mut prepared = p.clone();
            prepare(&p, &mut prepared);
            let (mut dy, mut dp) = (vec![0.0; y.len()], vec![0.0; PARAMETERS]);
            bits(Level::best(), &prepared, &y, &mut dy, &mut dp);
            unprepare(&p, &mut dp);
            let h = 2e-2;
            for (x, d, is_y) in [(&y, &dy, true), (&p, &dp, false)] {
                let norm = d.iter().map(|v| v * v).sum::<f32>().sqrt();
                for i in 0..x.len() {
                    let at = |s: f32| {
                        let mut x = x.clone();
                        x[i] += s;
                        if is_y {
                            cost(&p, &x)
                        } else {
                            cost(&x, &y)
                        }
                    };
                    let numeric = ((at(h) - at(-h)) / (2.0 * f64::from(h))) as f32;
                    prop_assert!((numeric - d[i]).abs() < 0.01 * norm + 0.02, "{seed} {i} {is_y}: {numeric} {}", d[i]);
                }
            }
        }

        /// A table of the density costs what the density says, outliers included, and brings every code back.
        #[test]
        fn tables_cost_what_the_density_says(seed in 0u64..1 << 40, codes in prop::collection::vec(any::<i16>(), 1..40)) {
            let p = random_channel(seed);
            let mut prepared = p.clone();
            prepare(&p, &mut prepared);
            let table = table(&prepared).unwrap();
            let (mut ideal, mut real, mut seen) = (0.0, 0.0, 0.0);
            for k in -3000i16..3000 {
                let bits = cost(&p, &[f32::from(k)]);
                let mass = (-bits * std::f64::consts::LN_2).exp();
                // The density's floor is no mass.
                if bits < 28.0 {
                    (ideal, real, seen) = (ideal + mass * bits, real + mass * table.bits(k), seen + mass);
                }
            }
            prop_assert!((seen - 1.0f64).abs() < 1e-3);
            prop_assert!((real - ideal).abs() < 2e-3 * ideal + 4e-3, "{real} {ideal}");
            let codes: Vec<i16> = codes.iter().enumerate().map(|(i, c)| c >> (i % 16)).collect();
            let mut encoder = RangeEncoder::default();
            codes.iter().for_each(|&c| table.encode(&mut encoder, c));
            let bytes = encoder.finish();
            let mut decoder = RangeDecoder::new(&bytes);
            for &c in &codes {
                prop_assert_eq!(table.decode(&mut decoder).unwrap(), c);
            }
        }
    }

    /// Probabilities of all integers sum to one, and half of the mass is below the median.
    #[test]
    fn it_is_a_distribution() {
        for seed in 0..10 {
            let p = random_channel(seed);
            let mut prepared = p.clone();
            prepare(&p, &mut prepared);
            let m = median(&prepared);
            let mass = |y: f32| (-cost(&p, &[y]) * std::f64::consts::LN_2).exp();
            let all: f64 = (-200..200).map(|k| mass(k as f32)).sum();
            let below: f64 = (0..300).map(|k| mass(m - 0.5 - k as f32)).sum();
            assert!((all - 1.0).abs() < 1e-3, "{all}");
            assert!((below - 0.5).abs() < 1e-2, "{below}");
        }
    }
}
