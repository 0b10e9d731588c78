//! Reading fields of the header with bounds checks, and writing them.

use crate::error::{Class, Error, Result};
use alloc::{format, vec::Vec};
use byteorder::{ByteOrder, LE};

/// Reads fields one after another from a slice. Its errors name the field and its offset.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next `n` bytes; `what` names the field in the error.
    pub fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        if n > rest.len() {
            let (at, left) = (self.at, rest.len());
            return Err(Error::new(
                Class::Truncated,
                format!("{what} at byte {at} needs {n} bytes, {left} are left: the file is cut short"),
            ));
        }
        self.at += n;
        Ok(&rest[..n])
    }

    pub fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.take(1, what)?[0])
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(LE::read_u32(self.take(4, what)?))
    }

    /// Reads a LEB128 number of at most `max`. Only the shortest form is valid.
    pub fn varint(&mut self, max: u64, what: &str) -> Result<u64> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let b = self.u8(what)?;
            value |= ((b & 0x7f) as u64) << shift;
            if b & 0x80 == 0 {
                if b == 0 && shift > 0 {
                    return Err(Error::format(format!("{what} at byte {at} is not in its shortest form")));
                }
                if value > max {
                    return Err(Error::format(format!("{what} at byte {at} is {value}, at most {max} is allowed")));
                }
                return Ok(value);
            }
        }
        Err(Error::format(format!("{what} at byte {at} is a number of more than 9 bytes")))
    }
}

/// Appends `value` as four bytes, little-endian.
pub fn write_u32(out: &mut Vec<u8>, value: u32) {
    let mut field = [0; 4];
    LE::write_u32(&mut field, value);
    out.extend(field);
}

/// Appends the LEB128 form of `value`.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(v in 0u64..1 << 62) {
            let mut out = Vec::new();
            write_varint(&mut out, v);
            let mut r = Reader::new(&out);
            prop_assert_eq!(r.varint(u64::MAX, "v").unwrap(), v);
            prop_assert_eq!(r.position(), out.len());
            prop_assert!(Reader::new(&out[..out.len() - 1]).varint(u64::MAX, "v").is_err());
            prop_assert!(v == 0 || Reader::new(&out).varint(v - 1, "v").is_err());
        }

        #[test]
        fn u32_fields_round_trip(v: u32) {
            let mut out = Vec::new();
            write_u32(&mut out, v);
            prop_assert_eq!(&out[..], &[v as u8, (v >> 8) as u8, (v >> 16) as u8, (v >> 24) as u8]);
            prop_assert_eq!(Reader::new(&out).u32("v").unwrap(), v);
            prop_assert!(Reader::new(&out[..3]).u32("v").is_err());
        }

        #[test]
        fn any_bytes_parse_or_fail_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = Reader::new(&bytes).varint(1000, "v");
        }
    }
}
