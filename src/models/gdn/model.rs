//! A `gdn` model as the decoder has it: segments to codes, codes to pixels.

use super::{codes, spec};
use crate::entropy::adaptive::WORK;
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::{Class, Error, Result};
use crate::image::{PixelFormat, Rect};
use crate::limits::Limits;
use crate::models::transform::weights::Quantised;
use crate::models::transform::{Stored, Synthesis, TransformSpec, SHIFT};
use crate::models::{Codes, Cost, Grid, GridSpec, Model};
use alloc::{format, vec, vec::Vec};
use kernels::Level;

/// Flag of the description: the weights are plain f16.
const PLAIN: u8 = 1;

/// A synthesis and the layout of its codes.
#[derive(Clone, Debug)]
pub struct GdnModel {
    synthesis: Synthesis,
    grids: [GridSpec; 1],
}

impl GdnModel {
    /// `stored` has the weights of all of the spec's tensors.
    pub fn new(spec: TransformSpec, stored: Stored) -> Self {
        let grids = [GridSpec { shift: SHIFT, channels: spec.n() }];
        GdnModel { grids, synthesis: Synthesis::new(spec, stored) }
    }

    /// A model whose weights are range-coded integers.
    pub fn from_quantised(spec: TransformSpec, quantised: Quantised) -> Self {
        Self::new(spec, Stored::Coded(quantised))
    }

    /// A model whose weights, flat, are rounded to f16 and written so.
    #[cfg(feature = "fit")]
    pub fn from_weights(spec: TransformSpec, weights: &[f32]) -> Self {
        Self::new(spec, Stored::rounded_to_f16(weights))
    }

    /// Reads a model of a picture of `channels` channels from the header's description (two bytes: flags, `N`) and the
    /// weights section.
    ///
    /// # Errors
    /// [`Class::Unsupported`] for unknown flags, [`Class::MemoryLimit`] for more weights than `limits` allow,
    /// [`Class::Format`] for anything else that breaks the format.
    pub fn read(channels: usize, description: &[u8], section: &[u8], limits: &Limits) -> Result<Self> {
        let &[flags, n] = description else {
            return Err(Error::format(format!("a gdn description of {} bytes, it has 2", description.len())));
        };
        if flags & !PLAIN != 0 {
            let what = format!("unknown gdn flags {:#04x}: a newer program is needed", flags & !PLAIN);
            return Err(Error::new(Class::Unsupported, what));
        }
        let spec = spec(n.into(), channels);
        if n == 0 || !(1..=PixelFormat::MAX_CHANNELS).contains(&channels) {
            return Err(Error::format("a gdn model without channels: the file is damaged"));
        }
        limits.check_memory(spec.memory())?;
        if flags & PLAIN == 0 {
            return Ok(Self::from_quantised(spec, Quantised::read(&spec.tensors(), section)?));
        }
        if section.len() != 2 * spec.weights_count() {
            return Err(Error::format(format!(
                "weights: {} bytes, the model has {} of two bytes",
                section.len(),
                spec.weights_count()
            )));
        }
        Ok(Self::new(spec, Stored::from_f16_bytes(section)))
    }

    /// The shape of the model.
    pub fn spec(&self) -> &TransformSpec {
        self.synthesis.spec()
    }
}

impl Model for GdnModel {
    fn name(&self) -> &'static str {
        "gdn"
    }

    fn channels(&self) -> usize {
        self.spec().channels
    }

    fn grids(&self) -> &[GridSpec] {
        &self.grids
    }

    fn weights_count(&self) -> usize {
        self.spec().weights_count()
    }

    fn macs_per_pixel(&self) -> f64 {
        self.spec().macs_per_pixel()
    }

    fn memory(&self) -> u64 {
        self.spec().memory()
    }

    fn tile_cost(&self, width: usize, height: usize) -> Cost {
        let (width, height) = (width.div_ceil(1 << SHIFT), height.div_ceil(1 << SHIFT));
        let codes = (width as u64 * height as u64).saturating_mul(self.spec().n() as u64);
        Cost { memory: codes::memory(height, width), work: codes.saturating_mul(WORK) }
    }

    fn synthesis_cost(&self, width: usize, height: usize, scale: u32) -> Cost {
        self.synthesis.cost(width, height, scale)
    }

    fn decode_tile(&self, _: Level, _: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let [grid] = &mut codes[..] else {
            return Err(Error::format("a gdn tile has one grid"));
        };
        let (height, width) = (grid.rect.height(), grid.rect.width());
        if grid.codes.len() != self.spec().n() * height * width {
            return Err(Error::format("a tile's codes do not have the shape of the model's grid"));
        }
        let mut decoder = RangeDecoder::new(segment);
        codes::decode(&mut decoder, height, width, &mut grid.codes)?;
        decoder.finish()
    }

    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        vec![self.synthesis.support(region, size, scale)]
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
        self.synthesis.synthesise(level, &codes[0], size, region, scale, peak, out);
        Ok(())
    }
}

#[cfg(feature = "fit")]
impl crate::models::Encode for GdnModel {
    fn family(&self) -> u8 {
        crate::models::GDN
    }

    fn write_description(&self, out: &mut Vec<u8>) {
        out.push(if self.synthesis.stored().is_plain() { PLAIN } else { 0 });
        out.push(self.spec().n() as u8);
    }

    fn write_weights(&self, out: &mut Vec<u8>) {
        match self.synthesis.stored() {
            Stored::Coded(q) => out.extend(q.write(&self.spec().tensors())),
            Stored::F16(halves) => out.extend(halves.iter().flat_map(|h| h.to_le_bytes())),
        }
    }

    fn encode_tile(&self, _: Level, _: usize, codes: &Codes) -> Vec<u8> {
        let mut encoder = RangeEncoder::default();
        codes::encode(&mut encoder, codes[0].rect.height(), codes[0].rect.width(), &codes[0].codes);
        encoder.finish()
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::super::spec as spec_of;
    use super::*;
    use crate::models::transform::weights::Kind;
    use crate::models::Grid;
    use tilefit_testing::Noise;

    fn case(seed: u64, n: usize, channels: usize, size: (usize, usize)) -> (GdnModel, Codes) {
        let mut noise = Noise::new(seed);
        let spec = spec_of(n, channels);
        let values = (0..spec.weights_count()).map(|_| (noise.bits() % 9) as i16 - 3).collect();
        let mut q = Quantised { exponents: vec![6; 10], values };
        for t in spec.tensors() {
            if matches!(t.kind, Kind::Beta | Kind::Gamma) {
                q.values[t.range].iter_mut().for_each(|v| *v = v.abs() + 1);
            }
        }
        let mut grid = Grid::new(Rect::whole(size.0, size.1).shrunk(SHIFT), n);
        grid.codes.iter_mut().for_each(|c| *c = (noise.bits() % 31) as i16 - 15);
        (GdnModel::from_quantised(spec, q), vec![grid])
    }

    fn cut(codes: &Codes, rect: Rect) -> Codes {
        let mut grid = Grid::new(rect, codes[0].channels);
        grid.paste(&codes[0]);
        vec![grid]
    }

    /// Any region, from no more codes than its support, has the whole picture's samples, at every level.
    #[test]
    fn regions_equal_the_whole() {
        for (seed, size) in [(1, (1, 1)), (2, (7, 9)), (3, (8, 8)), (4, (37, 61)), (5, (130, 41))] {
            let (model, codes) = case(seed, 5, if seed % 2 == 0 { 1 } else { 3 }, size);
            let channels = model.channels();
            for scale in 0..=3 {
                let (w, h) = (size.0.div_ceil(1 << scale), size.1.div_ceil(1 << scale));
                let mut whole = vec![0; w * h * channels];
                model.synthesise(Level::best(), &codes, size, Rect::whole(w, h), scale, 255, &mut whole).unwrap();
                assert!(w * h < 50 || whole.iter().any(|s| *s != whole[0]), "the test sees something");
                let mut noise = Noise::new(seed);
                for level in Level::available() {
                    for _ in 0..8 {
                        let (x0, y0) = (noise.below(w), noise.below(h));
                        let region = Rect::new(x0, y0, x0 + 1 + noise.below(w - x0), y0 + 1 + noise.below(h - y0));
                        let part = cut(&codes, model.support(region, size, scale)[0]);
                        let mut out = vec![0; region.area() * channels];
                        model.synthesise(level, &part, size, region, scale, 255, &mut out).unwrap();
                        for (i, row) in out.chunks_exact(region.width() * channels).enumerate() {
                            let at = ((region.y0 + i) * w + region.x0) * channels;
                            assert_eq!(row, &whole[at..at + row.len()], "{size:?} {region:?} {scale} {level:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn weights_that_are_not_finite_count_as_0() {
        let size = (9, 7);
        let (model, codes) = case(6, 3, 3, size);
        let samples = |bad: f32| {
            let mut weights = vec![0.0; model.weights_count()];
            // The last biases: they reach every sample.
            weights[model.spec().tensors()[9].range.clone()].fill(bad);
            let mut out = vec![0; 9 * 7 * 3];
            let model = GdnModel::from_weights(*model.spec(), &weights);
            model.synthesise(Level::best(), &codes, size, Rect::whole(9, 7), 0, 255, &mut out).unwrap();
            out
        };
        assert_ne!(samples(0.0), samples(0.5));
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(samples(bad), samples(0.0), "{bad}");
        }
    }

    #[test]
    fn descriptions_come_back() {
        use crate::models::Encode;
        let (coded, _) = case(3, 4, 3, (8, 8));
        let plain = GdnModel::from_weights(*coded.spec(), &vec![0.125; coded.weights_count()]);
        for model in [coded, plain] {
            let (mut description, mut section) = (Vec::new(), Vec::new());
            model.write_description(&mut description);
            model.write_weights(&mut section);
            let back = GdnModel::read(3, &description, &section, &Limits::NONE).unwrap();
            assert_eq!((back.spec(), back.synthesis.stored()), (model.spec(), model.synthesis.stored()));
            section.extend([0; 16]);
            assert!(GdnModel::read(3, &description, &section, &Limits::NONE).is_err());
        }
        assert!(GdnModel::read(3, &[0], &[], &Limits::NONE).is_err());
        assert!(GdnModel::read(3, &[2, 8], &[], &Limits::NONE).is_err());
        assert!(GdnModel::read(3, &[0, 0], &[], &Limits::NONE).is_err());
    }
}
