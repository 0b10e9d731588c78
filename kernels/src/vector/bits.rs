//! The f32 lanes seen as u32: what polynomial functions and hashes need.

use super::{Scalar, Simd};

/// u32 lanes as wide as the f32 lanes; sums, products and left shifts wrap.
pub(crate) trait Bits: Simd {
    type U32: Copy;

    fn splat_u32(self, x: u32) -> Self::U32;
    /// `0, 1, 2, ...`
    fn iota(self) -> Self::U32;
    fn bits_of(self, a: Self::F32) -> Self::U32;
    fn float_of(self, a: Self::U32) -> Self::F32;
    fn add_u32(self, a: Self::U32, b: Self::U32) -> Self::U32;
    fn mul_u32(self, a: Self::U32, b: Self::U32) -> Self::U32;
    fn xor_u32(self, a: Self::U32, b: Self::U32) -> Self::U32;
    fn and_u32(self, a: Self::U32, b: Self::U32) -> Self::U32;
    /// `n < 32`
    fn shl_u32(self, a: Self::U32, n: i32) -> Self::U32;
    /// `n < 32`, zeros come in.
    fn shr_u32(self, a: Self::U32, n: i32) -> Self::U32;
}

impl Bits for Scalar {
    type U32 = u32;

    #[inline(always)]
    fn splat_u32(self, x: u32) -> u32 {
        x
    }
    #[inline(always)]
    fn iota(self) -> u32 {
        0
    }
    #[inline(always)]
    fn bits_of(self, a: f32) -> u32 {
        a.to_bits()
    }
    #[inline(always)]
    fn float_of(self, a: u32) -> f32 {
        f32::from_bits(a)
    }
    #[inline(always)]
    fn add_u32(self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn mul_u32(self, a: u32, b: u32) -> u32 {
        a.wrapping_mul(b)
    }
    #[inline(always)]
    fn xor_u32(self, a: u32, b: u32) -> u32 {
        a ^ b
    }
    #[inline(always)]
    fn and_u32(self, a: u32, b: u32) -> u32 {
        a & b
    }
    #[inline(always)]
    fn shl_u32(self, a: u32, n: i32) -> u32 {
        a << n
    }
    #[inline(always)]
    fn shr_u32(self, a: u32, n: i32) -> u32 {
        a >> n
    }
}

/// Implements [`Bits`] for a level from one expression an operation.
#[allow(unused_macros)]
macro_rules! bits {
    ($token:ident, $f32:path, $u32:ty, splat $splat:expr, iota $iota:expr, to $to:expr, from $from:expr,
     add $add:expr, mul $mul:expr, xor $xor:expr, and $and:expr, shl $shl:expr, shr $shr:expr) => {
        impl Bits for $token {
            type U32 = $u32;

            #[inline(always)]
            fn splat_u32(self, x: u32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            fn iota(self) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $iota() }
            }
            #[inline(always)]
            fn bits_of(self, a: Self::F32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $to(a.0) }
            }
            #[inline(always)]
            fn float_of(self, a: $u32) -> Self::F32 {
                // SAFETY: `self` proves the instructions.
                $f32(unsafe { $from(a) })
            }
            #[inline(always)]
            fn add_u32(self, a: $u32, b: $u32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn mul_u32(self, a: $u32, b: $u32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            fn xor_u32(self, a: $u32, b: $u32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $xor(a, b) }
            }
            #[inline(always)]
            fn and_u32(self, a: $u32, b: $u32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $and(a, b) }
            }
            #[inline(always)]
            fn shl_u32(self, a: $u32, n: i32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $shl(a, n) }
            }
            #[inline(always)]
            fn shr_u32(self, a: $u32, n: i32) -> $u32 {
                // SAFETY: `self` proves the instructions.
                unsafe { $shr(a, n) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::{avx2, avx512, sse2, Avx2, Avx512, Sse2};
    use super::Bits;
    use std::arch::x86_64::*;

    bits!(Avx512, avx512::F32, __m512i,
        splat |x| _mm512_set1_epi32(x as i32),
        iota || _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        to _mm512_castps_si512, from _mm512_castsi512_ps,
        add _mm512_add_epi32, mul _mm512_mullo_epi32, xor _mm512_xor_si512, and _mm512_and_si512,
        shl |a, n| _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)), shr |a, n| _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)));

    bits!(Avx2, avx2::F32, __m256i,
        splat |x| _mm256_set1_epi32(x as i32),
        iota || _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        to _mm256_castps_si256, from _mm256_castsi256_ps,
        add _mm256_add_epi32, mul _mm256_mullo_epi32, xor _mm256_xor_si256, and _mm256_and_si256,
        shl |a, n| _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)), shr |a, n| _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)));

    // SSE2 has only the product of even lanes: odd lanes are shifted there and back.
    bits!(Sse2, sse2::F32, __m128i,
        splat |x| _mm_set1_epi32(x as i32),
        iota || _mm_setr_epi32(0, 1, 2, 3),
        to _mm_castps_si128, from _mm_castsi128_ps,
        add _mm_add_epi32,
        mul |a, b| {
            let even = _mm_mul_epu32(a, b);
            let odd = _mm_mul_epu32(_mm_srli_epi64::<32>(a), _mm_srli_epi64::<32>(b));
            _mm_or_si128(_mm_and_si128(even, _mm_set1_epi64x(0xffff_ffff)), _mm_slli_epi64::<32>(odd))
        },
        xor _mm_xor_si128, and _mm_and_si128,
        shl |a, n| _mm_sll_epi32(a, _mm_cvtsi32_si128(n)), shr |a, n| _mm_srl_epi32(a, _mm_cvtsi32_si128(n)));
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::super::{neon, Neon};
    use super::Bits;
    use std::arch::aarch64::*;

    bits!(Neon, neon::F32, uint32x4_t,
        splat |x| vdupq_n_u32(x),
        iota || vld1q_u32([0, 1, 2, 3].as_ptr()),
        to vreinterpretq_u32_f32, from vreinterpretq_f32_u32,
        add vaddq_u32, mul vmulq_u32, xor veorq_u32, and vandq_u32,
        shl |a, n: i32| vshlq_u32(a, vdupq_n_s32(n)), shr |a, n: i32| vshlq_u32(a, vdupq_n_s32(-n)));
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use super::super::{simd128, Simd128};
    use super::Bits;
    use std::arch::wasm32::*;

    bits!(Simd128, simd128::F32, v128,
        splat |x| u32x4_splat(x),
        iota || u32x4(0, 1, 2, 3),
        to |a| a, from |a| a,
        add u32x4_add, mul u32x4_mul, xor v128_xor, and v128_and,
        shl |a, n: i32| u32x4_shl(a, n as u32), shr |a, n: i32| u32x4_shr(a, n as u32));
}
