//! What a family fits, and what is coded beside it. Equal colour channels become one plane, alpha is coded apart and exactly
//! or nearly so, and colours that alpha hides become a smooth continuation of the visible ones. Before that a tone curve may take
//! the samples of a high dynamic range to those that are fitted, and narrow pictures are turned.

use super::options::Domain;
use super::{domain, lossless, narrow, Fitted};
use crate::error::Result;
use crate::image::{Picture, PixelFormat};
use crate::models::lossless::model::LosslessModel;
use crate::models::planes::{blend, Arrangement, Planes};
use crate::models::tone::Curve;
use crate::models::{Codes, Encode};
use std::borrow::Cow;
use std::sync::Arc;

/// Pictures prepared for a fit.
pub struct Prepared<'a> {
    /// The pictures as they will be decoded, without alpha that is opaque everywhere.
    pub pictures: Cow<'a, [Picture]>,
    /// The planes for the family.
    pub colours: Cow<'a, [Picture]>,
    /// The tone curve from the planes to the samples.
    pub curve: Option<Curve>,
    /// Whether rows and columns of the planes are exchanged.
    turned: bool,
    alpha: Option<CodedAlpha>,
    /// How the channels come from planes, if these are not the channels.
    arrangement: Option<Arrangement>,
}

/// Alpha that is coded apart.
struct CodedAlpha {
    model: Arc<dyn Encode>,
    /// The codes of each picture.
    codes: Vec<Codes>,
    /// Bytes of these codes, as one tile a picture.
    bytes: u64,
}

impl CodedAlpha {
    /// No sample differs by more than `most`.
    fn new(pictures: &[Picture], most: u16) -> CodedAlpha {
        let (model, codes) = encoded(&alphas(pictures), most);
        let bytes = codes.iter().map(|c| model.encode_tile(kernels::Level::best(), 0, c).len() as u64).sum();
        CodedAlpha { model: Arc::new(model), codes, bytes }
    }
}

/// How alpha is coded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Alpha {
    /// Apart from colour; no sample differs by more than this.
    Apart(u16),
    /// Without loss where that costs next to nothing, else together with colour, so that composed pictures are near the
    /// original.
    Automatic,
}

/// Bits a pixel that alpha without loss may cost. Three pictures of soft and detailed alpha have 0.14 to 2.2; files that code
/// it with colour are 10 to 40 % smaller.
const LITTLE: f64 = 0.01;

impl<'a> Prepared<'a> {
    /// Prepares pictures of one format.
    pub fn new(pictures: &'a [Picture], alpha: Alpha, domain: Domain) -> Self {
        let pictures = without_opaque_alpha(pictures);
        let (curve, turned) = (domain::curve(&pictures, domain), narrow::are_turned(&pictures));
        if curve.is_none() && !turned {
            return Self::of_samples(pictures, alpha);
        }
        let mut fitted = curve.as_ref().map_or_else(|| pictures.to_vec(), |c| domain::stretched(&pictures, c));
        if turned {
            fitted = fitted.iter().map(narrow::turned).collect();
        }
        let Prepared { colours, alpha, arrangement, .. } = Self::of_samples(Cow::Owned(fitted), alpha);
        let channels = pictures[0].format.channels as u8;
        let arrangement = arrangement.or(Some(Arrangement::Map((0..channels).collect())));
        Prepared { pictures, colours, curve, turned, alpha, arrangement }
    }

    /// Prepares pictures whose samples are fitted as and where they are.
    fn of_samples(pictures: Cow<'a, [Picture]>, alpha: Alpha) -> Self {
        let format = pictures[0].format;
        let grey = format.colours() > 1 && pictures.iter().all(|p| has_equal_colours(p, Hidden::Ignored));
        if !format.alpha && !grey {
            return Prepared {
                colours: pictures.clone(),
                pictures,
                curve: None,
                turned: false,
                alpha: None,
                arrangement: None,
            };
        }
        let most = if let Alpha::Apart(most) = alpha { most } else { 0 };
        let apart = format.alpha.then(|| CodedAlpha::new(&pictures, most));
        let pixels: usize = pictures.iter().map(Picture::pixels).sum();
        let cost = apart.as_ref().map_or(0.0, |a| 8.0 * a.bytes as f64 / pixels as f64);
        if alpha == Alpha::Automatic && cost > LITTLE {
            let colours = pictures.iter().map(blended).collect();
            let arrangement = Some(Arrangement::Blended);
            return Prepared { colours, pictures, curve: None, turned: false, alpha: None, arrangement };
        }
        let planes = if grey { 1 } else { format.colours() };
        let colours = pictures.iter().map(|p| if format.alpha { filled(p) } else { p.clone() });
        let colours = colours.map(|p| p.channels(0..planes)).collect();
        // The plane of alpha comes first: see `Planes`.
        let first = u8::from(format.alpha);
        let colour = (0..format.colours() as u8).map(|c| first + if grey { 0 } else { c });
        let map = colour.chain(format.alpha.then_some(0)).collect();
        let arrangement = Some(Arrangement::Map(map));
        Prepared { pictures, colours: Cow::Owned(colours), curve: None, turned: false, alpha: apart, arrangement }
    }

    /// Pictures of which nothing is fitted: only [`Self::nearly_exact`] makes a file of them.
    pub fn unfitted(pictures: &'a [Picture]) -> Self {
        let pictures = without_opaque_alpha(pictures);
        Prepared { pictures, colours: Cow::Borrowed(&[]), curve: None, turned: false, alpha: None, arrangement: None }
    }

    /// The model of all channels from one of the colours.
    ///
    /// # Errors
    /// Those of [`Planes::new`].
    pub fn assemble(&self, colours: Fitted) -> Result<Fitted> {
        let Some(arrangement) = &self.arrangement else { return Ok(colours) };
        let Fitted { model, mut codes, tile } = colours;
        let mut models: Vec<Arc<dyn Encode>> = Vec::new();
        if let Some(alpha) = &self.alpha {
            models.push(alpha.model.clone());
            for (codes, alpha) in codes.iter_mut().zip(&alpha.codes) {
                codes.splice(0..0, alpha.iter().cloned());
            }
        }
        models.push(model.into());
        if self.turned {
            codes.iter_mut().flatten().for_each(|grid| *grid = grid.turned());
        }
        let planes = Planes::new(models, arrangement.clone())?;
        let planes = planes.with_curve(self.curve.clone(), self.pictures[0].format.colours()).with_turned(self.turned);
        Ok(Fitted { model: Box::new(planes), codes, tile })
    }

    /// All channels coded so that no sample differs by more than `max_error`: a model and codes without a fit.
    ///
    /// # Errors
    /// Those of [`Planes::new`].
    pub fn nearly_exact(&self, max_error: u16, tile: usize) -> Result<Fitted> {
        let format = self.pictures[0].format;
        let mut pictures = self.pictures.clone();
        let grey = format.colours() > 1 && self.pictures.iter().all(|p| has_equal_colours(p, Hidden::Counted));
        let map = grey.then(|| {
            pictures = self.pictures.iter().map(with_one_colour).collect();
            (0..format.channels).map(|c| u8::from(c >= format.colours())).collect()
        });
        let (model, codes) = encoded(&pictures, max_error);
        let model: Box<dyn Encode> = match map {
            Some(map) => Box::new(Planes::new(vec![Arc::new(model) as Arc<dyn Encode>], Arrangement::Map(map))?),
            None => Box::new(model),
        };
        Ok(Fitted { model, codes, tile })
    }

    /// Bytes of alpha, about: a size that is aimed at includes them.
    pub fn alpha_bytes(&self) -> u64 {
        self.alpha.as_ref().map_or(0, |a| a.bytes)
    }
}

/// A lossless model of pictures of one format, and their codes.
fn encoded(pictures: &[Picture], max_error: u16) -> (LosslessModel, Vec<Codes>) {
    let PixelFormat { channels, depth, .. } = pictures[0].format;
    let plane = |p: &Picture, c: usize| p.samples.iter().skip(c).step_by(channels).copied().collect::<Vec<_>>();
    let samples: Vec<Vec<u16>> = pictures.iter().map(|p| (0..channels).flat_map(|c| plane(p, c)).collect()).collect();
    let planes = pictures.iter().zip(&samples);
    let planes: Vec<_> =
        planes.map(|(p, samples)| lossless::Planes { width: p.width, height: p.height, samples }).collect();
    lossless::encode(&planes, channels, depth, max_error)
}

/// The pictures without their alpha, if all of it is opaque.
fn without_opaque_alpha(pictures: &[Picture]) -> Cow<'_, [Picture]> {
    let opaque = |p: &Picture| {
        let (channels, peak) = (p.format.channels, p.format.peak());
        p.format.alpha && p.samples.chunks_exact(channels).all(|pixel| pixel[channels - 1] == peak)
    };
    match pictures.iter().all(opaque) {
        true => Cow::Owned(pictures.iter().map(|p| p.channels(0..p.format.colours())).collect()),
        false => Cow::Borrowed(pictures),
    }
}

/// Whether colours under alpha of 0 count.
#[derive(Clone, Copy, PartialEq)]
enum Hidden {
    Counted,
    Ignored,
}

/// Whether all colour channels are equal.
fn has_equal_colours(p: &Picture, hidden: Hidden) -> bool {
    let (channels, colours) = (p.format.channels, p.format.colours());
    p.samples.chunks_exact(channels).all(|pixel| {
        let ignored = hidden == Hidden::Ignored && p.format.alpha && pixel[channels - 1] == 0;
        ignored || pixel[..colours].iter().all(|s| *s == pixel[0])
    })
}

/// The picture on mid-grey, and its alpha: planes of a blended arrangement.
fn blended(p: &Picture) -> Picture {
    let (channels, peak) = (p.format.channels, p.format.peak());
    let mut samples = vec![0; p.samples.len()];
    let pixels = p.samples.chunks_exact(channels).zip(samples.chunks_exact_mut(channels));
    pixels.for_each(|(pixel, planes)| blend(pixel, peak, planes));
    Picture { width: p.width, height: p.height, format: PixelFormat { alpha: false, ..p.format }, samples }
}

/// The picture with the first of its colour channels alone, and alpha if there is.
fn with_one_colour(p: &Picture) -> Picture {
    let (channels, colours) = (p.format.channels, p.format.colours());
    let samples =
        p.samples.chunks_exact(channels).flat_map(|v| std::iter::once(v[0]).chain(v[colours..].iter().copied()));
    let format = PixelFormat { channels: 1 + channels - colours, ..p.format };
    Picture { width: p.width, height: p.height, format, samples: samples.collect() }
}

/// The planes of alpha.
fn alphas(pictures: &[Picture]) -> Vec<Picture> {
    pictures.iter().map(|p| p.channels(p.format.colours()..p.format.channels)).collect()
}

/// A level of [`filled`]: colours times their weight, and weights, `[height][width][channels + 1]`.
struct Level {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// The picture with colours that alpha hides replaced by a smooth continuation of those around: means over larger and larger
/// blocks, weighted with alpha, where smaller ones are empty (the pull-push of Gortler et al., "The Lumigraph", 1996). A colour
/// that is nearly hidden is replaced where no composed picture shows the difference.
fn filled(p: &Picture) -> Picture {
    let (channels, colours, peak) = (p.format.channels, p.format.colours(), f32::from(p.format.peak()));
    let mut values = Vec::with_capacity(p.samples.len());
    for pixel in p.samples.chunks_exact(channels) {
        let alpha = f32::from(pixel[colours]) / peak;
        values.extend(pixel[..colours].iter().map(|s| alpha * f32::from(*s)));
        values.push(alpha);
    }
    let mut levels = vec![Level { width: p.width, height: p.height, values }];
    while let Some(last) = levels.last().filter(|l| l.width.max(l.height) > 1) {
        levels.push(halved(last, channels));
    }
    // From the coarsest level to the finest: the colours of each.
    let mut coarse: Vec<f32> = Vec::new();
    for k in (0..levels.len()).rev() {
        let level = &levels[k];
        let mut fine = Vec::with_capacity(level.width * level.height * colours);
        for (i, v) in level.values.chunks_exact(channels).enumerate() {
            let (weight, at) = (v[colours], (i % level.width, i / level.width));
            for c in 0..colours {
                let below = levels.get(k + 1).map_or(peak / 2.0, |l| interpolated(l, &coarse, colours, at, c));
                // A block of little weight says little.
                let trust = weight.min(1.0);
                fine.push(if weight > 0.0 { trust * (v[c] / weight) + (1.0 - trust) * below } else { below });
            }
        }
        coarse = fine;
    }
    let mut out = p.clone();
    for (pixel, smooth) in out.samples.chunks_exact_mut(channels).zip(coarse.chunks_exact(colours)) {
        let alpha = f32::from(pixel[colours]) / peak;
        for (s, v) in pixel.iter_mut().zip(smooth) {
            if alpha * (f32::from(*s) - v).abs() < 0.5 {
                *s = v.round() as u16;
            }
        }
    }
    out
}

/// The next coarser level: means of 2x2 blocks.
fn halved(fine: &Level, channels: usize) -> Level {
    let (width, height) = (fine.width.div_ceil(2), fine.height.div_ceil(2));
    let mut values = vec![0f32; width * height * channels];
    for y in 0..fine.height {
        let row = fine.values[y * fine.width * channels..][..fine.width * channels].chunks_exact(channels);
        for (x, v) in row.enumerate() {
            let to = &mut values[(y / 2 * width + x / 2) * channels..][..channels];
            to.iter_mut().zip(v).for_each(|(t, v)| *t += v);
        }
    }
    Level { width, height, values }
}

/// Channel `c` of the colours of a coarser level at the pixel `at` of the finer one, bilinear.
fn interpolated(level: &Level, values: &[f32], colours: usize, at: (usize, usize), c: usize) -> f32 {
    // The two nearest and the weight of the second: a fine pixel lies a quarter from the centre of its block.
    let near = |at: usize, n: usize| {
        let own = at / 2;
        let other = if at.is_multiple_of(2) { own.saturating_sub(1) } else { (own + 1).min(n - 1) };
        (own, other)
    };
    let ((x0, x1), (y0, y1)) = (near(at.0, level.width), near(at.1, level.height));
    let v = |x: usize, y: usize| values[(y * level.width + x) * colours + c];
    0.75 * (0.75 * v(x0, y0) + 0.25 * v(x1, y0)) + 0.25 * (0.75 * v(x0, y1) + 0.25 * v(x1, y1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u16; 4]) -> Picture {
        let samples = (0..width * height).flat_map(|i| pixel(i % width, i / width)).collect();
        Picture { width, height, format: PixelFormat::new(4, 8).with_alpha(), samples }
    }

    #[test]
    fn opaque_alpha_is_no_alpha() {
        let opaque = [picture(5, 4, |x, y| [x as u16, y as u16, 7, 255])];
        let prepared = Prepared::new(&opaque, Alpha::Apart(0), Domain::Linear);
        assert_eq!(prepared.pictures[0].format, PixelFormat::RGB);
        assert_eq!(prepared.pictures, prepared.colours);
        let other = [opaque[0].clone(), picture(5, 4, |x, _| [1, 2, 3, 255 - x as u16])];
        assert!(Prepared::new(&other, Alpha::Apart(0), Domain::Linear).pictures[0].format.alpha);
    }

    #[test]
    fn equal_colours_are_one_plane() {
        let grey = [picture(5, 4, |x, y| [(x * y) as u16; 4])];
        let prepared = Prepared::new(&grey, Alpha::Apart(0), Domain::Linear);
        assert_eq!(prepared.colours[0].format, PixelFormat::GREY);
        assert_eq!(prepared.arrangement, Some(Arrangement::Map(vec![1, 1, 1, 0])));
    }

    /// Colours stay where they can be seen, and hidden ones lie between the visible ones.
    #[test]
    fn hidden_colours_continue_the_visible_ones() {
        let noise = |x: usize, y: usize| ((x * 31 + y * 17) * 7 % 256) as u16;
        let p = picture(37, 23, |x, y| match x {
            0..=8 => [100, 20 + y as u16, 30, 255],
            28.. => [120, 60, 40, 128],
            _ => [noise(x, y), noise(y, x), 255, 0],
        });
        let filled = filled(&p);
        for (i, (new, old)) in filled.samples.chunks_exact(4).zip(p.samples.chunks_exact(4)).enumerate() {
            if old[3] > 0 {
                assert_eq!(new, old, "pixel {i}");
            } else {
                assert!((100..=120).contains(&new[0]) && (20..=60).contains(&new[1]) && (30..=40).contains(&new[2]));
            }
        }
    }
}
