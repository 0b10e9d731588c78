//! The weights' own rate in the loss: what they will cost in the file, as if they were coded without a step.
//!
//! A group's differences `d` from its start values are coded by a Laplace law of the scale that suits them, so
//! that a group of `n` costs about `n log2(mean |d|)` bits and a constant:
//! `d bits / d w = sign(d) / (ln 2 * mean |d|)`.

use crate::models::pyramid::quantised::start_256;
use crate::models::pyramid::spec::{Group, PyramidSpec};

/// Of the true gradient: as errors of weights are made good by others, less of it than of those rounded each by itself
/// (0.8 costs 1.0 % of J on crops and 0.2 % on whole pictures at effort 1).
const STRENGTH: f64 = 0.5;

/// Below this a difference is zero in the file whatever it is, and its pull fades.
const NEAR: f32 = 1.0 / 256.0;

/// The start value of each weight and the group it is coded with.
pub struct WeightRate {
    start: Vec<f32>,
    group: Vec<u8>,
}

impl WeightRate {
    pub fn new(spec: &PyramidSpec) -> WeightRate {
        let mut rate = WeightRate { start: Vec::new(), group: Vec::new() };
        for t in spec.tensors() {
            rate.start.extend((0..t.range.len()).map(|i| start_256(&t, i) as f32 / 256.0));
            rate.group.resize(t.range.end, t.group as u8);
        }
        rate
    }

    /// Adds the gradient of the bits of `weights`.
    pub fn add_gradient(&self, weights: &[f32], grad: &mut [f32]) {
        let mut sums = [(0f64, 0f64); Group::COUNT];
        for ((w, start), group) in weights.iter().zip(&self.start).zip(&self.group) {
            let (sum, count) = &mut sums[*group as usize];
            *sum += f64::from((w - start).abs());
            *count += 1.0;
        }
        let pull = sums.map(|(sum, n)| (STRENGTH * n / (sum.max(1e-6) * std::f64::consts::LN_2)) as f32);
        for (((g, w), start), group) in grad.iter_mut().zip(weights).zip(&self.start).zip(&self.group) {
            *g += pull[*group as usize] * ((w - start) / NEAR).clamp(-1.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far from the start values the gradient is that of `STRENGTH * n log2(sum |d|)`.
    #[test]
    fn gradient_is_that_of_the_bits() {
        let spec = PyramidSpec::preset(3, 1 << 18, 6, 2, 8);
        let rate = WeightRate::new(&spec);
        let weights: Vec<f32> = rate
            .start
            .iter()
            .enumerate()
            .map(|(i, s)| s + if i % 3 == 0 { -0.3 } else { 0.1 + i as f32 / 999.0 })
            .collect();
        let bits = |w: &[f32]| -> f64 {
            let group = |g: usize| {
                let mine = w.iter().zip(&rate.start).zip(&rate.group).filter(|(_, of)| **of as usize == g);
                let (n, sum) =
                    mine.fold((0.0, 0.0), |(n, s), ((w, start), _)| (n + 1.0, s + f64::from((w - start).abs())));
                n * f64::log2(sum)
            };
            STRENGTH * (0..Group::COUNT).map(group).sum::<f64>()
        };
        let mut grad = vec![1f32; weights.len()];
        rate.add_gradient(&weights, &mut grad);
        for i in (0..weights.len()).step_by(7) {
            let mut moved = weights.clone();
            let h = 1e-2;
            moved[i] += h;
            let up = bits(&moved);
            moved[i] -= 2.0 * h;
            let slope = (up - bits(&moved)) / f64::from(2.0 * h);
            assert!((f64::from(grad[i]) - 1.0 - slope).abs() < 0.02 * slope.abs(), "weight {i}: {} {slope}", grad[i]);
        }
    }
}
