//! The lanes that kernels are written over: one algorithm, many instruction sets.
//!
//! A [`Simd`] value is a token. Only [`dispatch`](crate::dispatch) makes one, inside a function that
//! enables the instructions, and vectors come only from tokens, so that the algorithms are safe code.

use std::ops::{Add, Div, Mul, Sub};

#[cfg(feature = "fit")]
mod bits;
mod int16;
mod scalar;
#[cfg(feature = "fit")]
pub(crate) mod square;
#[cfg(feature = "fit")]
pub(crate) use bits::Bits;
pub(crate) use int16::Int16;
pub(crate) use scalar::Scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod sse2;
#[cfg(target_arch = "x86_64")]
pub(crate) use {avx2::Avx2, avx512::Avx512, sse2::Sse2};

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use simd128::Simd128;

/// An instruction set with `F32_LANES` f32 lanes.
///
/// `+ - * / sqrt` are exact (IEEE, never contracted); `mul_add` is fused where the set has it and so
/// belongs to the fast contract only. `min(a, b)` is `a < b ? a : b`, `max(a, b)` is `a > b ? a : b`
/// (so the second operand wins on NaN), on every level.
#[allow(dead_code)]
pub(crate) trait Simd: Copy {
    const F32_LANES: usize;
    type F32: Copy
        + Add<Output = Self::F32>
        + Sub<Output = Self::F32>
        + Mul<Output = Self::F32>
        + Div<Output = Self::F32>;

    fn splat(self, x: f32) -> Self::F32;
    /// Reads the first `F32_LANES` of `x`; panics when `x` is shorter.
    fn load(self, x: &[f32]) -> Self::F32;
    /// Reads `F32_LANES` values without a bounds check.
    ///
    /// # Safety
    /// All of them lie in one initialised allocation.
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> Self::F32 {
        // SAFETY: the caller's promise.
        self.load(unsafe { std::slice::from_raw_parts(x, Self::F32_LANES) })
    }
    /// Writes `F32_LANES` values without a bounds check.
    ///
    /// # Safety
    /// All of them lie in one allocation that the caller may write.
    #[inline(always)]
    unsafe fn store_at(self, v: Self::F32, out: *mut f32) {
        // SAFETY: the caller's promise.
        self.store(v, unsafe { std::slice::from_raw_parts_mut(out, Self::F32_LANES) })
    }
    /// Writes the first `F32_LANES` of `out`; panics when `out` is shorter.
    fn store(self, v: Self::F32, out: &mut [f32]);
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `1 / sqrt(a)` to within a few units of the last place, for positive finite `a`; the fast contract only.
    #[inline(always)]
    fn rsqrt(self, a: Self::F32) -> Self::F32 {
        self.splat(1.0) / self.sqrt(a)
    }
    /// `a * b + c`; fused on levels that have FMA.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// Lane by lane `a > b ? x : y`.
    fn select_gt(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32;

    /// Reads `x[at..][..F32_LANES]`.
    ///
    /// # Safety
    /// `at + F32_LANES <= x.len()`.
    #[inline(always)]
    unsafe fn load_from(self, x: &[f32], at: usize) -> Self::F32 {
        debug_assert!(at + Self::F32_LANES <= x.len());
        // SAFETY: the caller's promise.
        self.load(unsafe { std::slice::from_raw_parts(x.as_ptr().add(at), Self::F32_LANES) })
    }
    /// Writes `out[at..][..F32_LANES]`.
    ///
    /// # Safety
    /// `at + F32_LANES <= out.len()`.
    #[inline(always)]
    unsafe fn store_to(self, v: Self::F32, out: &mut [f32], at: usize) {
        debug_assert!(at + Self::F32_LANES <= out.len());
        // SAFETY: the caller's promise.
        self.store(v, unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().add(at), Self::F32_LANES) })
    }
    /// `a * b + c`: fused under the fast contract, two roundings under the exact one.
    #[inline(always)]
    #[allow(clippy::disallowed_methods, reason = "fused under the fast contract alone")]
    fn product_sum<const FUSED: bool>(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        if FUSED {
            self.mul_add(a, b, c)
        } else {
            c + a * b
        }
    }
    /// The sum of all lanes (fast contract).
    #[inline(always)]
    fn sum(self, v: Self::F32) -> f32 {
        let mut lanes = [0f32; 16];
        self.store(v, &mut lanes);
        lanes[..Self::F32_LANES].iter().sum()
    }
}
