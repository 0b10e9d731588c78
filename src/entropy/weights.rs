//! Weights in groups that share a quantisation step, as integers. Each group is coded with a Laplace distribution whose
//! scale is in front of it; a large group also says how many of its weights are zero.

use super::laplace::{Laplace, FRACTION, SCALE_OFFSET};
use super::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use super::{laplace::costs, range_coder::RangeEncoder};
use crate::error::{Error, Result};
use alloc::{format, vec::Vec};

/// Largest magnitude of an integer: an f16 has 11 significant bits.
pub const MAX_VALUE: i16 = 2047;
/// Quantisation steps are `2^exponent` with `exponent` in this range: from the smallest positive f16 to the step at which
/// [`MAX_VALUE`] is still finite.
pub const EXPONENTS: std::ops::RangeInclusive<i8> = -24..=5;
/// Bits of an exponent in the file.
const EXPONENT_BITS: u32 = 5;

/// First byte of a section: the integers are range-coded without shares of zeros (older files), are plain f16, or are
/// range-coded with shares of zeros in large groups.
const CODED: u8 = 0;
const F16: u8 = 1;
const CODED_WITH_ZEROS: u8 = 2;

/// Weights that share a quantisation step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightGroup {
    /// The step is `2^exponent`.
    pub exponent: i8,
    /// Weight `i` is `values[i] * 2^exponent`, exactly an f16.
    pub values: Vec<i16>,
}

impl WeightGroup {
    /// Rounds `weights` to the nearest multiples of `2^exponent`. Saturates at [`MAX_VALUE`]; NaN becomes 0.
    #[cfg(feature = "fit")]
    pub fn round(weights: &[f32], exponent: i8) -> Self {
        let scale = power(-exponent);
        let max = f32::from(MAX_VALUE);
        let values = weights.iter().map(|w| (w * scale).round().clamp(-max, max) as i16).collect();
        WeightGroup { exponent, values }
    }

    /// The weights as numbers, exact.
    pub fn dequantise(&self) -> impl Iterator<Item = f32> + '_ {
        let step = power(self.exponent);
        self.values.iter().map(move |&v| f32::from(v) * step)
    }

    /// Bits of this group in a range-coded section, before the section is rounded to bytes.
    #[cfg(feature = "fit")]
    pub fn bits(&self) -> f64 {
        best_distribution(&self.values).1 + f64::from(EXPONENT_BITS)
    }

    /// Refuses what is not exactly an f16.
    fn check(self) -> Result<Self> {
        if !EXPONENTS.contains(&self.exponent) || self.values.iter().any(|v| v.unsigned_abs() > MAX_VALUE as u16) {
            return Err(Error::format("weights: a value is no f16: the file is damaged"));
        }
        Ok(self)
    }
}

/// `2^exponent`, exact on every platform (`powi` need not be).
fn power(exponent: i8) -> f32 {
    f32::from_bits(((127 + i32::from(exponent)) as u32) << 23)
}

#[cfg(feature = "fit")]
fn assert_f16(groups: &[WeightGroup]) {
    groups.iter().for_each(|g| assert!(g.clone().check().is_ok(), "weights that are exactly f16"));
}

/// The weights section, range-coded. The lengths of the groups are not in it: the model knows them.
///
/// # Panics
/// If a value is not exactly an f16: see [`MAX_VALUE`] and [`EXPONENTS`].
#[cfg(feature = "fit")]
pub fn encode_weights(groups: &[WeightGroup]) -> Vec<u8> {
    assert_f16(groups);
    let mut encoder = RangeEncoder::default();
    for g in groups {
        encoder.encode_bits((g.exponent - EXPONENTS.start()) as u32, EXPONENT_BITS);
        encode_group(&mut encoder, &g.values);
    }
    [vec![CODED_WITH_ZEROS], encoder.finish()].concat()
}

/// The weights section in plain f16, to show what range coding saves.
///
/// # Panics
/// As [`encode_weights`].
#[cfg(feature = "fit")]
pub fn encode_weights_f16(groups: &[WeightGroup]) -> Vec<u8> {
    assert_f16(groups);
    let mut out = vec![F16];
    for g in groups {
        out.push((g.exponent - EXPONENTS.start()) as u8);
        out.extend(g.dequantise().flat_map(|w| half::f16::from_f32(w).to_le_bytes()));
    }
    out
}

/// Reads a weights section of groups of these lengths.
///
/// # Errors
/// A section that ends early or has bytes left, values that are not exactly an f16 or not multiples of their step, and an
/// allocation that fails.
pub fn decode_weights(section: &[u8], lengths: &[usize]) -> Result<Vec<WeightGroup>> {
    let damaged = |what: &str| Error::format(format!("weights: {what}: the file is damaged"));
    let (mode, rest) = section.split_first().ok_or_else(|| damaged("the section is empty"))?;
    let exponent = |code: u32| code as i8 + EXPONENTS.start();
    match *mode {
        CODED | CODED_WITH_ZEROS => {
            let mut decoder = RangeDecoder::new(rest);
            let mut groups = Vec::new();
            for &n in lengths {
                let exponent = exponent(decoder.decode_bits(EXPONENT_BITS));
                let mut values = crate::limits::try_vec(n)?;
                decode_group(&mut decoder, *mode == CODED_WITH_ZEROS, &mut values);
                groups.push(WeightGroup { exponent, values }.check()?);
            }
            decoder.finish().map_err(|e| e.at("weights"))?;
            Ok(groups)
        }
        F16 => {
            let need: usize =
                lengths.iter().fold(0, |sum, n| n.saturating_mul(2).saturating_add(1).saturating_add(sum));
            if rest.len() != need {
                return Err(damaged(&format!("{} bytes of f16, the model needs {need}", rest.len())));
            }
            let mut rest = rest;
            let mut groups = Vec::new();
            for &n in lengths {
                let (bytes, behind) = rest.split_at(1 + 2 * n);
                rest = behind;
                let exponent = exponent(u32::from(bytes[0] & 31));
                let values = bytes[1..].chunks_exact(2).map(|b| {
                    let steps = f16_to_f32(u16::from_le_bytes([b[0], b[1]]))? / power(exponent);
                    (steps == f32::from(steps as i16) && steps.abs() <= f32::from(MAX_VALUE)).then_some(steps as i16)
                });
                let values: Option<Vec<i16>> = values.collect();
                let values =
                    values.filter(|_| bytes[0] < 32).ok_or_else(|| damaged("an f16 is no multiple of its step"))?;
                groups.push(WeightGroup { exponent, values }.check()?);
            }
            Ok(groups)
        }
        other => Err(damaged(&format!("coding {other}, 0 to 2 are known"))),
    }
}

/// A f16 as f32, exactly; `None` for infinities and NaN.
pub fn f16_to_f32(h: u16) -> Option<f32> {
    let (e, m) = (i32::from(h >> 10 & 31), f32::from(h & 1023));
    let magnitude = match e {
        0 => m * power(-24),
        31 => return None,
        _ => (m + 1024.0) * power((e - 25) as i8),
    };
    Some(if h >> 15 == 1 { -magnitude } else { magnitude })
}

/// Bits of a scale in the file.
const SCALE_BITS: u32 = 5;

/// Groups of at least this many weights have a share of zeros. The fit moves weights that are not worth their bits to
/// zero, and the others then have a wider distribution. The share takes [`ZEROS_BITS`], which smaller groups do not make
/// good. Part of the format.
const ZEROS_FROM: usize = 64;
/// Bits of a share of zeros in the file.
const ZEROS_BITS: u32 = 4;

/// Whether a group has a share of zeros in the file.
fn has_share(values: &[i16]) -> bool {
    values.len() >= ZEROS_FROM
}

/// The distribution of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Distribution {
    /// `b = exp(scale/4 - 2)`, at most e^5. The nearest scale is within a factor of `e^(1/8)`, which costs less than 0.4 %.
    scale: u32,
    /// The probability of zero, in 16ths. 0: that of the Laplace distribution.
    zeros: u32,
}

impl Distribution {
    /// The distribution of all values, or, with a share of zeros, of the others. For these the bin of zero is cut out: a
    /// positive value `v` is coded as `v - 1`, and the distribution is centred between -1 and 0.
    fn laplace(self) -> Laplace {
        let log_b = (self.scale as i32 * 16) - (2 << FRACTION);
        let middle = if self.zeros == 0 { 0 } else { -(1 << (FRACTION - 1)) };
        Laplace::new(middle, (log_b + SCALE_OFFSET) as i16)
    }

    /// End of the interval of zero, of 2^16.
    fn edge(self) -> u32 {
        self.zeros << (16 - ZEROS_BITS)
    }

    /// Bits of all of `values`.
    #[cfg(feature = "fit")]
    #[allow(clippy::disallowed_methods, reason = "a price, which only the encoder asks for")]
    fn bits(self, values: &[i16]) -> f64 {
        let (laplace, costs) = (self.laplace(), costs());
        if self.zeros == 0 {
            return values.iter().map(|&v| f64::from(laplace.bits(costs, v))).sum();
        }
        let share = f64::from(self.zeros) / f64::from(1 << ZEROS_BITS);
        let (zero, other) = (-share.log2(), -(1.0 - share).log2());
        let bits = |&v: &i16| if v == 0 { zero } else { other + f64::from(laplace.bits(costs, v - i16::from(v > 0))) };
        values.iter().map(bits).sum()
    }
}

/// The distribution with which `values` take fewest bits, and these bits, its parameters included.
#[cfg(feature = "fit")]
fn best_distribution(values: &[i16]) -> (Distribution, f64) {
    let zero = values.iter().filter(|v| **v == 0).count();
    let has_share = has_share(values);
    let nearest = (zero << ZEROS_BITS).div_ceil(values.len().max(1)).clamp(1, (1 << ZEROS_BITS) - 1) as u32;
    let shares = [0, nearest, nearest.saturating_sub(1)].into_iter().filter(|z| has_share || *z == 0);
    let all = shares.flat_map(|zeros| (0..1 << SCALE_BITS).map(move |scale| Distribution { scale, zeros }));
    let parameters = f64::from(SCALE_BITS + if has_share { ZEROS_BITS } else { 0 });
    let all = all.map(|d| (d, d.bits(values) + parameters));
    all.min_by(|a, b| a.1.total_cmp(&b.1)).expect("at least one scale")
}

#[cfg(feature = "fit")]
fn encode_group(encoder: &mut RangeEncoder, values: &[i16]) {
    let (distribution, _) = best_distribution(values);
    encoder.encode_bits(distribution.scale, SCALE_BITS);
    if has_share(values) {
        encoder.encode_bits(distribution.zeros, ZEROS_BITS);
    }
    let (laplace, edge) = (distribution.laplace(), distribution.edge());
    for &v in values {
        match v {
            _ if distribution.zeros == 0 => laplace.encode(encoder, v),
            0 => encoder.encode(0, edge),
            _ => {
                encoder.encode(edge, (1 << 16) - edge);
                laplace.encode(encoder, v - i16::from(v > 0));
            }
        }
    }
}

/// Decodes a group. `with_zeros`: the section has shares of zeros.
fn decode_group(decoder: &mut RangeDecoder, with_zeros: bool, values: &mut [i16]) {
    let scale = decoder.decode_bits(SCALE_BITS);
    let zeros = if with_zeros && has_share(values) { decoder.decode_bits(ZEROS_BITS) } else { 0 };
    let distribution = Distribution { scale, zeros };
    let (laplace, edge) = (distribution.laplace(), distribution.edge());
    for v in values {
        *v = if zeros == 0 {
            laplace.decode(decoder)
        } else if decoder.target() < edge {
            decoder.advance(0, edge);
            0
        } else {
            decoder.advance(edge, (1 << 16) - edge);
            let v = laplace.decode(decoder);
            v.saturating_add(i16::from(v >= 0))
        };
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    proptest! {
        #[test]
        fn sections_come_back(
            groups in prop::collection::vec((EXPONENTS, 0u32..=11, prop::collection::vec(-MAX_VALUE..=MAX_VALUE, 0..60)), 0..6), plain: bool,
        ) {
            let group = |(exponent, bits, values): (i8, u32, Vec<i16>)| WeightGroup {
                exponent,
                values: values.iter().map(|v| v >> bits).collect(),
            };
            let groups: Vec<_> = groups.into_iter().map(group).collect();
            let lengths: Vec<_> = groups.iter().map(|g| g.values.len()).collect();
            let section = if plain { encode_weights_f16(&groups) } else { encode_weights(&groups) };
            prop_assert_eq!(&decode_weights(&section, &lengths).unwrap(), &groups);
            for g in &groups {
                let floats: Vec<f32> = g.dequantise().collect();
                prop_assert!(floats.iter().all(|&w| half::f16::from_f32(w).to_f32() == w));
                prop_assert_eq!(&WeightGroup::round(&floats, g.exponent), g);
            }
            if !plain {
                let bits: f64 = groups.iter().map(|g| g.bits()).sum();
                prop_assert!((section.len() as f64 - bits / 8.0).abs() < 4.0);
            }
        }

        #[test]
        fn any_section_is_weights_or_refused(
            mode in 0u8..3, bytes in prop::collection::vec(any::<u8>(), 0..80), lengths in prop::collection::vec(0usize..20, 0..4),
        ) {
            let section: Vec<u8> = [mode].into_iter().chain(bytes).collect();
            for section in [&section[..], &section[..1], &[]] {
                if let Ok(groups) = decode_weights(section, &lengths) {
                    prop_assert_eq!(encode_weights_f16(&groups).len(), 1 + lengths.iter().map(|n| 1 + 2 * n).sum::<usize>());
                }
            }
        }

        #[test]
        fn groups_come_back_at_their_price(bits in 0u32..=15, dense in any::<i16>(), values in prop::collection::vec(any::<[i16; 2]>(), 0..200)) {
            // From none to nearly all of them zero.
            let values: Vec<i16> = values.iter().map(|[v, luck]| if *luck > dense { 0 } else { v >> bits }).collect();
            let mut encoder = RangeEncoder::default();
            encode_group(&mut encoder, &values);
            let bytes = encoder.finish();
            let mut back = vec![0; values.len()];
            decode_group(&mut RangeDecoder::new(&bytes), true, &mut back);
            prop_assert_eq!(&back, &values);
            prop_assert!((bytes.len() as f64 - best_distribution(&values).1 / 8.0).abs() < 2.0);
        }
    }

    #[test]
    fn f16_is_read_as_the_crate_half_reads_it() {
        for h in 0..=u16::MAX {
            let want = half::f16::from_bits(h).to_f32();
            let got = f16_to_f32(h).map(f32::to_bits);
            assert_eq!(got, want.is_finite().then_some(want.to_bits()), "{h:04x}");
        }
    }

    /// Weights from a Laplace distribution take hardly more than their entropy after rounding.
    #[test]
    fn laplace_weights_take_their_entropy() {
        let mut noise = Noise::new(1);
        let cdf = |t: f64| if t < 0.0 { t.exp() / 2.0 } else { 1.0 - (-t).exp() / 2.0 };
        for (n, slack) in [(200, 1.02), (2000, 1.01), (50_000, 1.01)] {
            for b in [0.8, 2.0, 5.0, 20.0, 60.0f64] {
                let values: Vec<i16> = (0..n)
                    .map(|_| {
                        // Never at an end, where the logarithm is infinite.
                        let u = noise.unit() + 0.5f64.powi(25) - 0.5;
                        (-b * u.signum() * (1.0 - 2.0 * u.abs()).ln()).round().clamp(-2047.0, 2047.0) as i16
                    })
                    .collect();
                let cost = |v: &i16| -(cdf((f64::from(*v) + 0.5) / b) - cdf((f64::from(*v) - 0.5) / b)).log2();
                let ideal = values.iter().map(cost).sum::<f64>() / 8.0;
                let bytes = encode_weights(&[WeightGroup { exponent: -8, values }]).len();
                println!("{n} weights, b {b}: {bytes} bytes, {:+.2} %", 100.0 * (bytes as f64 / ideal - 1.0));
                assert!((bytes as f64) < ideal * slack + 4.0, "{n} weights, b {b}: {bytes} bytes, ideally {ideal}");
            }
        }
    }
}
