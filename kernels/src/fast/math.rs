//! exp, log2, tanh and the like over lanes, to about 1e-6 of the value.

use crate::vector::Bits;

/// Adding it rounds to an integer (ties to even), for `|x| < 2^22`.
const ROUND: f32 = 12_582_912.0;

/// `x` to the nearest integer, halves to even; `|x| < 2^22`.
#[inline(always)]
pub(super) fn round<S: Bits>(s: S, x: S::F32) -> S::F32 {
    x + s.splat(ROUND) - s.splat(ROUND)
}

#[inline(always)]
pub(super) fn floor<S: Bits>(s: S, x: S::F32) -> S::F32 {
    let r = round(s, x);
    r - s.select_gt(r, x, s.splat(1.0), s.splat(0.0))
}

/// `(e^x, e^x - 1)`, both to relative precision, for `x < 88`; below -87 as at -87.
#[inline(always)]
pub(super) fn exp<S: Bits>(s: S, x: S::F32) -> (S::F32, S::F32) {
    let x = s.max(x, s.splat(-87.0));
    let shifted = s.mul_add(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = shifted - s.splat(ROUND);
    // x = n ln 2 + y, |y| <= ln 2 / 2, ln 2 in two parts
    let y = s.mul_add(n, s.splat(-0.693_359_4), x);
    let y = s.mul_add(n, s.splat(2.121_944_4e-4), y);
    let mut p = s.splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        p = s.mul_add(p, y, s.splat(c));
    }
    let p = p * y;
    // The low bits of `shifted` are n, its other bits fall out.
    let two_n = s.float_of(s.add_u32(s.shl_u32(s.bits_of(shifted), 23), s.splat_u32(127 << 23)));
    (s.mul_add(two_n, p, two_n), s.mul_add(two_n, p, two_n - s.splat(1.0)))
}

/// log2 of a positive normal `x`.
#[inline(always)]
pub(super) fn log2<S: Bits>(s: S, x: S::F32) -> S::F32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let k = s.add_u32(s.bits_of(x), s.splat_u32(0x3f80_0000 - SQRT_HALF));
    let e = s.float_of(s.add_u32(s.shr_u32(k, 23), s.splat_u32(0x4b00_0000))) - s.splat(8_388_608.0 + 127.0);
    let m = s.float_of(s.add_u32(s.and_u32(k, s.splat_u32(0x7f_ffff)), s.splat_u32(SQRT_HALF)));
    let t = (m - s.splat(1.0)) / (m + s.splat(1.0));
    let t2 = t * t;
    let mut p = s.splat(1.0 / 7.0);
    for c in [1.0 / 5.0, 1.0 / 3.0, 1.0] {
        p = s.mul_add(p, t2, s.splat(c));
    }
    s.mul_add(p * t, s.splat(2.0 * std::f32::consts::LOG2_E), e)
}

#[inline(always)]
pub(super) fn tanh<S: Bits>(s: S, x: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    let (_, m) = exp(s, s.min(x, zero - x) * s.splat(2.0));
    let t = m / (m + s.splat(2.0));
    s.select_gt(x, zero, zero - t, t)
}

/// `sin(2 pi z)`, `|z| <= 1/4`.
#[inline(always)]
pub(super) fn sin_turns<S: Bits>(s: S, z: S::F32) -> S::F32 {
    let y = z * s.splat(std::f32::consts::TAU);
    let y2 = y * y;
    let mut p = s.splat(1.0 / 362_880.0);
    for c in [-1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0] {
        p = s.mul_add(p, y2, s.splat(c));
    }
    p * y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    kernel! {
        fn all(x: f32, out: &mut [[f32; 16]; 6]) = all_lanes;
    }
    #[inline(always)]
    fn all_lanes<S: Bits>(s: S, x: f32, out: &mut [[f32; 16]; 6]) {
        let v = s.splat(x);
        let (e, m) = exp(s, v);
        let two_x = exp(s, v * s.splat(std::f32::consts::LN_2)).0;
        let turns = v * s.splat(1.0 / 512.0);
        for (o, r) in out.iter_mut().zip([e, m, log2(s, two_x), tanh(s, v), floor(s, v), sin_turns(s, turns)]) {
            s.store(r, o);
        }
    }

    #[test]
    fn close_to_libm() {
        for level in Level::available() {
            for i in -4000..4000 {
                let x = i as f32 * 0.02;
                let mut out = [[0.0; 16]; 6];
                all(level, x, &mut out);
                let d = x as f64;
                let turns = (d / 512.0 * std::f64::consts::TAU).sin();
                let want = [d.exp(), d.exp_m1(), d, d.tanh(), d.floor(), turns];
                for (j, (o, w)) in out.iter().zip(want).enumerate() {
                    let tolerance = [2e-6 * w.abs(), 2e-6 * w.abs(), 2e-5, 1e-6 * w.abs(), 0.0, 5e-6][j];
                    assert!((o[0] as f64 - w).abs() <= tolerance, "{level:?} function {j} of {x}: {} {w}", o[0]);
                }
            }
        }
    }
}
