//! The rate of the weights in the loss: the bits that they will take in the file, as if they were coded without a step.
//!
//! The differences `d` of a group's weights from their start values have a distribution of density `p` that is fitted to
//! them, so that `d bits / d w = -p'(d) / (ln 2 p(d))`. For most groups it is a Laplace distribution, and the gradient is
//! `sign(d) / (ln 2 mean|d|)`. The networks of the codes can do without many of their weights, and a zero is cheap in the
//! file: for their groups a second, narrow Laplace distribution is mixed in (soft weight sharing; Nowlan, Hinton,
//! "Simplifying neural networks by soft weight-sharing", 1992). It attracts small weights to zero, and large ones less.

use crate::models::pyramid::quantised::start_256;
use crate::models::pyramid::spec::{Group, PyramidSpec};

/// The part of the true gradient that is used. Rounding compensates errors of weights by other weights, so that steps are
/// coarser, and weights cheaper, than this rate says. 0.8 instead costs 1.0 % of J on crops and 0.2 % on whole pictures at
/// effort 1.
const STRENGTH: f64 = 0.5;

/// Differences below this are zero in the file at nearly any step: the gradient fades linearly there. Half and twice as much
/// change J by less than the luck of fits (-0.2 and +0.2 % on average over kodim04, 15 and 23, effort 1).
const LINEAR_RANGE: f64 = 1.0 / 256.0;

/// Scale of the narrow distribution: a quarter to half a quantisation step of the groups that have it. 0.02 and 0.045 change J
/// by less than the luck of fits (below 0.1 % on average over kodim04, 15 and 23, effort 1).
const NARROW_SCALE: f64 = 0.03;

/// The wide distribution has at least this many times the scale of the narrow one, so that they stay apart. 2 and 8 change J by
/// less than the luck of fits (-0.5 and -0.4 % on average over kodim04, 15 and 23, effort 1).
const MIN_RATIO: f64 = 4.0;

/// Bounds of the share of the narrow distribution: neither of the two may vanish, or it would not return.
const MIN_SHARE: f64 = 0.02;

/// A mixture of a narrow and a wide Laplace distribution.
#[derive(Clone, Copy, Debug)]
struct Mixture {
    /// Share of the narrow one.
    narrow: f64,
    /// Scale of the wide one.
    wide: f64,
}

impl Mixture {
    /// The densities of the two, each times its share.
    fn densities(&self, d: f64) -> [f64; 2] {
        let laplace = |b: f64| 0.5 / b * (-d.abs() / b).exp();
        [self.narrow * laplace(NARROW_SCALE), (1.0 - self.narrow) * laplace(self.wide)]
    }

    /// Makes one step of expectation maximisation for `differences`.
    fn fit(&mut self, differences: &[f64]) {
        let (mut narrow, mut sum, n) = (0.0, 0.0, differences.len() as f64);
        for d in differences {
            let [a, b] = self.densities(*d);
            narrow += a / (a + b);
            sum += b / (a + b) * d.abs();
        }
        self.wide = (sum / (n - narrow).max(1.0)).max(MIN_RATIO * NARROW_SCALE);
        self.narrow = (narrow / n).clamp(MIN_SHARE, 1.0 - MIN_SHARE);
    }

    /// The derivative of `-ln p(d)` by `|d|`.
    fn slope(&self, d: f64) -> f64 {
        let [a, b] = self.densities(d);
        (a / NARROW_SCALE + b / self.wide) / (a + b)
    }
}

/// The weights of one group.
struct GroupRate {
    group: Group,
    /// Indices in the flat list of all weights.
    indices: Vec<usize>,
    /// Start values.
    start: Vec<f32>,
    /// Present differences from the start values.
    differences: Vec<f64>,
    /// For the groups with a narrow distribution: the mixture, which follows the weights.
    mixture: Option<Mixture>,
}

/// The rate of all weights of a model.
pub struct WeightRate {
    groups: Vec<GroupRate>,
}

impl WeightRate {
    /// For models of shape `spec`.
    pub fn new(spec: &PyramidSpec) -> WeightRate {
        let mut groups: Vec<GroupRate> = Vec::new();
        for t in spec.tensors() {
            let at = groups.iter().position(|g| g.group == t.group).unwrap_or_else(|| {
                let sparse = matches!(t.group, Group::Context | Group::Outputs | Group::Features);
                // Any start will do: the mixture is fitted at every step.
                let mixture = sparse.then_some(Mixture { narrow: 0.3, wide: 10.0 * NARROW_SCALE });
                let (indices, start, differences) = (Vec::new(), Vec::new(), Vec::new());
                groups.push(GroupRate { group: t.group, indices, start, differences, mixture });
                groups.len() - 1
            });
            groups[at].start.extend((0..t.range.len()).map(|i| start_256(&t, i) as f32 / 256.0));
            groups[at].indices.extend(t.range);
        }
        WeightRate { groups }
    }

    /// Adds the gradient of the bits of `weights`, flat, to `grad`.
    pub fn add_gradient(&mut self, weights: &[f32], grad: &mut [f32]) {
        for g in &mut self.groups {
            g.differences.clear();
            g.differences.extend(g.indices.iter().zip(&g.start).map(|(i, s)| f64::from(weights[*i] - s)));
            let n = g.differences.len() as f64;
            let sum = g.differences.iter().map(|d| d.abs()).sum::<f64>();
            if let Some(mixture) = &mut g.mixture {
                mixture.fit(&g.differences);
            }
            for (i, d) in g.indices.iter().zip(&g.differences) {
                let slope = g.mixture.map_or(n / sum.max(1e-6), |mixture| mixture.slope(*d));
                let bits = STRENGTH / std::f64::consts::LN_2 * slope * (d / LINEAR_RANGE).clamp(-1.0, 1.0);
                grad[*i] += bits as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Away from the start values the gradient is that of the bits by the distribution of each group that is fitted to it.
    #[test]
    fn gradient_is_that_of_the_bits() {
        let spec = PyramidSpec::preset(3, 1 << 18, 6, 2, 8);
        let mut rate = WeightRate::new(&spec);
        let mut weights = vec![0f32; spec.weights_count()];
        for g in &rate.groups {
            for (k, (i, start)) in g.indices.iter().zip(&g.start).enumerate() {
                weights[*i] = start + if k % 3 == 0 { -0.3 } else { 0.02 + k as f32 / 999.0 };
            }
        }
        let mut grad = vec![0f32; weights.len()];
        for _ in 0..500 {
            grad.fill(1.0);
            rate.add_gradient(&weights, &mut grad);
        }
        for g in &rate.groups {
            let bits = |moved: usize, by: f64| -> f64 {
                let d = g.differences.iter().enumerate().map(|(k, d)| if k == moved { d + by } else { *d });
                let n = g.differences.len() as f64;
                let nats = match g.mixture {
                    Some(mixture) => d.map(|d| -mixture.densities(d).iter().sum::<f64>().ln()).sum::<f64>(),
                    None => n * d.map(f64::abs).sum::<f64>().ln(),
                };
                STRENGTH * nats / std::f64::consts::LN_2
            };
            for (k, i) in g.indices.iter().enumerate().step_by(7) {
                let slope = (bits(k, 1e-4) - bits(k, -1e-4)) / 2e-4;
                let got = f64::from(grad[*i]) - 1.0;
                assert!((got - slope).abs() < 0.02 * slope.abs() + 1e-3, "{:?} {k}: {got} {slope}", g.group);
            }
        }
    }

    /// Expectation maximisation finds the two distributions that the values come from.
    #[test]
    fn the_mixture_is_found() {
        let quantile = |b: f64, k: usize| -b * (1.0 - (k as f64 + 0.5) / 300.0).ln();
        let differences: Vec<f64> = (0..300).flat_map(|k| [quantile(NARROW_SCALE, k), -quantile(0.5, k)]).collect();
        let mut found = Mixture { narrow: 0.1, wide: 0.2 };
        (0..300).for_each(|_| found.fit(&differences));
        assert!((found.narrow - 0.5).abs() < 0.03 && (found.wide - 0.5).abs() < 0.05, "{found:?}");
    }
}
