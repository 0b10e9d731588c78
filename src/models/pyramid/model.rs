//! A pyramid model as the decoder has it: shape, weights and networks, and the segments that it reads.

use super::context::{ContextModel, Plane};
use super::quantised::Quantised;
use super::spec::PyramidSpec;
use super::synthesis;
use crate::entropy::laplace::Laplace;
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::{Error, Result};
use crate::image::Rect;
use crate::models::{Codes, Cost, Grid, GridSpec, Model};
#[cfg(feature = "fit")]
use crate::models::{Encode, PYRAMID};
use alloc::vec::Vec;
use kernels::Level;
use std::ops::Range;

/// Pixels for each code of a grid at `1/2^shift`.
fn area(shift: u32) -> f64 {
    (1u64 << (2 * shift)) as f64
}

/// Grids at this scale and coarser are layer 0 of a model with two layers: what a preview at 1/8 needs.
const PREVIEW_SCALE: u32 = 3;

/// Shape, weights, and the networks ready to run.
#[derive(Clone, Debug)]
pub struct PyramidModel {
    spec: PyramidSpec,
    quantised: Quantised,
    weights: Vec<f32>,
    grids: Vec<GridSpec>,
    pub(crate) context: ContextModel,
    /// Whether the coarse grids are a layer of their own.
    split: bool,
    /// Whether the weights are written as plain f16.
    #[cfg(feature = "fit")]
    f16: bool,
}

impl PyramidModel {
    /// A model of shape `spec` with these weights. `split`: the coarse grids of a tile are a layer, and so a segment, of
    /// their own, from which a preview is decoded; it costs a few bytes a tile.
    pub fn from_quantised(spec: PyramidSpec, quantised: Quantised, split: bool) -> Self {
        let context = ContextModel::new(&spec, &quantised);
        let weights = quantised.dequantise(&spec);
        PyramidModel {
            grids: spec.grids(),
            weights,
            context,
            spec,
            quantised,
            split,
            #[cfg(feature = "fit")]
            f16: false,
        }
    }

    /// Reads a model for pictures of `channels` channels from the header's description and the weights section.
    ///
    /// # Errors
    /// What [`PyramidSpec::read`] and [`Quantised::read`] refuse.
    pub fn read(channels: usize, description: &[u8], weights: &[u8]) -> Result<Self> {
        let (spec, split) = PyramidSpec::read(channels, description)?;
        let quantised = Quantised::read(&spec, weights)?;
        Ok(Self::from_quantised(spec, quantised, split))
    }

    /// Has the weights written as plain f16 instead of range-coded.
    #[cfg(feature = "fit")]
    pub fn with_f16(mut self, f16: bool) -> Self {
        self.f16 = f16;
        self
    }

    /// The shape of the model.
    pub fn spec(&self) -> &PyramidSpec {
        &self.spec
    }

    /// The weights as the file has them.
    pub fn quantised(&self) -> &Quantised {
        &self.quantised
    }

    /// The weights as numbers, flat in the spec's order.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Number of grids in the first of two layers; 0 stands for a single layer.
    fn split_at(&self) -> usize {
        let coarse = self.grids.iter().filter(|g| g.shift >= PREVIEW_SCALE).count();
        if self.split {
            coarse
        } else {
            0
        }
    }

    /// Multiplications a pixel of the context network and its features.
    pub fn context_macs(&self) -> f64 {
        let (d, k) = (self.spec.width() as f64, self.spec.features as f64);
        let each = 2.0 * d * d + 4.0 * d;
        let features = (0..self.spec.feature_scales.min(self.spec.depth))
            .map(|s| k * self.spec.feature_inputs(s) as f64 / area(s + 1));
        self.grids.iter().map(|g| each / area(g.shift)).sum::<f64>() + features.sum::<f64>()
    }

    /// Multiplications a pixel of the filters (two separable passes of four taps a sample, of seven for a grid) and of the
    /// 1x1 and 3x3 layers.
    fn synthesis_macs(&self) -> f64 {
        let mut inputs = self.spec.maps();
        let mut macs = (inputs * self.spec.channels) as f64;
        for layer in &self.spec.trunk {
            macs += (inputs * layer.outputs * layer.kernel * layer.kernel) as f64;
            inputs = layer.outputs;
        }
        let each = |s: u32| 14 * self.spec.synthesised_at(s) + 6 * self.spec.maps_at(s + 1);
        let steps = (0..self.spec.depth).map(|s| each(s) as f64 / area(s));
        macs + steps.sum::<f64>()
    }

    fn check_codes(&self, codes: &Codes) -> Result<()> {
        let fits = |(g, s): (&Grid, &GridSpec)| g.channels == s.channels && g.codes.len() == g.rect.area();
        if codes.len() != self.grids.len() || !codes.iter().zip(&self.grids).all(fits) {
            return Err(Error::format("a tile's codes do not have the shape of the model's grids"));
        }
        Ok(())
    }

    /// Visits the codes of grid `i` in coding order, with their distributions: see [`ContextModel::wavefront`].
    fn visit(
        &self,
        level: Level,
        codes: &Codes,
        i: usize,
        visit: impl FnMut(usize, Laplace) -> Result<i16>,
    ) -> Result<()> {
        let (width, height) = (codes[i].rect.width(), codes[i].rect.height());
        let coarser: Vec<Plane> = self.planes(&codes[..i]).collect();
        let features = self.context.feature_maps(self.grids[i].shift, width, height, &coarser)?;
        self.context.wavefront(level, width, height, features, visit)
    }

    /// The first grids of a model as the context network takes them.
    pub(crate) fn planes<'a>(&'a self, grids: &'a [Grid]) -> impl Iterator<Item = Plane<'a>> {
        grids.iter().zip(&self.grids).map(|(g, s)| Plane {
            width: g.rect.width(),
            height: g.rect.height(),
            scale: s.shift,
            codes: &g.codes,
        })
    }
}

impl Model for PyramidModel {
    fn name(&self) -> &'static str {
        "pyramid"
    }

    fn channels(&self) -> usize {
        self.spec.channels
    }

    fn grids(&self) -> &[GridSpec] {
        &self.grids
    }

    fn layers(&self) -> usize {
        if self.split_at() > 0 {
            2
        } else {
            1
        }
    }

    fn layer_grids(&self, layer: usize) -> Range<usize> {
        match (self.split_at(), layer) {
            (0, _) => 0..self.grids.len(),
            (n, 0) => 0..n,
            (n, _) => n..self.grids.len(),
        }
    }

    fn weights_count(&self) -> usize {
        self.weights.len()
    }

    fn macs_per_pixel(&self) -> f64 {
        self.context_macs() + self.synthesis_macs()
    }

    fn memory(&self) -> u64 {
        // i16 and f32 of each, and those of the context network once more.
        10 * self.weights.len() as u64
    }

    fn tile_cost(&self, width: usize, height: usize) -> Cost {
        let mut cost = Cost::default();
        for grid in &self.grids {
            let (w, h) = (width.div_ceil(1 << grid.shift), height.div_ceil(1 << grid.shift));
            cost.memory = cost.memory.max(self.context.memory(grid.shift, w, h));
            cost.work = cost.work.saturating_add(self.context.work(grid.shift, w, h));
        }
        cost
    }

    fn synthesis_cost(&self, width: usize, height: usize, scale: u32) -> Cost {
        let memory = synthesis::memory(&self.spec, width, height, scale) + 8 * self.weights.len() as u64;
        // Rows are computed in whole vectors.
        let pixels = (width as u64).next_multiple_of(16).saturating_mul(height as u64);
        Cost { memory, work: pixels.saturating_mul(self.synthesis_macs() as u64) }
    }

    /// For each grid a segment has a bit, 0 if all codes are 0; if it is 1 the codes follow.
    fn decode_tile(&self, level: Level, layer: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        self.check_codes(codes)?;
        let mut decoder = RangeDecoder::new(segment);
        for i in self.layer_grids(layer) {
            let mut grid = std::mem::take(&mut codes[i].codes);
            let mut done = Ok(());
            if decoder.decode_bits(1) == 0 || codes[i].rect.is_empty() {
                grid.fill(0);
            } else {
                done = self.visit(level, codes, i, |at, distribution| {
                    grid[at] = distribution.decode(&mut decoder);
                    // A segment that is cut short would go on with zeros for the whole tile.
                    decoder.check()?;
                    Ok(grid[at])
                });
            }
            // Back in its place even after an error: a partial decode goes on with it.
            codes[i].codes = grid;
            done?;
        }
        decoder.finish()
    }

    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        synthesis::support(&self.spec, region, size, scale)
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
        synthesis::synthesise(&self.spec, &self.weights, level, codes, size, region, scale, peak, out)
    }
}

#[cfg(feature = "fit")]
impl Encode for PyramidModel {
    fn family(&self) -> u8 {
        PYRAMID
    }

    fn write_description(&self, out: &mut Vec<u8>) {
        self.spec.write(self.split, out);
    }

    fn write_weights(&self, out: &mut Vec<u8>) {
        out.extend(self.quantised.write(&self.spec, self.f16));
    }

    /// # Panics
    /// When `codes` do not have the shape of the model's grids.
    fn encode_tile(&self, level: Level, layer: usize, codes: &Codes) -> Vec<u8> {
        self.check_codes(codes).expect("codes of this model");
        let mut encoder = RangeEncoder::default();
        for i in self.layer_grids(layer) {
            let grid = &codes[i].codes;
            let any = grid.iter().any(|c| *c != 0);
            encoder.encode_bits(any.into(), 1);
            if any {
                let coded = self.visit(level, codes, i, |at, distribution| {
                    distribution.encode(&mut encoder, grid[at]);
                    Ok(grid[at])
                });
                coded.expect("memory for a grid as large as one that is in memory");
            }
        }
        encoder.finish()
    }
}

#[cfg(feature = "fit")]
mod bits {
    use super::*;
    use crate::entropy::laplace::costs;
    use crate::models::pyramid::context::pad;
    use rayon::prelude::*;

    /// Rows of a strip, the unit of parallel work. Any value of this order works: a picture has several strips for each
    /// thread, and a strip has work for many microseconds.
    const STRIP: usize = 32;

    impl PyramidModel {
        /// Bits of each grid of a tile (or of a whole picture as one tile) in the file, without coding it.
        pub fn code_bits(&self, level: Level, codes: &Codes) -> Vec<f64> {
            self.context.code_bits(level, &self.planes(codes).collect::<Vec<_>>())
        }
    }

    impl ContextModel {
        /// `f` of each code of plane `i`, row by row. `f(code, price)` is given the code and the price, in bits, of any code
        /// in its position. `planes` are in coding order.
        pub fn each_code<T: Copy + Default + Send>(
            &self,
            level: Level,
            planes: &[Plane],
            i: usize,
            f: impl Fn(i16, &dyn Fn(i16) -> f32) -> T + Sync,
        ) -> Vec<T> {
            let plane = &planes[i];
            let features = self.feature_maps(plane.scale, plane.width, plane.height, &planes[..i]);
            let features = features.expect("memory for planes as large as those that are in memory");
            let padded = pad(plane);
            let mut out = vec![T::default(); plane.codes.len()];
            out.par_chunks_mut(STRIP * plane.width).enumerate().for_each(|(strip, out)| {
                let rows = strip * STRIP..((strip + 1) * STRIP).min(plane.height);
                let mut out = out.iter_mut();
                self.visit_rows(level, plane, &padded, features.as_ref(), rows, |code, distribution| {
                    if let Some(out) = out.next() {
                        *out = f(code, &|code| distribution.bits(costs(), code));
                    }
                });
            });
            out
        }

        /// See [`PyramidModel::code_bits`]; `planes` are in coding order.
        pub fn code_bits(&self, level: Level, planes: &[Plane]) -> Vec<f64> {
            let bits = |i: usize| {
                if planes[i].codes.iter().all(|c| *c == 0) {
                    return 1.0;
                }
                let each = self.each_code(level, planes, i, |code, price| price(code));
                1.0 + each.iter().map(|b| f64::from(*b)).sum::<f64>()
            };
            (0..planes.len()).into_par_iter().map(bits).collect()
        }
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use crate::image::Rect;
    use crate::models::pyramid::spec::Group;
    use proptest::prelude::*;
    use tilefit_testing::Noise;

    pub fn codes_for(spec: &PyramidSpec, width: usize, height: usize, mut code: impl FnMut(u32) -> i16) -> Codes {
        let mut codes = Codes::new();
        for g in spec.grids() {
            let mut grid = Grid::new(Rect::whole(width, height).shrunk(g.shift), 1);
            grid.codes.iter_mut().for_each(|c| *c = code(g.shift));
            codes.push(grid);
        }
        codes
    }

    fn small_model(noise: &mut Noise, spec: PyramidSpec, size: f32, split: bool) -> PyramidModel {
        let weights: Vec<f32> = (0..spec.weights_count()).map(|_| noise.signed() as f32 * size).collect();
        let exponents = [0; Group::COUNT].map(|_| noise.bits() % 16);
        PyramidModel::from_quantised(spec.clone(), Quantised::new(&spec, &weights, exponents), split)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn tiles_come_back_at_their_price(
            seed: u64, width in 1usize..70, height in 1usize..70, spatial in 1usize..=26, features in 0usize..=5,
            scales in 0u32..4, hyper in 0u32..8, size in prop::sample::select(vec![0.05f32, 0.4, 30.0]),
            reach in prop::sample::select(vec![1u32, 3, 40, 60000]), split: bool,
        ) {
            let mut noise = Noise::new(seed);
            let mut spec = PyramidSpec::preset(3, 1, spatial, features, 8);
            spec.feature_scales = scales;
            spec.hyper_from = hyper.min(spec.depth + 1);
            let model = small_model(&mut noise, spec.clone(), size, split);
            let codes = codes_for(&spec, width, height, |shift| {
                if shift == 2 { 0 } else { (noise.bits() % (2 * reach - 1)) as i16 }.wrapping_sub(reach as i16 - 1)
            });
            let mut back = codes_for(&spec, width, height, |_| 7);
            let mut bytes = 0;
            for layer in 0..model.layers() {
                let segment = model.encode_tile(Level::best(), layer, &codes);
                for level in Level::available() {
                    prop_assert_eq!(&model.encode_tile(level, layer, &codes), &segment);
                    model.decode_tile(level, layer, &segment, &mut back).unwrap();
                }
                bytes += segment.len();
            }
            prop_assert_eq!(&back, &codes);
            let bits: f64 = model.code_bits(Level::best(), &codes).iter().sum();
            prop_assert!((bytes as f64 - bits / 8.0).abs() < 8.0 + bits * 1e-6, "{} bytes, {} bits", bytes, bits);
        }

        #[test]
        fn any_segment_decodes_or_is_refused(
            seed: u64, width in 1usize..40, height in 1usize..40, segment in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut noise = Noise::new(seed);
            let spec = PyramidSpec::preset(1, 1, 1 + (seed % 26) as usize, 3, 8);
            let model = small_model(&mut noise, spec.clone(), 1000.0, seed % 2 == 0);
            for layer in 0..model.layers() {
                let mut codes = codes_for(&spec, width, height, |_| 0);
                let _ = model.decode_tile(Level::best(), layer, &segment, &mut codes);
                // A partial decode goes on with them, also after an error.
                prop_assert!(model.check_codes(&codes).is_ok());
            }
        }
    }
}
