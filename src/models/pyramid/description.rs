//! The model description in the header: a [`PyramidSpec`] in 5 bytes, one more where scales have second grids, and two a
//! layer for a trunk that is not the usual one.

use super::spec::{usual_trunk, PyramidSpec, SynthLayer};
use super::synthesis;
use crate::error::{Error, Result};
use alloc::format;

/// Flags of the first byte: the trunk is [`usual_trunk`]; the picture has more than 1 channel; the coarse grids are a layer of
/// their own.
const USUAL: u8 = 0x80;
const COLOUR: u8 = 0x40;
const SPLIT: u8 = 0x20;
/// Flags of the fifth byte: a byte with the scales of second grids follows; the outputs of the context network have a
/// quantisation step of their own.
const SECOND: u8 = 0x80;
const OUTPUTS_APART: u8 = 0x40;

impl PyramidSpec {
    /// Appends the description: flags and depth; feature scales and neighbours; layers after the second and features;
    /// outputs of the first layer; flags and first hyper scale; scales of second grids, if any; layers of an unusual
    /// trunk. `split`: the coarse grids are a layer of their own.
    #[cfg(feature = "fit")]
    pub fn write(&self, split: bool, out: &mut Vec<u8>) {
        let tail = self.trunk.len() - 2;
        let usual = self.trunk == usual_trunk(self.channels, self.trunk[0].outputs, tail);
        let flag = |on, bit| if on { bit } else { 0 };
        let flags = flag(usual, USUAL) | flag(self.channels > 1, COLOUR) | flag(split, SPLIT);
        out.push(flags | self.depth as u8);
        out.push(((self.feature_scales as u8) << 5) | self.spatial as u8);
        out.push(((tail as u8) << 5) | self.features as u8);
        out.push(self.trunk[0].outputs as u8);
        out.push(flag(self.second != 0, SECOND) | flag(self.outputs_apart, OUTPUTS_APART) | self.hyper_from as u8);
        if self.second != 0 {
            out.push(self.second);
        }
        if !usual {
            for layer in &self.trunk {
                out.push(layer.outputs as u8);
                out.push(flag(layer.kernel == 3, 1) | flag(layer.residual, 2) | flag(layer.relu, 4));
            }
        }
    }

    /// Reads the description for a picture of `channels` channels: the shape, and whether the coarse grids are a layer of
    /// their own.
    ///
    /// # Errors
    /// A description of another length, or of a shape that [`check`](Self::check) refuses.
    pub fn read(channels: usize, bytes: &[u8]) -> Result<(Self, bool)> {
        let short = || Error::format("the model description is cut short: the file is damaged");
        let (&[flags, neighbours, features, hidden, hyper], rest) = bytes.split_first_chunk().ok_or_else(short)?;
        if (flags & COLOUR != 0) != (channels > 1) {
            return Err(Error::format(format!("the model description is not that of {channels} channels")));
        }
        let tail = usize::from(features >> 5);
        let (second, rest) = match rest.split_first() {
            _ if hyper & SECOND == 0 => (0, rest),
            Some((second, rest)) if *second != 0 => (*second, rest),
            _ => return Err(short()),
        };
        let trunk = if flags & USUAL != 0 {
            if !rest.is_empty() {
                return Err(Error::format("the model description has bytes left: the file is damaged"));
            }
            usual_trunk(channels, hidden.into(), tail)
        } else {
            if rest.len() != 2 * (tail + 2) || rest.iter().skip(1).step_by(2).any(|f| *f > 7) {
                return Err(short());
            }
            let layer = |b: &[u8]| SynthLayer {
                outputs: b[0].into(),
                kernel: if b[1] & 1 != 0 { 3 } else { 1 },
                residual: b[1] & 2 != 0,
                relu: b[1] & 4 != 0,
            };
            rest.chunks_exact(2).map(layer).collect()
        };
        let spec = PyramidSpec {
            channels,
            depth: (flags & 0x1f).into(),
            hyper_from: (hyper & !(SECOND | OUTPUTS_APART)).into(),
            outputs_apart: hyper & OUTPUTS_APART != 0,
            second,
            spatial: (neighbours & 0x1f).into(),
            features: (features & 0x1f).into(),
            feature_scales: (neighbours >> 5).into(),
            trunk,
        };
        spec.check()?;
        Ok((spec, flags & SPLIT != 0))
    }

    /// Refuses a shape beyond the limits of the format.
    pub fn check(&self) -> Result<()> {
        let need = |ok: bool, what: &str| {
            let refuse = || Error::format(format!("the model description asks for {what}: the file is damaged"));
            ok.then_some(()).ok_or_else(refuse)
        };
        need(self.depth <= 10, "grids beyond 1/1024")?;
        need(self.hyper_from <= self.depth + 1, "hyper-grids beyond the coarsest grid")?;
        need(u32::from(self.second) >> (self.depth + 1) == 0, "second grids at absent scales")?;
        need((1..=26).contains(&self.spatial), "other than 1 to 26 neighbours")?;
        need(self.features <= 16, "more than 16 features")?;
        need(self.feature_scales <= 7 && self.feature_scales <= self.depth, "features of absent grids")?;
        need((2..=9).contains(&self.trunk.len()), "other than 2 to 9 layers")?;
        need(self.trunk.iter().all(|l| l.outputs <= 128), "a layer of more than 128 outputs")?;
        synthesis::check(self)
    }
}

#[cfg(all(test, feature = "fit"))]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Random valid shapes.
    pub fn specs() -> impl Strategy<Value = PyramidSpec> {
        (
            0u32..9,
            0u32..10,
            1usize..=26,
            0usize..=16,
            0u32..6,
            1usize..=128,
            (1usize..=16, any::<bool>()),
            0usize..4,
            any::<u8>(),
        )
            .prop_map(|(depth, hyper, spatial, features, scales, hidden, (channels, apart), odd, second)| {
                let mut spec = PyramidSpec::preset(channels, 1, spatial, features, hidden);
                spec.depth = depth;
                spec.hyper_from = hyper.min(depth + 1);
                spec.second = second & ((2u32 << depth) - 1) as u8;
                spec.feature_scales = scales.min(depth);
                spec.outputs_apart = apart;
                if odd == 3 {
                    spec.trunk.insert(1, SynthLayer { outputs: hidden, kernel: 1, residual: true, relu: true });
                }
                spec.trunk.truncate(spec.trunk.len() - odd % 3);
                spec
            })
    }

    proptest! {
        #[test]
        fn descriptions_come_back(spec in specs(), split: bool) {
            let mut bytes = Vec::new();
            spec.write(split, &mut bytes);
            prop_assert_eq!(PyramidSpec::read(spec.channels, &bytes).unwrap(), (spec.clone(), split));
            prop_assert!(PyramidSpec::read(spec.channels, &bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_description_is_checked(channels in 1usize..=16, bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if let Ok((spec, _)) = PyramidSpec::read(channels, &bytes) {
                prop_assert!(spec.weights_count() < 1 << 20);
            }
        }
    }
}
