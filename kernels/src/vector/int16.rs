//! Lanes of i16 with i32 sums, for networks in integers.
//!
//! All of it wraps or saturates in one stated way, so that any operands give the same bits on every
//! level.

use super::Scalar;

/// An instruction set with `I16_LANES` i16 lanes; an `I32` holds the sums of half of them.
pub(crate) trait Int16: Copy {
    const I16_LANES: usize;
    type I16: Copy;
    type I32: Copy;

    /// Reads the first `I16_LANES` of `x`; panics when `x` is shorter.
    fn load_i16(self, x: &[i16]) -> Self::I16;
    /// Writes the first `I16_LANES` of `out`; panics when `out` is shorter.
    fn store_i16(self, v: Self::I16, out: &mut [i16]);
    fn zero_i16(self) -> Self::I16;
    fn max_i16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    fn splat_i32(self, x: i32) -> Self::I32;
    /// Wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Arithmetic shift right, `n < 32`.
    fn shift_i32(self, a: Self::I32, n: i32) -> Self::I32;
    /// Pairs `(a, b)` of each lane, in two halves whose order only [`narrow`](Int16::narrow) undoes.
    fn interleave(self, a: Self::I16, b: Self::I16) -> (Self::I16, Self::I16);
    /// The low half of each `w` times the first of a pair plus the high half times the second, wrapping.
    fn dot(self, pairs: Self::I16, w: Self::I32) -> Self::I32;
    /// Both halves to i16, saturating.
    fn narrow(self, low: Self::I32, high: Self::I32) -> Self::I16;
}

impl Int16 for Scalar {
    const I16_LANES: usize = 2;
    type I16 = [i16; 2];
    type I32 = i32;

    #[inline(always)]
    fn load_i16(self, x: &[i16]) -> [i16; 2] {
        [x[0], x[1]]
    }
    #[inline(always)]
    fn store_i16(self, v: [i16; 2], out: &mut [i16]) {
        out[..2].copy_from_slice(&v);
    }
    #[inline(always)]
    fn zero_i16(self) -> [i16; 2] {
        [0; 2]
    }
    #[inline(always)]
    fn max_i16(self, a: [i16; 2], b: [i16; 2]) -> [i16; 2] {
        [a[0].max(b[0]), a[1].max(b[1])]
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> i32 {
        x
    }
    #[inline(always)]
    fn add_i32(self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn shift_i32(self, a: i32, n: i32) -> i32 {
        a >> n
    }
    #[inline(always)]
    fn interleave(self, a: [i16; 2], b: [i16; 2]) -> ([i16; 2], [i16; 2]) {
        ([a[0], b[0]], [a[1], b[1]])
    }
    #[inline(always)]
    fn dot(self, pairs: [i16; 2], w: i32) -> i32 {
        let first = i32::from(pairs[0]) * i32::from(w as i16);
        first.wrapping_add(i32::from(pairs[1]) * (w >> 16))
    }
    #[inline(always)]
    fn narrow(self, low: i32, high: i32) -> [i16; 2] {
        let sat = |v: i32| v.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        [sat(low), sat(high)]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Int16;
    use crate::vector::{Avx2, Avx512, Sse2};
    use std::arch::x86_64::*;

    macro_rules! int16 {
        ($set:ty, $lanes:literal, $vector:ty, $load:ident, $store:ident, $zero:ident, $max:ident, $splat:ident,
         $add:ident, $shift:ident, $low:ident, $high:ident, $dot:ident, $narrow:ident) => {
            impl Int16 for $set {
                const I16_LANES: usize = $lanes;
                type I16 = $vector;
                type I32 = $vector;

                #[inline(always)]
                fn load_i16(self, x: &[i16]) -> $vector {
                    let x = &x[..$lanes];
                    // SAFETY: `self` proves the instructions; the slice has all lanes.
                    unsafe { $load(x.as_ptr().cast()) }
                }
                #[inline(always)]
                fn store_i16(self, v: $vector, out: &mut [i16]) {
                    let out = &mut out[..$lanes];
                    // SAFETY: `self` proves the instructions; the slice has all lanes.
                    unsafe { $store(out.as_mut_ptr().cast(), v) }
                }
                #[inline(always)]
                fn zero_i16(self) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $zero() }
                }
                #[inline(always)]
                fn max_i16(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $max(a, b) }
                }
                #[inline(always)]
                fn splat_i32(self, x: i32) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                fn add_i32(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                fn shift_i32(self, a: $vector, n: i32) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $shift(a, _mm_cvtsi32_si128(n)) }
                }
                #[inline(always)]
                fn interleave(self, a: $vector, b: $vector) -> ($vector, $vector) {
                    // SAFETY: `self` proves the instructions.
                    unsafe { ($low(a, b), $high(a, b)) }
                }
                #[inline(always)]
                fn dot(self, pairs: $vector, w: $vector) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $dot(pairs, w) }
                }
                #[inline(always)]
                fn narrow(self, low: $vector, high: $vector) -> $vector {
                    // SAFETY: `self` proves the instructions.
                    unsafe { $narrow(low, high) }
                }
            }
        };
    }

    #[rustfmt::skip]
    int16!(Sse2, 8, __m128i, _mm_loadu_si128, _mm_storeu_si128, _mm_setzero_si128, _mm_max_epi16, _mm_set1_epi32,
        _mm_add_epi32, _mm_sra_epi32, _mm_unpacklo_epi16, _mm_unpackhi_epi16, _mm_madd_epi16, _mm_packs_epi32);
    #[rustfmt::skip]
    int16!(Avx2, 16, __m256i, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_setzero_si256, _mm256_max_epi16,
        _mm256_set1_epi32, _mm256_add_epi32, _mm256_sra_epi32, _mm256_unpacklo_epi16, _mm256_unpackhi_epi16,
        _mm256_madd_epi16, _mm256_packs_epi32);
    #[rustfmt::skip]
    int16!(Avx512, 32, __m512i, _mm512_loadu_si512, _mm512_storeu_si512, _mm512_setzero_si512, _mm512_max_epi16,
        _mm512_set1_epi32, _mm512_add_epi32, _mm512_sra_epi32, _mm512_unpacklo_epi16, _mm512_unpackhi_epi16,
        _mm512_madd_epi16, _mm512_packs_epi32);
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::Int16;
    use crate::vector::Neon;
    use std::arch::aarch64::*;

    impl Int16 for Neon {
        const I16_LANES: usize = 8;
        type I16 = int16x8_t;
        type I32 = int32x4_t;

        #[inline(always)]
        fn load_i16(self, x: &[i16]) -> int16x8_t {
            let x = &x[..8];
            // SAFETY: `self` proves NEON; the slice has all lanes.
            unsafe { vld1q_s16(x.as_ptr()) }
        }
        #[inline(always)]
        fn store_i16(self, v: int16x8_t, out: &mut [i16]) {
            let out = &mut out[..8];
            // SAFETY: `self` proves NEON; the slice has all lanes.
            unsafe { vst1q_s16(out.as_mut_ptr(), v) }
        }
        #[inline(always)]
        fn zero_i16(self) -> int16x8_t {
            // SAFETY: `self` proves NEON.
            unsafe { vdupq_n_s16(0) }
        }
        #[inline(always)]
        fn max_i16(self, a: int16x8_t, b: int16x8_t) -> int16x8_t {
            // SAFETY: `self` proves NEON.
            unsafe { vmaxq_s16(a, b) }
        }
        #[inline(always)]
        fn splat_i32(self, x: i32) -> int32x4_t {
            // SAFETY: `self` proves NEON.
            unsafe { vdupq_n_s32(x) }
        }
        #[inline(always)]
        fn add_i32(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            // SAFETY: `self` proves NEON.
            unsafe { vaddq_s32(a, b) }
        }
        #[inline(always)]
        fn shift_i32(self, a: int32x4_t, n: i32) -> int32x4_t {
            // SAFETY: `self` proves NEON.
            unsafe { vshlq_s32(a, vdupq_n_s32(-n)) }
        }
        #[inline(always)]
        fn interleave(self, a: int16x8_t, b: int16x8_t) -> (int16x8_t, int16x8_t) {
            // SAFETY: `self` proves NEON.
            unsafe { (vzip1q_s16(a, b), vzip2q_s16(a, b)) }
        }
        #[inline(always)]
        fn dot(self, pairs: int16x8_t, w: int32x4_t) -> int32x4_t {
            // SAFETY: `self` proves NEON.
            unsafe {
                let w = vreinterpretq_s16_s32(w);
                vpaddq_s32(vmull_s16(vget_low_s16(pairs), vget_low_s16(w)), vmull_high_s16(pairs, w))
            }
        }
        #[inline(always)]
        fn narrow(self, low: int32x4_t, high: int32x4_t) -> int16x8_t {
            // SAFETY: `self` proves NEON.
            unsafe { vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)) }
        }
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm32 {
    use super::Int16;
    use crate::vector::Simd128;
    use std::arch::wasm32::*;

    impl Int16 for Simd128 {
        const I16_LANES: usize = 8;
        type I16 = v128;
        type I32 = v128;

        #[inline(always)]
        fn load_i16(self, x: &[i16]) -> v128 {
            let x = &x[..8];
            // SAFETY: the slice has all lanes.
            unsafe { v128_load(x.as_ptr().cast()) }
        }
        #[inline(always)]
        fn store_i16(self, v: v128, out: &mut [i16]) {
            let out = &mut out[..8];
            // SAFETY: the slice has all lanes.
            unsafe { v128_store(out.as_mut_ptr().cast(), v) }
        }
        #[inline(always)]
        fn zero_i16(self) -> v128 {
            i16x8_splat(0)
        }
        #[inline(always)]
        fn max_i16(self, a: v128, b: v128) -> v128 {
            i16x8_max(a, b)
        }
        #[inline(always)]
        fn splat_i32(self, x: i32) -> v128 {
            i32x4_splat(x)
        }
        #[inline(always)]
        fn add_i32(self, a: v128, b: v128) -> v128 {
            i32x4_add(a, b)
        }
        #[inline(always)]
        fn shift_i32(self, a: v128, n: i32) -> v128 {
            i32x4_shr(a, n as u32)
        }
        #[inline(always)]
        fn interleave(self, a: v128, b: v128) -> (v128, v128) {
            (i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b), i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b))
        }
        #[inline(always)]
        fn dot(self, pairs: v128, w: v128) -> v128 {
            i32x4_dot_i16x8(pairs, w)
        }
        #[inline(always)]
        fn narrow(self, low: v128, high: v128) -> v128 {
            i16x8_narrow_i32x4(low, high)
        }
    }
}
