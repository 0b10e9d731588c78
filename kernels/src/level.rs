//! Instruction sets, detected at run time.

use alloc::{vec, vec::Vec};
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(dead_code)] // each target constructs only its own
pub(crate) enum Kind {
    Scalar,
    Sse2,
    Avx2,
    Avx512,
    Neon,
    Simd128,
}

/// An instruction set that this machine has: only detection makes one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub(crate) Kind);

impl Level {
    /// Plain Rust, one lane: the definition that the others are held to.
    pub const SCALAR: Level = Level(Kind::Scalar);

    /// All levels of this machine, slowest first.
    pub fn available() -> Vec<Level> {
        #[allow(unused_mut)] // a target may have this one alone
        let mut levels = vec![Level::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            levels.push(Level(Kind::Sse2)); // part of the x86-64 baseline
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level(Kind::Avx2));
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    levels.push(Level(Kind::Avx512));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Level(Kind::Neon));
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        levels.push(Level(Kind::Simd128));
        levels
    }

    /// The fastest level, or the one that `TILEFIT_SIMD` names (`scalar`, `sse2`, `avx2`, `avx512`,
    /// `neon`).
    ///
    /// # Panics
    /// When `TILEFIT_SIMD` names a level that this machine lacks: a test that asked for it must fail.
    #[cfg(not(any(target_os = "none", target_os = "unknown")))]
    pub fn best() -> Level {
        use std::sync::OnceLock;
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| match std::env::var("TILEFIT_SIMD") {
            Ok(name) => {
                Level::named(&name).unwrap_or_else(|| panic!("TILEFIT_SIMD={name}: this machine has no such level"))
            }
            Err(_) => *Level::available().last().expect("scalar is always there"),
        })
    }

    /// The fastest level that the program was built for.
    #[cfg(any(target_os = "none", target_os = "unknown"))]
    pub fn best() -> Level {
        Level::available().last().copied().unwrap_or(Level::SCALAR)
    }

    /// The level called `name`, if this machine has it.
    pub fn named(name: &str) -> Option<Level> {
        Level::available().into_iter().find(|l| l.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            Kind::Sse2 => "sse2",
            Kind::Avx2 => "avx2",
            Kind::Avx512 => "avx512",
            Kind::Neon => "neon",
            Kind::Simd128 => "simd128",
        }
    }
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
