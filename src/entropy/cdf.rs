//! Distributions as integer tables: cumulative probabilities that are checked once and searched in nearly constant time.

#[cfg(feature = "fit")]
use super::range_coder::RangeEncoder;
use super::range_coder::{RangeDecoder, PRECISION};
use crate::error::{Error, Result};
use alloc::{format, vec::Vec};

/// The sum of the widths of all intervals of a table.
pub const TOTAL: u32 = 1 << PRECISION;

/// Most symbols of a table. Each has an interval of at least 1, which takes a quarter of [`TOTAL`]; the rest follows the
/// probabilities.
pub const MAX_SYMBOLS: usize = 1 << 14;

/// The search for a target starts at the symbol of the next lower multiple of `2^COARSE`. Any value of this order works: it
/// trades the memory of an index (here 2 KiB a table) for steps of the search.
const COARSE: u32 = 6;

/// A distribution over symbols `0 .. symbols()`: symbol `s` has the interval `edges[s] .. edges[s + 1]`
/// of [`TOTAL`], at least 1 wide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cdf {
    edges: Vec<u32>,
    /// The symbol whose interval has `i << COARSE`.
    starts: Vec<u16>,
}

impl Cdf {
    /// From edges as a file has them.
    ///
    /// # Errors
    /// Edges that do not rise strictly from 0 to [`TOTAL`], none, or more than [`MAX_SYMBOLS`] symbols.
    pub fn from_edges(edges: Vec<u32>) -> Result<Self> {
        let symbols = edges.len().saturating_sub(1);
        if symbols == 0 || symbols > MAX_SYMBOLS {
            return Err(Error::format(format!("a table of {symbols} symbols, 1 to {MAX_SYMBOLS} are allowed")));
        }
        if edges[0] != 0 || edges[symbols] != TOTAL || edges.windows(2).any(|e| e[0] >= e[1]) {
            return Err(Error::format(format!("a probability table does not rise from 0 to {TOTAL}")));
        }
        let mut s = 0;
        let mut start = |at: u32| {
            while edges[s + 1] <= at {
                s += 1;
            }
            s as u16
        };
        let starts = (0..TOTAL >> COARSE).map(|i| start(i << COARSE)).collect();
        Ok(Cdf { edges, starts })
    }

    /// Divides [`TOTAL`] in proportion to integer weights, in integer arithmetic, so that all decoders agree.
    ///
    /// Each symbol has 1 and its share of the rest: edge `s` is
    /// `s + floor((TOTAL - symbols) * (w[0] + .. + w[s-1]) / sum)`. If all weights are 0 the shares are equal.
    ///
    /// # Errors
    /// No symbols, or more than [`MAX_SYMBOLS`].
    pub fn from_weights(weights: &[u32]) -> Result<Self> {
        let symbols = weights.len();
        if symbols == 0 || symbols > MAX_SYMBOLS {
            return Err(Error::format(format!("a table of {symbols} symbols, 1 to {MAX_SYMBOLS} are allowed")));
        }
        let sum: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let (sum, equal) = if sum == 0 { (symbols as u64, 1) } else { (sum, 0) };
        let rest = u64::from(TOTAL) - symbols as u64;
        let mut edges = Vec::with_capacity(symbols + 1);
        let mut before = 0u64;
        for (s, &w) in weights.iter().enumerate() {
            edges.push(s as u32 + (rest * before / sum) as u32);
            before += u64::from(w) + equal;
        }
        edges.push(TOTAL);
        Self::from_edges(edges)
    }

    /// From probabilities, in any scale; negative ones and those that are not finite count as 0. A file must have the
    /// edges, not the probabilities: floating point may differ between machines.
    ///
    /// Widths are the rounded shares of [`TOTAL`], at least 1. Single units are then added where they save most bits, or
    /// removed where they cost least, until the sum is [`TOTAL`].
    ///
    /// # Errors
    /// No symbols, or more than [`MAX_SYMBOLS`].
    #[cfg(feature = "fit")]
    #[allow(clippy::disallowed_methods, reason = "the encoder's alone: the file carries the result")]
    pub fn from_pmf(pmf: &[f64]) -> Result<Self> {
        let clean = |p: f64| if p.is_finite() && p > 0.0 { p } else { 0.0 };
        let largest = pmf.iter().fold(0.0, |a: f64, &p| a.max(clean(p)));
        let scale = if largest > 0.0 { f64::from(1u32 << 30) / largest } else { 0.0 };
        let weights: Vec<u32> = pmf.iter().map(|&p| (clean(p) * scale) as u32).collect();
        let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let cdf = Self::from_weights(&weights)?;
        if sum == 0.0 || pmf.len() < 2 {
            return Ok(cdf);
        }
        let ideal: Vec<f64> = weights.iter().map(|&w| f64::from(w) / sum * f64::from(TOTAL)).collect();
        let mut widths: Vec<u32> = ideal.iter().map(|p| (p.round() as u32).max(1)).collect();
        let mut total: i64 = widths.iter().map(|&w| i64::from(w)).sum();
        while total != i64::from(TOTAL) {
            let grow = total < i64::from(TOTAL);
            // How the expected length in nats changes by one unit more, or by one unit less.
            let price = |s: usize| {
                let w = f64::from(widths[s]);
                ideal[s] * if grow { -(1.0 + 1.0 / w).ln() } else { -(1.0 - 1.0 / w).ln() }
            };
            let adjustable = (0..widths.len()).filter(|&s| grow || widths[s] > 1);
            let best = adjustable.min_by(|&a, &b| price(a).total_cmp(&price(b))).expect("fewer symbols than units");
            widths[best] = if grow { widths[best] + 1 } else { widths[best] - 1 };
            total += if grow { 1 } else { -1 };
        }
        let mut edges = vec![0];
        let mut at = 0;
        edges.extend(widths.iter().map(|w| {
            at += w;
            at
        }));
        Self::from_edges(edges)
    }

    /// Number of symbols.
    pub fn symbols(&self) -> usize {
        self.edges.len() - 1
    }

    /// Cumulative widths: `symbols() + 1` numbers from 0 to [`TOTAL`].
    pub fn edges(&self) -> &[u32] {
        &self.edges
    }

    /// Start and width of a symbol's interval.
    #[inline]
    pub fn interval(&self, symbol: usize) -> (u32, u32) {
        (self.edges[symbol], self.edges[symbol + 1] - self.edges[symbol])
    }

    /// The symbol whose interval has `target < TOTAL`.
    #[inline]
    pub fn find(&self, target: u32) -> usize {
        let mut s = usize::from(self.starts[(target >> COARSE) as usize]);
        while self.edges[s + 1] <= target {
            s += 1;
        }
        s
    }

    /// Decodes a symbol.
    #[inline]
    pub fn decode(&self, decoder: &mut RangeDecoder) -> usize {
        let symbol = self.find(decoder.target());
        let (low, width) = self.interval(symbol);
        decoder.advance(low, width);
        symbol
    }

    /// Encodes a symbol.
    #[cfg(feature = "fit")]
    #[inline]
    pub fn encode(&self, encoder: &mut RangeEncoder, symbol: usize) {
        let (low, width) = self.interval(symbol);
        encoder.encode(low, width);
    }

    /// Bits of `symbol`.
    #[cfg(feature = "fit")]
    #[allow(clippy::disallowed_methods, reason = "a price, which only the encoder asks for")]
    pub fn bits(&self, symbol: usize) -> f64 {
        f64::from(PRECISION) - f64::from(self.interval(symbol).1).log2()
    }
}

/// A distribution over all i16: codes from `first` on have a symbol each; the last symbol of the table is an escape for all
/// others, followed by a bit for the side and by how far outside the code is, in Exp-Golomb code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailedCdf {
    first: i16,
    cdf: Cdf,
}

impl TailedCdf {
    /// `cdf` has one symbol for each code from `first` on, and the escape as its last symbol.
    ///
    /// # Errors
    /// Codes beyond 16 bits.
    pub fn new(first: i16, cdf: Cdf) -> Result<Self> {
        let codes = cdf.symbols() - 1;
        if i32::from(first) + codes as i32 > i32::from(i16::MAX) + 1 {
            return Err(Error::format(format!("a table of {codes} codes from {first} on leaves 16 bits")));
        }
        Ok(TailedCdf { first, cdf })
    }

    /// The smallest code that has a symbol.
    pub fn first(&self) -> i16 {
        self.first
    }

    /// The table.
    pub fn cdf(&self) -> &Cdf {
        &self.cdf
    }

    /// Number of codes that have a symbol.
    fn codes(&self) -> i32 {
        self.cdf.symbols() as i32 - 1
    }

    /// Decodes a code.
    ///
    /// # Errors
    /// An escaped code beyond 16 bits.
    #[inline]
    pub fn decode(&self, decoder: &mut RangeDecoder) -> Result<i16> {
        let symbol = self.cdf.decode(decoder) as i32;
        if symbol < self.codes() {
            return Ok((i32::from(self.first) + symbol) as i16);
        }
        self.decode_outside(decoder)
    }

    #[cold]
    fn decode_outside(&self, decoder: &mut RangeDecoder) -> Result<i16> {
        let below = decoder.decode_bits(1) == 1;
        let beyond = decoder.decode_golomb()? as i32;
        let (first, end) = (i32::from(self.first), i32::from(self.first) + self.codes());
        let code = if below { first - 1 - beyond } else { end + beyond };
        i16::try_from(code).map_err(|_| Error::format("a code leaves 16 bits: the file is damaged"))
    }

    /// Encodes a code.
    #[cfg(feature = "fit")]
    #[inline]
    pub fn encode(&self, encoder: &mut RangeEncoder, code: i16) {
        let symbol = i32::from(code) - i32::from(self.first);
        if (0..self.codes()).contains(&symbol) {
            return self.cdf.encode(encoder, symbol as usize);
        }
        self.cdf.encode(encoder, self.codes() as usize);
        encoder.encode_bits((symbol < 0).into(), 1);
        encoder.encode_golomb(self.beyond(symbol));
    }

    /// How far an escaped code, `symbol` from `first`, is from the nearest one that has a symbol, minus 1.
    #[cfg(feature = "fit")]
    fn beyond(&self, symbol: i32) -> u32 {
        if symbol < 0 { -1 - symbol } else { symbol - self.codes() }.unsigned_abs()
    }

    /// Bits of `code`.
    #[cfg(feature = "fit")]
    pub fn bits(&self, code: i16) -> f64 {
        let symbol = i32::from(code) - i32::from(self.first);
        if (0..self.codes()).contains(&symbol) {
            return self.cdf.bits(symbol as usize);
        }
        let n = (self.beyond(symbol) + 1).ilog2();
        self.cdf.bits(self.codes() as usize) + f64::from(2 * n + 2)
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        let one = prop_oneof![Just(0u32), 0u32..4, 0u32..1000, any::<u32>()];
        prop::collection::vec(one, 1..400)
    }

    proptest! {
        #[test]
        fn tables_are_valid_and_searched_right(weights in weights(), real: bool, targets in prop::collection::vec(0..TOTAL, 50)) {
            let cdf = if real {
                Cdf::from_pmf(&weights.iter().map(|&w| f64::from(w)).collect::<Vec<_>>()).unwrap()
            } else {
                Cdf::from_weights(&weights).unwrap()
            };
            prop_assert_eq!(cdf.symbols(), weights.len());
            prop_assert_eq!(&Cdf::from_edges(cdf.edges().to_vec()).unwrap(), &cdf);
            for target in targets.into_iter().chain([0, TOTAL - 1]) {
                let (low, width) = cdf.interval(cdf.find(target));
                prop_assert!(low <= target && target < low + width);
            }
        }

        /// Any sequence comes back; the bytes are within 0.1 % + 16 of the ideal code length.
        #[test]
        fn sequences_come_back_at_their_price(weights in weights(), seed: u64, n in 0usize..3000) {
            let cdf = Cdf::from_weights(&weights).unwrap();
            let mut noise = Noise::new(seed);
            let list: Vec<usize> = (0..n).map(|i| {
                // Half of the symbols follow the table, half are uniform.
                let r = noise.bits();
                if i % 2 == 0 { cdf.find(r % TOTAL) } else { r as usize % cdf.symbols() }
            }).collect();
            let mut encoder = RangeEncoder::default();
            list.iter().for_each(|&s| cdf.encode(&mut encoder, s));
            let bytes = encoder.finish();
            let ideal = list.iter().map(|&s| cdf.bits(s)).sum::<f64>() / 8.0;
            prop_assert!((bytes.len() as f64) <= ideal * 1.001 + 16.0, "{} bytes, ideally {}", bytes.len(), ideal);
            let mut decoder = RangeDecoder::new(&bytes);
            for &s in &list {
                prop_assert_eq!(cdf.decode(&mut decoder), s);
            }
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn broken_sequences_end(weights in weights(), bytes in prop::collection::vec(any::<u8>(), 0..60), first: i16) {
            let cdf = Cdf::from_weights(&weights).unwrap();
            let mut decoder = RangeDecoder::new(&bytes);
            for _ in 0..500 {
                prop_assert!(cdf.decode(&mut decoder) < cdf.symbols());
            }
            if let Ok(tailed) = TailedCdf::new(first, cdf) {
                let mut decoder = RangeDecoder::new(&bytes);
                let _ = (0..500).try_for_each(|_| tailed.decode(&mut decoder).map(|_| ()));
            }
        }

        #[test]
        fn outliers_come_back_at_their_price(weights in weights(), first in -400i16..400, codes in prop::collection::vec(any::<i16>(), 0..60)) {
            let tailed = TailedCdf::new(first, Cdf::from_weights(&weights).unwrap()).unwrap();
            let codes: Vec<i16> = codes.iter().enumerate().map(|(i, c)| c >> (i % 16)).collect();
            let mut encoder = RangeEncoder::default();
            codes.iter().for_each(|&c| tailed.encode(&mut encoder, c));
            let bytes = encoder.finish();
            let ideal = codes.iter().map(|&c| tailed.bits(c)).sum::<f64>() / 8.0;
            prop_assert!((bytes.len() as f64) <= ideal * 1.001 + 16.0);
            let mut decoder = RangeDecoder::new(&bytes);
            for &c in &codes {
                prop_assert_eq!(tailed.decode(&mut decoder).unwrap(), c);
            }
            prop_assert!(decoder.finish().is_ok());
        }
    }

    /// The mean length is close to the entropy of the distribution that the table was made from.
    #[test]
    fn a_table_is_close_to_its_distribution() {
        for b in [0.1, 0.5, 2.0, 9.0] {
            let pmf: Vec<f64> = (-60i32..=60).map(|k| (-f64::from(k.abs()) / b).exp()).collect();
            let sum: f64 = pmf.iter().sum();
            let cdf = Cdf::from_pmf(&pmf).unwrap();
            let bits = |f: &dyn Fn(usize) -> f64| (0..pmf.len()).map(|s| pmf[s] / sum * f(s)).sum::<f64>();
            let (real, ideal) =
                (bits(&|s| cdf.bits(s)), bits(&|s| if pmf[s] > 0.0 { -(pmf[s] / sum).log2() } else { 0.0 }));
            assert!(real < ideal * 1.001 + 3e-3, "b {b}: {real} bits, ideally {ideal}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let from = |e: &[u32]| Cdf::from_edges(e.to_vec());
        assert!(from(&[0, TOTAL]).is_ok());
        for bad in [
            &[][..],
            &[0],
            &[TOTAL],
            &[0, 5],
            &[1, TOTAL],
            &[0, 7, 7, TOTAL],
            &[0, 9, 8, TOTAL],
            &[0, TOTAL, TOTAL + 1],
        ] {
            assert!(from(bad).is_err(), "{bad:?}");
        }
        assert!(Cdf::from_weights(&[]).is_err());
        assert!(Cdf::from_weights(&vec![1; MAX_SYMBOLS + 1]).is_err());
        assert!(TailedCdf::new(i16::MAX, Cdf::from_weights(&[1; 3]).unwrap()).is_err());
    }
}
