//! One lane of plain Rust.

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Scalar {
    /// Needs no instruction beyond the baseline.
    #[inline(always)]
    pub(crate) fn token() -> Self {
        Scalar
    }
}

impl Simd for Scalar {
    const F32_LANES: usize = 1;
    type F32 = f32;

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> f32 {
        x[0]
    }
    #[inline(always)]
    fn store(self, v: f32, out: &mut [f32]) {
        out[0] = v;
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        if a < b {
            a
        } else {
            b
        }
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b {
            a
        } else {
            b
        }
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        #[cfg(not(any(target_os = "none", target_os = "unknown")))]
        return a.sqrt();
        #[cfg(any(target_os = "none", target_os = "unknown"))]
        crate::root::root(a)
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    #[inline(always)]
    fn select_gt(self, a: f32, b: f32, x: f32, y: f32) -> f32 {
        if a > b {
            x
        } else {
            y
        }
    }
}
