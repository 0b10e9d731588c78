//! Adam for latents (Kingma, Ba 2015).

use crate::vector::Simd;

/// One step: `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
/// `y -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)`, `t = step` from 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdamStep {
    pub lr: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub step: u32,
}

/// The step of one latent, in f64.
pub fn adam_scalar(a: &AdamStep, g: f64, y: &mut f64, m: &mut f64, v: &mut f64) {
    let (b1, b2) = (a.beta1 as f64, a.beta2 as f64);
    *m = b1 * *m + (1.0 - b1) * g;
    *v = b2 * *v + (1.0 - b2) * g * g;
    let t = a.step as i32;
    *y -= a.lr as f64 * (*m / (1.0 - b1.powi(t))) / ((*v / (1.0 - b2.powi(t))).sqrt() + a.eps as f64);
}

kernel! {
    /// [`adam_scalar`] of `y.len()` latents with the gradient `g = gain * (dq * dqdy + bits)`.
    pub fn adam(
        a: &AdamStep,
        gain: f32,
        dq: &[f32],
        dqdy: &[f32],
        bits: &[f32],
        y: &mut [f32],
        m: &mut [f32],
        v: &mut [f32]
    ) = adam_lanes;
}

#[inline(always)]
fn adam_lanes<S: Simd>(
    s: S,
    a: &AdamStep,
    gain: f32,
    dq: &[f32],
    dqdy: &[f32],
    bits: &[f32],
    y: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let n = y.len();
    let lanes = S::F32_LANES;
    // lr m' / (sqrt(v') + eps) = scale m / (sqrt(v) + eps2)
    let (c1, c2) = (1.0 - (a.beta1 as f64).powi(a.step as i32), 1.0 - (a.beta2 as f64).powi(a.step as i32));
    let scale = s.splat((a.lr as f64 * c2.sqrt() / c1) as f32);
    let eps = s.splat((a.eps as f64 * c2.sqrt()) as f32);
    let (b1, b2, gain) = (s.splat(a.beta1), s.splat(a.beta2), s.splat(gain));
    let (r1, r2) = (s.splat(1.0 - a.beta1), s.splat(1.0 - a.beta2));
    let k = Factors { scale, eps, b1, b2, r1, r2, gain };
    let whole = n / lanes * lanes;
    for i in (0..whole).step_by(lanes) {
        update(s, &k, &dq[i..], &dqdy[i..], &bits[i..], &mut y[i..], &mut m[i..], &mut v[i..]);
    }
    if whole < n {
        let rest = n - whole;
        let mut b = [[0f32; 16]; 6];
        for (b, from) in b.iter_mut().zip([dq, dqdy, bits, y, m, v]) {
            b[..rest].copy_from_slice(&from[whole..n]);
        }
        let [dq, dqdy, bits, y2, m2, v2] = &mut b;
        update(s, &k, dq, dqdy, bits, y2, m2, v2);
        y[whole..].copy_from_slice(&y2[..rest]);
        m[whole..n].copy_from_slice(&m2[..rest]);
        v[whole..n].copy_from_slice(&v2[..rest]);
    }
}

struct Factors<S: Simd> {
    scale: S::F32,
    eps: S::F32,
    b1: S::F32,
    b2: S::F32,
    r1: S::F32,
    r2: S::F32,
    gain: S::F32,
}

// Functions, not closures: those would not inherit the instruction set.
#[inline(always)]
fn update<S: Simd>(
    s: S,
    k: &Factors<S>,
    dq: &[f32],
    dqdy: &[f32],
    bits: &[f32],
    y: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let g = k.gain * s.mul_add(s.load(dq), s.load(dqdy), s.load(bits));
    let new_m = s.mul_add(k.b1, s.load(m), k.r1 * g);
    let new_v = s.mul_add(k.b2, s.load(v), k.r2 * g * g);
    s.store(new_m, m);
    s.store(new_v, v);
    s.store(s.load(y) - k.scale * new_m / (s.sqrt(new_v) + k.eps), y);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn levels_follow_the_definition() {
        for level in Level::available() {
            for n in 0..67 {
                let value = |i: usize, k: usize| ((i * 7919 + k * 104_729 + 13) % 1000) as f32 / 500.0 - 1.0;
                let column = |k: usize| (0..n).map(|i| value(i, k)).collect::<Vec<f32>>();
                let (dq, dqdy, bits, mut y, mut m) = (column(0), column(1), column(5), column(2), column(3));
                let mut v: Vec<f32> = column(4).iter().map(|v| v * v).collect();
                let wide = |x: &[f32]| x.iter().map(|v| *v as f64).collect::<Vec<_>>();
                let mut want: Vec<_> = vec![wide(&y), wide(&m), wide(&v)];
                for step in 1..4 {
                    let a = AdamStep { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, step };
                    adam(level, &a, 16.0, &dq, &dqdy, &bits, &mut y, &mut m, &mut v);
                    let [wy, wm, wv] = &mut want[..] else { unreachable!() };
                    for i in 0..n {
                        let g = 16.0 * (dq[i] as f64 * dqdy[i] as f64 + bits[i] as f64);
                        adam_scalar(&a, g, &mut wy[i], &mut wm[i], &mut wv[i]);
                    }
                }
                for (got, want) in [&y, &m, &v].iter().zip(&want) {
                    for (g, w) in got.iter().zip(want) {
                        assert!((*g as f64 - w).abs() <= 1e-5 * (1.0 + w.abs()), "{level:?} {n}: {g} {w}");
                    }
                }
            }
        }
    }
}
