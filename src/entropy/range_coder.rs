//! Range coder with 16-bit probabilities (Martin 1979), 64-bit state, 32-bit words.
//!
//! The range never falls below 2^32 before a symbol, so that dividing it by 2^16 costs nothing that
//! shows: a symbol of probability 0.9999 costs its 0.00014 bits.

use crate::error::{Error, Result};
use alloc::vec::Vec;

/// Intervals are parts of `2^PRECISION`.
pub const PRECISION: u32 = 16;
/// Escaped numbers stay below `2^GOLOMB_BITS`: any difference of two i16.
pub const GOLOMB_BITS: u32 = 17;

/// Writes symbols; [`finish`](RangeEncoder::finish) gives the bytes.
#[derive(Clone, Debug)]
pub struct RangeEncoder {
    low: u64,
    range: u64,
    bytes: Vec<u8>,
}

impl Default for RangeEncoder {
    fn default() -> Self {
        RangeEncoder { low: 0, range: u64::MAX, bytes: Vec::new() }
    }
}

impl RangeEncoder {
    /// Codes the interval `low .. low + width` of `2^PRECISION`; `width >= 1`.
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

    /// `count` raw bits of `value`, the highest first; `count <= 16` a piece.
    pub fn encode_bits(&mut self, value: u32, count: u32) {
        debug_assert!(count <= PRECISION && value >> count == 0);
        self.encode(value << (PRECISION - count), 1 << (PRECISION - count));
    }

    /// Exp-Golomb code of order 0 in raw bits, for `value < 2^GOLOMB_BITS`: `n` zeros, a one, the `n` low bits of
    /// `value + 1`, highest first.
    pub fn encode_golomb(&mut self, value: u32) {
        debug_assert!(value < 1 << GOLOMB_BITS);
        let v = value + 1;
        let n = v.ilog2();
        (0..n).for_each(|_| self.encode_bits(0, 1));
        (0..=n).rev().for_each(|i| self.encode_bits(v >> i & 1, 1));
    }

    fn carry(&mut self) {
        for byte in self.bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }

    /// The shortest bytes that decode to what was coded: the decoder reads zeros beyond the end.
    pub fn finish(mut self) -> Vec<u8> {
        let words = self.bytes.len();
        // The number in `low .. low + range` with the most trailing zeros.
        let last = self.low.wrapping_add(self.range - 1);
        if last < self.low {
            // The range passes 2^64: the carry with nothing behind it.
            self.carry();
        } else if self.low > 0 {
            let keep = (self.low - 1) ^ last;
            let zeros = 63 - keep.leading_zeros();
            self.bytes.extend_from_slice(&(last >> zeros << zeros).to_be_bytes());
        }
        // Not the words before: a decoder that reads three beyond the end knows that bytes are missing.
        while self.bytes.len() > words && self.bytes.last() == Some(&0) {
            self.bytes.pop();
        }
        self.bytes
    }
}

/// Reads what [`RangeEncoder`] wrote. Any bytes decode to something.
#[derive(Clone, Debug)]
pub struct RangeDecoder<'a> {
    /// Code minus low.
    code: u64,
    range: u64,
    bytes: &'a [u8],
    /// Words read beyond the end.
    beyond: u32,
}

impl<'a> RangeDecoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = RangeDecoder { code: 0, range: u64::MAX, bytes, beyond: 0 };
        decoder.code = (u64::from(decoder.word()) << 32) | u64::from(decoder.word());
        decoder
    }

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

    /// Whether the next symbol's target lies in `low .. low + width`; no division.
    #[inline(always)]
    pub fn is_in(&self, low: u32, width: u32) -> bool {
        let unit = self.range >> PRECISION;
        self.code.wrapping_sub(unit * u64::from(low)) < unit * u64::from(width)
    }

    /// The next symbol's target: a number below `2^PRECISION` in its interval.
    #[inline]
    pub fn target(&self) -> u32 {
        (self.code / (self.range >> PRECISION)).min((1 << PRECISION) - 1) as u32
    }

    /// Removes the symbol whose interval holds the target.
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

    /// `count` raw bits, `count <= 16`.
    pub fn decode_bits(&mut self, count: u32) -> u32 {
        let value = self.target() >> (PRECISION - count);
        self.advance(value << (PRECISION - count), 1 << (PRECISION - count));
        value
    }

    /// Inverse of [`RangeEncoder::encode_golomb`].
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

    /// Refuses a segment that ended before its symbols did, or that has bytes left.
    pub fn finish(&self) -> Result<()> {
        // An honest segment is read at most two words beyond its end.
        if self.beyond > 2 {
            return Err(Error::format("a segment ends before its symbols do: the file is damaged"));
        }
        if !self.bytes.is_empty() {
            return Err(Error::format("a segment has bytes after its last symbol: the file is damaged"));
        }
        Ok(())
    }
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
