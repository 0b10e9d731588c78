//! A `hyperprior` model as the decoder has it: segments to codes, codes to pixels.

use super::codes::code;
use super::laws::{state_memory, Laws};
use super::tables::Tables;
use super::{HyperSpec, MAX_HYPER};
use crate::entropy::laplace::WORK;
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::{Class, Error, Result};
use crate::image::{PixelFormat, Rect};
use crate::limits::Limits;
use crate::models::transform::weights::{count, Quantised};
use crate::models::transform::{Stored, Synthesis, TransformSpec};
use crate::models::{Codes, Cost, Grid, GridSpec, Model};
use alloc::{format, vec, vec::Vec};
use kernels::Level;

/// Flag of the description: the weights of the synthesis are plain f16.
const PLAIN: u8 = 1;

/// Synthesis and entropy model.
#[derive(Clone, Debug)]
pub struct HyperModel {
    spec: HyperSpec,
    grids: [GridSpec; 2],
    synthesis: Synthesis,
    laws: Laws,
    tables: Tables,
}

impl HyperModel {
    /// `stored` has the weights of the transform's tensors, `laws` those of the entropy model's.
    pub fn new(spec: HyperSpec, stored: Stored, laws: Quantised, tables: Tables) -> Self {
        let synthesis = Synthesis::new(spec.transform, stored);
        HyperModel { grids: spec.grids(), synthesis, laws: Laws::new(spec, laws), tables, spec }
    }

    /// Reads a model of a picture of `channels` channels from the header's description (five bytes: flags, channels of
    /// codes, of feature maps at 1/4 and at 1/2, of hyper-codes) and the weights section.
    ///
    /// # Errors
    /// [`Class::Unsupported`] for unknown flags, [`Class::MemoryLimit`] for more weights than `limits` allow,
    /// [`Class::Format`] for anything else that breaks the format.
    pub fn read(channels: usize, description: &[u8], section: &[u8], limits: &Limits) -> Result<Self> {
        let &[flags, n, quarter, half, hyper] = description else {
            let what = format!("a hyperprior description of {} bytes, it has 5", description.len());
            return Err(Error::format(what));
        };
        if flags & !PLAIN != 0 {
            let what = format!("unknown hyperprior flags {:#04x}: a newer program is needed", flags & !PLAIN);
            return Err(Error::new(Class::Unsupported, what));
        }
        let hyper = usize::from(hyper);
        if [n, quarter, half].contains(&0)
            || !(1..=MAX_HYPER).contains(&hyper)
            || !(1..=PixelFormat::MAX_CHANNELS).contains(&channels)
        {
            return Err(Error::format("a hyperprior model without channels, or with too many: the file is damaged"));
        }
        let transform = TransformSpec { maps: [n, quarter, half].map(usize::from), channels };
        let spec = HyperSpec { transform, hyper };
        limits.check_memory(transform.memory() + 4 * count(&spec.tensors()) as u64)?;
        let (plain, coded) = match flags & PLAIN {
            0 => (None, section),
            _ => {
                let halves = section.split_at_checked(2 * transform.weights_count());
                let (halves, coded) = halves.ok_or_else(|| Error::format("weights: cut short"))?;
                (Some(Stored::from_f16_bytes(halves)), coded)
            }
        };
        let mut decoder = RangeDecoder::new(coded);
        let stored = match plain {
            Some(plain) => plain,
            None => {
                let tensors = transform.tensors();
                let mut weights = Quantised::zeros(&tensors);
                weights.code(&mut decoder, &tensors).map_err(|e| e.at("weights"))?;
                Stored::Coded(weights.check()?)
            }
        };
        let mut laws = Quantised::zeros(&spec.tensors());
        laws.code(&mut decoder, &spec.tensors()).map_err(|e| e.at("weights"))?;
        let tables = Tables::read(&mut decoder, hyper)?;
        decoder.finish().map_err(|e| e.at("weights"))?;
        Ok(Self::new(spec, stored, laws.check()?, tables))
    }

    /// The shape of the model.
    pub fn spec(&self) -> &HyperSpec {
        &self.spec
    }
}

impl Model for HyperModel {
    fn name(&self) -> &'static str {
        "hyperprior"
    }

    fn channels(&self) -> usize {
        self.spec.transform.channels
    }

    fn grids(&self) -> &[GridSpec] {
        &self.grids
    }

    fn weights_count(&self) -> usize {
        self.spec.transform.weights_count() + count(&self.spec.tensors())
    }

    fn macs_per_pixel(&self) -> f64 {
        // Each row of the entropy model's matrices is used once a code.
        let pixels = (1u32 << (2 * self.grids[1].shift)) as f64;
        self.spec.transform.macs_per_pixel() + count(&self.spec.tensors()) as f64 / pixels
    }

    fn memory(&self) -> u64 {
        self.spec.transform.memory() + 2 * count(&self.spec.tensors()) as u64 + self.tables.memory()
    }

    fn tile_cost(&self, width: usize, height: usize) -> Cost {
        let at = |n: usize, shift: u32| n.div_ceil(1 << shift);
        let positions = |shift: u32| at(width, shift) as u64 * at(height, shift) as u64;
        let (codes, hyper) = (positions(self.grids[1].shift), positions(self.grids[0].shift));
        let symbols = codes * self.spec.n() as u64 + hyper * self.spec.hyper as u64;
        Cost {
            memory: state_memory(&self.spec, at(height, self.grids[1].shift), at(width, self.grids[1].shift)),
            work: codes.saturating_mul(count(&self.spec.tensors()) as u64).saturating_add(symbols.saturating_mul(WORK)),
        }
    }

    fn synthesis_cost(&self, width: usize, height: usize, scale: u32) -> Cost {
        self.synthesis.cost(width, height, scale)
    }

    fn decode_tile(&self, _: Level, _: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let [z, y] = &mut codes[..] else {
            return Err(Error::format("a hyperprior tile has two grids"));
        };
        let size = (y.rect.height(), y.rect.width());
        let cells = size.0.div_ceil(super::CELL) * size.1.div_ceil(super::CELL);
        if y.codes.len() != self.spec.n() * size.0 * size.1 || z.codes.len() != self.spec.hyper * cells {
            return Err(Error::format("a tile's codes do not have the shape of the model's grids"));
        }
        let mut decoder = RangeDecoder::new(segment);
        code(&mut decoder, &self.tables, &self.laws, size, &mut z.codes, &mut y.codes)?;
        decoder.finish()
    }

    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        // Hyper-codes are not synthesised.
        vec![Rect::default(), self.synthesis.support(region, size, scale)]
    }

    fn synthesise(
        &self,
        level: Level,
        codes: &[Grid],
        size: (usize, usize),
        region: Rect,
        scale: u32,
        peak: u16,
        out: &mut [u16],
    ) -> Result<()> {
        self.synthesis.synthesise(level, &codes[1], size, region, scale, peak, out);
        Ok(())
    }
}

#[cfg(feature = "fit")]
impl crate::models::Encode for HyperModel {
    fn family(&self) -> u8 {
        crate::models::HYPERPRIOR
    }

    fn write_description(&self, out: &mut Vec<u8>) {
        out.push(if self.synthesis.stored().is_plain() { PLAIN } else { 0 });
        out.extend(self.spec.transform.maps.map(|n| n as u8));
        out.push(self.spec.hyper as u8);
    }

    fn write_weights(&self, out: &mut Vec<u8>) {
        let mut encoder = RangeEncoder::default();
        let write = "only reading fails";
        match self.synthesis.stored() {
            Stored::Coded(q) => q.clone().code(&mut encoder, &self.spec.transform.tensors()).expect(write),
            Stored::F16(halves) => out.extend(halves.iter().flat_map(|h| h.to_le_bytes())),
        }
        self.laws.weights().clone().code(&mut encoder, &self.spec.tensors()).expect(write);
        self.tables.write(&mut encoder);
        out.extend(encoder.finish());
    }

    fn encode_tile(&self, _: Level, _: usize, codes: &Codes) -> Vec<u8> {
        let mut encoder = RangeEncoder::default();
        let (mut z, mut y) = (codes[0].codes.clone(), codes[1].codes.clone());
        let size = (codes[1].rect.height(), codes[1].rect.width());
        let done = code(&mut encoder, &self.tables, &self.laws, size, &mut z, &mut y);
        done.expect("only reading fails");
        encoder.finish()
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::entropy::cdf::{Cdf, TailedCdf};
    use crate::models::Encode;

    fn model(plain: bool) -> HyperModel {
        let spec = HyperSpec { transform: TransformSpec { maps: [4, 3, 2], channels: 3 }, hyper: 2 };
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as i16 - 3).collect();
        let tensors = spec.transform.tensors();
        let coded = Quantised { exponents: vec![6; tensors.len()], values: numbers(count(&tensors)) };
        let laws = Quantised { exponents: vec![7, 6], values: numbers(count(&spec.tensors())) };
        let stored = if plain { Stored::rounded_to_f16(&coded.dequantise(&tensors)) } else { Stored::Coded(coded) };
        let table = |first| TailedCdf::new(first, Cdf::from_weights(&[2, 5, 1]).unwrap()).unwrap();
        HyperModel::new(spec, stored, laws, Tables::nearest(&[table(-1), table(4)]).unwrap())
    }

    #[test]
    fn models_round_trip() {
        for plain in [false, true] {
            let model = model(plain);
            let (mut description, mut section) = (Vec::new(), Vec::new());
            model.write_description(&mut description);
            model.write_weights(&mut section);
            let back = HyperModel::read(3, &description, &section, &Limits::NONE).unwrap();
            assert_eq!((back.spec, &back.laws, &back.tables), (model.spec, &model.laws, &model.tables));
            assert_eq!(back.synthesis.stored(), model.synthesis.stored());
            section.extend([0; 16]);
            assert!(HyperModel::read(3, &description, &section, &Limits::NONE).is_err());
            assert!(HyperModel::read(3, &description, &[], &Limits::NONE).is_err());
        }
    }

    #[test]
    fn descriptions_outside_the_format_are_rejected() {
        let class = |description: &[u8]| HyperModel::read(3, description, &[], &Limits::NONE).unwrap_err().class();
        assert_eq!(class(&[2, 4, 4, 4, 1]), Class::Unsupported);
        for bad in [
            &[0, 4, 4, 4][..],
            &[0, 0, 4, 4, 1],
            &[0, 4, 0, 4, 1],
            &[0, 4, 4, 0, 1],
            &[0, 4, 4, 4, 0],
            &[0, 4, 4, 4, 17],
        ] {
            assert_eq!(class(bad), Class::Format, "{bad:?}");
        }
    }
}
