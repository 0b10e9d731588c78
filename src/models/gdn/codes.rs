//! The codes of a tile, channel after channel, with adaptive probabilities.
//!
//! Channels are independent but for what is learnt: a code's contexts are the sizes of its neighbours in its
//! own channel, and of what earlier channels have around the same place.

use crate::entropy::adaptive::{level, Decide, Integers, Place, LEVELS, SIGNS, TABLES};
use alloc::{vec, vec::Vec};

/// Padding on the left, the right and the top, so that every neighbour exists.
const PAD: usize = 2;
/// A code counts as at most this much in the activity that later channels see.
const LOUDEST: u32 = 31;

/// Padded planes of one tile.
struct Planes {
    height: usize,
    width: usize,
    pitch: usize,
    /// What is coded of the present channel: codes, or codes minus their predictions.
    rest: Vec<i16>,
    /// The codes themselves.
    codes: Vec<i16>,
    /// Sum of sizes over the channels before.
    activity: Vec<u32>,
}

/// Contexts of the first decision.
const TABLE_SIZES: [usize; TABLES] = [LEVELS * 3, 3 * 3 * 3 * 3, LEVELS * 4, LEVELS * LEVELS];

impl Planes {
    fn new(height: usize, width: usize) -> Self {
        let pitch = width + 2 * PAD;
        let n = pitch * (height + PAD + 1);
        Planes { height, width, pitch, rest: vec![0; n], codes: vec![0; n], activity: vec![0; n] }
    }

    fn at(&self, y: usize, x: usize) -> usize {
        (y + PAD) * self.pitch + x + PAD
    }

    fn place(&self, at: usize) -> Place {
        let size = |at: usize| u32::from(self.rest[at].unsigned_abs());
        let sign = |at: usize| (self.rest[at].signum() + 1) as usize;
        let p = self.pitch;
        let (w, n, nw, ne) = (size(at - 1), size(at - p), size(at - p - 1), size(at - p + 1));
        let (ww, nn) = (size(at - 2), size(at - 2 * p));
        let near = 2 * (w + n) + nw + ne;
        let a = &self.activity;
        let here = a[at];
        let around = a[at - 1] + a[at + 1] + a[at - p] + a[at + p];
        let third = |v: u32| v.min(2) as usize;
        let near_level = level(near, LEVELS - 1);
        let loud = level(4 * here + around, LEVELS - 1);
        Place {
            zero: [
                near_level * 3 + third(ww + nn),
                ((third(w) * 3 + third(n)) * 3 + third(nw)) * 3 + third(ne),
                level(here, LEVELS - 1) * 4 + near.min(3) as usize,
                loud * LEVELS + level(near + ww + nn, LEVELS - 1),
            ],
            size: [near_level, loud],
            sign: [sign(at - 1) * 3 + sign(at - p), sign(at - p - 1) * 3 + sign(at - p + 1)],
        }
    }

    /// What the codes around suggest for `at`.
    fn prediction(&self, at: usize) -> i16 {
        let c = |at: usize| i32::from(self.codes[at]);
        let p = self.pitch;
        let sum = 2 * (c(at - 1) + c(at - p)) + c(at - p + 1) - c(at - p - 1);
        ((sum + 2) >> 2) as i16
    }

    /// Codes one channel, or reads it into `plane`.
    fn channel(&mut self, coder: &mut impl Decide, predict: bool, plane: &mut [i16]) {
        let mut integers = Integers::new(TABLE_SIZES);
        for y in 0..self.height {
            for x in 0..self.width {
                let at = self.at(y, x);
                let guess = if predict { self.prediction(at) } else { 0 };
                let code = &mut plane[y * self.width + x];
                let rest = integers.code(coder, &self.place(at), code.wrapping_sub(guess));
                *code = rest.wrapping_add(guess);
                self.rest[at] = rest;
                self.codes[at] = *code;
            }
        }
    }

    fn clear_channel(&mut self) {
        self.rest.fill(0);
        self.codes.fill(0);
    }

    /// The present channel becomes one of those before.
    fn remember(&mut self) {
        for (a, r) in self.activity.iter_mut().zip(&self.rest) {
            *a += u32::from(r.unsigned_abs()).min(LOUDEST);
        }
        self.clear_channel();
    }
}

const _: () = assert!(SIGNS == 9);

const HALF: u32 = 1 << 15;

/// Reads the codes of a tile, `[channels][height][width]`.
pub fn decode(coder: &mut impl Decide, height: usize, width: usize, codes: &mut [i16]) {
    if codes.is_empty() {
        return;
    }
    let mut planes = Planes::new(height, width);
    for plane in codes.chunks_exact_mut(height * width) {
        if !coder.decide(HALF, false) {
            plane.fill(0);
            continue;
        }
        let predict = coder.decide(HALF, false);
        planes.channel(coder, predict, plane);
        planes.remember();
    }
}

/// Writes the codes of a tile: for each channel a bit whether it has any code but 0, a bit whether codes are
/// predicted, then the codes.
#[cfg(feature = "fit")]
pub fn encode(coder: &mut impl Decide, height: usize, width: usize, codes: &[i16]) {
    use crate::entropy::adaptive::Price;
    if codes.is_empty() {
        return;
    }
    let mut planes = Planes::new(height, width);
    let mut copy = vec![0; height * width];
    for plane in codes.chunks_exact(height * width) {
        if !coder.decide(HALF, plane.iter().any(|c| *c != 0)) {
            continue;
        }
        let mut price = |predict: bool| {
            let mut price = Price::default();
            copy.copy_from_slice(plane);
            planes.channel(&mut price, predict, &mut copy);
            planes.clear_channel();
            price.0
        };
        let predict = price(true) < price(false);
        coder.decide(HALF, predict);
        copy.copy_from_slice(plane);
        planes.channel(coder, predict, &mut copy);
        planes.remember();
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn codes_come_back(height in 1usize..20, width in 1usize..20, channels in 1usize..5, shift in 0u32..=16, smooth: bool, seed: u64) {
            let mut s = seed;
            let mut sum = 0i16;
            let codes: Vec<i16> = (0..channels * height * width)
                .map(|_| {
                    s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let v = (((s >> 48) as i16 as i32) >> shift) as i16;
                    sum = sum.wrapping_add(v);
                    if smooth { sum } else { v }
                })
                .collect();
            let mut encoder = RangeEncoder::default();
            encode(&mut encoder, height, width, &codes);
            let bytes = encoder.finish();
            let mut back = vec![7; codes.len()];
            let mut decoder = RangeDecoder::new(&bytes);
            decode(&mut decoder, height, width, &mut back);
            prop_assert_eq!(back, codes);
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..200), height in 1usize..20, width in 1usize..20) {
            decode(&mut RangeDecoder::new(&bytes), height, width, &mut vec![0; 3 * height * width]);
        }
    }
}
