//! Bits of codes under the factorised density of Balle et al. 2018 (appendix 6.1), with gradients.
//!
//! A channel has a monotone function `c(x)` of five affine layers of widths 1, 3, 3, 3, 3, 1 with
//! `u + a tanh(u)` behind all but the last; matrices are positive, `|a| < 1`. A value `y` costs
//! `-log2 max(logistic(c(y + 1/2)) - logistic(c(y - 1/2)), 1e-9)` bits.

use super::math;
use crate::panel::{load_part, store_part};
use crate::vector::Bits;

/// Hidden width.
pub const WIDTH: usize = 3;
/// Parameters of a channel: 9 of the first layer, 15 of each of three, 4 of the last.
pub const PARAMETERS: usize = 58;
/// Inputs of each hidden layer, and where its matrix, bias and `a` start.
pub const LAYERS: [(usize, usize, usize, usize); 4] = [(1, 0, 3, 6), (3, 9, 18, 21), (3, 24, 33, 36), (3, 39, 48, 51)];
/// Where the last layer's row and bias start.
pub const LAST: (usize, usize) = (54, 57);
/// The lower bound of a likelihood.
const LEAST: f32 = 1e-9;

/// `c(x)`, by the definition.
pub fn cumulative_scalar(p: &[f32], x: f64) -> f64 {
    let p = |i: usize| f64::from(p[i]);
    let mut inputs = [x, 0.0, 0.0];
    for (count, matrix, bias, a) in LAYERS {
        let mut outputs = [0.0; WIDTH];
        for (i, out) in outputs.iter_mut().enumerate() {
            let u = p(bias + i) + (0..count).map(|j| p(matrix + i * count + j) * inputs[j]).sum::<f64>();
            *out = u + p(a + i) * u.tanh();
        }
        inputs = outputs;
    }
    p(LAST.1) + (0..WIDTH).map(|j| p(LAST.0 + j) * inputs[j]).sum::<f64>()
}

/// The value of [`bits`], by the definition.
pub fn bits_scalar(p: &[f32], values: &[f32]) -> f64 {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    let cost = |&y: &f32| {
        let (high, low) = (cumulative_scalar(p, f64::from(y) + 0.5), cumulative_scalar(p, f64::from(y) - 0.5));
        // On the side where the logistics are small, their difference is exact.
        let side = if high + low > 0.0 { -1.0 } else { 1.0 };
        -(side * (logistic(side * high) - logistic(side * low))).max(f64::from(LEAST)).log2()
    };
    values.iter().map(cost).sum()
}

kernel! {
    /// The bits of `values` of one channel; `dy += ` and `dp += ` the gradients.
    /// Below the bound of the likelihood the gradient is that at the bound, so that values come back.
    pub fn bits(p: &[f32], values: &[f32], dy: &mut [f32], dp: &mut [f32]) -> f64 = bits_lanes;
}

/// What the backward pass reads again: inputs and tanhs of each hidden layer.
struct Kept<V> {
    inputs: [[V; WIDTH]; 5],
    tanhs: [[V; WIDTH]; 4],
}

/// tanh to about 1e-4; what matters is that `1 - t^2` is taken as its slope where it is not clamped.
#[inline(always)]
fn tanh<S: Bits>(s: S, x: S::F32) -> S::F32 {
    let x = s.min(s.max(x, s.splat(-4.9)), s.splat(4.9));
    let q = x * x;
    let above = s.mul_add(s.mul_add(q + s.splat(378.0), q, s.splat(17_325.0)), q, s.splat(135_135.0));
    let below = s.mul_add(q, s.splat(28.0), s.splat(3_150.0));
    let below = s.mul_add(s.mul_add(below, q, s.splat(62_370.0)), q, s.splat(135_135.0));
    x * above / below
}

#[inline(always)]
fn logistic<S: Bits>(s: S, x: S::F32) -> S::F32 {
    let x = s.min(s.max(x, s.splat(-80.0)), s.splat(80.0));
    s.splat(1.0) / (s.splat(1.0) + math::exp(s, s.splat(0.0) - x).0)
}

#[inline(always)]
fn forward<S: Bits>(s: S, p: &[f32; PARAMETERS], x: S::F32, kept: &mut Kept<S::F32>) -> S::F32 {
    kept.inputs[0][0] = x;
    for (k, (inputs, matrix, bias, a)) in LAYERS.into_iter().enumerate() {
        for i in 0..WIDTH {
            let mut u = s.splat(p[bias + i]);
            for j in 0..inputs {
                u = s.mul_add(s.splat(p[matrix + i * inputs + j]), kept.inputs[k][j], u);
            }
            let t = tanh(s, u);
            kept.tanhs[k][i] = t;
            kept.inputs[k + 1][i] = s.mul_add(s.splat(p[a + i]), t, u);
        }
    }
    (0..WIDTH).fold(s.splat(p[LAST.1]), |c, j| s.mul_add(s.splat(p[LAST.0 + j]), kept.inputs[4][j], c))
}

/// `sums += ` the gradients of the parameters, lane by lane; returns `dx`.
#[inline(always)]
fn backward<S: Bits>(
    s: S,
    p: &[f32; PARAMETERS],
    kept: &Kept<S::F32>,
    dc: S::F32,
    sums: &mut [S::F32; PARAMETERS],
) -> S::F32 {
    let zero = s.splat(0.0);
    let mut du = [zero; WIDTH];
    sums[LAST.1] = sums[LAST.1] + dc;
    for j in 0..WIDTH {
        sums[LAST.0 + j] = s.mul_add(dc, kept.inputs[4][j], sums[LAST.0 + j]);
        du[j] = dc * s.splat(p[LAST.0 + j]);
    }
    for (k, (inputs, matrix, bias, a)) in LAYERS.into_iter().enumerate().rev() {
        let mut before = [zero; WIDTH];
        for i in 0..WIDTH {
            let t = kept.tanhs[k][i];
            sums[a + i] = s.mul_add(du[i], t, sums[a + i]);
            let slope = s.splat(1.0 + p[a + i]) - s.splat(p[a + i]) * t * t;
            let dv = du[i] * slope;
            sums[bias + i] = sums[bias + i] + dv;
            for j in 0..inputs {
                let at = matrix + i * inputs + j;
                sums[at] = s.mul_add(dv, kept.inputs[k][j], sums[at]);
                before[j] = s.mul_add(dv, s.splat(p[at]), before[j]);
            }
        }
        du = before;
    }
    du[0]
}

#[inline(always)]
fn bits_lanes<S: Bits>(s: S, p: &[f32], values: &[f32], dy: &mut [f32], dp: &mut [f32]) -> f64 {
    let p: &[f32; PARAMETERS] = p.try_into().expect("the parameters of one channel");
    assert_eq!(values.len(), dy.len());
    let (zero, half, one) = (s.splat(0.0), s.splat(0.5), s.splat(1.0));
    let empty = || Kept { inputs: [[zero; WIDTH]; 5], tanhs: [[zero; WIDTH]; 4] };
    let (mut up, mut down) = (empty(), empty());
    let mut sums = [zero; PARAMETERS];
    let mut total = 0f64;
    for at in (0..values.len()).step_by(S::F32_LANES) {
        let n = S::F32_LANES.min(values.len() - at);
        let y = load_part(s, &values[at..], n);
        let high = forward(s, p, y + half, &mut up);
        let low = forward(s, p, y - half, &mut down);
        let side = s.select_gt(high + low, zero, zero - one, one);
        let (a, b) = (logistic(s, side * high), logistic(s, side * low));
        let likelihood = s.max(side * (a - b), s.splat(LEAST));
        let mut costs = [0f32; 16];
        s.store(math::log2(s, likelihood), &mut costs);
        total -= costs[..n].iter().map(|&c| f64::from(c)).sum::<f64>();
        // Lanes beyond the last value have no gradient.
        let there = load_part(s, &[1.0; 16], n);
        let slope = there * s.splat(-std::f32::consts::LOG2_E) / likelihood;
        let dx = backward(s, p, &up, slope * a * (one - a), &mut sums);
        let dx = dx + backward(s, p, &down, (zero - slope) * b * (one - b), &mut sums);
        let d = load_part(s, &dy[at..], n) + dx;
        store_part(s, d, &mut dy[at..], n);
    }
    dp.iter_mut().zip(sums).for_each(|(d, v)| *d += s.sum(v));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use tilefit_testing::noise;

    fn channel(seed: usize) -> Vec<f32> {
        let u = noise(PARAMETERS, seed);
        let mut p = u.clone();
        for (inputs, matrix, _, a) in LAYERS {
            (matrix..matrix + inputs * WIDTH).for_each(|i| p[i] = 0.4 + 0.4 * u[i]);
            (a..a + WIDTH).for_each(|i| p[i] = 0.9 * u[i]);
        }
        (LAST.0..LAST.0 + WIDTH).for_each(|i| p[i] = 0.4 + 0.4 * u[i]);
        p
    }

    /// Values at every level are the definition's, gradients its differences.
    #[test]
    fn levels_agree_with_the_definition() {
        let mut checked = 0;
        for n in 0..68 {
            let p = channel(n);
            let y: Vec<f32> = noise(n, n + 100).iter().map(|v| 5.0 * v).collect();
            let want = bits_scalar(&p, &y);
            for level in Level::available() {
                let (mut dy, mut dp) = (vec![1.0; n], vec![1.0; PARAMETERS]);
                let got = bits(level, &p, &y, &mut dy, &mut dp);
                assert!((got - want).abs() < 2e-3 * want + 1e-3, "{level:?} {n}: {got} {want}");
                // Where the bound holds, the gradient goes on pulling; the definition's ends.
                if n % 9 != 4 || y.iter().any(|y| bits_scalar(&p, &[*y]) > 25.0) {
                    continue;
                }
                checked += 1;
                for (which, d) in [(0, &dy), (1, &dp)] {
                    let norm = d.iter().map(|d| (d - 1.0).powi(2)).sum::<f32>().sqrt();
                    for i in 0..d.len() {
                        let at = |h: f32| {
                            let (mut p, mut y) = (p.clone(), y.clone());
                            if which == 0 {
                                y[i] += h;
                            } else {
                                p[i] += h;
                            }
                            bits_scalar(&p, &y)
                        };
                        let numeric = ((at(5e-3) - at(-5e-3)) / 1e-2) as f32;
                        let exact = d[i] - 1.0;
                        assert!((numeric - exact).abs() < 0.01 * norm + 0.01, "{which} {i}: {numeric} {exact}");
                    }
                }
            }
        }
        assert!(checked > 4);
    }
}
