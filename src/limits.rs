//! Upper bounds on the work and memory of a decode, checked before anything is allocated.

use crate::error::{Class, Error, Result};
use alloc::{format, vec::Vec};

/// Upper bounds for one decode.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most pixels of the output: of the picture, or of the region if one is decoded.
    pub max_pixels: u64,
    /// Most bytes of memory that a decode holds at once, by the estimate that the decoder makes from the header.
    pub max_memory: u64,
}

/// 2^28 pixels and 2 GiB: pictures of any camera decode, and a machine of 4 GiB survives any file.
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

/// A vector of `n` default values; an allocation that fails is an error instead of an abort.
pub fn try_vec<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)
        .map_err(|_| Error::new(Class::MemoryLimit, format!("there is no memory for {n} elements")))?;
    v.resize(n, T::default());
    Ok(v)
}
