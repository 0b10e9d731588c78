//! The differentiable stand-in for rounding that latents are trained with.
//!
//! `q = S(S(g y) + n)`, `n ~ N(0, sigma^2)`, with the soft rounding
//! `S(v) = floor(v) + 1/2 + tanh((v - floor(v) - 1/2) / T) / (2 tanh(1 / (2 T)))`
//! (Agustsson, Theis 2020; Kim et al., CVPR 2024; Gaussian noise as in Cool-chic 5).

use super::math::{floor, log2, round, sin_turns, tanh};
use crate::vector::Bits;

/// How one grid of one iteration is quantised.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantise {
    /// Gain `g` from latent to code units.
    pub gain: f32,
    /// `T`; the smaller, the closer to rounding.
    pub temperature: f32,
    /// Standard deviation of the noise, in code units.
    pub sigma: f32,
    /// Names the noise: the same key and index give the same noise, whatever the lanes or threads.
    pub key: [u32; 2],
}

impl Quantise {
    /// The key of a seed, an iteration and a grid.
    pub fn key(seed: u64, step: u64, grid: usize) -> [u32; 2] {
        // splitmix64 over the three
        let mut z = seed;
        for x in [step, grid as u64] {
            z = z.wrapping_add(x.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
        }
        [z as u32, (z >> 32) as u32]
    }
}

fn hash_scalar(key: [u32; 2], index: u32) -> u32 {
    let mut h = index.wrapping_add(key[0]);
    for k in [key[1], 0] {
        h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
        h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
        h ^= (h >> 16) ^ k;
    }
    h
}

/// Standard normal noise number `index`: Box-Muller on the two halves of a hash.
pub fn noise_scalar(key: [u32; 2], index: u32) -> f64 {
    let h = hash_scalar(key, index);
    let radius = (-2.0 * (((h >> 16) as f64 + 0.5) / 65536.0).ln()).sqrt();
    radius * (std::f64::consts::TAU * (h & 0xffff) as f64 / 65536.0).cos()
}

/// `(S(v), S'(v))` in f64.
pub fn soft_round_scalar(v: f64, temperature: f64) -> (f64, f64) {
    let norm = (0.5 / temperature).tanh();
    let t = ((v - v.floor() - 0.5) / temperature).tanh();
    (v.floor() + 0.5 + 0.5 * t / norm, (1.0 - t * t) / (2.0 * temperature * norm))
}

/// `(q, dq/d(g y))` of one latent in f64.
pub fn quantise_scalar(p: &Quantise, y: f64, index: u32) -> (f64, f64) {
    let (u, du) = soft_round_scalar(p.gain as f64 * y, p.temperature as f64);
    let (q, dq) = soft_round_scalar(u + p.sigma as f64 * noise_scalar(p.key, index), p.temperature as f64);
    (q, dq * du)
}

kernel! {
    /// [`quantise_scalar`] of `y.len()` latents, the first of which has noise number `index`. `|g y| < 2^22`.
    pub fn quantise(p: &Quantise, index: u32, y: &[f32], q: &mut [f32], dqdy: &mut [f32]) = quantise_lanes;
}

kernel! {
    /// `q = round(gain * y)`, halves to even; `|g y| < 2^22`.
    pub fn round_to(gain: f32, y: &[f32], q: &mut [f32]) = round_lanes;
}

#[inline(always)]
fn noise<S: Bits>(s: S, key: [u32; 2], index: u32) -> S::F32 {
    let mut h = s.add_u32(s.iota(), s.splat_u32(index.wrapping_add(key[0])));
    for k in [key[1], 0] {
        h = s.mul_u32(s.xor_u32(h, s.shr_u32(h, 16)), s.splat_u32(0x7feb_352d));
        h = s.mul_u32(s.xor_u32(h, s.shr_u32(h, 15)), s.splat_u32(0x846c_a68b));
        h = s.xor_u32(h, s.xor_u32(s.shr_u32(h, 16), s.splat_u32(k)));
    }
    // A 16-bit number in the mantissa of 1.0: 1 + x / 2^16.
    let one = s.splat_u32(0x3f80_0000);
    let radial = s.float_of(s.add_u32(s.shl_u32(s.shr_u32(h, 16), 7), one));
    let u = radial - s.splat(1.0 - 0.5 / 65536.0);
    let radius = s.sqrt(log2(s, u) * s.splat(-2.0 * std::f32::consts::LN_2));
    let half = s.splat(1.5) - s.float_of(s.add_u32(s.shl_u32(s.and_u32(h, s.splat_u32(0xffff)), 7), one));
    // cos(2 pi v) = sin(2 pi (|v - 1/2| - 1/4))
    let z = s.max(half, s.splat(0.0) - half) - s.splat(0.25);
    radius * sin_turns(s, z)
}

/// Constants of the soft rounding.
struct Soft<S: Bits> {
    inverse: S::F32,
    height: S::F32,
    slope: S::F32,
}

#[inline(always)]
fn soft_round<S: Bits>(s: S, k: &Soft<S>, v: S::F32) -> (S::F32, S::F32) {
    let base = floor(s, v) + s.splat(0.5);
    let t = tanh(s, (v - base) * k.inverse);
    (s.mul_add(t, k.height, base), (s.splat(1.0) - t * t) * k.slope)
}

#[inline(always)]
fn one_vector<S: Bits>(s: S, p: &Quantise, k: &Soft<S>, index: u32, y: &[f32], q: &mut [f32], dqdy: &mut [f32]) {
    let (u, du) = soft_round(s, k, s.load(y) * s.splat(p.gain));
    let (v, dv) = soft_round(s, k, s.mul_add(noise(s, p.key, index), s.splat(p.sigma), u));
    s.store(v, q);
    s.store(du * dv, dqdy);
}

#[inline(always)]
fn quantise_lanes<S: Bits>(s: S, p: &Quantise, index: u32, y: &[f32], q: &mut [f32], dqdy: &mut [f32]) {
    let lanes = S::F32_LANES;
    let norm = (0.5 / p.temperature as f64).tanh();
    let k = Soft {
        inverse: s.splat(1.0 / p.temperature),
        height: s.splat((0.5 / norm) as f32),
        slope: s.splat((0.5 / (norm * p.temperature as f64)) as f32),
    };
    let n = y.len();
    let whole = n / lanes * lanes;
    for i in (0..whole).step_by(lanes) {
        one_vector(s, p, &k, index.wrapping_add(i as u32), &y[i..], &mut q[i..], &mut dqdy[i..]);
    }
    if whole < n {
        let mut b = [[0f32; 16]; 3];
        b[0][..n - whole].copy_from_slice(&y[whole..]);
        let [y, q2, d2] = &mut b;
        one_vector(s, p, &k, index.wrapping_add(whole as u32), y, q2, d2);
        q[whole..n].copy_from_slice(&q2[..n - whole]);
        dqdy[whole..n].copy_from_slice(&d2[..n - whole]);
    }
}

#[inline(always)]
fn round_lanes<S: Bits>(s: S, gain: f32, y: &[f32], q: &mut [f32]) {
    let lanes = S::F32_LANES;
    let n = y.len();
    let whole = n / lanes * lanes;
    for i in (0..whole).step_by(lanes) {
        s.store(round(s, s.load(&y[i..]) * s.splat(gain)), &mut q[i..]);
    }
    for i in whole..n {
        q[i] = (gain * y[i]).round_ties_even();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    fn example(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 31) % 1009) as f32 * 0.0017 - 0.83).collect()
    }

    #[test]
    fn levels_follow_the_definition() {
        for level in Level::available() {
            for (n, temperature) in (0..67).flat_map(|n| [(n, 0.35), (n, 0.08)]) {
                let p = Quantise { gain: 16.0, temperature, sigma: 0.2, key: Quantise::key(3, n as u64, 2) };
                let y = example(n);
                let (mut q, mut d) = (vec![f32::NAN; n + 3], vec![f32::NAN; n]);
                quantise(level, &p, 1000, &y, &mut q, &mut d);
                for i in 0..n {
                    let (wq, wd) = quantise_scalar(&p, y[i] as f64, 1000 + i as u32);
                    assert!((q[i] as f64 - wq).abs() < 1e-4, "{level:?} {n} {i}: {} {wq}", q[i]);
                    assert!((d[i] as f64 - wd).abs() < 1e-3 * (1.0 + wd), "{level:?} {n} {i}: {} {wd}", d[i]);
                }
                assert!(q[n..].iter().all(|v| v.is_nan()));
                round_to(level, 16.0, &y, &mut q);
                for i in 0..n {
                    assert_eq!(q[i], (16.0 * y[i]).round_ties_even());
                }
            }
        }
    }

    #[test]
    fn slope_is_the_derivative() {
        for i in 0..2000 {
            let v = i as f64 * 0.00237 - 2.0;
            let h = 1e-6;
            if (v + h).floor() != (v - h).floor() {
                continue;
            }
            let numeric = (soft_round_scalar(v + h, 0.2).0 - soft_round_scalar(v - h, 0.2).0) / (2.0 * h);
            let (_, d) = soft_round_scalar(v, 0.2);
            assert!((numeric - d).abs() < 1e-6 * (1.0 + d), "{v}: {numeric} {d}");
        }
    }

    #[test]
    fn noise_is_standard_normal() {
        let key = Quantise::key(1, 2, 3);
        let x: Vec<f64> = (0..200_000).map(|i| noise_scalar(key, i)).collect();
        let n = x.len() as f64;
        let moment = |k: i32| x.iter().map(|v| v.powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1, "{} {}", moment(3), moment(4));
        let lag = x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n;
        assert!(lag.abs() < 0.01, "{lag}");
    }
}
