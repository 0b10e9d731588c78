//! Limits on the size and memory of a decode, checked before anything is allocated.

use crate::error::{Class, Error, Result};
use alloc::{format, vec::Vec};

/// Upper bounds for one decode. The default is 2^28 pixels and 2 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of pixels of the output: of the picture, or of the region if one is decoded.
    pub max_pixels: u64,
    /// Maximum memory of a decode in bytes. It is compared with the decoder's own upper bound, computed from the header.
    pub max_memory: u64,
}

/// 2^28 pixels and 2 GiB: enough for the pictures of any camera, and safe for any file on a machine with 4 GiB.
impl Default for Limits {
    fn default() -> Self {
        Limits { max_pixels: 1 << 28, max_memory: 2 << 30 }
    }
}

impl Limits {
    /// Only the limits of the format itself.
    pub const NONE: Limits = Limits { max_pixels: u64::MAX, max_memory: u64::MAX };

    /// Returns [`Class::PixelLimit`] if `pixels` exceeds the limit.
    pub fn check_pixels(&self, pixels: u64) -> Result<()> {
        match pixels > self.max_pixels {
            true => Err(Error::new(Class::PixelLimit, format!("{pixels} pixels, the limit is {}", self.max_pixels))),
            false => Ok(()),
        }
    }

    /// Returns [`Class::MemoryLimit`] if `bytes` of memory exceed the limit.
    pub fn check_memory(&self, bytes: u64) -> Result<()> {
        match bytes > self.max_memory {
            true => Err(Error::new(
                Class::MemoryLimit,
                format!(
                    "decoding needs {bytes} bytes of memory, the limit is {} (a smaller region needs less)",
                    self.max_memory
                ),
            )),
            false => Ok(()),
        }
    }
}

/// A vector of `n` default values. A failed allocation is [`Class::MemoryLimit`] instead of an abort.
pub fn try_vec<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)
        .map_err(|_| Error::new(Class::MemoryLimit, format!("cannot allocate memory for {n} elements")))?;
    v.resize(n, T::default());
    Ok(v)
}
