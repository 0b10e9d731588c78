//! Weights of the synthesis: integers times a power-of-two step for each tensor, every value exactly a f16.

use super::GdnSpec;
use crate::entropy::adaptive::{level, Decide, Integers, Place, LEVELS, TABLES};
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::{Error, Result};
use alloc::{format, vec, vec::Vec};
use std::ops::Range;

/// Steps are `2^-exponent`; 4 bits in the file.
pub const MAX_EXPONENT: u32 = 15;
const EXPONENT_BITS: u32 = 4;
/// Larger integers would not be exact in f16.
pub const MAX_VALUE: i16 = 2048;

/// What a tensor is; each kind has its own statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `[inputs][outputs][kernel][kernel]` between feature maps.
    Hidden,
    /// The same, to the picture.
    Last,
    /// `[outputs][inputs]` of a normalisation.
    Gamma,
    Vector,
    Beta,
}

const KINDS: usize = 5;

/// One tensor of the flat list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorSpec {
    pub kind: Kind,
    pub rows: usize,
    pub columns: usize,
    pub kernel: usize,
    pub range: Range<usize>,
}

/// Integers of all tensors, flat, and their steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quantised {
    pub exponents: Vec<u32>,
    pub values: Vec<i16>,
}

/// Contexts of the first decision: see [`place`].
const TABLE_SIZES: [usize; TABLES] = [LEVELS * 6, LEVELS * LEVELS, LEVELS * LEVELS, 6 * 4];

/// Sums over what was coded of a tensor: activity of its rows and columns.
struct Walk {
    row: u32,
    columns: Vec<u32>,
}

fn place(t: &TensorSpec, values: &[i16], walk: &Walk, r: usize, c: usize, u: usize, v: usize) -> Place {
    let (k, area) = (t.kernel, t.kernel * t.kernel);
    let at = ((r * t.columns + c) * k + u) * k + v;
    let value = |there: bool, back: usize| if there { values[at - back] } else { 0 };
    let (w, n) = (value(v > 0, 1), value(u > 0, k));
    let (left, above) = (value(c > 0, area), value(r > 0, area * t.columns));
    let size = |v: i16| u32::from(v.unsigned_abs());
    let sign = |v: i16| (v.signum() + 1) as usize;
    let (du, dv) = (u.abs_diff(k / 2).min(2), v.abs_diff(k / 2).min(2));
    let ring = [0, 1, 3, 1, 2, 4, 3, 4, 5][du * 3 + dv];
    // A matrix without taps has its diagonal instead.
    let ring = if k == 1 { usize::from(r == c) } else { ring };
    let near = level(2 * (size(w) + size(n)) + size(value(u > 0 && v > 0, k + 1)), LEVELS - 1);
    let mean = |sum: u32, count: usize| level(4 * sum / count.max(1) as u32, LEVELS - 1);
    let row = mean(walk.row, c * area + u * k + v);
    let column = mean(walk.columns[c], r * area + u * k + v);
    let same = level(size(left) + size(above), LEVELS - 1);
    Place {
        zero: [near * 6 + ring, row * LEVELS + column, same * LEVELS + near, ring * 4 + same.min(3)],
        size: [near.max(same), row.max(column)],
        sign: [sign(w) * 3 + sign(n), sign(left) * 3 + sign(above)],
    }
}

fn code_tensor(coder: &mut impl Decide, integers: &mut Integers, t: &TensorSpec, values: &mut [i16]) {
    let mut walk = Walk { row: 0, columns: vec![0; t.columns] };
    let mut at = 0;
    for r in 0..t.rows {
        walk.row = 0;
        for c in 0..t.columns {
            for (u, v) in (0..t.kernel * t.kernel).map(|i| (i / t.kernel, i % t.kernel)) {
                values[at] = integers.code(coder, &place(t, values, &walk, r, c, u, v), values[at]);
                let size = u32::from(values[at].unsigned_abs());
                walk.row = walk.row.saturating_add(size);
                walk.columns[c] = walk.columns[c].saturating_add(size);
                at += 1;
            }
        }
    }
}

fn code_all(coder: &mut impl Decide, spec: &GdnSpec, q: &mut Quantised) {
    let mut kinds: Vec<Integers> = (0..KINDS).map(|_| Integers::new(TABLE_SIZES)).collect();
    for (t, exponent) in spec.tensors().iter().zip(&mut q.exponents) {
        let mut e = 0;
        for i in (0..EXPONENT_BITS).rev() {
            e = 2 * e + u32::from(coder.decide(1 << 15, *exponent >> i & 1 == 1));
        }
        *exponent = e;
        code_tensor(coder, &mut kinds[t.kind as usize], t, &mut q.values[t.range.clone()]);
    }
}

impl Quantised {
    pub fn read(spec: &GdnSpec, section: &[u8]) -> Result<Self> {
        let mut q = Quantised { exponents: vec![0; spec.tensors().len()], values: vec![0; spec.weights_count()] };
        let mut decoder = RangeDecoder::new(section);
        code_all(&mut decoder, spec, &mut q);
        decoder.finish().map_err(|e| e.at("weights"))?;
        if q.values.iter().any(|v| v.unsigned_abs() > MAX_VALUE as u16) {
            return Err(Error::format(format!("weights: an integer over {MAX_VALUE}: the file is damaged")));
        }
        Ok(q)
    }

    /// The weights as numbers.
    pub fn dequantise(&self, spec: &GdnSpec) -> Vec<f32> {
        let mut weights = vec![0f32; self.values.len()];
        for (t, e) in spec.tensors().iter().zip(&self.exponents) {
            let step = 1.0 / (1u32 << e) as f32;
            for i in t.range.clone() {
                weights[i] = f32::from(self.values[i]) * step;
            }
        }
        weights
    }
}

/// A weight of a tensor in its steps. A beta never becomes 0.
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
    pub fn new(spec: &GdnSpec, weights: &[f32], exponents: Vec<u32>) -> Self {
        let mut q = Quantised { exponents, values: vec![0; weights.len()] };
        for (i, t) in spec.tensors().iter().enumerate() {
            q.requantise(t, weights, i, q.exponents[i]);
        }
        q
    }

    /// The exponent of the finest step at which `weights` can be written, with a little room for them to grow.
    pub fn finest(weights: &[f32]) -> u32 {
        let max = weights.iter().fold(0f32, |m, v| m.max(v.abs()));
        let fits = |e: &u32| max * (1u32 << e) as f32 <= f32::from(MAX_VALUE) * 0.9;
        (0..=MAX_EXPONENT).rev().find(fits).unwrap_or(0)
    }

    /// Rounds tensor `i` anew.
    pub fn requantise(&mut self, t: &TensorSpec, weights: &[f32], i: usize, exponent: u32) {
        self.exponents[i] = exponent;
        for k in t.range.clone() {
            self.values[k] = integer(t.kind, exponent, weights[k]);
        }
    }

    /// The weights of tensor `t` become what a file would hold of them.
    pub fn round(t: &TensorSpec, exponent: u32, weights: &mut [f32]) {
        let step = 1.0 / (1u32 << exponent) as f32;
        for w in &mut weights[t.range.clone()] {
            *w = f32::from(integer(t.kind, exponent, *w)) * step;
        }
    }

    pub fn write(&self, spec: &GdnSpec) -> Vec<u8> {
        let mut encoder = RangeEncoder::default();
        code_all(&mut encoder, spec, &mut self.clone());
        encoder.finish()
    }

    /// What the section costs, in bits.
    pub fn bits(&self, spec: &GdnSpec) -> f64 {
        let mut price = crate::entropy::adaptive::Price::default();
        code_all(&mut price, spec, &mut self.clone());
        price.0
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn weights_come_back(n in 1usize..9, colour: bool, shift in 4u32..16, seed: u64) {
            let spec = GdnSpec::new(n, if colour { 3 } else { 1 });
            prop_assert_eq!(spec.tensors().len(), 10);
            let mut s = seed;
            let mut next = || {
                s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (s >> 48) as i16
            };
            let values = (0..spec.weights_count()).map(|_| next() >> shift).collect();
            let exponents = spec.tensors().iter().map(|_| next() as u32 % 16).collect();
            let q = Quantised { exponents, values };
            let bytes = q.write(&spec);
            prop_assert_eq!(&Quantised::read(&spec, &bytes).unwrap(), &q);
            prop_assert!((bytes.len() as f64 - q.bits(&spec) / 8.0).abs() < 4.0);
            for w in q.dequantise(&spec) {
                prop_assert_eq!(half::f16::from_f32(w).to_f32(), w);
            }
        }

        #[test]
        fn any_section_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), n in 1usize..9) {
            let _ = Quantised::read(&GdnSpec::new(n, 3), &bytes);
        }
    }
}
