//! Range coder (Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979) with 16-bit
//! probabilities, a 64-bit state and output in 32-bit words.
//!
//! Before each symbol the range is at least 2^32, so rounding its 2^16th part down loses less than 2^-16 of it: even a
//! symbol of probability 0.9999 costs no more than its 0.00014 bits.

use crate::error::{Error, Result};
use alloc::vec::Vec;

/// A symbol has an interval of `0 .. 2^PRECISION`, as wide as it is probable.
pub const PRECISION: u32 = 16;
/// Numbers in Exp-Golomb code are below `2^GOLOMB_BITS`, which any difference of two i16 is.
pub const GOLOMB_BITS: u32 = 17;

/// Encodes symbols; [`finish`](RangeEncoder::finish) returns the bytes.
#[derive(Clone, Debug)]
pub struct RangeEncoder {
    /// Start of the interval that stands for the symbols so far, of which the bytes are already written.
    low: u64,
    /// Width of this interval.
    range: u64,
    bytes: Vec<u8>,
}

impl Default for RangeEncoder {
    fn default() -> Self {
        RangeEncoder { low: 0, range: u64::MAX, bytes: Vec::new() }
    }
}

impl RangeEncoder {
    /// Encodes the symbol with the interval `low .. low + width`; `width >= 1`.
    #[inline]
    pub fn encode(&mut self, low: u32, width: u32) {
        debug_assert!(width >= 1 && low + width <= 1 << PRECISION);
        let unit = self.range >> PRECISION;
        let (sum, carry) = self.low.overflowing_add(unit * u64::from(low));
        self.low = sum;
        self.range = unit * u64::from(width);
        if carry {
            self.carry();
        }
        if self.range < 1 << 32 {
            self.bytes.extend_from_slice(&((self.low >> 32) as u32).to_be_bytes());
            self.low <<= 32;
            self.range <<= 32;
        }
    }

    /// Encodes `value`, of `count <= 16` bits, with equal probabilities.
    pub fn encode_bits(&mut self, value: u32, count: u32) {
        debug_assert!(count <= PRECISION && value >> count == 0);
        self.encode(value << (PRECISION - count), 1 << (PRECISION - count));
    }

    /// Encodes `value < 2^GOLOMB_BITS` in Exp-Golomb code of order 0, bit by bit with equal probabilities: `n` zeros, a one,
    /// then the `n` low bits of `value + 1`, the highest first.
    pub fn encode_golomb(&mut self, value: u32) {
        debug_assert!(value < 1 << GOLOMB_BITS);
        let v = value + 1;
        let n = v.ilog2();
        (0..n).for_each(|_| self.encode_bits(0, 1));
        (0..=n).rev().for_each(|i| self.encode_bits(v >> i & 1, 1));
    }

    /// Adds 1 to the bytes that are already written.
    fn carry(&mut self) {
        for byte in self.bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }

    /// The shortest bytes from which the symbols can be decoded; the decoder reads zeros beyond the end.
    pub fn finish(mut self) -> Vec<u8> {
        let words = self.bytes.len();
        // Any number in `low .. low + range` will do: the one with the most trailing zeros.
        let last = self.low.wrapping_add(self.range - 1);
        if last < self.low {
            // The interval contains 2^64: a carry, followed by zeros only.
            self.carry();
        } else if self.low > 0 {
            let differing = (self.low - 1) ^ last;
            let zeros = 63 - differing.leading_zeros();
            self.bytes.extend_from_slice(&(last >> zeros << zeros).to_be_bytes());
        }
        // Zeros in earlier words stay: a decoder that reads more than two words beyond the end reports missing bytes.
        while self.bytes.len() > words && self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

/// Decodes what [`RangeEncoder`] wrote. Any bytes decode to some symbols; [`finish`](Self::finish) refuses most of those
/// that are not a whole stream.
#[derive(Clone, Debug)]
pub struct RangeDecoder<'a> {
    /// The number that the bytes stand for, minus the encoder's `low`.
    code: u64,
    range: u64,
    /// What is still to be read.
    bytes: &'a [u8],
    /// Number of words that were read wholly beyond the end.
    beyond: u32,
}

impl<'a> RangeDecoder<'a> {
    /// Starts at the first symbol of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = RangeDecoder { code: 0, range: u64::MAX, bytes, beyond: 0 };
        decoder.code = (u64::from(decoder.word()) << 32) | u64::from(decoder.word());
        decoder
    }

    /// The next word; bytes beyond the end are zeros.
    fn word(&mut self) -> u32 {
        if let Some((word, rest)) = self.bytes.split_first_chunk::<4>() {
            self.bytes = rest;
            return u32::from_be_bytes(*word);
        }
        if self.bytes.is_empty() {
            self.beyond += 1;
        }
        let mut word = [0; 4];
        word[..self.bytes.len()].copy_from_slice(self.bytes);
        self.bytes = &[];
        u32::from_be_bytes(word)
    }

    /// Whether the next symbol has the interval `low .. low + width`, without the division that [`target`](Self::target)
    /// takes.
    #[inline(always)]
    pub fn is_in(&self, low: u32, width: u32) -> bool {
        let unit = self.range >> PRECISION;
        self.code.wrapping_sub(unit * u64::from(low)) < unit * u64::from(width)
    }

    /// A number below `2^PRECISION` that lies in the interval of the next symbol, its *target*.
    #[inline]
    pub fn target(&self) -> u32 {
        (self.code / (self.range >> PRECISION)).min((1 << PRECISION) - 1) as u32
    }

    /// Removes the next symbol, whose interval is `low .. low + width`.
    #[inline(always)]
    pub fn advance(&mut self, low: u32, width: u32) {
        let unit = self.range >> PRECISION;
        self.code = self.code.wrapping_sub(unit * u64::from(low));
        self.range = unit * u64::from(width);
        if self.range < 1 << 32 {
            self.code = (self.code << 32) | u64::from(self.word());
            self.range <<= 32;
        }
    }

    /// Inverse of [`RangeEncoder::encode_bits`].
    pub fn decode_bits(&mut self, count: u32) -> u32 {
        let value = self.target() >> (PRECISION - count);
        self.advance(value << (PRECISION - count), 1 << (PRECISION - count));
        value
    }

    /// Inverse of [`RangeEncoder::encode_golomb`].
    ///
    /// # Errors
    /// More zeros than a number below `2^GOLOMB_BITS` has.
    pub fn decode_golomb(&mut self) -> Result<u32> {
        let mut n = 0;
        while self.decode_bits(1) == 0 {
            n += 1;
            if n > GOLOMB_BITS {
                return Err(Error::format("an escaped number is too long: the file is damaged"));
            }
        }
        Ok((0..n).fold(1, |v, _| v << 1 | self.decode_bits(1)) - 1)
    }

    /// To be called now and then where there are many symbols: what follows the end of the bytes would decode for ever.
    ///
    /// # Errors
    /// Bytes that ended before the symbols did.
    #[inline(always)]
    pub fn check(&self) -> Result<()> {
        // The decoder holds two words: no more of them lie beyond the end of an intact segment.
        if self.beyond > 2 {
            return Err(ended());
        }
        Ok(())
    }

    /// To be called after the last symbol.
    ///
    /// # Errors
    /// Bytes that ended before the symbols did, or that are left.
    pub fn finish(&self) -> Result<()> {
        self.check()?;
        if !self.bytes.is_empty() {
            return Err(Error::format("a segment has bytes after its last symbol: the file is damaged"));
        }
        Ok(())
    }
}

#[cold]
fn ended() -> Error {
    Error::format("a segment ends before its symbols do: the file is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn symbols_come_back(list in prop::collection::vec((0u32..65536, 1u32..65536, 0u32..=16), 0..300)) {
            let list: Vec<_> = list.iter().map(|&(a, b, n)| (a, b.min(65536 - a), n)).collect();
            let mut encoder = RangeEncoder::default();
            for &(low, width, n) in &list {
                encoder.encode(low, width);
                encoder.encode_bits(low & ((1 << n) - 1), n);
            }
            let bytes = encoder.finish();
            let mut decoder = RangeDecoder::new(&bytes);
            for &(low, width, n) in &list {
                prop_assert!(decoder.is_in(low, width));
                let target = decoder.target();
                prop_assert!(low <= target && target < low + width);
                decoder.advance(low, width);
                prop_assert_eq!(decoder.decode_bits(n), low & ((1 << n) - 1));
            }
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..40), widths in prop::collection::vec(1u32..65536, 0..200)) {
            let mut decoder = RangeDecoder::new(&bytes);
            for width in widths {
                let target = decoder.target();
                prop_assert!(target < 1 << PRECISION);
                let low = target.saturating_sub(width - 1);
                decoder.advance(low, width.min(65536 - low));
            }
        }
    }

    #[test]
    fn certain_symbols_cost_next_to_nothing() {
        let mut encoder = RangeEncoder::default();
        for _ in 0..500_000 {
            encoder.encode(2, 65531);
        }
        let ideal = 500_000.0 * (65536f64 / 65531.0).log2() / 8.0;
        assert!((encoder.finish().len() as f64) < ideal + 2.0);
    }

    #[test]
    fn a_cut_segment_is_refused() {
        let mut encoder = RangeEncoder::default();
        (0..100).for_each(|i| encoder.encode_bits(0, 16 - i % 2));
        let bytes = encoder.finish();
        let mut decoder = RangeDecoder::new(&bytes[..bytes.len() - 16]);
        (0..100).for_each(|i| assert_eq!(decoder.decode_bits(16 - i % 2), 0));
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn carries_reach_back() {
        let mut encoder = RangeEncoder::default();
        for _ in 0..40 {
            encoder.encode(65535, 1);
        }
        encoder.encode(0, 1);
        let bytes = encoder.finish();
        let mut decoder = RangeDecoder::new(&bytes);
        for _ in 0..40 {
            assert_eq!(decoder.target(), 65535);
            decoder.advance(65535, 1);
        }
        assert_eq!(decoder.target(), 0);
    }
}
