//! The cost of small changes of many weights as a quadratic form, and rounding that uses it: the error of a weight is
//! compensated by the weights that are rounded after it (Hassibi, Stork, "Second order derivatives for network pruning: optimal
//! brain surgeon", 1993; Frantar et al., "GPTQ", 2022).

use rayon::prelude::*;

/// Least rows of a matrix that one thread eliminates: fewer take less time than another thread takes to start.
const MIN_ROWS: usize = 64;

/// The quadratic form `d' A d`, the cost of a change `d` of the weights from an optimum.
pub struct Curvature {
    /// The weights in the order of the elimination, which is the reverse of the order of rounding.
    order: Vec<usize>,
    /// `L`, below the diagonal of `[n][n]`, of the decomposition `A = L diag(pivots) L'` in this order.
    lower: Vec<f64>,
    pivots: Vec<f64>,
}

impl Curvature {
    /// Decomposes a symmetric positive definite matrix, row by row. At each step the weight with the smallest pivot is
    /// eliminated: its error, compensated by the weights that are left, costs least. So the weights that matter least are
    /// rounded last, where nothing can compensate their errors.
    pub fn new(mut matrix: Vec<f64>) -> Curvature {
        let n = matrix.len().isqrt();
        assert_eq!(n * n, matrix.len(), "a square matrix");
        let mut order: Vec<usize> = (0..n).collect();
        let mut pivots = Vec::new();
        for k in 0..n {
            let least = (k..n).min_by(|a, b| matrix[a * n + a].total_cmp(&matrix[b * n + b])).unwrap_or(k);
            order.swap(k, least);
            (0..n).for_each(|c| matrix.swap(k * n + c, least * n + c));
            (0..n).for_each(|r| matrix.swap(r * n + k, r * n + least));
            let pivot = matrix[k * n + k];
            pivots.push(pivot);
            let (above, below) = matrix.split_at_mut((k + 1) * n);
            let row = &above[k * n + k + 1..];
            below.par_chunks_mut(n).with_min_len(MIN_ROWS).for_each(|r| {
                let factor = r[k] / pivot;
                r[k + 1..].iter_mut().zip(row).for_each(|(v, k)| *v -= factor * k);
                r[k] = factor;
            });
        }
        Curvature { order, lower: matrix, pivots }
    }

    /// `d' A d`.
    #[cfg(test)]
    pub fn cost(&self, d: &[f64]) -> f64 {
        let n = self.order.len();
        let at = |r: usize| d[self.order[r]];
        let along = |c: usize| at(c) + (c + 1..n).map(|r| self.lower[r * n + c] * at(r)).sum::<f64>();
        (0..n).map(|c| self.pivots[c] * along(c).powi(2)).sum()
    }

    /// The change `d` with the least `d' A d + gradient' d`.
    pub fn newton(&self, gradient: &[f64]) -> Vec<f64> {
        let n = self.order.len();
        let mut x: Vec<f64> = self.order.iter().map(|i| -0.5 * gradient[*i]).collect();
        for r in 0..n {
            x[r] -= (0..r).map(|c| self.lower[r * n + c] * x[c]).sum::<f64>();
        }
        x.iter_mut().zip(&self.pivots).for_each(|(x, p)| *x /= p);
        for r in (0..n).rev() {
            let (before, x) = x.split_at_mut(r);
            before.iter_mut().zip(&self.lower[r * n..]).for_each(|(b, l)| *b -= l * x[0]);
        }
        let mut out = vec![0.0; n];
        self.order.iter().zip(x).for_each(|(i, x)| out[*i] = x);
        out
    }

    /// Rounds each of `weights` to a multiple of its step. It is the multiple nearest to the value that would cost least given
    /// the errors of the weights rounded before it (the nearest-plane method; Babai, "On Lovász' lattice reduction and the
    /// nearest lattice point problem", 1986).
    pub fn round(&self, weights: &[f64], steps: &[f64]) -> Vec<f64> {
        let n = self.order.len();
        let mut rounded = weights.to_vec();
        // By how much the weights that are not rounded yet should change to compensate the errors so far.
        let mut compensation = vec![0.0; n];
        for r in (0..n).rev() {
            let i = self.order[r];
            rounded[i] = ((weights[i] + compensation[r]) / steps[i]).round() * steps[i];
            let error = rounded[i] - weights[i];
            compensation[..r].iter_mut().zip(&self.lower[r * n..]).for_each(|(c, l)| *c -= l * error);
        }
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A positive definite matrix with few directions of large curvature, as those of fits are.
    fn matrix(n: usize, values: &[f64]) -> Vec<f64> {
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            a[i * n + i] = 0.1;
        }
        for (k, v) in values.chunks_exact(n).enumerate() {
            let weight = 10f64.powi(1 - k as i32);
            for i in 0..n {
                for j in 0..n {
                    a[i * n + j] += weight * v[i] * v[j];
                }
            }
        }
        a
    }

    fn cost(a: &[f64], d: &[f64]) -> f64 {
        let n = d.len();
        (0..n * n).map(|i| d[i / n] * a[i] * d[i % n]).sum()
    }

    proptest! {
        /// At the Newton point the gradient `2 A d + g` is zero.
        #[test]
        fn newton_finds_the_optimum(n in 1usize..12, values in prop::collection::vec(-1f64..1.0, 60), g in prop::collection::vec(-1f64..1.0, 12)) {
            let a = matrix(n, &values);
            let d = Curvature::new(a.clone()).newton(&g[..n]);
            for i in 0..n {
                let slope: f64 = (0..n).map(|j| 2.0 * a[i * n + j] * d[j]).sum::<f64>() + g[i];
                prop_assert!(slope.abs() < 1e-9, "{i}: {slope}");
            }
        }

        /// The cost is within the bound of the nearest-plane method: half a step for each pivot.
        #[test]
        fn rounding_costs_no_more_than_half_a_step_each(n in 1usize..12, values in prop::collection::vec(-1f64..1.0, 60), w in prop::collection::vec(-1f64..1.0, 12), fine in prop::collection::vec(0i32..6, 12)) {
            let a = matrix(n, &values);
            let curvature = Curvature::new(a.clone());
            let steps: Vec<f64> = fine[..n].iter().map(|e| 2f64.powi(-e)).collect();
            let rounded = curvature.round(&w[..n], &steps);
            for (v, s) in rounded.iter().zip(&steps) {
                prop_assert_eq!((v / s).round() * s, *v);
            }
            let moved: Vec<f64> = rounded.iter().zip(&w).map(|(r, w)| r - w).collect();
            let bound: f64 = curvature.order.iter().zip(&curvature.pivots).map(|(i, p)| p * steps[*i] * steps[*i] / 4.0).sum();
            prop_assert!((cost(&a, &moved) - curvature.cost(&moved)).abs() < 1e-9 * (1.0 + cost(&a, &moved)));
            prop_assert!(cost(&a, &moved) <= bound * (1.0 + 1e-9), "{} of {bound}", cost(&a, &moved));
        }
    }

    /// Of two weights only the sum matters: rounded together their errors cancel, rounded each by itself they add up.
    #[test]
    fn errors_are_compensated() {
        let a = vec![100.0, 99.9, 99.9, 100.0];
        let rounded = Curvature::new(a).round(&[0.4, 0.4], &[1.0, 1.0]);
        assert_eq!(rounded.iter().sum::<f64>(), 1.0);
    }
}
