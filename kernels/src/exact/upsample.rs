//! Separable filters of the pyramid's upsampling, a row at a time.
//!
//! A 2-D filter is two of these: along a row, where the rows handed in are the same row shifted, then
//! across rows. Lengths are rounded up to whole vectors: `n` is a multiple of 16 and each slice holds
//! at least `n` values (values past the picture's edge are the caller's padding).

use crate::vector::Simd;

/// Both phases of x2 upsampling with the symmetric kernel `a b c d d c b a`; `r[0..5]` stand for
/// `x[u-2] ..= x[u+2]`:
/// `even = a r0 + c r1 + d r2 + b r3`, `odd = b r1 + d r2 + c r3 + a r4`, summed from the left.
pub fn phases_scalar(taps: [f32; 4], r: [&[f32]; 5], even: &mut [f32], odd: &mut [f32], n: usize) {
    let [a, b, c, d] = taps;
    for i in 0..n {
        even[i] = a * r[0][i] + c * r[1][i] + d * r[2][i] + b * r[3][i];
        odd[i] = b * r[1][i] + d * r[2][i] + c * r[3][i] + a * r[4][i];
    }
}

kernel! {
    /// [`phases_scalar`] at any level.
    pub fn phases(taps: [f32; 4], r: [&[f32]; 5], even: &mut [f32], odd: &mut [f32], n: usize) = phases_lanes::<_, false>;
}

#[inline(always)]
pub(crate) fn phases_lanes<S: Simd, const FUSED: bool>(
    s: S,
    taps: [f32; 4],
    r: [&[f32]; 5],
    even: &mut [f32],
    odd: &mut [f32],
    n: usize,
) {
    let n = n.next_multiple_of(S::F32_LANES);
    assert!(r[0].len() >= n && r[1].len() >= n && r[2].len() >= n && r[3].len() >= n && r[4].len() >= n);
    assert!(even.len() >= n && odd.len() >= n);
    let [a, b, c, d] = [s.splat(taps[0]), s.splat(taps[1]), s.splat(taps[2]), s.splat(taps[3])];
    for i in (0..n).step_by(S::F32_LANES) {
        // SAFETY: i + lanes <= n <= the length of each slice, asserted above.
        unsafe {
            let r0 = s.load_from(r[0], i);
            let r1 = s.load_from(r[1], i);
            let r2 = s.load_from(r[2], i);
            let r3 = s.load_from(r[3], i);
            let r4 = s.load_from(r[4], i);
            let e = s.product_sum::<FUSED>(d, r2, s.product_sum::<FUSED>(c, r1, a * r0));
            s.store_to(s.product_sum::<FUSED>(b, r3, e), even, i);
            let o = s.product_sum::<FUSED>(c, r3, s.product_sum::<FUSED>(d, r2, b * r1));
            s.store_to(s.product_sum::<FUSED>(a, r4, o), odd, i);
        }
    }
}

/// Both phases along one row, interleaved: `out[2u], out[2u+1]` from `x[u-2] ..= x[u+2]`, where `x` starts
/// two values before the row. `even` and `odd` are scratch of `n` values.
pub fn widen_scalar(taps: [f32; 4], x: &[f32], even: &mut [f32], odd: &mut [f32], out: &mut [f32], n: usize) {
    phases_scalar(taps, [x, &x[1..], &x[2..], &x[3..], &x[4..]], even, odd, n);
    for i in 0..n {
        out[2 * i] = even[i];
        out[2 * i + 1] = odd[i];
    }
}

kernel! {
    /// [`widen_scalar`] at any level.
    pub fn widen(taps: [f32; 4], x: &[f32], even: &mut [f32], odd: &mut [f32], out: &mut [f32], n: usize) = widen_lanes::<_, false>;
}

#[inline(always)]
pub(crate) fn widen_lanes<S: Simd, const FUSED: bool>(
    s: S,
    taps: [f32; 4],
    x: &[f32],
    even: &mut [f32],
    odd: &mut [f32],
    out: &mut [f32],
    n: usize,
) {
    phases_lanes::<S, FUSED>(s, taps, [x, &x[1..], &x[2..], &x[3..], &x[4..]], even, odd, n);
    let pairs = out[..2 * n].chunks_exact_mut(2);
    for ((o, e), d) in pairs.zip(&even[..n]).zip(&odd[..n]) {
        o[0] = *e;
        o[1] = *d;
    }
}

/// `out = ((a (r0 + r6) + b (r1 + r5)) + c (r2 + r4)) + d r3`, plus `add` where given.
pub fn symmetric7_scalar(taps: [f32; 4], r: [&[f32]; 7], add: Option<&[f32]>, out: &mut [f32], n: usize) {
    let [a, b, c, d] = taps;
    for i in 0..n {
        let v = a * (r[0][i] + r[6][i]) + b * (r[1][i] + r[5][i]) + c * (r[2][i] + r[4][i]) + d * r[3][i];
        out[i] = match add {
            Some(add) => v + add[i],
            None => v,
        };
    }
}

kernel! {
    /// [`symmetric7_scalar`] at any level.
    pub fn symmetric7(taps: [f32; 4], r: [&[f32]; 7], add: Option<&[f32]>, out: &mut [f32], n: usize) = symmetric7_lanes::<_, false>;
}

#[inline(always)]
pub(crate) fn symmetric7_lanes<S: Simd, const FUSED: bool>(
    s: S,
    taps: [f32; 4],
    r: [&[f32]; 7],
    add: Option<&[f32]>,
    out: &mut [f32],
    n: usize,
) {
    let n = n.next_multiple_of(S::F32_LANES);
    let [a, b, c, d] = [s.splat(taps[0]), s.splat(taps[1]), s.splat(taps[2]), s.splat(taps[3])];
    for i in (0..n).step_by(S::F32_LANES) {
        let v = a * (s.load(&r[0][i..]) + s.load(&r[6][i..]));
        let v = s.product_sum::<FUSED>(b, s.load(&r[1][i..]) + s.load(&r[5][i..]), v);
        let v = s.product_sum::<FUSED>(c, s.load(&r[2][i..]) + s.load(&r[4][i..]), v);
        let mut v = s.product_sum::<FUSED>(d, s.load(&r[3][i..]), v);
        if let Some(add) = add {
            v = v + s.load(&add[i..]);
        }
        s.store(v, &mut out[i..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn levels_agree() {
        let x: Vec<f32> = (0..200).map(|i: i32| (i * i % 37) as f32 * 0.31 - 4.7).collect();
        let taps = [0.031, -0.17, 0.77, 1.13];
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        for n in [0, 16, 32, 48, 64] {
            let five = [&x[0..], &x[11..], &x[23..], &x[47..], &x[61..]];
            let seven = [&x[3..], &x[11..], &x[23..], &x[47..], &x[61..], &x[5..], &x[9..]];
            let (mut e, mut o, mut w) = (vec![0.0; n], vec![0.0; n], vec![0.0; 2 * n]);
            let (mut e2, mut o2, mut w2) = (vec![0.0; n], vec![0.0; n], vec![0.0; 2 * n]);
            for level in Level::available() {
                phases_scalar(taps, five, &mut e, &mut o, n);
                phases(level, taps, five, &mut e2, &mut o2, n);
                assert_eq!((bits(&e), bits(&o)), (bits(&e2), bits(&o2)), "{level:?} {n}");
                widen_scalar(taps, &x, &mut e, &mut o, &mut w, n);
                widen(level, taps, &x, &mut e2, &mut o2, &mut w2, n);
                assert_eq!(bits(&w), bits(&w2), "{level:?} {n}");
                for add in [None, Some(&x[1..])] {
                    symmetric7_scalar(taps, seven, add, &mut e, n);
                    symmetric7(level, taps, seven, add, &mut e2, n);
                    assert_eq!(bits(&e), bits(&e2), "{level:?} {n}");
                }
            }
        }
    }
}
