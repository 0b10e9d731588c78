//! Four lanes: WebAssembly simd128. The target enables it, hence its instructions are safe.

use super::Simd;
use std::arch::wasm32::*;
use std::ops::{Add, Div, Mul, Sub};

#[derive(Clone, Copy)]
pub(crate) struct Simd128(());

impl Simd128 {
    /// # Safety
    /// The caller runs on a CPU that has simd128.
    #[inline(always)]
    pub(crate) unsafe fn token() -> Self {
        Simd128(())
    }
}

#[derive(Clone, Copy)]
pub(crate) struct F32(pub(super) v128);

macro_rules! binary {
    ($($tr:ident $method:ident $intrinsic:ident),*) => {$(
        impl $tr for F32 {
            type Output = F32;
            #[inline(always)]
            fn $method(self, b: F32) -> F32 {
                F32($intrinsic(self.0, b.0))
            }
        }
    )*};
}
binary!(Add add f32x4_add, Sub sub f32x4_sub, Mul mul f32x4_mul, Div div f32x4_div);

impl Simd for Simd128 {
    const F32_LANES: usize = 4;
    type F32 = F32;

    #[inline(always)]
    fn splat(self, x: f32) -> F32 {
        F32(f32x4_splat(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> F32 {
        let x = &x[..4];
        // SAFETY: the slice has all lanes.
        F32(unsafe { v128_load(x.as_ptr().cast()) })
    }
    #[inline(always)]
    fn store(self, v: F32, out: &mut [f32]) {
        let out = &mut out[..4];
        // SAFETY: the slice has all lanes.
        unsafe { v128_store(out.as_mut_ptr().cast(), v.0) }
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
        F32(f32x4_sqrt(a.0))
    }
    #[inline(always)]
    fn mul_add(self, a: F32, b: F32, c: F32) -> F32 {
        F32(f32x4_add(f32x4_mul(a.0, b.0), c.0))
    }
    #[inline(always)]
    fn select_gt(self, a: F32, b: F32, x: F32, y: F32) -> F32 {
        F32(v128_bitselect(x.0, y.0, f32x4_gt(a.0, b.0)))
    }
}
