//! The transform as the decoder has it: codes to pixels.

use super::weights::Quantised;
use super::{TransformSpec, KERNEL, LAYERS, SHIFT};
use crate::entropy::weights::f16_to_f32;
use crate::image::Rect;
use crate::layers::conv_transpose2d::ConvTranspose2d;
use crate::models::{Cost, Grid};
use alloc::vec::Vec;
use kernels::exact::conv_transpose2d::{conv_transpose2d, PackedConvTranspose, Scratch};
use kernels::exact::gdn::PackedGdn;
use kernels::exact::map::{Frame, Map};
use kernels::exact::samples::to_samples;
use kernels::{Level, Window};

/// The weights in the form in which the file has them.
#[derive(Clone, PartialEq, Debug)]
pub enum Stored {
    /// Range-coded integers.
    Coded(Quantised),
    /// Plain f16, in the order of the tensors.
    F16(Vec<u16>),
}

impl Stored {
    /// Little-endian f16, two bytes each.
    pub fn from_f16_bytes(bytes: &[u8]) -> Self {
        Stored::F16(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    }

    /// `weights`, flat, rounded to f16.
    #[cfg(feature = "fit")]
    pub fn rounded_to_f16(weights: &[f32]) -> Self {
        Stored::F16(weights.iter().map(|&w| half::f16::from_f32(w).to_bits()).collect())
    }

    /// Whether the weights are plain f16.
    pub fn is_plain(&self) -> bool {
        matches!(self, Stored::F16(_))
    }
}

/// Side, in pixels, of the blocks that are synthesised at once. It bounds memory; the halo of a block costs the less the
/// larger the block is.
const BLOCK: usize = 256;

/// Transforms with more channels than this somewhere use blocks of half the side.
const MANY_CHANNELS: usize = 64;

/// Spec, weights, and layers ready to run.
#[derive(Clone, Debug)]
pub struct Synthesis {
    spec: TransformSpec,
    /// Kept for the encoder, which writes the weights section from it.
    #[cfg_attr(not(feature = "fit"), allow(dead_code))]
    stored: Stored,
    convolutions: [PackedConvTranspose; LAYERS],
    normalisations: [PackedGdn; LAYERS - 1],
}

/// Convolution `i` of the synthesis.
fn layer(spec: &TransformSpec, i: usize) -> ConvTranspose2d {
    ConvTranspose2d { inputs: spec.maps[i], outputs: spec.outputs(i), kernel: KERNEL, stride: 2 }
}

/// A rectangle in the form that the kernels take.
fn window(r: &Rect) -> Window {
    Window { y0: r.y0, x0: r.x0, height: r.height(), width: r.width() }
}

impl Synthesis {
    /// `stored` has the weights of all of the spec's tensors.
    pub fn new(spec: TransformSpec, stored: Stored) -> Self {
        let tensors = spec.tensors();
        let weights: Vec<f32> = match &stored {
            Stored::Coded(q) => q.dequantise(&tensors),
            // What is not finite counts as 0, so that any section is a model.
            Stored::F16(halves) => halves.iter().map(|&h| f16_to_f32(h).unwrap_or(0.0)).collect(),
        };
        let part = |i: usize| &weights[tensors[i].range.clone()];
        Synthesis {
            convolutions: [0, 1, 2].map(|i| layer(&spec, i).exact(part(4 * i), part(4 * i + 1))),
            normalisations: [0, 1].map(|i| PackedGdn::new(part(4 * i + 2), part(4 * i + 3))),
            spec,
            stored,
        }
    }

    /// The shape of the transform.
    pub fn spec(&self) -> &TransformSpec {
        &self.spec
    }

    /// The weights as the file has them.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The codes that `region` at `1/2^scale` of a picture of `size` depends on.
    pub fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Rect {
        self.supports(enlarged(region, size, scale), size)[0]
    }

    /// What `pixels` of a picture of `size` depends on: the rectangle of codes, then those of the feature maps after each
    /// convolution, the last of which is `pixels` itself.
    fn supports(&self, pixels: Rect, size: (usize, usize)) -> [Rect; LAYERS + 1] {
        let (w, h) = (size.0.div_ceil(1 << SHIFT), size.1.div_ceil(1 << SHIFT));
        let mut rects = [pixels; LAYERS + 1];
        for i in (0..LAYERS).rev() {
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
            let channels = *self.spec.maps.get(i).unwrap_or(&self.spec.channels);
            let inside = window(if i == 0 { &held } else { &rects[i] });
            let frame = match self.convolutions.get(i) {
                Some(next) => next.layer().support(&window(&rects[i + 1])),
                None => Frame::from(&inside),
            };
            map.reset(channels, frame, &inside);
        }
        for c in 0..self.spec.n() {
            for y in held.y0..held.y1 {
                let from = (c * codes.rect.height() + y - codes.rect.y0) * codes.rect.width();
                let from = &codes.codes[from + held.x0 - codes.rect.x0..][..held.width()];
                let to = work.maps[0].row_mut(c, y, held.x0);
                to.iter_mut().zip(from).for_each(|(to, &q)| *to = f32::from(q));
            }
        }
        for (i, conv) in self.convolutions.iter().enumerate() {
            let (before, behind) = work.maps.split_at_mut(i + 1);
            let (gdn, ys) = (self.normalisations.get(i), window(&rects[i + 1]));
            conv_transpose2d(level, conv, gdn, &before[i], &ys, &mut behind[0], &mut work.scratch);
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
        peak: u16,
        out: &mut [u16],
    ) {
        let area = enlarged(block, size, scale);
        self.planes(level, work, codes, size, area);
        let channels = self.spec.channels;
        let planes = &mut work.maps[LAYERS];
        if channels == 3 {
            to_rgb(planes.planes_mut());
        }
        let side = 1usize << scale;
        for row in block.y0..block.y1 {
            let from = ((row - region.y0) * region.width() + block.x0 - region.x0) * channels;
            let out = &mut out[from..][..block.width() * channels];
            if scale == 0 {
                (0..channels)
                    .for_each(|c| to_samples(level, planes.row(c, row, area.x0), peak, &mut out[c..], channels));
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
                    // `as` rounds positive values down, saturates at 0 and 65535, and turns NaN into 0.
                    *sample = ((sum / count * f32::from(peak) + 0.5) as u16).min(peak);
                }
            }
        }
    }

    /// Side of the blocks in pixels of the full-size picture.
    fn block_side(&self) -> usize {
        if self.spec.maps.iter().any(|&n| n > MANY_CHANNELS) {
            BLOCK / 2
        } else {
            BLOCK
        }
    }

    /// See [`Model::synthesis_cost`](crate::models::Model::synthesis_cost).
    pub fn cost(&self, width: usize, height: usize, scale: u32) -> Cost {
        let side = self.block_side();
        // A block far from the edges, at odd coordinates, depends on most.
        let far = 1 << 20;
        let end = |n: usize| far + (n << scale).min(side);
        let rects = self.supports(Rect::new(far - 1, far - 1, end(width), end(height)), (far << 4, far << 4));
        let mut floats = Map::floats(self.spec.channels, &Frame::from(&window(&rects[LAYERS])));
        let mut products = 0;
        for (i, conv) in self.convolutions.iter().enumerate() {
            let layer = conv.layer();
            floats += Map::floats(layer.in_channels, &layer.support(&window(&rects[i + 1])));
            products = products.max(layer.in_channels * layer.out_channels * KERNEL * KERNEL);
        }
        let outputs = self.spec.maps.iter().chain([&self.spec.channels]).max().map_or(0, |n| *n);
        // Lists of products, which may have twice the room; the second for feature maps that are not finite.
        let memory = 4 * (floats + Scratch::floats(2, outputs)) + 32 * products;
        // With a halo around each block.
        let halo = |n: usize| ((n << scale) + 16 * (n << scale).div_ceil(side)) as f64;
        let work = halo(width) * halo(height) * self.spec.macs_per_pixel();
        Cost { memory: memory as u64, work: work as u64 }
    }

    /// See [`Model::synthesise`](crate::models::Model::synthesise).
    pub fn synthesise(
        &self,
        level: Level,
        codes: &Grid,
        size: (usize, usize),
        region: Rect,
        scale: u32,
        peak: u16,
        out: &mut [u16],
    ) {
        let mut work = Work::default();
        // A preview is the mean of full-size pixels: its blocks cover as many of these as blocks at full size do.
        let side = self.block_side() >> scale;
        for y in (region.y0..region.y1).step_by(side) {
            for x in (region.x0..region.x1).step_by(side) {
                let block = Rect::new(x, y, (x + side).min(region.x1), (y + side).min(region.y1));
                self.block(level, &mut work, codes, size, block, scale, region, peak, out);
            }
        }
    }
}

/// Feature maps and working memory, kept from block to block: `maps[i]` is what layer `i` reads, the last one is the
/// picture.
#[derive(Default)]
struct Work {
    maps: [Map; LAYERS + 1],
    scratch: Scratch,
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

/// The pixels of the full-size picture that `region` at `1/2^scale` averages.
fn enlarged(region: Rect, size: (usize, usize), scale: u32) -> Rect {
    Rect {
        x0: region.x0 << scale,
        y0: region.y0 << scale,
        x1: (region.x1 << scale).min(size.0),
        y1: (region.y1 << scale).min(size.1),
    }
}
