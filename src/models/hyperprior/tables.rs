//! The tables of the hyper-codes, one a channel, as the file has them.

use crate::entropy::adaptive::BinaryCoder;
use crate::entropy::cdf::{Cdf, TailedCdf};
use crate::error::Result;
use crate::models::transform::weights::code_bits;
use alloc::vec::Vec;

/// Bits of the first code of a table, of the number of its codes, and of a weight.
const FIRST_BITS: u32 = 16;
const COUNT_BITS: u32 = 6;
const WEIGHT_BITS: u32 = 6;
/// Most codes of a table; what lies beyond is escaped.
#[cfg(feature = "fit")]
const MAX_CODES: usize = (1 << COUNT_BITS) - 1;

/// The integer that a stored weight stands for: 2 bits of mantissa after the leading one, 4 bits of exponent. Rounding to it
/// costs less than 0.005 bits a code.
fn weight(stored: u8) -> u32 {
    (4 + u32::from(stored & 3)) << (stored >> 2)
}

/// A table in the form in which it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
struct StoredTable {
    first: i16,
    /// A weight for each code from `first` on, and one for the escape.
    weights: Vec<u8>,
}

impl StoredTable {
    fn table(&self) -> Result<TailedCdf> {
        let weights: Vec<u32> = self.weights.iter().map(|&w| weight(w)).collect();
        TailedCdf::new(self.first, Cdf::from_weights(&weights)?)
    }

    fn code(&mut self, coder: &mut impl BinaryCoder) {
        self.first = code_bits(coder, FIRST_BITS, u32::from(self.first as u16)) as u16 as i16;
        let codes = code_bits(coder, COUNT_BITS, self.weights.len().saturating_sub(1) as u32);
        self.weights.resize(codes as usize + 1, 0);
        self.weights.iter_mut().for_each(|w| *w = code_bits(coder, WEIGHT_BITS, u32::from(*w)) as u8);
    }
}

/// The tables of all channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tables {
    stored: Vec<StoredTable>,
    list: Vec<TailedCdf>,
}

impl Tables {
    /// One a channel.
    pub fn list(&self) -> &[TailedCdf] {
        &self.list
    }

    /// Bytes that the tables hold, about: a byte as stored, and an entry of a table.
    pub fn memory(&self) -> u64 {
        self.stored.iter().map(|t| 8 * t.weights.len() as u64 + 128).sum()
    }

    fn new(stored: Vec<StoredTable>) -> Result<Self> {
        let list = stored.iter().map(StoredTable::table).collect::<Result<_>>()?;
        Ok(Tables { stored, list })
    }

    /// Decodes the tables of `channels` channels.
    ///
    /// # Errors
    /// Codes that leave 16 bits.
    pub fn read(coder: &mut impl BinaryCoder, channels: usize) -> Result<Self> {
        let mut stored = Vec::new();
        for _ in 0..channels {
            let mut table = StoredTable { first: 0, weights: Vec::new() };
            table.code(coder);
            stored.push(table);
        }
        Self::new(stored)
    }

    /// The nearest tables that can be stored.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    #[cfg(feature = "fit")]
    pub fn nearest(tables: &[TailedCdf]) -> Result<Self> {
        Self::new(tables.iter().map(nearest).collect())
    }

    /// Writes the tables.
    #[cfg(feature = "fit")]
    pub fn write(&self, coder: &mut impl BinaryCoder) {
        self.stored.clone().iter_mut().for_each(|t| t.code(coder));
    }
}

/// The stored form of a table: its most probable codes, as many as can be stored.
#[cfg(feature = "fit")]
fn nearest(table: &TailedCdf) -> StoredTable {
    let cdf = table.cdf();
    let width = |s: usize| cdf.interval(s).1;
    let codes = cdf.symbols() - 1;
    let kept = codes.min(MAX_CODES);
    let sum = |from: usize| (from..from + kept).map(width).sum::<u32>();
    let from = (0..=codes - kept).max_by_key(|&from| sum(from)).unwrap_or(0);
    let widths: Vec<u32> = (from..from + kept).map(width).collect();
    let rest = crate::entropy::cdf::TOTAL - widths.iter().sum::<u32>();
    let largest = widths.iter().copied().max().unwrap_or(0).max(rest);
    let scaled = |w: u32| f64::from(w) * f64::from(weight(u8::MAX >> 2)) / f64::from(largest);
    let stored = |w: u32| (0..1u8 << WEIGHT_BITS).min_by_key(|&m| (scaled(w) - f64::from(weight(m))).abs() as u64);
    let weights = widths.into_iter().chain([rest]).map(|w| stored(w).unwrap_or(0)).collect();
    StoredTable { first: table.first() + from as i16, weights }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};
    use proptest::prelude::*;

    proptest! {
        /// Tables come back, and the nearest one costs little more than the law that it stands for.
        #[test]
        fn tables_come_back(laws in prop::collection::vec((-300i16..300, 1usize..200, 1u32..400), 1..5)) {
            let tables: Vec<TailedCdf> = laws.iter().map(|&(first, codes, spread)| {
                let mass = |k: usize| (-((k as f64 - codes as f64 / 2.0) * 10.0 / f64::from(spread)).powi(2)).exp();
                TailedCdf::new(first, Cdf::from_pmf(&(0..=codes).map(mass).collect::<Vec<_>>()).unwrap()).unwrap()
            }).collect();
            let nearest = Tables::nearest(&tables).unwrap();
            let mut encoder = RangeEncoder::default();
            nearest.write(&mut encoder);
            let bytes = encoder.finish();
            let mut decoder = RangeDecoder::new(&bytes);
            prop_assert_eq!(&Tables::read(&mut decoder, tables.len()).unwrap(), &nearest);
            prop_assert!(decoder.finish().is_ok());
            for (table, stored) in tables.iter().zip(nearest.list()) {
                prop_assert!(stored.cdf().symbols() <= MAX_CODES + 1);
                if table.cdf().symbols() <= MAX_CODES + 1 {
                    let p = |s: usize| f64::from(table.cdf().interval(s).1) / 65536.0;
                    let loss: f64 = (0..table.cdf().symbols()).map(|s| p(s) * (stored.cdf().bits(s) - table.cdf().bits(s))).sum();
                    prop_assert!(loss < 0.02, "{} bits", loss);
                }
            }
        }

        #[test]
        fn any_bytes_are_tables_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), channels in 1usize..16) {
            let _ = Tables::read(&mut RangeDecoder::new(&bytes), channels);
        }
    }
}
