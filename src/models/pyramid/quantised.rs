//! The weights of a pyramid model as the file has them: for each group a quantisation step, a power of two, and integers.

use super::spec::{Group, PyramidSpec, TensorSpec};
use crate::entropy::weights::decode_weights;
#[cfg(feature = "fit")]
use crate::entropy::weights::{encode_weights, encode_weights_f16, WeightGroup, MAX_VALUE};
use crate::error::{Error, Result};
use alloc::{format, vec, vec::Vec};

/// Quantisation steps are `2^-exponent` with `exponent` up to this.
pub const MAX_EXPONENT: u32 = 15;

/// All weights of a model as integers in units of the quantisation step of their group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quantised {
    /// For each [`Group`]: its step is `2^-exponent`.
    pub exponents: [u32; Group::COUNT],
    /// Flat, in the order of [`PyramidSpec::tensors`]; none is further than 2047 from its start value.
    pub values: Vec<i16>,
}

/// The start value of weight `i` of a tensor, in 256ths; the file has the difference from it. The filters start as bicubic
/// upsampling and as the identity, everything else at 0.
pub fn start_256(tensor: &TensorSpec, i: usize) -> i32 {
    match tensor.name {
        "up" => [-9, -27, 67, 225][i],
        "pre" => [0, 0, 0, 256][i],
        _ => 0,
    }
}

/// [`start_256`] in units of the quantisation step, halves rounded up.
fn start(tensor: &TensorSpec, i: usize, exponent: u32) -> i16 {
    // At the finest step, 2^-15, the start value 1 is 2^15 and saturates.
    let v = ((start_256(tensor, i) << (exponent + 1)) + 256) >> 9;
    v.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

impl Quantised {
    /// The exponent of a group.
    pub fn exponent(&self, group: Group) -> u32 {
        self.exponents[group as usize]
    }

    /// The weights as numbers, flat; exact in f32.
    pub fn dequantise(&self, spec: &PyramidSpec) -> Vec<f32> {
        let mut weights = vec![0f32; self.values.len()];
        for t in spec.tensors() {
            let step = 1.0 / (1u32 << self.exponents[t.group as usize]) as f32;
            for i in t.range {
                weights[i] = f32::from(self.values[i]) * step;
            }
        }
        weights
    }

    /// Reads the weights section of a model of shape `spec`.
    ///
    /// # Errors
    /// A section that [`decode_weights`] refuses, and steps that are not `2^0` to `2^-15`.
    pub fn read(spec: &PyramidSpec, section: &[u8]) -> Result<Self> {
        let mut q = Quantised { exponents: [0; Group::COUNT], values: vec![0; spec.weights_count()] };
        let tensors = spec.tensors();
        let lists: Vec<_> =
            (0..Group::COUNT).map(|g| (g, group_list(&tensors, g))).filter(|(_, l)| !l.is_empty()).collect();
        let lengths: Vec<usize> = lists.iter().map(|(_, list)| list.len()).collect();
        for ((group, list), coded) in lists.iter().zip(decode_weights(section, &lengths)?) {
            let exponent = u32::try_from(-coded.exponent).ok().filter(|e| *e <= MAX_EXPONENT);
            q.exponents[*group] = exponent.ok_or_else(|| {
                Error::format(format!(
                    "weights: a step of 2^{} is not one of a pyramid: the file is damaged",
                    coded.exponent
                ))
            })?;
            for ((at, t, i), v) in list.iter().zip(coded.values) {
                q.values[*at] = start(t, *i, q.exponents[*group]).saturating_add(v);
            }
        }
        Ok(q)
    }

    /// Rounds `weights` (flat, in the spec's order) to multiples of `2^-exponents[group]`; saturates.
    #[cfg(feature = "fit")]
    pub fn new(spec: &PyramidSpec, weights: &[f32], exponents: [u32; Group::COUNT]) -> Self {
        assert!(exponents.iter().all(|&e| e <= MAX_EXPONENT) && weights.len() == spec.weights_count());
        let mut q = Quantised { exponents, values: vec![0; weights.len()] };
        for group in 0..Group::COUNT {
            q.requantise(spec, weights, group, exponents[group]);
        }
        q
    }

    /// Rounds the weights of one group again, with another exponent.
    #[cfg(feature = "fit")]
    pub fn requantise(&mut self, spec: &PyramidSpec, weights: &[f32], group: usize, exponent: u32) {
        self.exponents[group] = exponent;
        let scale = (1u32 << exponent) as f32;
        for t in spec.tensors().iter().filter(|t| t.group as usize == group) {
            for (i, at) in t.range.clone().enumerate() {
                let start = start(t, i, exponent);
                // `as` saturates and turns NaN into 0.
                let difference = (weights[at] * scale).round() as i32 - i32::from(start);
                let difference = difference.clamp(-i32::from(MAX_VALUE), MAX_VALUE.into()) as i16;
                self.values[at] = start.saturating_add(difference);
            }
        }
    }

    /// A group as the file has it: differences from the start values. `None` if it has no weights.
    #[cfg(feature = "fit")]
    fn coded(&self, spec: &PyramidSpec, group: usize) -> Option<WeightGroup> {
        let tensors = spec.tensors();
        let list = group_list(&tensors, group);
        let exponent = self.exponents[group];
        let values = list.iter().map(|(at, t, i)| self.values[*at] - start(t, *i, exponent)).collect();
        (!list.is_empty()).then_some(WeightGroup { exponent: -(exponent as i8), values })
    }

    /// Bits of one group in the weights section.
    #[cfg(feature = "fit")]
    pub fn group_bits(&self, spec: &PyramidSpec, group: usize) -> f64 {
        self.coded(spec, group).map_or(0.0, |g| g.bits())
    }

    /// The weights section, in plain f16 if `f16`, else range-coded.
    #[cfg(feature = "fit")]
    pub fn write(&self, spec: &PyramidSpec, f16: bool) -> Vec<u8> {
        let groups: Vec<WeightGroup> = (0..Group::COUNT).filter_map(|g| self.coded(spec, g)).collect();
        if f16 {
            encode_weights_f16(&groups)
        } else {
            encode_weights(&groups)
        }
    }
}

/// The weights of a group: index in the flat list, tensor, index in the tensor.
fn group_list(tensors: &[TensorSpec], group: usize) -> Vec<(usize, &TensorSpec, usize)> {
    let tensors = tensors.iter().filter(|t| t.group as usize == group);
    tensors.flat_map(|t| t.range.clone().enumerate().map(move |(i, at)| (at, t, i))).collect()
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::models::pyramid::description::tests::specs;
    use proptest::prelude::*;
    use tilefit_testing::noise;

    proptest! {
        #[test]
        fn weights_come_back_at_their_price(spec in specs(), seed: usize, f16: bool, exponents in prop::array::uniform8(0u32..=15)) {
            let weights = noise(spec.weights_count(), seed);
            let mut q = Quantised::new(&spec, &weights, exponents);
            for t in spec.tensors().iter().filter(|t| exponents[t.group as usize] <= 9) {
                for i in t.range.clone() {
                    let step = 1.0 / (1u32 << exponents[t.group as usize]) as f32;
                    prop_assert!((weights[i] - q.dequantise(&spec)[i]).abs() <= 0.5 * step);
                }
            }
            for group in 0..Group::COUNT {
                if spec.tensors().iter().all(|t| t.group as usize != group) {
                    q.exponents[group] = 0;
                }
            }
            let bytes = q.write(&spec, f16);
            prop_assert_eq!(Quantised::read(&spec, &bytes).unwrap(), q.clone());
            let bits: f64 = (0..Group::COUNT).map(|g| q.group_bits(&spec, g)).sum();
            prop_assert!(f16 || (bytes.len() as f64 - bits / 8.0).abs() < 4.0);
        }
    }

    #[test]
    fn start_values_are_free_of_charge() {
        let spec = PyramidSpec::preset(3, 1 << 18, 10, 4, 16);
        let mut weights = vec![0.0; spec.weights_count()];
        for t in spec.tensors() {
            for (i, at) in t.range.clone().enumerate() {
                weights[at] = start_256(&t, i) as f32 / 256.0;
            }
        }
        for exponent in 5..=12 {
            let q = Quantised::new(&spec, &weights, [exponent; Group::COUNT]);
            assert!(q.write(&spec, false).len() < 26, "{exponent}: {} bytes", q.write(&spec, false).len());
        }
    }
}
