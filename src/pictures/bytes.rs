//! Reads the fields of a file one after another.

use super::truncated;
use crate::error::Result;

/// A place in the bytes of a file. Reading past their end is [`Class::Truncated`](crate::Class::Truncated).
#[derive(Clone)]
pub struct Bytes<'a> {
    data: &'a [u8],
    at: usize,
    format: &'static str,
}

impl<'a> Bytes<'a> {
    /// The beginning of `data`, a file of `format`.
    pub fn new(data: &'a [u8], format: &'static str) -> Self {
        Bytes { data, at: 0, format }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        &self.data[self.at..]
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let taken = self.rest().get(..n).ok_or_else(|| truncated(self.format))?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut a = [0; N];
        a.copy_from_slice(self.take(N)?);
        Ok(a)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16_le(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32_le(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u16_be(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32_be(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }
}
