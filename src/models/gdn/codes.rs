//! The codes of a tile of family `gdn`, channel after channel, with adaptive probabilities
//! ([`adaptive`](crate::entropy::adaptive)).
//!
//! The contexts of a code are the magnitudes of its neighbours in its own channel, and the sum of the magnitudes that
//! the channels before have around the same position.

use crate::entropy::adaptive::{level, BinaryCoder, Contexts, Integers, LEVELS, SIGNS, TABLES};
use crate::error::Result;
use crate::limits::try_vec;
#[cfg(feature = "fit")]
use alloc::vec;
use alloc::vec::Vec;

/// Padding on the left, the right and the top: contexts reach two codes up and left, one right.
const PAD: usize = 2;
/// A code adds at most this to the activity that later channels see, so that one large code does not hide the others.
/// Part of the format; any value of this order works.
const MAX_ACTIVITY: u32 = 31;

/// What is known of a tile while it is coded: padded planes of its size.
struct Planes {
    height: usize,
    width: usize,
    /// Values in a padded row.
    stride: usize,
    /// The integers that are coded of the present channel: codes, or codes minus their predictions.
    residuals: Vec<i16>,
    /// The codes of the present channel.
    codes: Vec<i16>,
    /// Sum over the channels before of the magnitudes of their residuals, each at most [`MAX_ACTIVITY`].
    activity: Vec<u32>,
}

/// Number of contexts in each table of the decision whether an integer is 0: see [`Planes::contexts`].
const TABLE_SIZES: [usize; TABLES] = [LEVELS * 3, 3 * 3 * 3 * 3, LEVELS * 4, LEVELS * LEVELS];

impl Planes {
    fn new(height: usize, width: usize) -> Result<Self> {
        let stride = width + 2 * PAD;
        let n = stride * (height + PAD + 1);
        Ok(Planes { height, width, stride, residuals: try_vec(n)?, codes: try_vec(n)?, activity: try_vec(n)? })
    }

    /// Index of position `(y, x)` in the planes.
    fn at(&self, y: usize, x: usize) -> usize {
        (y + PAD) * self.stride + x + PAD
    }

    /// The contexts of the integer at index `at`.
    fn contexts(&self, at: usize) -> Contexts {
        let size = |at: usize| u32::from(self.residuals[at].unsigned_abs());
        let sign = |at: usize| (self.residuals[at].signum() + 1) as usize;
        let p = self.stride;
        let (w, n, nw, ne) = (size(at - 1), size(at - p), size(at - p - 1), size(at - p + 1));
        let (ww, nn) = (size(at - 2), size(at - 2 * p));
        let near = 2 * (w + n) + nw + ne;
        let a = &self.activity;
        let here = a[at];
        let around = a[at - 1] + a[at + 1] + a[at - p] + a[at + p];
        let third = |v: u32| v.min(2) as usize;
        let near_level = level(near, LEVELS - 1);
        let activity_level = level(4 * here + around, LEVELS - 1);
        Contexts {
            zero: [
                near_level * 3 + third(ww + nn),
                ((third(w) * 3 + third(n)) * 3 + third(nw)) * 3 + third(ne),
                level(here, LEVELS - 1) * 4 + near.min(3) as usize,
                activity_level * LEVELS + level(near + ww + nn, LEVELS - 1),
            ],
            size: [near_level, activity_level],
            sign: [sign(at - 1) * 3 + sign(at - p), sign(at - p - 1) * 3 + sign(at - p + 1)],
        }
    }

    /// The code that the neighbours predict at index `at`: `(2 (left + above) + above right - above left) / 4`, rounded.
    fn prediction(&self, at: usize) -> i16 {
        let c = |at: usize| i32::from(self.codes[at]);
        let p = self.stride;
        let sum = 2 * (c(at - 1) + c(at - p)) + c(at - p + 1) - c(at - p - 1);
        ((sum + 2) >> 2) as i16
    }

    /// Codes one channel, or, if `coder` reads, decodes it into `plane`. With `predict` the coded integers are the
    /// differences from [`prediction`](Self::prediction).
    fn channel(&mut self, coder: &mut impl BinaryCoder, predict: bool, plane: &mut [i16]) -> Result<()> {
        let mut integers = Integers::new(TABLE_SIZES);
        for y in 0..self.height {
            coder.check()?;
            for x in 0..self.width {
                let at = self.at(y, x);
                let prediction = if predict { self.prediction(at) } else { 0 };
                let code = &mut plane[y * self.width + x];
                let residual = integers.code(coder, &self.contexts(at), code.wrapping_sub(prediction));
                *code = residual.wrapping_add(prediction);
                self.residuals[at] = residual;
                self.codes[at] = *code;
            }
        }
        Ok(())
    }

    fn clear_channel(&mut self) {
        self.residuals.fill(0);
        self.codes.fill(0);
    }

    /// Adds the present channel to the activity and clears its planes for the next one.
    fn end_channel(&mut self) {
        for (a, r) in self.activity.iter_mut().zip(&self.residuals) {
            *a += u32::from(r.unsigned_abs()).min(MAX_ACTIVITY);
        }
        self.clear_channel();
    }
}

const _: () = assert!(SIGNS == 9);

/// Probability one half, of `2^16`.
const HALF: u32 = 1 << 15;

/// Bytes of the working memory for a tile of `height x width` codes.
pub fn memory(height: usize, width: usize) -> u64 {
    8 * (width + 2 * PAD) as u64 * (height + PAD + 1) as u64
}

/// Decodes a tile into `codes`, `[channels][height][width]`.
///
/// # Errors
/// Bytes that end before the codes do, and an allocation that fails.
pub fn decode(coder: &mut impl BinaryCoder, height: usize, width: usize, codes: &mut [i16]) -> Result<()> {
    if codes.is_empty() {
        return Ok(());
    }
    let mut planes = Planes::new(height, width)?;
    for plane in codes.chunks_exact_mut(height * width) {
        if !coder.decide(HALF, false) {
            plane.fill(0);
            continue;
        }
        let predict = coder.decide(HALF, false);
        planes.channel(coder, predict, plane)?;
        planes.end_channel();
    }
    Ok(())
}

/// Encodes the codes of a tile, `[channels][height][width]`. For each channel: a bit whether any code is not 0; if so a
/// bit whether codes are predicted (the cheaper of both), then the codes.
#[cfg(feature = "fit")]
pub fn encode(coder: &mut impl BinaryCoder, height: usize, width: usize, codes: &[i16]) {
    use crate::entropy::adaptive::Price;
    if codes.is_empty() {
        return;
    }
    let mut planes = Planes::new(height, width).expect("memory for codes that are in memory");
    let write = "only reading fails";
    let mut copy = vec![0; height * width];
    for plane in codes.chunks_exact(height * width) {
        if !coder.decide(HALF, plane.iter().any(|c| *c != 0)) {
            continue;
        }
        let mut price = |predict: bool| {
            let mut price = Price::default();
            copy.copy_from_slice(plane);
            planes.channel(&mut price, predict, &mut copy).expect(write);
            planes.clear_channel();
            price.0
        };
        let predict = price(true) < price(false);
        coder.decide(HALF, predict);
        copy.copy_from_slice(plane);
        planes.channel(coder, predict, &mut copy).expect(write);
        planes.end_channel();
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn codes_come_back(height in 1usize..20, width in 1usize..20, channels in 1usize..5, shift in 0u32..=16, smooth: bool, seed: u64) {
            let mut noise = Noise::new(seed);
            let mut sum = 0i16;
            let codes: Vec<i16> = (0..channels * height * width)
                .map(|_| {
                    let v = (((noise.bits() >> 15) as i16 as i32) >> shift) as i16;
                    sum = sum.wrapping_add(v);
                    if smooth { sum } else { v }
                })
                .collect();
            let mut encoder = RangeEncoder::default();
            encode(&mut encoder, height, width, &codes);
            let bytes = encoder.finish();
            let mut back = vec![7; codes.len()];
            let mut decoder = RangeDecoder::new(&bytes);
            decode(&mut decoder, height, width, &mut back).unwrap();
            prop_assert_eq!(back, codes);
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..200), height in 1usize..20, width in 1usize..20) {
            let _ = decode(&mut RangeDecoder::new(&bytes), height, width, &mut vec![0; 3 * height * width]);
        }
    }
}
