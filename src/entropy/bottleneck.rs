//! The fully factorised density of Balle et al., "Variational image compression with a scale hyperprior", 2018, appendix
//! 6.1: the rate in the loss of family `gdn`.
//!
//! Each channel has a monotone function `c(x)`; `logistic(c(x))` is the distribution function of a code plus uniform noise.
//! `c` has five affine layers of widths 1, 3, 3, 3, 3, 1 with positive matrices `softplus(H)`, and `u + tanh(a) tanh(u)`
//! after each but the last. A value `y` takes `-log2 max(logistic(c(y + 1/2)) - logistic(c(y - 1/2)), 1e-9)` bits.
//!
//! A channel has [`PARAMETERS`] parameters. *Prepared* parameters have `softplus` and `tanh` already applied, once a step.

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

/// Writes start values of the parameters of `channels` channels whose values spread over about `scale`. `unit` returns
/// random numbers in [0, 1).
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

/// Writes prepared parameters: `softplus` of the matrices, `tanh` of the `a`, biases as they are.
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

/// Turns gradients by the prepared parameters into gradients by the parameters, in place.
pub fn unprepare(parameters: &[f32], gradients: &mut [f32]) {
    for (p, d) in parameters.chunks_exact(PARAMETERS).zip(gradients.chunks_exact_mut(PARAMETERS)) {
        for (inputs, matrix, _, a) in LAYERS {
            (matrix..matrix + inputs * WIDTH).for_each(|i| d[i] *= logistic(p[i]));
            (a..a + WIDTH).for_each(|i| d[i] *= 1.0 - p[i].tanh().powi(2));
        }
        (LAST.0..LAST.0 + WIDTH).for_each(|i| d[i] *= logistic(p[i]));
    }
}

/// Bits of `values` of one channel with prepared parameters `p`. Adds the gradients by the values to `dy` and those by the
/// prepared parameters to `dp`.
pub fn bits(level: Level, p: &[f32], values: &[f32], dy: &mut [f32], dp: &mut [f32]) -> f64 {
    density::bits(level, p, values, dy, dp)
}

/// The median of one channel with prepared parameters `p`, within `-1e4 ..= 1e4`.
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

/// Largest probability of the codes that a table leaves out on one side. Any value below 2^-16, the width of the smallest
/// interval, works.
const TAIL: f64 = 1.0 / (1u64 << 18) as f64;
/// Most codes of a table on each side of the median: twice as many stay below
/// [`MAX_SYMBOLS`](super::cdf::MAX_SYMBOLS).
const SIDE: i32 = 4000;

/// The distribution of one channel with prepared parameters `p` as an integer table, with a symbol for each code near the
/// median and an escape for the codes in the tails.
///
/// # Errors
/// Codes beyond 16 bits.
pub fn table(p: &[f32]) -> Result<TailedCdf> {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    // The probability below and above `k - 1/2`, each computed so that it keeps its digits where it is small.
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
    use tilefit_testing::Noise;

    fn random_channel(seed: u64) -> Vec<f32> {
        let mut noise = Noise::new(seed);
        let mut p = vec![0.0; PARAMETERS];
        start(1, 4.0, || noise.unit() as f32, &mut p);
        p.iter_mut().for_each(|p| *p += noise.unit() as f32 - 0.5);
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
            let mut noise = Noise::new(seed + 77);
            let y: Vec<f32> = (0..n).map(|_| 8.0 * noise.unit() as f32 - 4.0).collect();
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

        /// Codes take the bits by a table that they take by the density, and come back, those in the tails included.
        #[test]
        fn tables_take_the_bits_of_the_density(seed in 0u64..1 << 40, codes in prop::collection::vec(any::<i16>(), 1..40)) {
            let p = random_channel(seed);
            let mut prepared = p.clone();
            prepare(&p, &mut prepared);
            let table = table(&prepared).unwrap();
            let (mut ideal, mut real, mut seen) = (0.0, 0.0, 0.0);
            for k in -3000i16..3000 {
                let bits = cost(&p, &[f32::from(k)]);
                let mass = (-bits * std::f64::consts::LN_2).exp();
                // Above this the bound 1e-9 decides, which is no probability.
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

    /// The probabilities of all integers sum to one, and one half is below the median.
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
