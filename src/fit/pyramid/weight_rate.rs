//! The weights' own rate in the loss: what they will cost in the file, as if they were coded without a step.
//!
//! The differences `d` of a group's weights from their start values follow a law of density `p`, which suits them:
//! `d bits / d w = -p'(d) / (ln 2 p(d))`. For most groups it is a Laplace law, `sign(d) / (ln 2 mean|d|)`. The networks of
//! the codes can do without many of their weights, and the file says cheaply that one is zero: there a second, narrow Laplace law
//! is mixed in (as in soft weight sharing; Nowlan, Hinton, 1992). Weights near zero are drawn there, and large ones less.

use crate::models::pyramid::quantised::start_256;
use crate::models::pyramid::spec::{Group, PyramidSpec};

/// Of the true gradient: as errors of weights are made good by others, less of it than of those rounded each by itself
/// (0.8 costs 1.0 % of J on crops and 0.2 % on whole pictures at effort 1).
const STRENGTH: f64 = 0.5;

/// Below this a difference is zero in the file whatever it is, and its pull fades.
const NEAR: f64 = 1.0 / 256.0;

/// Scale of the narrow law: a quarter to half a step of the weights that it is for.
const NARROW: f64 = 0.03;

/// The wide law is at least so many times as wide.
const WIDER: f64 = 4.0;

/// The law of a group: a Laplace law, and a share of a narrow one.
#[derive(Clone, Copy, Debug)]
struct Law {
    narrow: f64,
    wide: f64,
}

impl Law {
    /// Densities of the two parts, each times its share.
    fn parts(&self, d: f64) -> [f64; 2] {
        let laplace = |b: f64| 0.5 / b * (-d.abs() / b).exp();
        [self.narrow * laplace(NARROW), (1.0 - self.narrow) * laplace(self.wide)]
    }

    /// The next round of expectation and maximisation for `differences`.
    fn follow(&mut self, differences: &[f64]) {
        let (mut narrow, mut sum, n) = (0.0, 0.0, differences.len() as f64);
        for d in differences {
            let [a, b] = self.parts(*d);
            narrow += a / (a + b);
            sum += b / (a + b) * d.abs();
        }
        self.wide = (sum / (n - narrow).max(1.0)).max(WIDER * NARROW);
        self.narrow = (narrow / n).clamp(0.02, 0.98);
    }

    /// Of `-ln p(d)` by `|d|`.
    fn slope(&self, d: f64) -> f64 {
        let [a, b] = self.parts(d);
        (a / NARROW + b / self.wide) / (a + b)
    }
}

/// Weights of one group.
struct Member {
    group: Group,
    places: Vec<usize>,
    start: Vec<f32>,
    differences: Vec<f64>,
    /// Where zeros are worth having.
    mixed: Option<Law>,
}

pub struct WeightRate {
    members: Vec<Member>,
}

impl WeightRate {
    pub fn new(spec: &PyramidSpec) -> WeightRate {
        let mut members: Vec<Member> = Vec::new();
        for t in spec.tensors() {
            let at = members.iter().position(|m| m.group == t.group).unwrap_or_else(|| {
                let sparse = matches!(t.group, Group::Context | Group::Outputs | Group::Features);
                let mixed = sparse.then_some(Law { narrow: 0.3, wide: 10.0 * NARROW });
                let (places, start, differences) = (Vec::new(), Vec::new(), Vec::new());
                members.push(Member { group: t.group, places, start, differences, mixed });
                members.len() - 1
            });
            members[at].start.extend((0..t.range.len()).map(|i| start_256(&t, i) as f32 / 256.0));
            members[at].places.extend(t.range);
        }
        WeightRate { members }
    }

    /// Adds the gradient of the bits of `weights`.
    pub fn add_gradient(&mut self, weights: &[f32], grad: &mut [f32]) {
        for m in &mut self.members {
            m.differences.clear();
            m.differences.extend(m.places.iter().zip(&m.start).map(|(p, s)| f64::from(weights[*p] - s)));
            let n = m.differences.len() as f64;
            let sum = m.differences.iter().map(|d| d.abs()).sum::<f64>();
            if let Some(law) = &mut m.mixed {
                law.follow(&m.differences);
            }
            for (place, d) in m.places.iter().zip(&m.differences) {
                let slope = m.mixed.map_or(n / sum.max(1e-6), |law| law.slope(*d));
                let pull = STRENGTH / std::f64::consts::LN_2 * slope * (d / NEAR).clamp(-1.0, 1.0);
                grad[*place] += pull as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far from the start values, the gradient is that of the bits by the law of each group that makes them fewest.
    #[test]
    fn gradient_is_that_of_the_bits() {
        let spec = PyramidSpec::preset(3, 1 << 18, 6, 2, 8);
        let mut rate = WeightRate::new(&spec);
        let mut weights = vec![0f32; spec.weights_count()];
        for m in &rate.members {
            for (k, (place, start)) in m.places.iter().zip(&m.start).enumerate() {
                weights[*place] = start + if k % 3 == 0 { -0.3 } else { 0.02 + k as f32 / 999.0 };
            }
        }
        let mut grad = vec![0f32; weights.len()];
        for _ in 0..500 {
            grad.fill(1.0);
            rate.add_gradient(&weights, &mut grad);
        }
        for m in &rate.members {
            let bits = |moved: usize, by: f64| -> f64 {
                let d = m.differences.iter().enumerate().map(|(k, d)| if k == moved { d + by } else { *d });
                let n = m.differences.len() as f64;
                let nats = match m.mixed {
                    Some(law) => d.map(|d| -law.parts(d).iter().sum::<f64>().ln()).sum::<f64>(),
                    None => n * d.map(f64::abs).sum::<f64>().ln(),
                };
                STRENGTH * nats / std::f64::consts::LN_2
            };
            for (k, place) in m.places.iter().enumerate().step_by(7) {
                let slope = (bits(k, 1e-4) - bits(k, -1e-4)) / 2e-4;
                let got = f64::from(grad[*place]) - 1.0;
                assert!((got - slope).abs() < 0.02 * slope.abs() + 1e-3, "{:?} {k}: {got} {slope}", m.group);
            }
        }
    }

    /// Expectation and maximisation find the two laws that values come from.
    #[test]
    fn the_mixture_is_found() {
        let quantile = |b: f64, k: usize| -b * (1.0 - (k as f64 + 0.5) / 300.0).ln();
        let differences: Vec<f64> = (0..300).flat_map(|k| [quantile(NARROW, k), -quantile(0.5, k)]).collect();
        let mut law = Law { narrow: 0.1, wide: 0.2 };
        (0..300).for_each(|_| law.follow(&differences));
        assert!((law.narrow - 0.5).abs() < 0.03 && (law.wide - 0.5).abs() < 0.05, "{law:?}");
    }
}
