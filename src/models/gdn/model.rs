//! A `gdn` model as the decoder has it: segments to codes, codes to pixels.

use super::weights::Quantised;
use super::{codes, GdnSpec, KERNEL, MAX_CHANNELS, SHIFT};
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::entropy::weights::f16_to_f32;
use crate::error::{Class, Error, Result};
use crate::image::Rect;
use crate::layers::conv_transpose2d::ConvTranspose2d;
use crate::models::{Codes, Grid, GridSpec, Model};
use alloc::{format, vec, vec::Vec};
use kernels::exact::conv_transpose2d::{ConvTransposeRun, PackedConvTranspose};
use kernels::exact::gdn::PackedGdn;
use kernels::exact::map::{Frame, Map};
use kernels::exact::samples::to_samples;
use kernels::{Level, Window};

/// The weights in the form in which the file has them.
#[derive(Clone, PartialEq, Debug)]
enum Stored {
    /// Range-coded integers.
    Coded(Quantised),
    /// Plain f16, in the order of the tensors.
    F16(Vec<u16>),
}

/// Flag of the description: the weights are plain f16.
const PLAIN: u8 = 1;

/// Side, in pixels, of the blocks that are synthesised at once. It bounds memory; the halo of a block costs the less the
/// larger the block is.
const BLOCK: usize = 256;

/// Models of more channels than this use blocks of half the side.
const MANY_CHANNELS: usize = 64;

/// Spec, weights, and layers ready to run.
#[derive(Clone, Debug)]
pub struct GdnModel {
    spec: GdnSpec,
    /// Kept for the encoder, which writes the weights section from it.
    #[cfg_attr(not(feature = "fit"), allow(dead_code))]
    stored: Stored,
    grids: [GridSpec; 1],
    convolutions: [PackedConvTranspose; 3],
    normalisations: [PackedGdn; 2],
}

/// Convolution `i` of the synthesis, 0 to 2.
fn layer(spec: &GdnSpec, i: usize) -> ConvTranspose2d {
    let outputs = if i < 2 { spec.n } else { spec.channels };
    ConvTranspose2d { inputs: spec.n, outputs, kernel: KERNEL, stride: 2 }
}

/// A rectangle in the form that the kernels take.
fn window(r: &Rect) -> Window {
    Window { y0: r.y0, x0: r.x0, height: r.height(), width: r.width() }
}

impl GdnModel {
    fn new(spec: GdnSpec, stored: Stored) -> Self {
        let weights: Vec<f32> = match &stored {
            Stored::Coded(q) => q.dequantise(&spec),
            // What is not finite counts as 0, so that any section is a model.
            Stored::F16(halves) => halves.iter().map(|&h| f16_to_f32(h).unwrap_or(0.0)).collect(),
        };
        let tensors = spec.tensors();
        let part = |i: usize| &weights[tensors[i].range.clone()];
        GdnModel {
            grids: [GridSpec { shift: SHIFT, channels: spec.n }],
            convolutions: [0, 1, 2].map(|i| layer(&spec, i).exact(part(4 * i), part(4 * i + 1))),
            normalisations: [0, 1].map(|i| PackedGdn::new(part(4 * i + 2), part(4 * i + 3))),
            spec,
            stored,
        }
    }

    /// A model whose weights are range-coded integers.
    pub fn from_quantised(spec: GdnSpec, quantised: Quantised) -> Self {
        Self::new(spec, Stored::Coded(quantised))
    }

    /// A model whose weights, flat, are rounded to f16 and written so.
    #[cfg(feature = "fit")]
    pub fn from_weights(spec: GdnSpec, weights: &[f32]) -> Self {
        Self::new(spec, Stored::F16(weights.iter().map(|&w| half::f16::from_f32(w).to_bits()).collect()))
    }

    /// Reads a model of a picture of `channels` channels from the header's description (two bytes: flags, `N`) and the
    /// weights section.
    ///
    /// # Errors
    /// [`Class::Unsupported`] for unknown flags, [`Class::Format`] for anything else that breaks the format.
    pub fn read(channels: usize, description: &[u8], section: &[u8]) -> Result<Self> {
        let &[flags, n] = description else {
            return Err(Error::format(format!("a gdn description of {} bytes, it has 2", description.len())));
        };
        if flags & !PLAIN != 0 {
            let what = format!("unknown gdn flags {:#04x}: a newer program is needed", flags & !PLAIN);
            return Err(Error::new(Class::Unsupported, what));
        }
        let spec = GdnSpec::new(n.into(), channels);
        if !(1..=MAX_CHANNELS).contains(&spec.n) || !matches!(channels, 1 | 3) {
            return Err(Error::format("a gdn model without channels: the file is damaged"));
        }
        if flags & PLAIN == 0 {
            return Ok(Self::from_quantised(spec, Quantised::read(&spec, section)?));
        }
        if section.len() != 2 * spec.weights_count() {
            return Err(Error::format(format!(
                "weights: {} bytes, the model has {} of two bytes",
                section.len(),
                spec.weights_count()
            )));
        }
        let halves = section.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        Ok(Self::new(spec, Stored::F16(halves)))
    }

    /// The shape of the model.
    pub fn spec(&self) -> &GdnSpec {
        &self.spec
    }

    /// What `pixels` of a picture of `size` depends on: the rectangle of codes, then those of the feature maps after each
    /// convolution, the last of which is `pixels` itself.
    fn supports(&self, pixels: Rect, size: (usize, usize)) -> [Rect; 4] {
        let (w, h) = (size.0.div_ceil(1 << SHIFT), size.1.div_ceil(1 << SHIFT));
        let mut rects = [pixels; 4];
        for i in (0..3).rev() {
            let conv = layer(&self.spec, i);
            let (x0, x1) = conv.support(rects[i + 1].x0, rects[i + 1].x1, w << i);
            let (y0, y1) = conv.support(rects[i + 1].y0, rects[i + 1].y1, h << i);
            rects[i] = Rect::new(x0, y0, x1, y1);
        }
        rects
    }

    /// Pixels `area` of the full-size picture as planes of samples, about `0 ..= 1` and not clamped, to the last of the maps.
    fn planes(&self, level: Level, work: &mut Work, codes: &Grid, size: (usize, usize), area: Rect) {
        let rects = self.supports(area, size);
        let held = codes.rect.intersect(&rects[0]);
        for (i, map) in work.maps.iter_mut().enumerate() {
            let channels = if i < 3 { self.spec.n } else { self.spec.channels };
            let inside = window(if i == 0 { &held } else { &rects[i] });
            let frame = match self.convolutions.get(i) {
                Some(next) => next.layer().support(&window(&rects[i + 1])),
                None => Frame::from(&inside),
            };
            map.reset(channels, frame, &inside);
        }
        for c in 0..self.spec.n {
            for y in held.y0..held.y1 {
                let from = (c * codes.rect.height() + y - codes.rect.y0) * codes.rect.width();
                let from = &codes.codes[from + held.x0 - codes.rect.x0..][..held.width()];
                let to = work.maps[0].row_mut(c, y, held.x0);
                to.iter_mut().zip(from).for_each(|(to, &q)| *to = f32::from(q));
            }
        }
        for (i, layer) in work.layers.iter_mut().enumerate() {
            let (before, behind) = work.maps.split_at_mut(i + 1);
            layer.run(level, &before[i], &window(&rects[i + 1]), &mut behind[0]);
        }
    }

    /// Computes the samples of `block` at `1/2^scale`. `out` has the samples of `region`, of which `block` is a part.
    fn block(
        &self,
        level: Level,
        work: &mut Work,
        codes: &Grid,
        size: (usize, usize),
        block: Rect,
        scale: u32,
        region: Rect,
        out: &mut [u8],
    ) {
        let area = enlarged(block, size, scale);
        self.planes(level, work, codes, size, area);
        let channels = self.spec.channels;
        let planes = &mut work.maps[3];
        if channels == 3 {
            to_rgb(planes.planes_mut());
        }
        let side = 1usize << scale;
        for row in block.y0..block.y1 {
            let from = ((row - region.y0) * region.width() + block.x0 - region.x0) * channels;
            let out = &mut out[from..][..block.width() * channels];
            if scale == 0 {
                (0..channels).for_each(|c| to_samples(level, planes.row(c, row, area.x0), &mut out[c..], channels));
                continue;
            }
            let (top, bottom) = (row << scale, ((row + 1) << scale).min(area.y1));
            for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
                let left = area.x0 + i * side;
                for (c, sample) in pixel.iter_mut().enumerate() {
                    let mut sum = 0f32;
                    let mut count = 0f32;
                    for y in top..bottom {
                        for value in planes.row(c, y, left).iter().take(side) {
                            sum += value;
                            count += 1.0;
                        }
                    }
                    // `as` rounds positive values down, saturates at 0 and 255, and turns NaN into 0.
                    *sample = (sum / count * 255.0 + 0.5) as u8;
                }
            }
        }
    }
}

/// Layers at work and feature maps, kept from block to block: `maps[i]` is what layer `i` reads, the last one is the
/// picture.
struct Work<'a> {
    layers: [ConvTransposeRun<'a>; 3],
    maps: [Map; 4],
}

/// YCoCg to RGB in place, in three planes of equal size: `R = Y + Co - Cg`, `G = Y + Cg`, `B = Y - Co - Cg`.
pub fn to_rgb(planes: &mut [f32]) {
    let n = planes.len() / 3;
    let (y, rest) = planes.split_at_mut(n);
    let (co, cg) = rest.split_at_mut(n);
    for ((y, co), cg) in y.iter_mut().zip(co).zip(cg) {
        let t = *y - *cg;
        let green = *y + *cg;
        *y = t + *co;
        *cg = t - *co;
        *co = green;
    }
}

impl Model for GdnModel {
    fn channels(&self) -> usize {
        self.spec.channels
    }

    fn grids(&self) -> &[GridSpec] {
        &self.grids
    }

    fn weights_count(&self) -> usize {
        self.spec.weights_count()
    }

    fn macs_per_pixel(&self) -> f64 {
        let (n, taps) = (self.spec.n as f64, (KERNEL * KERNEL) as f64);
        let convolutions = n * n * taps * (1.0 / 64.0 + 1.0 / 16.0) + n * self.spec.channels as f64 * taps / 4.0;
        convolutions + n * n * (1.0 / 16.0 + 1.0 / 4.0)
    }

    fn decode_tile(&self, _: Level, _: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let [grid] = &mut codes[..] else {
            return Err(Error::format("a gdn tile has one grid"));
        };
        let (height, width) = (grid.rect.height(), grid.rect.width());
        if grid.codes.len() != self.spec.n * height * width {
            return Err(Error::format("a tile's codes do not have the shape of the model's grid"));
        }
        let mut decoder = RangeDecoder::new(segment);
        codes::decode(&mut decoder, height, width, &mut grid.codes);
        decoder.finish()
    }

    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        vec![self.supports(enlarged(region, size, scale), size)[0]]
    }

    fn synthesise(
        &self,
        level: Level,
        codes: &Codes,
        size: (usize, usize),
        region: Rect,
        scale: u32,
        out: &mut [u8],
    ) -> Result<()> {
        let normalisation = |i: usize| self.normalisations.get(i);
        let mut work = Work {
            layers: [0, 1, 2].map(|i| ConvTransposeRun::new(&self.convolutions[i], normalisation(i))),
            maps: Default::default(),
        };
        // A preview is the mean of full-size pixels: its blocks cover as many of these as blocks at full size do.
        let side = (if self.spec.n > MANY_CHANNELS { BLOCK / 2 } else { BLOCK }) >> scale;
        for y in (region.y0..region.y1).step_by(side) {
            for x in (region.x0..region.x1).step_by(side) {
                let block = Rect::new(x, y, (x + side).min(region.x1), (y + side).min(region.y1));
                self.block(level, &mut work, &codes[0], size, block, scale, region, out);
            }
        }
        Ok(())
    }
}

/// The pixels of the full-size picture that `region` at `1/2^scale` averages.
fn enlarged(region: Rect, size: (usize, usize), scale: u32) -> Rect {
    Rect {
        x0: region.x0 << scale,
        y0: region.y0 << scale,
        x1: (region.x1 << scale).min(size.0),
        y1: (region.y1 << scale).min(size.1),
    }
}

#[cfg(feature = "fit")]
impl crate::models::Encode for GdnModel {
    fn family(&self) -> u8 {
        crate::models::GDN
    }

    fn write_description(&self, out: &mut Vec<u8>) {
        out.push(if matches!(self.stored, Stored::F16(_)) { PLAIN } else { 0 });
        out.push(self.spec.n as u8);
    }

    fn write_weights(&self, out: &mut Vec<u8>) {
        match &self.stored {
            Stored::Coded(q) => out.extend(q.write(&self.spec)),
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
    use super::*;

    struct Noise(u64);
    impl Noise {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as u32
        }
    }

    fn case(seed: u64, n: usize, channels: usize, size: (usize, usize)) -> (GdnModel, Codes) {
        let mut noise = Noise(seed);
        let spec = GdnSpec::new(n, channels);
        let values = (0..spec.weights_count()).map(|_| (noise.next() % 9) as i16 - 3).collect();
        let mut q = Quantised { exponents: vec![6; 10], values };
        for t in spec.tensors() {
            if matches!(t.kind, super::super::Kind::Beta | super::super::Kind::Gamma) {
                q.values[t.range].iter_mut().for_each(|v| *v = v.abs() + 1);
            }
        }
        let mut grid = Grid::new(Rect::whole(size.0, size.1).shrunk(SHIFT), n);
        grid.codes.iter_mut().for_each(|c| *c = (noise.next() % 31) as i16 - 15);
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
                model.synthesise(Level::best(), &codes, size, Rect::whole(w, h), scale, &mut whole).unwrap();
                assert!(w * h < 50 || whole.iter().any(|s| *s != whole[0]), "the test sees something");
                let mut noise = Noise(seed);
                for level in Level::available() {
                    for _ in 0..8 {
                        let (x0, y0) = (noise.next() as usize % w, noise.next() as usize % h);
                        let region = Rect::new(
                            x0,
                            y0,
                            x0 + 1 + noise.next() as usize % (w - x0),
                            y0 + 1 + noise.next() as usize % (h - y0),
                        );
                        let part = cut(&codes, model.support(region, size, scale)[0]);
                        let mut out = vec![0; region.area() * channels];
                        model.synthesise(level, &part, size, region, scale, &mut out).unwrap();
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
            model.synthesise(Level::best(), &codes, size, Rect::whole(9, 7), 0, &mut out).unwrap();
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
            let back = GdnModel::read(3, &description, &section).unwrap();
            assert_eq!((back.spec, &back.stored), (model.spec, &model.stored));
            section.extend([0; 16]);
            assert!(GdnModel::read(3, &description, &section).is_err());
        }
        assert!(GdnModel::read(3, &[0], &[]).is_err());
        assert!(GdnModel::read(3, &[2, 8], &[]).is_err());
        assert!(GdnModel::read(3, &[0, 0], &[]).is_err());
    }
}
