//! Integers coded with probabilities that learn from what was coded before: nothing about them is in the file.
//!
//! An integer is a row of binary decisions: is it 0, its sign, is its size over 1, over 2, ... Each decision
//! has a counter in every one of a few contexts, and the counters' log-odds are mixed by weights that learn
//! too (logistic mixing; Mahoney, "Adaptive weighing of context models for lossless data compression", 2005).
//! All arithmetic is in integers.

#[cfg(feature = "fit")]
use super::range_coder::RangeEncoder;
use super::range_coder::{RangeDecoder, PRECISION};
use alloc::{vec, vec::Vec};
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicU16, Ordering};

/// Fraction bits of log-odds.
const ODDS_BITS: u32 = 8;
/// Log-odds are in `-MAX_ODDS ..= MAX_ODDS`: 12 nats.
const MAX_ODDS: i32 = 12 << ODDS_BITS;
const ONE: i32 = 1 << PRECISION;

/// `round(2^16 / (1 + exp(-x/256)))` at `x + MAX_ODDS`, kept off 0 and 2^16. Filled by [`fill_tables`]: as data, the
/// tables would be a good part of a small decoder's bytes.
static SQUASH: [AtomicU16; 2 * MAX_ODDS as usize + 1] = [const { AtomicU16::new(0) }; 2 * MAX_ODDS as usize + 1];

/// The smallest log-odds whose probability is at least `i + 1/2` of 4096.
static STRETCH: [AtomicI16; 4096] = [const { AtomicI16::new(0) }; 4096];

/// Threads that come here at the same time write the same.
fn fill_tables() {
    static FILLED: AtomicBool = AtomicBool::new(false);
    if FILLED.load(Ordering::Acquire) {
        return;
    }
    // exp(-i/256) with 62 fraction bits.
    let mut e: u64 = 1 << 62;
    for i in 0..=MAX_ODDS as usize {
        // e * 2^16 / sum, bit by bit.
        let sum = (1 << 62) + e;
        let (mut p, mut rest) = (0u32, e);
        for _ in 0..16 {
            rest *= 2;
            let bit = rest >= sum;
            rest -= if bit { sum } else { 0 };
            p = 2 * p + u32::from(bit);
        }
        let p = (p + u32::from(rest + sum / 2 >= sum)).max(1);
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

/// A decision is written, read, or priced.
pub trait Decide {
    /// Codes `bit`, whose probability to be 1 is `p` of 2^16, `0 < p < 2^16`; a reader ignores `bit`.
    fn decide(&mut self, p: u32, bit: bool) -> bool;
}

#[cfg(feature = "fit")]
impl Decide for RangeEncoder {
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

impl Decide for RangeDecoder<'_> {
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
}

/// Sums bits instead of writing them.
#[cfg(feature = "fit")]
#[derive(Clone, Copy, Default, Debug)]
pub struct Price(pub f64);

#[cfg(feature = "fit")]
impl Decide for Price {
    #[inline]
    #[allow(clippy::disallowed_methods, reason = "a price, which only the encoder asks for")]
    fn decide(&mut self, p: u32, bit: bool) -> bool {
        let p = if bit { p } else { ONE as u32 - p };
        self.0 -= (f64::from(p) / f64::from(ONE)).log2();
        bit
    }
}

/// A probability of 1 and how often it was asked.
#[derive(Clone, Copy, Debug)]
struct Counter {
    p: u16,
    n: u8,
}

/// A counter's memory: after this many bits old ones fade.
const MEMORY: u8 = 250;

impl Counter {
    const NEW: Counter = Counter { p: 1 << 15, n: 0 };

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

/// Contexts of one decision: one counter of each of `K` tables, mixed.
#[derive(Clone, Debug)]
struct Mixed<const K: usize> {
    counters: [Vec<Counter>; K],
    /// `K` weights a set, 16 fraction bits.
    weights: Vec<[i32; K]>,
}

impl<const K: usize> Mixed<K> {
    fn new(sizes: [usize; K], sets: usize) -> Self {
        let start = ONE * 5 / 4 / K as i32;
        Mixed { counters: sizes.map(|n| vec![Counter::NEW; n]), weights: vec![[start; K]; sets] }
    }

    #[inline]
    fn code(&mut self, coder: &mut impl Decide, contexts: [usize; K], set: usize, bit: bool) -> bool {
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
            // Bounded, so that no row of bits whatsoever overflows.
            weights[k] = (weights[k] + step as i32).clamp(-(ONE << 4), ONE << 4);
            self.counters[k][contexts[k]].learn(bit);
        }
        bit
    }
}

/// Tables of contexts that an integer is coded in.
pub const TABLES: usize = 4;
/// Sizes up to this are unary; what is beyond is an Exp-Golomb number.
const UNARY: usize = 14;
/// Contexts of the unary decisions: levels of a neighbourhood's size.
pub const LEVELS: usize = 16;
/// Contexts of a sign in each of its two tables.
pub const SIGNS: usize = 9;

/// Where an integer stands. Each field is below the sizes that [`Integers::new`] was given.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub zero: [usize; TABLES],
    /// Sizes of two neighbourhoods, below [`LEVELS`].
    pub size: [usize; 2],
    /// Below [`SIGNS`].
    pub sign: [usize; 2],
}

/// Everything that has been learnt of one kind of integers.
#[derive(Clone, Debug)]
pub struct Integers {
    zero: Mixed<TABLES>,
    sign: Mixed<2>,
    size: Mixed<3>,
    beyond: Vec<Counter>,
}

impl Integers {
    /// `tables`: the numbers of contexts of the first decision.
    pub fn new(tables: [usize; TABLES]) -> Self {
        fill_tables();
        Integers {
            zero: Mixed::new(tables, 1),
            sign: Mixed::new([SIGNS; 2], 1),
            size: Mixed::new([UNARY, UNARY * LEVELS, UNARY * LEVELS], UNARY),
            beyond: vec![Counter::NEW; 32],
        }
    }

    /// Codes `value`, or reads one.
    pub fn code(&mut self, coder: &mut impl Decide, place: &Place, value: i16) -> i16 {
        if self.zero.code(coder, place.zero, 0, value == 0) {
            return 0;
        }
        let negative = self.sign.code(coder, place.sign, 0, value < 0);
        let size = usize::from(value.unsigned_abs());
        let mut n = 1;
        while n <= UNARY {
            let k = n - 1;
            let contexts = [k, k * LEVELS + place.size[0], k * LEVELS + place.size[1]];
            if !self.size.code(coder, contexts, k, size > n) {
                break;
            }
            n += 1;
        }
        if n > UNARY {
            n += self.beyond(coder, size.saturating_sub(n));
        }
        let size = n.min(1 << 15) as i32;
        (if negative { -size } else { size }).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }

    /// Exp-Golomb: the number of bits of `extra + 1` in unary, then these bits.
    fn beyond(&mut self, coder: &mut impl Decide, extra: usize) -> usize {
        let bits = (extra + 1).ilog2() as usize;
        let mut count = 0;
        while count < 16 {
            let c = &mut self.beyond[count];
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

/// A size on a scale of half octaves: 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15, ...; at most `last`.
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

    fn place(v: i16) -> Place {
        let l = level(u32::from(v.unsigned_abs()), LEVELS - 1);
        Place { zero: [l, 0, l / 2, 0], size: [l, l / 2], sign: [(v % 3 + 2) as usize, 0] }
    }

    fn code(values: &mut [i16], coder: &mut impl Decide) {
        let mut integers = Integers::new([LEVELS; TABLES]);
        let mut before = 0;
        for v in values {
            *v = integers.code(coder, &place(before), *v);
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

    /// Independent signs and a share of zeros are learnt to within 3 % of their entropy.
    #[test]
    fn a_steady_source_costs_its_entropy() {
        let mut state = 1u64;
        let mut values: Vec<i16> = (0..20000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                [0, 0, 0, 0, 0, 0, 1, -1][(state >> 61) as usize]
            })
            .collect();
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
