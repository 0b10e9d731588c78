//! What a decoder may be asked for, checked before it allocates.

use crate::error::{Class, Error, Result};
use alloc::{format, vec::Vec};

/// Upper bounds for one decode.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pixels of the output (of the region, where one is asked for).
    pub max_pixels: u64,
    /// Bytes that a decode may hold at once, by the header's own estimate.
    pub max_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_pixels: 1 << 28, max_memory: 2 << 30 }
    }
}

impl Limits {
    /// No limits but those of the format.
    pub const NONE: Limits = Limits { max_pixels: u64::MAX, max_memory: u64::MAX };

    /// Refuses `pixels` over the limit.
    pub fn check_pixels(&self, pixels: u64) -> Result<()> {
        match pixels > self.max_pixels {
            true => Err(Error::new(Class::PixelLimit, format!("{pixels} pixels, the limit is {}", self.max_pixels))),
            false => Ok(()),
        }
    }

    /// Refuses `bytes` of memory over the limit.
    pub fn check_memory(&self, bytes: u64) -> Result<()> {
        match bytes > self.max_memory {
            true => Err(Error::new(
                Class::MemoryLimit,
                format!("decoding needs {bytes} bytes of memory, the limit is {}", self.max_memory),
            )),
            false => Ok(()),
        }
    }
}

/// An allocation of `n` defaults that fails as an error instead of an abort.
pub fn try_vec<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)
        .map_err(|_| Error::new(Class::MemoryLimit, format!("there is no memory for {n} elements")))?;
    v.resize(n, T::default());
    Ok(v)
}
