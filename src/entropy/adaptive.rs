//! Integers coded with adaptive probabilities, which encoder and decoder learn from the integers before: the file has no
//! parameters for them.
//!
//! An integer is a sequence of binary decisions: whether it is 0, its sign, whether its magnitude is over 1, over 2, and so
//! on. Each decision has a probability in each of a few contexts. Their log-odds are added with weights that are learned
//! too (logistic mixing; Mahoney, "Adaptive weighing of context models for lossless data compression", 2005). All
//! arithmetic is in integers.

#[cfg(feature = "fit")]
use super::range_coder::RangeEncoder;
use super::range_coder::{RangeDecoder, PRECISION};
use crate::error::Result;
use alloc::{vec, vec::Vec};
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU16, Ordering};

/// Fraction bits of log-odds.
const ODDS_BITS: u32 = 8;
/// Log-odds are in `-MAX_ODDS ..= MAX_ODDS`, 12 nats: beyond 11.1 the probability is below 2^-16.
const MAX_ODDS: i32 = 12 << ODDS_BITS;
/// Probability 1.
const ONE: i32 = 1 << PRECISION;

/// The probability of log-odds `x`: `round(2^16 / (1 + exp(-x/256)))` at index `x + MAX_ODDS`, at least 1 and below 2^16.
/// [`fill_tables`] makes both tables; as data they would be a large part of a small decoder.
static SQUASH: [AtomicU16; 2 * MAX_ODDS as usize + 1] = [const { AtomicU16::new(0) }; 2 * MAX_ODDS as usize + 1];

/// The log-odds of a probability, the inverse of [`SQUASH`]: the smallest whose probability is at least `i + 1/2` of 4096.
static STRETCH: [AtomicI16; 4096] = [const { AtomicI16::new(0) }; 4096];

/// Threads that come here at the same time write the same values.
fn fill_tables() {
    static FILLED: AtomicBool = AtomicBool::new(false);
    if FILLED.load(Ordering::Acquire) {
        return;
    }
    // exp(-i/256) with 62 fraction bits.
    let mut e: u64 = 1 << 62;
    for i in 0..=MAX_ODDS as usize {
        // e * 2^16 / sum by long division, bit by bit, then rounded.
        let sum = (1 << 62) + e;
        let (mut p, mut remainder) = (0u32, e);
        for _ in 0..16 {
            remainder *= 2;
            let bit = remainder >= sum;
            remainder -= if bit { sum } else { 0 };
            p = 2 * p + u32::from(bit);
        }
        let p = (p + u32::from(remainder + sum / 2 >= sum)).max(1);
        SQUASH[MAX_ODDS as usize - i].store(p as u16, Ordering::Relaxed);
        SQUASH[MAX_ODDS as usize + i].store((65536 - p) as u16, Ordering::Relaxed);
        // exp(-1/256) * 2^64
        e = ((u128::from(e) * 0xff00_7fd5_5ffd_de38) >> 64) as u64;
    }
    let mut x = 0;
    for (i, stretch) in STRETCH.iter().enumerate() {
        while x + 1 < SQUASH.len() && usize::from(SQUASH[x].load(Ordering::Relaxed)) < 16 * i + 8 {
            x += 1;
        }
        stretch.store((x as i32 - MAX_ODDS) as i16, Ordering::Relaxed);
    }
    FILLED.store(true, Ordering::Release);
}

/// The tables of the logistic function and its inverse, for other mixers of this crate.
#[derive(Clone, Copy, Debug)]
pub struct Logistic(());

impl Logistic {
    /// The largest log-odds, see [`squash`](Self::squash).
    pub const MAX: i32 = MAX_ODDS;

    /// The probability of log-odds `x`, which has 8 fraction bits and is clamped to `-MAX ..= MAX`: 1 to `2^16 - 1`, of
    /// 2^16.
    #[inline]
    pub fn squash(self, x: i32) -> i32 {
        i32::from(SQUASH[(x.clamp(-MAX_ODDS, MAX_ODDS) + MAX_ODDS) as usize].load(Ordering::Relaxed))
    }

    /// The log-odds of a probability of which `p < 4096` are the upper 12 bits.
    #[inline]
    pub fn stretch(self, p: u32) -> i32 {
        i32::from(STRETCH[(p & 4095) as usize].load(Ordering::Relaxed))
    }
}

/// Makes the tables if they are not there.
impl Default for Logistic {
    fn default() -> Self {
        fill_tables();
        Logistic(())
    }
}

/// A coder of binary decisions: encodes them, decodes them, or sums their bits. One function with such a coder describes
/// encoding and decoding at once.
pub trait BinaryCoder {
    /// Codes `bit`, which is 1 with probability `p` of 2^16, `0 < p < 2^16`, and returns it. A decoder ignores `bit` and
    /// returns the decoded one.
    fn decide(&mut self, p: u32, bit: bool) -> bool;

    /// To be called now and then.
    ///
    /// # Errors
    /// A decoder whose bytes ended before the decisions did.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// What coding an integer counts as, in multiplications that take as long: about five decisions of a few contexts.
pub const WORK: u64 = 256;

#[cfg(feature = "fit")]
impl BinaryCoder for RangeEncoder {
    #[inline]
    fn decide(&mut self, p: u32, bit: bool) -> bool {
        if bit {
            self.encode(0, p);
        } else {
            self.encode(p, ONE as u32 - p);
        }
        bit
    }
}

impl BinaryCoder for RangeDecoder<'_> {
    #[inline]
    fn decide(&mut self, p: u32, _: bool) -> bool {
        let bit = self.is_in(0, p);
        if bit {
            self.advance(0, p);
        } else {
            self.advance(p, ONE as u32 - p);
        }
        bit
    }

    fn check(&self) -> Result<()> {
        RangeDecoder::check(self)
    }
}

/// Sums the ideal length of decisions, in bits, instead of encoding them.
#[cfg(feature = "fit")]
#[derive(Clone, Copy, Default, Debug)]
pub struct Price(pub f64);

#[cfg(feature = "fit")]
impl BinaryCoder for Price {
    #[inline]
    #[allow(clippy::disallowed_methods, reason = "a price, which only the encoder asks for")]
    fn decide(&mut self, p: u32, bit: bool) -> bool {
        let p = if bit { p } else { ONE as u32 - p };
        self.0 -= (f64::from(p) / f64::from(ONE)).log2();
        bit
    }
}

/// The probability of a decision in one context.
#[derive(Clone, Copy, Debug)]
struct Counter {
    /// Probability to be 1, of 2^16.
    p: u16,
    /// How many decisions it was learned from, at most [`MEMORY`].
    n: u8,
}

/// After this many decisions a counter forgets old ones exponentially; before, it is their mean. Part of the format; any
/// value of this order works for sources that hardly change.
const MEMORY: u8 = 250;

impl Counter {
    const NEW: Counter = Counter { p: 1 << 15, n: 0 };

    /// Log-odds of `p`.
    #[inline]
    fn odds(self) -> i32 {
        i32::from(STRETCH[usize::from(self.p >> 4)].load(Ordering::Relaxed))
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        let target = if bit { ONE - 1 } else { 0 };
        // (target - p) / (n + 1.5)
        let step = 2 * (target - i32::from(self.p)) / (2 * i32::from(self.n) + 3);
        self.p = (i32::from(self.p) + step) as u16;
        if self.n < MEMORY {
            self.n += 1;
        }
    }
}

/// A kind of decision: `K` tables of counters, of which one each is chosen by a context, and the weights that mix them.
#[derive(Clone, Debug)]
struct Mixed<const K: usize> {
    counters: [Vec<Counter>; K],
    /// Sets of weights, 16 fraction bits.
    weights: Vec<[i32; K]>,
}

impl<const K: usize> Mixed<K> {
    /// Tables of these sizes and as many sets of weights. The weights start with a sum of 1.25: contexts that agree are
    /// together surer than each alone. Part of the format.
    fn new(sizes: [usize; K], sets: usize) -> Self {
        let start = ONE * 5 / 4 / K as i32;
        Mixed { counters: sizes.map(|n| vec![Counter::NEW; n]), weights: vec![[start; K]; sets] }
    }

    /// Codes `bit` with the counters that `contexts` choose and set `set` of the weights, then learns it.
    #[inline]
    fn code(&mut self, coder: &mut impl BinaryCoder, contexts: [usize; K], set: usize, bit: bool) -> bool {
        let mut odds = [0; K];
        let mut sum = 0i64;
        let weights = &mut self.weights[set];
        for k in 0..K {
            odds[k] = self.counters[k][contexts[k]].odds();
            sum += i64::from(odds[k]) * i64::from(weights[k]);
        }
        let mixed = (sum >> 16).clamp(i64::from(-MAX_ODDS), i64::from(MAX_ODDS)) as i32;
        let p = i32::from(SQUASH[(mixed + MAX_ODDS) as usize].load(Ordering::Relaxed));
        let bit = coder.decide(p as u32, bit);
        let error = if bit { ONE - p } else { -p };
        for k in 0..K {
            let step = (i64::from(odds[k]) * i64::from(error)) >> 14;
            // Bounded, so that no sequence of bits overflows.
            weights[k] = (weights[k] + step as i32).clamp(-(ONE << 4), ONE << 4);
            self.counters[k][contexts[k]].learn(bit);
        }
        bit
    }
}

/// Number of contexts that the decision whether an integer is 0 is made in.
pub const TABLES: usize = 4;
/// Magnitudes up to this are coded in unary; what is beyond follows in Exp-Golomb code.
const UNARY: usize = 14;
/// Number of contexts of a magnitude in each of its tables: levels of the magnitude of a neighbourhood, see [`level`].
pub const LEVELS: usize = 16;
/// Number of contexts of a sign in each of its tables: the signs of two neighbours, each negative, zero or positive.
pub const SIGNS: usize = 9;

/// The contexts of one integer, an index for each table.
#[derive(Clone, Copy, Debug)]
pub struct Contexts {
    /// Of the decision whether it is 0; below the numbers that [`Integers::new`] was given.
    pub zero: [usize; TABLES],
    /// Of its magnitude; below [`LEVELS`].
    pub size: [usize; 2],
    /// Of its sign; below [`SIGNS`].
    pub sign: [usize; 2],
}

/// The adaptive probabilities of one kind of integers.
#[derive(Clone, Debug)]
pub struct Integers {
    zero: Mixed<TABLES>,
    sign: Mixed<2>,
    size: Mixed<3>,
    /// Of the unary part of the Exp-Golomb code.
    golomb: Vec<Counter>,
}

impl Integers {
    /// Nothing learned yet. `tables` are the numbers of contexts in the tables of the decision whether an integer is 0.
    pub fn new(tables: [usize; TABLES]) -> Self {
        fill_tables();
        Integers {
            zero: Mixed::new(tables, 1),
            sign: Mixed::new([SIGNS; 2], 1),
            size: Mixed::new([UNARY, UNARY * LEVELS, UNARY * LEVELS], UNARY),
            golomb: vec![Counter::NEW; 32],
        }
    }

    /// Codes `value` and returns it. A decoder ignores `value` and returns the decoded one.
    pub fn code(&mut self, coder: &mut impl BinaryCoder, contexts: &Contexts, value: i16) -> i16 {
        if self.zero.code(coder, contexts.zero, 0, value == 0) {
            return 0;
        }
        let negative = self.sign.code(coder, contexts.sign, 0, value < 0);
        let size = usize::from(value.unsigned_abs());
        let mut n = 1;
        while n <= UNARY {
            let k = n - 1;
            let of_size = [k, k * LEVELS + contexts.size[0], k * LEVELS + contexts.size[1]];
            if !self.size.code(coder, of_size, k, size > n) {
                break;
            }
            n += 1;
        }
        if n > UNARY {
            n += self.code_golomb(coder, size.saturating_sub(n));
        }
        let size = n.min(1 << 15) as i32;
        (if negative { -size } else { size }).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }

    /// Codes `extra` in Exp-Golomb code: the number of bits of `extra + 1` after the first in unary, with adaptive
    /// probabilities, then these bits with equal ones.
    fn code_golomb(&mut self, coder: &mut impl BinaryCoder, extra: usize) -> usize {
        let bits = (extra + 1).ilog2() as usize;
        let mut count = 0;
        while count < 16 {
            let c = &mut self.golomb[count];
            let more = coder.decide(u32::from(c.p).max(1), bits > count);
            c.learn(more);
            if !more {
                break;
            }
            count += 1;
        }
        let mut v = 1usize;
        for i in (0..count).rev() {
            let bit = coder.decide(1 << 15, (extra + 1) >> i & 1 == 1);
            v = 2 * v + usize::from(bit);
        }
        v - 1
    }
}

/// The level of a magnitude on a scale of half octaves: 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15 and so on have levels 0, 1, 2,
/// ...; at most `last`.
#[inline]
pub fn level(v: u32, last: usize) -> usize {
    let level = if v < 4 {
        v
    } else {
        let k = v.ilog2();
        2 * k + (v >> (k - 1) & 1)
    };
    (level as usize).min(last)
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    fn contexts(v: i16) -> Contexts {
        let l = level(u32::from(v.unsigned_abs()), LEVELS - 1);
        Contexts { zero: [l, 0, l / 2, 0], size: [l, l / 2], sign: [(v % 3 + 2) as usize, 0] }
    }

    fn code(values: &mut [i16], coder: &mut impl BinaryCoder) {
        let mut integers = Integers::new([LEVELS; TABLES]);
        let mut before = 0;
        for v in values {
            *v = integers.code(coder, &contexts(before), *v);
            before = *v;
        }
    }

    proptest! {
        #[test]
        fn integers_come_back_at_their_price(shift in 0u32..=15, values in prop::collection::vec(any::<i16>(), 0..400)) {
            let values: Vec<i16> = values.iter().map(|v| v >> shift).collect();
            let (mut encoder, mut price) = (RangeEncoder::default(), Price::default());
            code(&mut values.clone(), &mut encoder);
            code(&mut values.clone(), &mut price);
            let bytes = encoder.finish();
            let mut back = vec![0; values.len()];
            code(&mut back, &mut RangeDecoder::new(&bytes));
            prop_assert_eq!(back, values);
            prop_assert!((bytes.len() as f64 - price.0 / 8.0).abs() < 2.0 + price.0 * 1e-4);
        }

        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            code(&mut vec![0; 2000], &mut RangeDecoder::new(&bytes));
        }
    }

    /// A source of independent integers is learned: 20,000 of them cost at most 3 % more than their entropy.
    #[test]
    fn a_steady_source_costs_its_entropy() {
        let mut noise = Noise::new(1);
        let mut values: Vec<i16> = (0..20000).map(|_| [0, 0, 0, 0, 0, 0, 1, -1][noise.below(8)]).collect();
        let mut price = Price::default();
        code(&mut values, &mut price);
        let entropy = 20000.0 * (0.75 * (4f64 / 3.0).log2() + 0.25 * 3.0);
        assert!(price.0 < 1.03 * entropy, "{} of {entropy}", price.0);
    }

    #[test]
    fn squash_is_the_logistic_function() {
        fill_tables();
        for x in -MAX_ODDS..=MAX_ODDS {
            let want = 65536.0 / (1.0 + (-f64::from(x) / 256.0).exp());
            let got = f64::from(SQUASH[(x + MAX_ODDS) as usize].load(Ordering::Relaxed));
            assert!((got - want).abs() < 0.75, "{x}: {got} for {want}");
        }
    }
}
