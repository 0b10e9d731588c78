//! Fused twins of [`exact::upsample`](crate::exact::upsample), and the backward pass of both filters.

use crate::exact::upsample::{phases_lanes, symmetric7_lanes, widen_lanes};
use crate::vector::Simd;

kernel! {
    /// [`phases_scalar`](crate::exact::upsample::phases_scalar), fused.
    pub fn phases(taps: [f32; 4], r: [&[f32]; 5], even: &mut [f32], odd: &mut [f32], n: usize) = phases_lanes::<_, true>;
}

kernel! {
    /// [`widen_scalar`](crate::exact::upsample::widen_scalar), fused.
    pub fn widen(taps: [f32; 4], x: &[f32], even: &mut [f32], odd: &mut [f32], out: &mut [f32], n: usize) = widen_lanes::<_, true>;
}

kernel! {
    /// [`symmetric7_scalar`](crate::exact::upsample::symmetric7_scalar), fused.
    pub fn symmetric7(taps: [f32; 4], r: [&[f32]; 7], add: Option<&[f32]>, out: &mut [f32], n: usize) = symmetric7_lanes::<_, true>;
}

/// The backward pass of a symmetric filter, towards its input and its taps. With
/// `s[k] = pairs[k][0] + pairs[k][1]`, the output gradients that tap `k` carries to this input:
/// `dx += taps[k] s[k]`; returns the sums of `x s[k]`.
pub fn pairs_back_scalar(taps: [f32; 4], pairs: [[&[f32]; 2]; 4], x: &[f32], dx: &mut [f32], n: usize) -> [f32; 4] {
    let mut dtaps = [0f64; 4];
    for i in 0..n {
        for k in 0..4 {
            let s = pairs[k][0][i] + pairs[k][1][i];
            dx[i] += taps[k] * s;
            dtaps[k] += (x[i] * s) as f64;
        }
    }
    dtaps.map(|d| d as f32)
}

kernel! {
    /// [`pairs_back_scalar`] at any level; `n` is a multiple of 16.
    pub fn pairs_back(taps: [f32; 4], pairs: [[&[f32]; 2]; 4], x: &[f32], dx: &mut [f32], n: usize) -> [f32; 4] = pairs_back_lanes;
}

#[inline(always)]
fn pairs_back_lanes<S: Simd>(
    s: S,
    taps: [f32; 4],
    pairs: [[&[f32]; 2]; 4],
    x: &[f32],
    dx: &mut [f32],
    n: usize,
) -> [f32; 4] {
    let n = n.next_multiple_of(S::F32_LANES);
    let mut sums = [s.splat(0.0); 4];
    let taps = [s.splat(taps[0]), s.splat(taps[1]), s.splat(taps[2]), s.splat(taps[3])];
    for p in pairs {
        assert!(p[0].len() >= n && p[1].len() >= n);
    }
    assert!(x.len() >= n && dx.len() >= n);
    for i in (0..n).step_by(S::F32_LANES) {
        // SAFETY: i + lanes <= n <= the length of each slice, asserted above.
        unsafe {
            let v = s.load_from(x, i);
            let mut d = s.load_from(dx, i);
            for k in 0..4 {
                let g = s.load_from(pairs[k][0], i) + s.load_from(pairs[k][1], i);
                d = s.mul_add(taps[k], g, d);
                sums[k] = s.mul_add(v, g, sums[k]);
            }
            s.store_to(d, dx, i);
        }
    }
    [s.sum(sums[0]), s.sum(sums[1]), s.sum(sums[2]), s.sum(sums[3])]
}

kernel! {
    /// `even[i] = x[2i]`, `odd[i] = x[2i+1]`.
    pub fn split(x: &[f32], even: &mut [f32], odd: &mut [f32], n: usize) = split_lanes;
}

#[inline(always)]
fn split_lanes<S: Simd>(_: S, x: &[f32], even: &mut [f32], odd: &mut [f32], n: usize) {
    for ((x, e), o) in x[..2 * n].chunks_exact(2).zip(&mut even[..n]).zip(&mut odd[..n]) {
        *e = x[0];
        *o = x[1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::upsample as exact;
    use crate::fast::testing::near;
    use crate::Level;

    #[test]
    fn levels_agree_with_the_scalar_twins() {
        let x: Vec<f32> = (0..200).map(|i: i32| (i * i % 37) as f32 * 0.031 - 0.47).collect();
        let taps = [0.031, -0.17, 0.77, 1.13];
        for n in [0, 16, 32, 48, 64] {
            let r = [&x[0..], &x[11..], &x[23..], &x[47..], &x[61..], &x[5..], &x[9..], &x[30..]];
            let five = [r[0], r[1], r[2], r[3], r[4]];
            let seven = [r[0], r[1], r[2], r[3], r[4], r[5], r[6]];
            let pairs = [[r[0], r[1]], [r[2], r[3]], [r[4], r[5]], [r[6], r[7]]];
            let (mut e, mut o, mut w) = (vec![0.0; n], vec![0.0; n], vec![0.0; 2 * n]);
            let (mut e2, mut o2, mut w2) = (vec![0.0; n], vec![0.0; n], vec![0.0; 2 * n]);
            for level in Level::available() {
                exact::phases_scalar(taps, five, &mut e, &mut o, n);
                phases(level, taps, five, &mut e2, &mut o2, n);
                near(&e, &e2, 1e-5);
                near(&o, &o2, 1e-5);
                exact::widen_scalar(taps, &x, &mut e, &mut o, &mut w, n);
                widen(level, taps, &x, &mut e2, &mut o2, &mut w2, n);
                near(&w, &w2, 1e-5);
                split(level, &w2, &mut e, &mut o, n);
                assert!((0..n).all(|i| e[i] == w2[2 * i] && o[i] == w2[2 * i + 1]));
                exact::symmetric7_scalar(taps, seven, Some(&x[1..]), &mut e, n);
                symmetric7(level, taps, seven, Some(&x[1..]), &mut e2, n);
                near(&e, &e2, 1e-5);
                e.fill(0.5);
                e2.fill(0.5);
                let d = pairs_back_scalar(taps, pairs, &x[3..], &mut e, n);
                let d2 = pairs_back(level, taps, pairs, &x[3..], &mut e2, n);
                near(&e, &e2, 1e-5);
                near(&d, &d2, 1e-4);
            }
        }
    }
}
