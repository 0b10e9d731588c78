//! The codes of a tile: hyper-codes by the tables of their channels, then codes by Laplace distributions.

use super::laws::Laws;
use super::tables::Tables;
use crate::entropy::cdf::TailedCdf;
use crate::entropy::laplace::Laplace;
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::Result;

/// Encodes codes, decodes them, or sums their lengths.
pub trait SymbolCoder {
    /// Codes `q` by a table, or, if it reads, decodes a code. A reader ignores `q`.
    ///
    /// # Errors
    /// An escaped code that leaves 16 bits.
    fn by_table(&mut self, table: &TailedCdf, q: i16) -> Result<i16>;

    /// The same by a Laplace distribution.
    fn by_law(&mut self, law: &Laplace, q: i16) -> i16;
}

impl SymbolCoder for RangeDecoder<'_> {
    fn by_table(&mut self, table: &TailedCdf, _: i16) -> Result<i16> {
        table.decode(self)
    }

    #[inline(always)]
    fn by_law(&mut self, law: &Laplace, _: i16) -> i16 {
        law.decode(self)
    }
}

#[cfg(feature = "fit")]
impl SymbolCoder for RangeEncoder {
    fn by_table(&mut self, table: &TailedCdf, q: i16) -> Result<i16> {
        table.encode(self, q);
        Ok(q)
    }

    fn by_law(&mut self, law: &Laplace, q: i16) -> i16 {
        law.encode(self, q);
        q
    }
}

/// Codes `z`, `[channels][rows][columns]`, then `y`, `[channels][height][width]`, of a tile; or, if `coder` reads, decodes
/// them.
///
/// # Errors
/// An escaped hyper-code that leaves 16 bits, or memory that cannot be allocated.
pub fn code(
    coder: &mut impl SymbolCoder,
    tables: &Tables,
    laws: &Laws,
    size: (usize, usize),
    z: &mut [i16],
    y: &mut [i16],
) -> Result<()> {
    let plane = z.len() / tables.list().len();
    for (table, plane) in tables.list().iter().zip(z.chunks_exact_mut(plane.max(1))) {
        for q in plane {
            *q = coder.by_table(table, *q)?;
        }
    }
    laws.each(size, z, y, |mu, s, q| coder.by_law(&Laplace::new(mu, s), q))
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::entropy::cdf::Cdf;
    use crate::models::hyperprior::{HyperSpec, CELL, MAX_HYPER};
    use crate::models::transform::weights::{Quantised, MAX_VALUE};
    use crate::models::transform::TransformSpec;
    use proptest::prelude::*;

    struct Noise(u64);
    impl Noise {
        fn next(&mut self) -> i16 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 48) as i16
        }
    }

    fn model(n: usize, channels: usize, hyper: usize, shift: u32, noise: &mut Noise) -> (HyperSpec, Laws, Tables) {
        let spec = HyperSpec { transform: TransformSpec { maps: [n, 1, 1], channels }, hyper };
        let mut weights = Quantised::zeros(&spec.tensors());
        weights.exponents.iter_mut().for_each(|e| *e = noise.next() as u32 % 16);
        weights.values.iter_mut().for_each(|w| *w = (noise.next() >> shift).clamp(-MAX_VALUE, MAX_VALUE));
        let table = |_| TailedCdf::new(noise.next() % 100, Cdf::from_weights(&[3, 1, 7, 2]).unwrap()).unwrap();
        let tables: Vec<TailedCdf> = (0..hyper).map(table).collect();
        (spec, Laws::new(spec, weights), Tables::nearest(&tables).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn codes_come_back(
            height in 1usize..20, width in 1usize..20, n in 1usize..6, grey: bool, hyper in 1usize..4, weights in 0u32..=12,
            shift in 0u32..=16, seed: u64,
        ) {
            let mut noise = Noise(seed);
            let (spec, laws, tables) = model(n, if grey { 1 } else { 3 }, hyper, weights, &mut noise);
            let cells = height.div_ceil(CELL) * width.div_ceil(CELL);
            let z: Vec<i16> = (0..hyper * cells).map(|_| noise.next() >> shift.min(15)).collect();
            let y: Vec<i16> = (0..spec.n() * height * width).map(|_| (i32::from(noise.next()) >> shift) as i16).collect();
            let mut encoder = RangeEncoder::default();
            code(&mut encoder, &tables, &laws, (height, width), &mut z.clone(), &mut y.clone()).unwrap();
            let bytes = encoder.finish();
            let (mut z_back, mut y_back) = (vec![7; z.len()], vec![7; y.len()]);
            let mut decoder = RangeDecoder::new(&bytes);
            code(&mut decoder, &tables, &laws, (height, width), &mut z_back, &mut y_back).unwrap();
            prop_assert_eq!((z_back, y_back), (z, y));
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..200), height in 1usize..20, width in 1usize..20, seed: u64) {
            let (spec, laws, tables) = model(3, 3, 2, 5, &mut Noise(seed));
            let cells = height.div_ceil(CELL) * width.div_ceil(CELL);
            let (mut z, mut y) = (vec![0; 2 * cells], vec![0; spec.n() * height * width]);
            let _ = code(&mut RangeDecoder::new(&bytes), &tables, &laws, (height, width), &mut z, &mut y);
        }
    }

    /// The largest weights and codes there can be, of either sign, stay within the widths that are proven.
    #[test]
    fn extremes_do_not_overflow() {
        let spec = HyperSpec { transform: TransformSpec { maps: [255, 1, 1], channels: 3 }, hyper: MAX_HYPER };
        for (weight, q) in
            [(MAX_VALUE, i16::MAX), (MAX_VALUE, i16::MIN), (-MAX_VALUE, i16::MAX), (-MAX_VALUE, i16::MIN)]
        {
            let mut weights = Quantised::zeros(&spec.tensors());
            weights.values.fill(weight);
            let laws = Laws::new(spec, weights);
            let (z, mut y) = (vec![q; MAX_HYPER * 4], vec![q; 255 * 5 * 6]);
            let mut seen = 0;
            laws.each((5, 6), &z, &mut y, |mu, s, q| {
                seen += usize::from(mu != 0 && s != 0);
                q
            })
            .unwrap();
            assert!(seen > 0);
        }
    }
}
