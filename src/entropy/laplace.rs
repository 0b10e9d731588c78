//! The Laplace distribution over integers, computed in integers.
//!
//! A code `q` has the probability `F((q + 1/2 - mu)/b) - F((q - 1/2 - mu)/b)` with
//! `F(t) = exp(t)/2` for `t < 0` and `1 - exp(-t)/2` otherwise. There is no table for each pair of `mu` and `b`: the edges
//! of the intervals are computed as they are needed, from a table of scales and a table of powers of two.

use super::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use super::range_coder::RangeEncoder;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// Fraction bits of `mu` and of the log-scale `s`.
pub const FRACTION: u32 = 6;
/// Index of the largest scale: `b = exp(index/64 - 5)` for `0 <= index <= MAX_SCALE`, `e^-5` to `e^5`.
pub const MAX_SCALE: i32 = 640;
/// A log-scale `s`, the second output of the context network, stands for `b = exp(s - 4)`: an output of 0 is a narrow
/// distribution, as most codes have one.
pub const SCALE_OFFSET: i32 = 4 << FRACTION;
/// What decoding a code by its distribution counts as, in multiplications that take as long.
pub const WORK: u64 = 128;
/// Codes further than this from the rounded location are escaped whatever the scale.
const MAX_WINDOW: u32 = 511;
/// Most bits after the first one of an escape: enough for any i16 from any location.
const ESCAPE_BITS: u32 = 17;

/// For each scale: in the low half `floor(2^16 * log2(e) / b)`, the bits that one unit of `|q - mu|` costs; in the high
/// half the window. Beyond `11 b` the tail is below 2^-16; with this bound `x * rate` in [`Laplace::tail`] stays below 2^31.
///
/// [`fill_tables`] makes both tables when a 0 is met. As data they would be a large part of a small decoder.
static SCALES: [AtomicU64; MAX_SCALE as usize + 1] = [const { AtomicU64::new(0) }; MAX_SCALE as usize + 1];

/// `TAIL[i] = round(2^15 * 2^(-i/1024))`.
static TAIL: [AtomicU16; 1024] = [const { AtomicU16::new(0) }; 1024];

/// Threads that come here at the same time write the same values.
#[cold]
fn fill_tables() {
    let mut v: u64 = 1 << 63;
    for tail in &TAIL {
        tail.store(((v + (1 << 47)) >> 48) as u16, Ordering::Relaxed);
        v = ((u128::from(v) * 0xffd3_a751_c0f7_e10b) >> 64) as u64;
    }
    // e^5 * log2(e) with 52 fraction bits, then times exp(-1/64) a step.
    let mut v: u64 = 0xd61_d6bf_69df_7b03;
    for scale in &SCALES {
        let rate = (v >> 36) as u32;
        // 94548 = floor(2^16 * log2(e))
        let window = (11 * 94548 / rate + 1).min(MAX_WINDOW);
        // With `Release`: a thread that reads this value also reads the filled TAIL.
        scale.store(u64::from(window) << 32 | u64::from(rate), Ordering::Release);
        v = ((u128::from(v) * 0xfc07_f55f_f77d_2493) >> 64) as u64;
    }
}

/// The distribution of one code. Its symbols are the codes `mode - window ..= mode + window`, and an escape on each side.
/// Their intervals divide `0 .. 2^16`, each at least 1 wide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Laplace {
    /// The location, rounded.
    mode: i32,
    /// Location minus mode, `-32 ..= 31` in 64ths.
    offset: i32,
    /// Bits that one unit of `|q - mu|` costs, 16 fraction bits.
    rate: u32,
    window: i32,
}

/// A symbol and its interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// Start of the interval.
    pub low: u32,
    /// Width of the interval, of 2^16.
    pub width: u32,
    /// Code minus mode; `window + 1` or `-window - 1` for an escape.
    pub k: i32,
}

impl Laplace {
    /// From location and log-scale, the outputs of the context network, both with [`FRACTION`] fraction bits.
    #[inline(always)]
    pub fn new(mu: i16, scale: i16) -> Self {
        let mode = (i32::from(mu) + 32) >> FRACTION;
        let index = (i32::from(scale) - SCALE_OFFSET + 5 * 64).clamp(0, MAX_SCALE);
        let scale = &SCALES[index as usize];
        let mut both = scale.load(Ordering::Acquire);
        if both == 0 {
            fill_tables();
            both = scale.load(Ordering::Acquire);
        }
        Laplace { mode, offset: i32::from(mu) - (mode << FRACTION), rate: both as u32, window: (both >> 32) as i32 }
    }

    /// `2^15 exp(-x/b)`, with `x` in 64ths.
    #[inline(always)]
    fn tail(&self, x: u32) -> u32 {
        let bits = x * self.rate;
        u32::from(TAIL[(bits >> 12 & 1023) as usize].load(Ordering::Relaxed)) >> (bits >> 22).min(31)
    }

    /// Start of the interval of symbol `k`, for `-window <= k <= window + 1`; `cdf` is the distribution function there, of
    /// 2^16. Each symbol before `k` has at least 1.
    #[inline(always)]
    fn start(&self, k: i32, cdf: u32) -> u32 {
        let symbols = 2 * self.window as u32 + 3;
        ((cdf * ((1 << 16) - symbols)) >> 16) + (k + self.window + 1) as u32
    }

    /// Start of the interval of symbol `k`, for `-window <= k <= window + 1`.
    fn edge(&self, k: i32) -> u32 {
        let x = (k << FRACTION) - 32 - self.offset;
        let tail = self.tail(x.unsigned_abs());
        self.start(k, if x < 0 { tail } else { (1 << 16) - tail })
    }

    /// Symbol `k`, escapes included.
    fn symbol(&self, k: i32) -> Symbol {
        let low = if k < -self.window { 0 } else { self.edge(k) };
        let end = if k > self.window { 1 << 16 } else { self.edge(k + 1) };
        Symbol { low, width: end - low, k }
    }

    /// The symbol of `code`; for an escape also how far beyond it the code is.
    #[inline(always)]
    pub fn find_code(&self, code: i16) -> (Symbol, Option<u32>) {
        let k = i32::from(code) - self.mode;
        let beyond = k.abs() - self.window - 1;
        let symbol = self.symbol(k.clamp(-self.window - 1, self.window + 1));
        (symbol, (beyond >= 0).then_some(beyond as u32))
    }

    /// The symbol of the mode. Most codes are the mode, so this is faster than the general case.
    #[inline(always)]
    pub fn mode(&self) -> Symbol {
        let low = self.start(0, self.tail((32 + self.offset) as u32));
        let end = self.start(1, (1 << 16) - self.tail((32 - self.offset) as u32));
        Symbol { low, width: end - low, k: 0 }
    }

    /// The symbol whose interval has `target < 2^16`.
    pub fn find(&self, target: u32) -> Symbol {
        let mode = self.mode();
        if target.wrapping_sub(mode.low) < mode.width {
            return mode;
        }
        // A linear search from the mode outwards: most symbols are near it, and each step computes one edge.
        if target < mode.low {
            let mut end = mode.low;
            for k in (-self.window..0).rev() {
                let low = self.edge(k);
                if target >= low {
                    return Symbol { low, width: end - low, k };
                }
                end = low;
            }
            Symbol { low: 0, width: end, k: -self.window - 1 }
        } else {
            let mut low = mode.low + mode.width;
            for k in 1..=self.window {
                let end = self.edge(k + 1);
                if target < end {
                    return Symbol { low, width: end - low, k };
                }
                low = end;
            }
            Symbol { low, width: (1 << 16) - low, k: self.window + 1 }
        }
    }

    /// Whether `symbol` is an escape.
    pub fn is_escape(&self, symbol: &Symbol) -> bool {
        symbol.k.abs() > self.window
    }

    /// The code of `symbol`; an escape stands for the code that is `beyond` further out. Saturates.
    #[inline(always)]
    pub fn code(&self, symbol: &Symbol, beyond: u32) -> i16 {
        let k = symbol.k + symbol.k.signum() * beyond.min(1 << ESCAPE_BITS) as i32;
        (self.mode + k).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }

    /// Decodes a code.
    #[inline(always)]
    pub fn decode(&self, decoder: &mut RangeDecoder) -> i16 {
        let mode = self.mode();
        if decoder.is_in(mode.low, mode.width) {
            decoder.advance(mode.low, mode.width);
            return self.mode as i16;
        }
        self.decode_other(decoder)
    }

    /// Decodes a code that is not the mode.
    #[inline(never)]
    fn decode_other(&self, decoder: &mut RangeDecoder) -> i16 {
        let symbol = self.find(decoder.target());
        decoder.advance(symbol.low, symbol.width);
        self.code(&symbol, if self.is_escape(&symbol) { decode_escape(decoder) } else { 0 })
    }

    /// Encodes a code.
    #[cfg(feature = "fit")]
    pub fn encode(&self, encoder: &mut RangeEncoder, code: i16) {
        let (symbol, beyond) = self.find_code(code);
        encoder.encode(symbol.low, symbol.width);
        if let Some(beyond) = beyond {
            encode_escape(encoder, beyond);
        }
    }

    /// Bits of `code`, exactly. `costs` are [`costs()`].
    #[cfg(feature = "fit")]
    #[inline]
    pub fn bits(&self, costs: &[f32], code: i16) -> f32 {
        let (symbol, beyond) = self.find_code(code);
        costs[symbol.width as usize] + beyond.map_or(0.0, |e| (2 * (e + 1).ilog2() + 1) as f32)
    }
}

/// Encodes `beyond` in Exp-Golomb code of order 0: `n` zeros, a one (but none after [`ESCAPE_BITS`] zeros), then the `n`
/// low bits of `beyond + 1`.
#[cfg(feature = "fit")]
fn encode_escape(encoder: &mut RangeEncoder, beyond: u32) {
    let v = beyond + 1;
    let n = v.ilog2();
    (0..n).for_each(|_| encoder.encode_bits(0, 1));
    if n < ESCAPE_BITS {
        encoder.encode_bits(1, 1);
    }
    (0..n).rev().for_each(|i| encoder.encode_bits(v >> i & 1, 1));
}

#[cold]
fn decode_escape(decoder: &mut RangeDecoder) -> u32 {
    let mut n = 0;
    while n < ESCAPE_BITS && decoder.decode_bits(1) == 0 {
        n += 1;
    }
    (0..n).fold(1, |v, _| v << 1 | decoder.decode_bits(1)) - 1
}

/// Bits of a symbol by the width of its interval: `16 - log2(width)`.
#[cfg(feature = "fit")]
#[allow(clippy::disallowed_methods, reason = "prices, which only the encoder asks for")]
pub fn costs() -> &'static [f32] {
    static COSTS: std::sync::OnceLock<Vec<f32>> = std::sync::OnceLock::new();
    COSTS.get_or_init(|| (0..=1 << 16).map(|w| 16.0 - (w as f64).log2() as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_what_they_say() {
        fill_tables();
        for (i, scale) in SCALES.iter().enumerate() {
            let r = scale.load(Ordering::Relaxed) as u32;
            let want = 65536.0 * std::f64::consts::LOG2_E * (5.0 - i as f64 / 64.0).exp();
            assert!((want - r as f64 - 0.5).abs() <= 0.501, "{i}: {r} {want}");
        }
        for (i, t) in TAIL.iter().enumerate() {
            assert_eq!(t.load(Ordering::Relaxed), (32768.0 * (-(i as f64) / 1024.0).exp2()).round() as u16, "{i}");
        }
    }

    fn every() -> impl Iterator<Item = Laplace> {
        (-70..=70).flat_map(|mu| (-100..=600).map(move |s| Laplace::new(mu, s)))
    }

    #[test]
    fn intervals_partition_the_range() {
        for d in every() {
            let mut at = 0;
            for k in -d.window - 1..=d.window + 1 {
                let s = d.symbol(k);
                assert!(s.low == at && s.width >= 1 && s.low + s.width <= 1 << 16, "{d:?} {k}");
                at += s.width;
            }
            assert_eq!(at, 1 << 16);
        }
    }

    #[test]
    fn every_target_is_found() {
        for d in every().step_by(97) {
            for target in (0..1 << 16).step_by(13) {
                let s = d.find(target);
                assert!(s.low <= target && target < s.low + s.width);
                assert_eq!(s, d.symbol(s.k));
                assert_eq!(d.mode(), d.symbol(0));
            }
        }
    }

    #[test]
    fn codes_come_back() {
        for mu in [i16::MIN, -400, -33, -32, -31, 0, 31, 32, 33, 5000, i16::MAX] {
            for scale in [i16::MIN, 0, 200, 600, i16::MAX] {
                let d = Laplace::new(mu, scale);
                for code in [i16::MIN, -513, -1, 0, 1, 2, 40, 512, i16::MAX] {
                    let (symbol, beyond) = d.find_code(code);
                    assert_eq!(d.is_escape(&symbol), beyond.is_some());
                    assert_eq!(d.code(&symbol, beyond.unwrap_or(0)), code);

                    #[cfg(feature = "fit")]
                    {
                        let mut encoder = RangeEncoder::default();
                        d.encode(&mut encoder, code);
                        let bytes = encoder.finish();
                        assert_eq!(d.decode(&mut RangeDecoder::new(&bytes)), code);
                    }
                }
            }
        }
    }

    /// The mean length under the true Laplace distribution is close to its entropy.
    #[test]
    fn close_to_the_ideal_length() {
        let costs: Vec<f64> = (0..=1 << 16).map(|w| 16.0 - f64::log2(w as f64)).collect();
        let cdf = |t: f64| if t < 0.0 { t.exp() / 2.0 } else { 1.0 - (-t).exp() / 2.0 };
        let (mut ideal_sum, mut real_sum) = (0.0, 0.0);
        for mu in -32..32 {
            // b from 0.018 to 20.
            for s in (0..448).step_by(7) {
                let d = Laplace::new(mu, s);
                let (mu, b) = (mu as f64 / 64.0, (s as f64 / 64.0 - 4.0).exp());
                let (mut ideal, mut real) = (0.0, 0.0);
                for q in -400..=400i16 {
                    let p = cdf((q as f64 + 0.5 - mu) / b) - cdf((q as f64 - 0.5 - mu) / b);
                    if p > 0.0 {
                        let (symbol, beyond) = d.find_code(q);
                        ideal -= p * p.log2();
                        let escape = beyond.map_or(0.0, |e| f64::from(2 * (e + 1).ilog2() + 1));
                        real += p * (costs[symbol.width as usize] + escape);
                    }
                }
                assert!(real < ideal * 1.003 + 1.2e-4, "mu {mu} b {b}: {real} bits, ideally {ideal}");
                ideal_sum += ideal;
                real_sum += real;
            }
        }
        println!("loss {:.4} %", 100.0 * (real_sum / ideal_sum - 1.0));
        assert!(real_sum < ideal_sum * 1.0015);
    }
}
