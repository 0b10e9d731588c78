//! Model families: what stands between the integer codes and the picture.
//!
//! A model is data read from the file: the layout of its grids of codes, an entropy model for these codes, and a
//! synthesis network. The container, the tiling, the range coder and the command line use the trait [`Model`] and know
//! nothing else about a family.
//!
//! To add a family: implement [`Model`], and [`Encode`] for the encoder, and add a line to [`FAMILIES`].

use crate::error::{Class, Error, Result};
use crate::image::{PixelFormat, Rect};
use crate::limits::Limits;
use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
use kernels::Level;
use std::ops::Range;

#[cfg(all(test, feature = "fit"))]
pub(crate) mod echo;
pub mod gdn;
pub mod hyperprior;
pub mod lossless;
pub mod planes;
pub mod pyramid;
pub mod tone;
pub mod transform;

/// The layout of one grid of codes: `channels` planes of `ceil(height / 2^shift) x ceil(width / 2^shift)` codes for a
/// picture of `height x width` pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GridSpec {
    /// The grid is at `1/2^shift` of the picture's resolution.
    pub shift: u32,
    /// Codes at each position.
    pub channels: usize,
}

/// Integer codes of one grid, or of a rectangle of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grid {
    /// Which part of the grid this is, in codes.
    pub rect: Rect,
    /// Codes at each position.
    pub channels: usize,
    /// `[channels][rect.height()][rect.width()]`
    pub codes: Vec<i16>,
}

impl Grid {
    /// A grid of zeros over `rect`.
    pub fn new(rect: Rect, channels: usize) -> Self {
        Grid { rect, channels, codes: vec![0; rect.area() * channels] }
    }

    /// The grid with rows and columns exchanged.
    pub fn turned(&self) -> Grid {
        let (width, height) = (self.rect.width(), self.rect.height());
        let mut codes = Vec::with_capacity(self.codes.len());
        for plane in self.codes.chunks_exact((width * height).max(1)) {
            codes.extend((0..width).flat_map(|x| plane[x..].iter().step_by(width).copied()));
        }
        Grid { rect: self.rect.turned(), channels: self.channels, codes }
    }

    /// Copies the overlap of `other`, which has the same channels, into this grid.
    pub fn paste(&mut self, other: &Grid) {
        let r = self.rect.intersect(&other.rect);
        if r.is_empty() {
            return;
        }
        for c in 0..self.channels {
            for y in r.y0..r.y1 {
                let to = (c * self.rect.height() + y - self.rect.y0) * self.rect.width() + r.x0 - self.rect.x0;
                let from = (c * other.rect.height() + y - other.rect.y0) * other.rect.width() + r.x0 - other.rect.x0;
                self.codes[to..to + r.width()].copy_from_slice(&other.codes[from..from + r.width()]);
            }
        }
    }
}

/// Codes of a picture, or of a part of it: one [`Grid`] for each [`GridSpec`] of the model, in the same order.
pub type Codes = Vec<Grid>;

/// What a part of a decode takes at most. The decoder adds these up and compares them with its limits before it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Bytes that are allocated, besides the codes and the samples that go in and out.
    pub memory: u64,
    /// Multiplications, about; other work counts as the multiplications that take as long.
    pub work: u64,
}

/// The decoder's half of a family. The picture has `height x width x channels` samples.
pub trait Model: Send + Sync {
    /// The name of its family; of several models in one file that of the one for colour.
    fn name(&self) -> &'static str;

    /// Channels of the picture.
    fn channels(&self) -> usize;

    /// The tone curve that the samples have passed, if there is one.
    fn curve(&self) -> Option<&tone::Curve> {
        None
    }

    /// The layout of the codes, in coding order.
    fn grids(&self) -> &[GridSpec];

    /// Number of layers: a tile has one segment for each. Layer 0 has the coarse grids, which a preview needs; a model
    /// that does not divide its grids has one layer.
    fn layers(&self) -> usize {
        1
    }

    /// The grids that `layer` codes, a contiguous range of [`grids`](Self::grids).
    fn layer_grids(&self, layer: usize) -> Range<usize> {
        let _ = layer;
        0..self.grids().len()
    }

    /// Number of weights in the file.
    fn weights_count(&self) -> usize;

    /// Multiplications for each pixel of a decoded picture, those of the entropy model included.
    fn macs_per_pixel(&self) -> f64;

    /// Bytes that the model itself holds.
    fn memory(&self) -> u64;

    /// What [`decode_tile`](Self::decode_tile) takes for all layers of a tile of `width x height` pixels; memory is that of
    /// one layer at a time.
    fn tile_cost(&self, width: usize, height: usize) -> Cost;

    /// What [`synthesise`](Self::synthesise) takes for a region of `width x height` pixels at `1/2^scale`. Memory is what
    /// each thread that takes part allocates.
    fn synthesis_cost(&self, width: usize, height: usize, scale: u32) -> Cost;

    /// Decodes one layer of one tile into `codes`, which has every grid over the tile's rectangle; the grids of earlier
    /// layers are already filled. The entropy model works in integers and takes codes outside the tile as 0.
    ///
    /// Any bytes give codes or an error; there is no panic.
    fn decode_tile(&self, level: Level, layer: usize, segment: &[u8], codes: &mut Codes) -> Result<()>;

    /// The codes that `region` depends on: for each grid a rectangle in codes, cut to the grid. `region` is in pixels of
    /// the picture at `1/2^scale`, `size` is width and height of the full-size picture.
    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect>;

    /// Computes the samples of `region`, interleaved, `0 ..= peak`, into `out`.
    ///
    /// `region` is in pixels of the picture at `1/2^scale` (`ceil(side / 2^scale)` a side), `size` is width and height of
    /// the full-size picture. `codes` covers at least [`support`](Self::support); the samples do not depend on how much
    /// more it covers. The memory that it takes is bounded by the region.
    fn synthesise(
        &self,
        level: Level,
        codes: &[Grid],
        size: (usize, usize),
        region: Rect,
        scale: u32,
        peak: u16,
        out: &mut [u16],
    ) -> Result<()>;
}

/// What the encoder needs of a fitted model beyond [`Model`].
#[cfg(feature = "fit")]
pub trait Encode: Model {
    /// The family byte of the header, see [`FAMILIES`].
    fn family(&self) -> u8;

    /// Appends the model description of the header.
    fn write_description(&self, out: &mut Vec<u8>);

    /// Appends the weights section.
    fn write_weights(&self, out: &mut Vec<u8>);

    /// The segment of one layer of one tile: the inverse of [`Model::decode_tile`].
    fn encode_tile(&self, level: Level, layer: usize, codes: &Codes) -> Vec<u8>;
}

#[cfg(feature = "fit")]
impl dyn Encode + '_ {
    /// The decoder's half.
    pub fn as_model(&self) -> &dyn Model {
        self
    }
}

/// Family byte of `gdn`.
pub const GDN: u8 = 1;
/// Family byte of `lossless`.
pub const LOSSLESS: u8 = 4;
/// Family byte of [`planes`].
pub const PLANES: u8 = 5;
/// Family byte of `hyperprior`.
pub const HYPERPRIOR: u8 = 2;
/// Family byte of `pyramid`.
pub const PYRAMID: u8 = 3;
#[cfg(test)]
pub(crate) const TEST: u8 = 255;

/// Makes a model from the pixel format in the header, the model description and the weights section, within the memory that
/// the limits allow.
type ReadFn = fn(PixelFormat, &[u8], &[u8], &Limits) -> Result<Box<dyn Model>>;

/// Byte, name (as in `--model`) and reader of each family that this build decodes.
pub const FAMILIES: &[(u8, &str, ReadFn)] = &[
    (GDN, "gdn", |format, spec, weights, limits| {
        Ok(Box::new(gdn::GdnModel::read(format.channels, spec, weights, limits)?))
    }),
    (PYRAMID, "pyramid", |format, spec, weights, _| {
        Ok(Box::new(pyramid::model::PyramidModel::read(format.channels, spec, weights)?))
    }),
    (LOSSLESS, "lossless", |format, spec, weights, _| {
        Ok(Box::new(lossless::model::LosslessModel::read(format.channels, format.depth, spec, weights)?))
    }),
    (PLANES, "planes", |format, spec, weights, limits| {
        Ok(Box::new(planes::Planes::<dyn Model>::read(format, spec, weights, limits)?))
    }),
    (HYPERPRIOR, "hyperprior", |format, spec, weights, limits| {
        Ok(Box::new(hyperprior::HyperModel::read(format.channels, spec, weights, limits)?))
    }),
    #[cfg(all(test, feature = "fit"))]
    (TEST, "echo", |_, spec, _, _| Ok(Box::new(echo::Echo::read(spec)))),
];

/// The model that a header describes.
///
/// # Errors
/// [`Class::Unsupported`] for a family that this build does not decode, [`Class::MemoryLimit`] for more weights than `limits`
/// allow, [`Class::Format`] for a description or weights that break the format.
pub fn read_model(
    family: u8,
    format: PixelFormat,
    description: &[u8],
    weights: &[u8],
    limits: &Limits,
) -> Result<Box<dyn Model>> {
    let Some((.., read)) = FAMILIES.iter().find(|(byte, ..)| *byte == family) else {
        let known: Vec<String> = FAMILIES.iter().map(|(byte, name, _)| format!("{name} ({byte})")).collect();
        let message = format!("model family {family}: this program decodes {}", known.join(", "));
        return Err(Error::new(Class::Unsupported, message));
    };
    let model = read(format, description, weights, limits)?;
    if model.channels() != format.channels {
        let (has, wants) = (model.channels(), format.channels);
        return Err(Error::format(format!("the model has {has} channels, the header {wants}")));
    }
    Ok(model)
}
