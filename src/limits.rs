//! Limits on the size, the memory and the work of a decode, checked before any of it starts.

use crate::error::{Class, Error, Result};
use alloc::{format, vec::Vec};

/// Upper bounds for one decode. The default is 2^28 pixels, 2 GiB and 2^40 multiplications.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of pixels of the output: of the picture, or of the region if one is decoded.
    pub max_pixels: u64,
    /// Maximum memory of a decode in bytes. It is compared with the decoder's own upper bound, computed from the header.
    pub max_memory: u64,
    /// Maximum work of a decode, about the number of its multiplications. It is compared with the decoder's own count,
    /// computed from header and weights.
    pub max_work: u64,
}

/// 2^28 pixels and 2 GiB: enough for the pictures of any camera, and safe for any file on a machine with 4 GiB. 2^40
/// multiplications take one core of 2020 about two minutes: 4096 for each of 2^28 pixels.
impl Default for Limits {
    fn default() -> Self {
        Limits { max_pixels: 1 << 28, max_memory: 2 << 30, max_work: 1 << 40 }
    }
}

impl Limits {
    /// Only the limits of the format itself.
    pub const NONE: Limits = Limits { max_pixels: u64::MAX, max_memory: u64::MAX, max_work: u64::MAX };

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

    /// Returns [`Class::WorkLimit`] if `work` exceeds the limit.
    pub fn check_work(&self, work: u64) -> Result<()> {
        match work > self.max_work {
            true => Err(Error::new(
                Class::WorkLimit,
                format!("decoding takes about {work} multiplications, the limit is {}", self.max_work),
            )),
            false => Ok(()),
        }
    }
}

/// A vector of `n` default values. A failed allocation is [`Class::MemoryLimit`] instead of an abort.
pub fn try_vec<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    try_filled(n, T::default())
}

/// A vector of `n` times `value`, as [`try_vec`].
pub fn try_filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)
        .map_err(|_| Error::new(Class::MemoryLimit, format!("cannot allocate memory for {n} elements")))?;
    v.resize(n, value);
    Ok(v)
}
