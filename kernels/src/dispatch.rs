//! One public function per kernel, one monomorphic copy per instruction set.

/// `kernel! { pub fn name(args) -> R = body; }` makes `name(level, args)`, which runs the
/// `#[inline(always)] fn body<S: Simd>(s: S, args)` with the instructions of `level` enabled.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:expr;) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::Level, $($arg: $ty),*) $(-> $ret)? {
            #[allow(unused_imports)] // a target may have one level alone
            use $crate::level::Kind;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "sse2")]
            fn sse2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function enables SSE2.
                ($body)(unsafe { $crate::vector::Sse2::token() }, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function enables AVX2 and FMA.
                ($body)(unsafe { $crate::vector::Avx2::token() }, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function enables AVX-512.
                ($body)(unsafe { $crate::vector::Avx512::token() }, $($arg),*)
            }
            match level.0 {
                // SAFETY: a `Level` is made only by detection.
                #[cfg(target_arch = "x86_64")]
                Kind::Sse2 => unsafe { sse2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above; NEON is the aarch64 baseline.
                #[cfg(target_arch = "aarch64")]
                Kind::Neon => ($body)(unsafe { $crate::vector::Neon::token() }, $($arg),*),
                // A module is either with or without: one copy of each kernel, as modules are downloaded.
                // SAFETY: the target enables simd128.
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
                _ => ($body)(unsafe { $crate::vector::Simd128::token() }, $($arg),*),
                #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
                _ => ($body)($crate::vector::Scalar::token(), $($arg),*),
            }
        }
    };
}
