//! Sixteen lanes: AVX-512 F, BW, DQ, VL.

use super::Simd;
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The caller runs inside a function that enables this instruction set, on a CPU that has it.
    #[inline(always)]
    pub(crate) unsafe fn token() -> Self {
        Avx512(())
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32(pub(super) __m512);

impl Add for F32 {
    type Output = F32;
    #[inline(always)]
    fn add(self, b: F32) -> F32 {
        // SAFETY: vectors come only from a token, whose maker enabled the instructions.
        F32(unsafe { _mm512_add_ps(self.0, b.0) })
    }
}

impl Div for F32 {
    type Output = F32;
    #[inline(always)]
    fn div(self, b: F32) -> F32 {
        // SAFETY: vectors come only from a token, whose maker enabled the instructions.
        F32(unsafe { _mm512_div_ps(self.0, b.0) })
    }
}

impl Mul for F32 {
    type Output = F32;
    #[inline(always)]
    fn mul(self, b: F32) -> F32 {
        // SAFETY: vectors come only from a token, whose maker enabled the instructions.
        F32(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
}

impl Sub for F32 {
    type Output = F32;
    #[inline(always)]
    fn sub(self, b: F32) -> F32 {
        // SAFETY: vectors come only from a token, whose maker enabled the instructions.
        F32(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
}

impl Simd for Avx512 {
    const F32_LANES: usize = 16;
    type F32 = F32;

    #[inline(always)]
    fn splat(self, x: f32) -> F32 {
        // SAFETY: `self` proves the instructions.
        F32(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> F32 {
        let x = &x[..16];
        // SAFETY: `self` proves the instructions; the slice has all lanes.
        F32(unsafe { _mm512_loadu_ps(x.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, v: F32, out: &mut [f32]) {
        let out = &mut out[..16];
        // SAFETY: `self` proves the instructions; the slice has all lanes.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn min(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves the instructions.
        F32(unsafe { _mm512_min_ps(a.0, b.0) })
    }
    #[inline(always)]
    fn max(self, a: F32, b: F32) -> F32 {
        // SAFETY: `self` proves the instructions.
        F32(unsafe { _mm512_max_ps(a.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self, a: F32) -> F32 {
        // SAFETY: `self` proves the instructions.
        F32(unsafe { _mm512_sqrt_ps(a.0) })
    }
    #[inline(always)]
    fn rsqrt(self, a: F32) -> F32 {
        // SAFETY: `self` proves the instructions.
        let r = F32(unsafe { _mm512_rsqrt14_ps(a.0) });
        // One step of Newton doubles the estimate's digits.
        r * (self.splat(1.5) - self.splat(0.5) * a * r * r)
    }
    #[inline(always)]
    fn mul_add(self, a: F32, b: F32, c: F32) -> F32 {
        // SAFETY: `self` proves the instructions.
        F32(unsafe { _mm512_fmadd_ps(a.0, b.0, c.0) })
    }
    #[inline(always)]
    fn select_gt(self, a: F32, b: F32, x: F32, y: F32) -> F32 {
        // SAFETY: `self` proves the instructions.
        unsafe { F32(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a.0, b.0), y.0, x.0)) }
    }
}
