//! Weights as the file has them: for each tensor a quantisation step, a power of two, and integers, coded with adaptive
//! probabilities. Every weight is exactly an f16.

use crate::entropy::adaptive::{level, BinaryCoder, Contexts, Integers, LEVELS, TABLES};
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::{Error, Result};
use alloc::{format, vec, vec::Vec};
use std::ops::Range;

/// Quantisation steps are `2^-exponent` with `exponent` up to this, the largest of `EXPONENT_BITS` bits.
pub const MAX_EXPONENT: u32 = 15;
/// Bits of an exponent in the file.
const EXPONENT_BITS: u32 = 4;
/// Largest magnitude of an integer: an f16 has 11 significant bits.
pub const MAX_VALUE: i16 = 2048;

/// What a tensor is. All tensors of a kind share one set of adaptive probabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Weights `[inputs][outputs][kernel][kernel]` of a convolution between feature maps.
    Hidden,
    /// Weights of the convolution whose outputs are the picture, in the same layout.
    Last,
    /// Gamma `[outputs][inputs]` of a normalisation.
    Gamma,
    /// The bias of a convolution.
    Vector,
    /// Beta of a normalisation.
    Beta,
    /// Weights `[channels][features]` of the means of codes, in an entropy model.
    Mean,
    /// The same of their log-scales.
    Scale,
}

const KINDS: usize = 7;

/// One tensor: `[rows][columns][kernel][kernel]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorSpec {
    /// What it is.
    pub kind: Kind,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
    /// Side of the kernel at each entry of the matrix, 1 where there is none.
    pub kernel: usize,
    /// Its values in the flat list of all weights.
    pub range: Range<usize>,
}

/// Appends a tensor whose values follow those of the ones before.
pub fn push(list: &mut Vec<TensorSpec>, kind: Kind, rows: usize, columns: usize, kernel: usize) {
    let start = count(list);
    list.push(TensorSpec { kind, rows, columns, kernel, range: start..start + rows * columns * kernel * kernel });
}

/// Number of weights of all tensors.
pub fn count(tensors: &[TensorSpec]) -> usize {
    tensors.last().map_or(0, |t| t.range.end)
}

/// All weights as integers in units of the quantisation step of their tensor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quantised {
    /// For each tensor: its step is `2^-exponent`.
    pub exponents: Vec<u32>,
    /// Flat, in the order of the tensors.
    pub values: Vec<i16>,
}

/// Number of contexts in each table of the decision whether an integer is 0: see [`contexts`].
const TABLE_SIZES: [usize; TABLES] = [LEVELS * 6, LEVELS * LEVELS, LEVELS * LEVELS, 6 * 4];

/// Sums of the magnitudes that were coded so far: of the present row, and of each column.
struct Sums {
    row: u32,
    columns: Vec<u32>,
}

/// The contexts of the integer at row `r`, column `c` and tap `(u, v)`: its neighbours in the kernel, the same tap of the
/// kernels to the left and above, the mean magnitude in its row and column so far, and the tap's distance from the centre.
fn contexts(t: &TensorSpec, values: &[i16], sums: &Sums, r: usize, c: usize, u: usize, v: usize) -> Contexts {
    let (k, area) = (t.kernel, t.kernel * t.kernel);
    let at = ((r * t.columns + c) * k + u) * k + v;
    let value = |exists: bool, back: usize| if exists { values[at - back] } else { 0 };
    let (w, n) = (value(v > 0, 1), value(u > 0, k));
    let (left, above) = (value(c > 0, area), value(r > 0, area * t.columns));
    let size = |v: i16| u32::from(v.unsigned_abs());
    let sign = |v: i16| (v.signum() + 1) as usize;
    let (du, dv) = (u.abs_diff(k / 2).min(2), v.abs_diff(k / 2).min(2));
    let ring = [0, 1, 3, 1, 2, 4, 3, 4, 5][du * 3 + dv];
    // A matrix without a kernel has one tap: its diagonal is told apart instead.
    let ring = if k == 1 { usize::from(r == c) } else { ring };
    let near = level(2 * (size(w) + size(n)) + size(value(u > 0 && v > 0, k + 1)), LEVELS - 1);
    let mean = |sum: u32, count: usize| level(4 * sum / count.max(1) as u32, LEVELS - 1);
    let row = mean(sums.row, c * area + u * k + v);
    let column = mean(sums.columns[c], r * area + u * k + v);
    let same = level(size(left) + size(above), LEVELS - 1);
    Contexts {
        zero: [near * 6 + ring, row * LEVELS + column, same * LEVELS + near, ring * 4 + same.min(3)],
        size: [near.max(same), row.max(column)],
        sign: [sign(w) * 3 + sign(n), sign(left) * 3 + sign(above)],
    }
}

/// Codes the integers of a tensor, or, if `coder` reads, decodes them into `values`.
fn code_tensor(
    coder: &mut impl BinaryCoder,
    integers: &mut Integers,
    t: &TensorSpec,
    values: &mut [i16],
) -> Result<()> {
    let mut sums = Sums { row: 0, columns: vec![0; t.columns] };
    let mut at = 0;
    for r in 0..t.rows {
        sums.row = 0;
        coder.check()?;
        for c in 0..t.columns {
            for (u, v) in (0..t.kernel * t.kernel).map(|i| (i / t.kernel, i % t.kernel)) {
                values[at] = integers.code(coder, &contexts(t, values, &sums, r, c, u, v), values[at]);
                let size = u32::from(values[at].unsigned_abs());
                sums.row = sums.row.saturating_add(size);
                sums.columns[c] = sums.columns[c].saturating_add(size);
                at += 1;
            }
        }
    }
    Ok(())
}

/// Codes `value`, or, if `coder` reads, decodes one: `bits` raw bits, the highest first.
pub fn code_bits(coder: &mut impl BinaryCoder, bits: u32, value: u32) -> u32 {
    (0..bits).rev().fold(0, |v, i| 2 * v + u32::from(coder.decide(1 << 15, value >> i & 1 == 1)))
}

impl Quantised {
    /// Zeros.
    pub fn zeros(tensors: &[TensorSpec]) -> Self {
        Quantised { exponents: vec![0; tensors.len()], values: vec![0; count(tensors)] }
    }

    /// Codes exponents and integers of all tensors, or, if `coder` reads, decodes them.
    ///
    /// # Errors
    /// A stream that ends early.
    pub fn code(&mut self, coder: &mut impl BinaryCoder, tensors: &[TensorSpec]) -> Result<()> {
        let mut kinds: Vec<Integers> = (0..KINDS).map(|_| Integers::new(TABLE_SIZES)).collect();
        for (t, exponent) in tensors.iter().zip(&mut self.exponents) {
            *exponent = code_bits(coder, EXPONENT_BITS, *exponent);
            code_tensor(coder, &mut kinds[t.kind as usize], t, &mut self.values[t.range.clone()])?;
        }
        Ok(())
    }

    /// Refuses decoded integers over [`MAX_VALUE`].
    pub fn check(self) -> Result<Self> {
        if self.values.iter().any(|v| v.unsigned_abs() > MAX_VALUE as u16) {
            return Err(Error::format(format!("weights: an integer over {MAX_VALUE}: the file is damaged")));
        }
        Ok(self)
    }

    /// Reads a weights section.
    ///
    /// # Errors
    /// A stream that ends early or has bytes left, and integers over [`MAX_VALUE`].
    pub fn read(tensors: &[TensorSpec], section: &[u8]) -> Result<Self> {
        let mut q = Self::zeros(tensors);
        let mut decoder = RangeDecoder::new(section);
        q.code(&mut decoder, tensors).map_err(|e| e.at("weights"))?;
        decoder.finish().map_err(|e| e.at("weights"))?;
        q.check()
    }

    /// The weights as numbers, flat; exact.
    pub fn dequantise(&self, tensors: &[TensorSpec]) -> Vec<f32> {
        let mut weights = vec![0f32; self.values.len()];
        for (t, e) in tensors.iter().zip(&self.exponents) {
            let step = 1.0 / (1u32 << e) as f32;
            for i in t.range.clone() {
                weights[i] = f32::from(self.values[i]) * step;
            }
        }
        weights
    }
}

/// A weight as the nearest integer multiple of `2^-exponent`. A beta stays positive, a gamma is not negative.
#[cfg(feature = "fit")]
fn integer(kind: Kind, exponent: u32, weight: f32) -> i16 {
    let least = match kind {
        Kind::Beta => 1,
        Kind::Gamma => 0,
        _ => -MAX_VALUE,
    };
    ((weight * (1u32 << exponent) as f32).round() as i16).clamp(least, MAX_VALUE)
}

#[cfg(feature = "fit")]
impl Quantised {
    /// Rounds all of `weights`, flat, with one exponent for each tensor.
    pub fn new(tensors: &[TensorSpec], weights: &[f32], exponents: Vec<u32>) -> Self {
        let mut q = Quantised { exponents, values: vec![0; weights.len()] };
        for (i, t) in tensors.iter().enumerate() {
            q.requantise(t, weights, i, q.exponents[i]);
        }
        q
    }

    /// The exponent of the finest step at which `weights` stay below 0.9 of [`MAX_VALUE`]: they may still grow a little
    /// while the fit goes on.
    pub fn finest(weights: &[f32]) -> u32 {
        let max = weights.iter().fold(0f32, |m, v| m.max(v.abs()));
        let fits = |e: &u32| max * (1u32 << e) as f32 <= f32::from(MAX_VALUE) * 0.9;
        (0..=MAX_EXPONENT).rev().find(fits).unwrap_or(0)
    }

    /// Rounds tensor `i`, which is `t`, again with another exponent.
    pub fn requantise(&mut self, t: &TensorSpec, weights: &[f32], i: usize, exponent: u32) {
        self.exponents[i] = exponent;
        for k in t.range.clone() {
            self.values[k] = integer(t.kind, exponent, weights[k]);
        }
    }

    /// Replaces the weights of tensor `t` by the values that a file would have.
    pub fn round(t: &TensorSpec, exponent: u32, weights: &mut [f32]) {
        let step = 1.0 / (1u32 << exponent) as f32;
        for w in &mut weights[t.range.clone()] {
            *w = f32::from(integer(t.kind, exponent, *w)) * step;
        }
    }

    /// The weights section.
    pub fn write(&self, tensors: &[TensorSpec]) -> Vec<u8> {
        let mut encoder = RangeEncoder::default();
        self.clone().code(&mut encoder, tensors).expect("only reading fails");
        encoder.finish()
    }

    /// Length of the weights section in bits, before it is rounded to bytes.
    pub fn bits(&self, tensors: &[TensorSpec]) -> f64 {
        let mut price = crate::entropy::adaptive::Price::default();
        self.clone().code(&mut price, tensors).expect("only reading fails");
        price.0
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::super::TransformSpec;
    use super::*;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn weights_come_back(maps in prop::array::uniform3(1usize..9), colour: bool, shift in 4u32..16, seed: u64) {
            let spec = TransformSpec { maps, channels: if colour { 3 } else { 1 } };
            let tensors = spec.tensors();
            prop_assert_eq!(tensors.len(), 10);
            let mut noise = Noise::new(seed);
            let mut next = || (noise.bits() >> 15) as i16;
            let values = (0..spec.weights_count()).map(|_| next() >> shift).collect();
            let exponents = tensors.iter().map(|_| next() as u32 % 16).collect();
            let q = Quantised { exponents, values };
            let bytes = q.write(&tensors);
            prop_assert_eq!(&Quantised::read(&tensors, &bytes).unwrap(), &q);
            prop_assert!((bytes.len() as f64 - q.bits(&tensors) / 8.0).abs() < 4.0);
            for w in q.dequantise(&tensors) {
                prop_assert_eq!(half::f16::from_f32(w).to_f32(), w);
            }
        }

        #[test]
        fn any_section_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), n in 1usize..9) {
            let _ = Quantised::read(&TransformSpec { maps: [n; 3], channels: 3 }.tensors(), &bytes);
        }
    }
}
