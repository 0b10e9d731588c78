//! Transposing four rows of four: moves values only, so one version serves every level of an architecture.

type Row = [f32; 4];

/// The columns of the rows `a`, `b`, `c`, `d`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn transposed(a: &Row, b: &Row, c: &Row, d: &Row) -> [Row; 4] {
    use std::arch::x86_64::*;
    let mut out = [[0f32; 4]; 4];
    // SAFETY: SSE is part of x86-64; each array has the four values that a vector holds.
    unsafe {
        let (mut a, mut b) = (_mm_loadu_ps(a.as_ptr()), _mm_loadu_ps(b.as_ptr()));
        let (mut c, mut d) = (_mm_loadu_ps(c.as_ptr()), _mm_loadu_ps(d.as_ptr()));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        _mm_storeu_ps(out[0].as_mut_ptr(), a);
        _mm_storeu_ps(out[1].as_mut_ptr(), b);
        _mm_storeu_ps(out[2].as_mut_ptr(), c);
        _mm_storeu_ps(out[3].as_mut_ptr(), d);
    }
    out
}

/// The columns of the rows `a`, `b`, `c`, `d`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn transposed(a: &Row, b: &Row, c: &Row, d: &Row) -> [Row; 4] {
    std::array::from_fn(|i| [a[i], b[i], c[i], d[i]])
}
