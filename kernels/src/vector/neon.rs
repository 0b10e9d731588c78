//! Four lanes: NEON, part of the aarch64 baseline.

use super::Simd;
use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The caller runs on a CPU that has NEON.
    #[inline(always)]
    pub(crate) unsafe fn token() -> Self {
        Neon(())
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32(pub(super) float32x4_t);

macro_rules! binary {
    ($($tr:ident $method:ident $intrinsic:ident),*) => {$(
        impl $tr for F32 {
            type Output = F32;
            #[inline(always)]
            fn $method(self, b: F32) -> F32 {
                // SAFETY: vectors come only from a token, which proves NEON.
                F32(unsafe { $intrinsic(self.0, b.0) })
            }
        }
    )*};
}
binary!(Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);

impl Simd for Neon {
    const F32_LANES: usize = 4;
    type F32 = F32;

    #[inline(always)]
    fn splat(self, x: f32) -> F32 {
        // SAFETY: `self` proves NEON.
        F32(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> F32 {
        let x = &x[..4];
        // SAFETY: `self` proves NEON; the slice has all lanes.
        F32(unsafe { vld1q_f32(x.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, v: F32, out: &mut [f32]) {
        let out = &mut out[..4];
        // SAFETY: `self` proves NEON; the slice has all lanes.
        unsafe { vst1q_f32(out.as_mut_ptr(), v.0) }
    }
    #[inline(always)]
    fn min(self, a: F32, b: F32) -> F32 {
        self.select_gt(b, a, a, b)
    }
    #[inline(always)]
    fn max(self, a: F32, b: F32) -> F32 {
        self.select_gt(a, b, a, b)
    }
    #[inline(always)]
    fn sqrt(self, a: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        F32(unsafe { vsqrtq_f32(a.0) })
    }
    #[inline(always)]
    fn mul_add(self, a: F32, b: F32, c: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        F32(unsafe { vfmaq_f32(c.0, a.0, b.0) })
    }
    #[inline(always)]
    fn select_gt(self, a: F32, b: F32, x: F32, y: F32) -> F32 {
        // SAFETY: `self` proves NEON.
        F32(unsafe { vbslq_f32(vcgtq_f32(a.0, b.0), x.0, y.0) })
    }
}
