//! The fully factorised density of Balle et al. 2018 (appendix 6.1): what the fit knows of the rate.
//!
//! Each channel has a monotone function `c(x)` whose logistic is the distribution function of a code plus
//! uniform noise: five affine layers of widths 1, 3, 3, 3, 3, 1 with positive matrices `softplus(H)`, and
//! `u + tanh(a) tanh(u)` behind all but the last. A value `y` costs
//! `-log2 max(logistic(c(y + 1/2)) - logistic(c(y - 1/2)), 1e-9)` bits.

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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn backward_is_the_gradient() {
        for seed in 0..20 {
            let p = random_channel(seed);
            let mut noise = Noise(seed + 77);
            let y: Vec<f32> = (0..1 + seed * 3).map(|_| 8.0 * noise.unit() - 4.0).collect();
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
                    assert!((numeric - d[i]).abs() < 0.01 * norm + 0.02, "{seed} {i} {is_y}: {numeric} {}", d[i]);
                }
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
