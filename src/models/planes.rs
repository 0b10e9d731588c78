//! Family `planes`: several models, each of which makes some planes, and how channels come from planes. It codes alpha apart
//! from colour or together with it, and pictures whose colour channels are equal as one plane.
//!
//! *Blended*: the planes are the picture composed on mid-grey, and alpha times 7/8. Of a picture that is seen on black and on
//! white, the sum of the squared errors of these planes is the error that is seen, but for a factor: with `d` for errors, `P`
//! for a colour times alpha and `C = P + (1 - alpha) / 2`, it is `dP^2 + (dP - d alpha)^2 = 2 dC^2 + d alpha^2 / 2` for each
//! of three colours, and `sqrt(3 / 4)` is about 7/8.
//!
//! A [tone curve](crate::models::tone) may follow; it does not change alpha. *Turned*: rows and columns of all planes are
//! exchanged, for narrow pictures; their codes are exchanged again where they leave this module.
//!
//! The grids of the models follow each other. Only the last model may have two layers: the others' grids belong to layer 0, so
//! that the grids of a layer are contiguous.

#[cfg(feature = "fit")]
use crate::container::reader::write_varint;
use crate::container::reader::Reader;
use crate::error::{Error, Result};
use crate::image::{PixelFormat, Rect};
use crate::limits::{try_vec, Limits};
use crate::models::tone::Curve;
use crate::models::{read_model, Codes, Cost, Grid, GridSpec, Model};
#[cfg(feature = "fit")]
use crate::models::{Encode, PLANES};
use alloc::{sync::Arc, vec::Vec};
use kernels::Level;
use std::ops::Range;

/// Most models of a file: alpha and colour.
const MAX_MODELS: usize = 2;

/// Flags of the description, beside the number of models.
const BLENDED: u8 = 128;
const CURVED: u8 = 64;
const TURNED: u8 = 32;

/// How the channels come from the planes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrangement {
    /// For each channel of the picture the number of its plane. The planes of the first model come first.
    Map(Vec<u8>),
    /// The planes of the only model are colours on mid-grey, then alpha.
    Blended,
}

/// Models and the map from planes to channels. `M` is [`Model`] for a decoder, [`Encode`] for an encoder.
pub struct Planes<M: Model + ?Sized> {
    models: Vec<Arc<M>>,
    arrangement: Arrangement,
    /// The tone curve, and the number of channels that it changes, which come first.
    curve: Option<(Curve, usize)>,
    turned: bool,
    channels: usize,
    grids: Vec<GridSpec>,
}

impl<M: Model + ?Sized> Planes<M> {
    /// # Errors
    /// More than two models, models other than the last of several layers, and channels without a plane.
    pub fn new(models: Vec<Arc<M>>, arrangement: Arrangement) -> Result<Self> {
        let planes: usize = models.iter().map(|m| m.channels()).sum();
        let Some((_, others)) = models.split_last() else {
            return Err(Error::format("there are no models for planes"));
        };
        if models.len() > MAX_MODELS || others.iter().any(|m| m.layers() > 1) {
            return Err(Error::format("these models cannot share a file: the file is damaged"));
        }
        let (channels, fits) = match &arrangement {
            Arrangement::Map(map) => (map.len(), map.iter().all(|p| usize::from(*p) < planes)),
            Arrangement::Blended => (planes, models.len() == 1 && planes > 1),
        };
        if channels == 0 || !fits {
            return Err(Error::format("a channel has no plane: the file is damaged"));
        }
        let grids = models.iter().flat_map(|m| m.grids().iter().copied()).collect();
        Ok(Planes { models, arrangement, curve: None, turned: false, channels, grids })
    }

    /// The same with a tone curve of the first `colours` channels.
    pub fn with_curve(mut self, curve: Option<Curve>, colours: usize) -> Self {
        self.curve = curve.map(|c| (c, colours));
        self
    }

    /// The same with rows and columns exchanged if `turned`.
    pub fn with_turned(mut self, turned: bool) -> Self {
        self.turned = turned;
        self
    }

    /// Width and height of a picture as the models have them.
    fn sides(&self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.turned {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// A rectangle of the picture as the models have it, and the reverse.
    fn rect(&self, rect: Rect) -> Rect {
        if self.turned {
            rect.turned()
        } else {
            rect
        }
    }

    /// For each model its grids among all.
    fn parts(&self) -> impl Iterator<Item = (&Arc<M>, Range<usize>)> {
        let mut at = 0;
        self.models.iter().map(move |m| {
            let start = at;
            at += m.grids().len();
            (m, start..at)
        })
    }

    /// Runs `f` with each model that codes `layer`, its grids, and whether it is the last.
    fn each_coded(
        &self,
        layer: usize,
        codes: &mut Codes,
        mut f: impl FnMut(&M, &mut Codes, bool) -> Result<()>,
    ) -> Result<()> {
        for (i, (model, range)) in self.parts().enumerate() {
            if layer >= model.layers() {
                continue;
            }
            let mut own: Codes = codes[range.clone()].iter_mut().map(std::mem::take).collect();
            if self.turned {
                own.iter_mut().for_each(|grid| *grid = grid.turned());
            }
            let done = f(model, &mut own, i + 1 == self.models.len());
            if self.turned {
                own.iter_mut().for_each(|grid| *grid = grid.turned());
            }
            // Back in their place even after an error: a partial decode goes on with them.
            codes[range].iter_mut().zip(own).for_each(|(to, from)| *to = from);
            done?;
        }
        Ok(())
    }
}

impl Planes<dyn Model> {
    /// Reads the models of a picture from the header's description and the weights section.
    ///
    /// # Errors
    /// What [`Self::new`] and the models refuse.
    pub fn read(format: PixelFormat, description: &[u8], weights: &[u8], limits: &Limits) -> Result<Self> {
        let (mut d, mut w) = (Reader::new(description), Reader::new(weights));
        let first = d.u8("the number of models")?;
        let count = first & !(BLENDED | CURVED | TURNED);
        let mut models: Vec<Arc<dyn Model>> = Vec::new();
        for _ in 0..count.min(MAX_MODELS as u8 + 1) {
            let (family, planes) = (d.u8("a model's family")?, d.u8("a model's planes")?);
            if family == crate::models::PLANES {
                return Err(Error::format("a model of planes within another: the file is damaged"));
            }
            let length = d.varint(description.len() as u64, "a description's length")? as usize;
            let description = d.take(length, "a description")?;
            let length = w.varint(weights.len() as u64, "the weights' length")? as usize;
            let part = PixelFormat::new(planes.into(), format.depth);
            part.check().map_err(|e| Error::format(e.message()))?;
            models.push(read_model(family, part, description, w.take(length, "the weights")?, limits)?.into());
        }
        let arrangement = match first & BLENDED {
            BLENDED if !format.alpha => {
                return Err(Error::format("planes with alpha for a picture without: the file is damaged"))
            }
            0 => Arrangement::Map(d.take(format.channels, "the map of planes")?.to_vec()),
            _ => Arrangement::Blended,
        };
        let curve = match first & CURVED {
            0 => None,
            _ => Some(Curve::read(&mut d, format.peak())?),
        };
        if d.position() < description.len() || w.position() < weights.len() {
            return Err(Error::format("the description of planes has bytes left: the file is damaged"));
        }
        let planes = Self::new(models, arrangement)?.with_curve(curve, format.colours());
        Ok(planes.with_turned(first & TURNED != 0))
    }
}

impl<M: Model + ?Sized> Model for Planes<M> {
    fn name(&self) -> &'static str {
        self.models.last().map_or("planes", |m| m.name())
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn curve(&self) -> Option<&Curve> {
        self.curve.as_ref().map(|(curve, _)| curve)
    }

    fn grids(&self) -> &[GridSpec] {
        &self.grids
    }

    fn layers(&self) -> usize {
        self.models.iter().map(|m| m.layers()).max().unwrap_or(1)
    }

    fn layer_grids(&self, layer: usize) -> Range<usize> {
        let ranges = self.parts().filter(|(m, _)| layer < m.layers()).map(|(m, range)| {
            let own = m.layer_grids(layer);
            range.start + own.start..range.start + own.end
        });
        ranges.reduce(|a, b| a.start..b.end).unwrap_or(0..0)
    }

    fn weights_count(&self) -> usize {
        self.models.iter().map(|m| m.weights_count()).sum()
    }

    fn macs_per_pixel(&self) -> f64 {
        self.models.iter().map(|m| m.macs_per_pixel()).sum()
    }

    fn memory(&self) -> u64 {
        self.models.iter().map(|m| m.memory()).sum()
    }

    fn tile_cost(&self, width: usize, height: usize) -> Cost {
        one_by_one(self.models.iter().map(|m| {
            let (w, h) = self.sides((width, height));
            let cost = m.tile_cost(w, h);
            let codes = m.grids().iter().map(|g| Rect::whole(w, h).shrunk(g.shift).area() * g.channels);
            let turned = if self.turned { CODE * codes.sum::<usize>() as u64 } else { 0 };
            Cost { memory: cost.memory + turned, ..cost }
        }))
    }

    fn synthesis_cost(&self, width: usize, height: usize, scale: u32) -> Cost {
        let area = width as u64 * height as u64;
        one_by_one(self.models.iter().map(|m| {
            let (w, h) = self.sides((width, height));
            let cost = m.synthesis_cost(w, h, scale);
            let planes = SAMPLE * area * m.channels() as u64;
            let turned = if self.turned { planes + CODE * support_of(m.as_ref(), w, h, scale) } else { 0 };
            Cost { memory: cost.memory + planes + turned, ..cost }
        }))
    }

    /// The segments of the models one after another, all but the last with their length before them.
    fn decode_tile(&self, level: Level, layer: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let mut r = Reader::new(segment);
        self.each_coded(layer, codes, |model, codes, last| {
            let length = match last {
                true => segment.len() - r.position(),
                false => r.varint(segment.len() as u64, "a segment's length")? as usize,
            };
            model.decode_tile(level, layer, r.take(length, "a segment")?, codes)
        })
    }

    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        let (region, size) = (self.rect(region), self.sides(size));
        let support = self.models.iter().flat_map(|m| m.support(region, size, scale));
        support.map(|r| self.rect(r)).collect()
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
        let mut first = 0;
        for (model, range) in self.parts() {
            let n = model.channels();
            let mut planes = try_vec(region.area() * n)?;
            if self.turned {
                let (size, part) = (self.sides(size), region.turned());
                let codes = turned_codes(&codes[range], &model.support(part, size, scale))?;
                let mut columns = try_vec(planes.len())?;
                model.synthesise(level, &codes, size, part, scale, peak, &mut columns)?;
                for (i, to) in planes.chunks_exact_mut(n).enumerate() {
                    let (x, y) = (i % region.width(), i / region.width());
                    to.copy_from_slice(&columns[(x * region.height() + y) * n..][..n]);
                }
            } else {
                model.synthesise(level, &codes[range], size, region, scale, peak, &mut planes)?;
            }
            let Arrangement::Map(map) = &self.arrangement else {
                planes.chunks_exact(n).zip(out.chunks_exact_mut(n)).for_each(|(from, to)| separate(from, peak, to));
                continue;
            };
            for (channel, plane) in map.iter().map(|p| usize::from(*p)).enumerate() {
                let Some(plane) = plane.checked_sub(first).filter(|p| *p < n) else { continue };
                let to = out[channel..].iter_mut().step_by(map.len());
                to.zip(planes[plane..].iter().step_by(n)).for_each(|(to, from)| *to = *from);
            }
            first += n;
        }
        if let Some((curve, colours)) = &self.curve {
            let pixels = out.chunks_exact_mut(self.channels);
            pixels.flat_map(|pixel| &mut pixel[..*colours]).for_each(|s| *s = curve.sample(*s));
        }
        Ok(())
    }
}

/// Bytes of a sample of a plane, and of a code.
const SAMPLE: u64 = 2;
const CODE: u64 = 2;

/// The codes on `rects`, which are turned, out of grids that are not.
fn turned_codes(grids: &[Grid], rects: &[Rect]) -> Result<Codes> {
    let cut = |(grid, rect): (&Grid, &Rect)| {
        let rect = if rect.is_empty() { Rect::default() } else { *rect };
        let mut codes = try_vec(rect.area() * grid.channels)?;
        let width = grid.rect.width();
        for (i, to) in codes.iter_mut().enumerate() {
            let (c, i) = (i / rect.area(), i % rect.area());
            let (x, y) = (rect.y0 + i / rect.width() - grid.rect.x0, rect.x0 + i % rect.width() - grid.rect.y0);
            *to = grid.codes[(c * grid.rect.height() + y) * width + x];
        }
        Ok(Grid { rect, channels: grid.channels, codes })
    };
    grids.iter().zip(rects).map(cut).collect()
}

/// Codes that a region of `width x height` pixels at a scale depends on, at most.
fn support_of(model: &(impl Model + ?Sized), width: usize, height: usize, scale: u32) -> u64 {
    /// Far enough from all edges.
    const MIDDLE: usize = 1 << 14;
    let region = Rect::new(MIDDLE, MIDDLE, MIDDLE + width, MIDDLE + height);
    let size = (2 * MIDDLE + width) << scale;
    let support = model.support(region, (size, (2 * MIDDLE + height) << scale), scale);
    // A region that begins elsewhere in a code of a grid may touch one more.
    let codes = support.iter().zip(model.grids()).filter(|(r, _)| !r.is_empty());
    codes.map(|(r, g)| (r.width() + 1) as u64 * (r.height() + 1) as u64 * g.channels as u64).sum()
}

/// The cost of parts that run one after another.
fn one_by_one(parts: impl Iterator<Item = Cost>) -> Cost {
    parts.fold(Cost::default(), |a, b| Cost { memory: a.memory.max(b.memory), work: a.work.saturating_add(b.work) })
}

/// How far planes of alpha, before they are taken times 7/8, may be from 0 and from `peak` and still mean transparent and
/// opaque, so that small errors do not make pictures slightly transparent.
fn margin(peak: u16) -> u64 {
    u64::from(peak) / 64
}

/// From a pixel of blended planes to colours and alpha. A colour under alpha of 0 is 0.
fn separate(planes: &[u16], peak: u16, pixel: &mut [u16]) {
    let (top, margin, last) = (u64::from(peak), margin(peak), planes.len() - 1);
    // Seven times what lies between the margins.
    let inner = 7 * (top - 2 * margin);
    let plane = (8 * u64::from(planes[last])).saturating_sub(7 * margin).min(inner);
    let alpha = (plane * top + inner / 2) / inner;
    for (sample, plane) in pixel.iter_mut().zip(&planes[..last]) {
        // 2 peak P = 2 peak C - peak (peak - alpha), and the colour is P / alpha.
        let premultiplied = (2 * top * u64::from(*plane)).saturating_sub(top * (top - alpha));
        *sample = if alpha == 0 { 0 } else { ((premultiplied + alpha) / (2 * alpha)).min(top) as u16 };
    }
    pixel[last] = alpha as u16;
}

/// The inverse of `separate`, but for rounding and colours that alpha hides.
#[cfg(feature = "fit")]
pub fn blend(pixel: &[u16], peak: u16, planes: &mut [u16]) {
    let (top, margin, last) = (u64::from(peak), margin(peak), pixel.len() - 1);
    let alpha = u64::from(pixel[last]);
    for (plane, sample) in planes.iter_mut().zip(&pixel[..last]) {
        *plane = ((2 * alpha * u64::from(*sample) + top * (top - alpha) + top) / (2 * top)) as u16;
    }
    // Times the peak.
    let wide = match alpha {
        0 => 0,
        a if a == top => top * top,
        a => margin * top + a * (top - 2 * margin),
    };
    planes[last] = ((7 * wide + 4 * top) / (8 * top)) as u16;
}

#[cfg(feature = "fit")]
impl Encode for Planes<dyn Encode> {
    fn family(&self) -> u8 {
        PLANES
    }

    fn write_description(&self, out: &mut Vec<u8>) {
        let blended = if self.arrangement == Arrangement::Blended { BLENDED } else { 0 };
        let curved = if self.curve.is_some() { CURVED } else { 0 };
        let turned = if self.turned { TURNED } else { 0 };
        out.push(self.models.len() as u8 | blended | curved | turned);
        for model in &self.models {
            let mut description = Vec::new();
            model.write_description(&mut description);
            out.extend([model.family(), model.channels() as u8]);
            write_varint(out, description.len() as u64);
            out.extend(description);
        }
        if let Arrangement::Map(map) = &self.arrangement {
            out.extend(map);
        }
        if let Some((curve, _)) = &self.curve {
            curve.write(out);
        }
    }

    fn write_weights(&self, out: &mut Vec<u8>) {
        for model in &self.models {
            let mut weights = Vec::new();
            model.write_weights(&mut weights);
            write_varint(out, weights.len() as u64);
            out.extend(weights);
        }
    }

    fn encode_tile(&self, level: Level, layer: usize, codes: &Codes) -> Vec<u8> {
        let mut out = Vec::new();
        let each = self.each_coded(layer, &mut codes.clone(), |model, codes, last| {
            let segment = model.encode_tile(level, layer, codes);
            if !last {
                write_varint(&mut out, segment.len() as u64);
            }
            out.extend(segment);
            Ok(())
        });
        each.expect("nothing above fails");
        out
    }
}

impl<M: Model + ?Sized> std::fmt::Debug for Planes<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Planes").field("models", &self.models.len()).field("arrangement", &self.arrangement).finish()
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// On black and on white a pixel looks as it did before it was blended, within the rounding of its planes.
        #[test]
        fn pixels_come_back(peak in prop::sample::select(vec![255u16, 1023, 4095, 65535]), colour: [u16; 3], alpha: u16, end in 0usize..4) {
            let alpha = [0, peak, alpha % (peak / 2), alpha % peak][end];
            let pixel = [colour[0] % peak, colour[1] % peak, colour[2] % peak, alpha];
            let (mut planes, mut back) = ([0; 4], [0; 4]);
            blend(&pixel, peak, &mut planes);
            separate(&planes, peak, &mut back);
            if alpha == 0 || alpha == peak {
                prop_assert_eq!(back[3], alpha);
            }
            // A step of its plane is 8/7 peak / (peak - 2 margin), less than 1.2, and it is rounded twice.
            prop_assert!(back[3].abs_diff(alpha) <= 1, "{:?} {:?}", pixel, back);
            let on = |p: &[u16; 4], c: usize, ground: f64| {
                let a = f64::from(p[3]) / f64::from(peak);
                a * f64::from(p[c]) + (1.0 - a) * ground
            };
            for c in 0..3 {
                for ground in [0.0, f64::from(peak)] {
                    let (a, b) = (on(&pixel, c, ground), on(&back, c, ground));
                    prop_assert!((a - b).abs() <= 2.5, "{:?} {:?} {}: {} {}", pixel, back, ground, a, b);
                }
            }
        }
    }
}
