//! Model families: what stands between the integer codes and the picture.
//!
//! A model is data read from the file: a latent layout, an entropy model, a synthesis network. The
//! container, the tiling, the range coder and the command line know nothing beyond [`Model`].

use crate::error::{Class, Error, Result};
use crate::image::Rect;
use alloc::{boxed::Box, format, vec, vec::Vec};
use kernels::Level;

pub mod gdn;
pub mod pyramid;

/// One grid of the latent field: `channels` planes of `ceil(height / 2^shift) x ceil(width / 2^shift)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GridSpec {
    pub shift: u32,
    pub channels: usize,
}

/// Integer codes of one grid over `rect` (in the grid's own coordinates): `[channels][height][width]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grid {
    pub rect: Rect,
    pub channels: usize,
    pub codes: Vec<i16>,
}

impl Grid {
    pub fn new(rect: Rect, channels: usize) -> Self {
        Grid { rect, channels, codes: vec![0; rect.area() * channels] }
    }

    /// Copies the overlap of `other` into this grid.
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

/// Codes of a part of the picture, one [`Grid`] for each [`GridSpec`], in the same order.
pub type Codes = Vec<Grid>;

/// The decoder's half of a family. Shapes: the picture is `height x width x channels`.
pub trait Model: Send + Sync {
    /// The family's name as `--model` and `info` know it.
    fn name(&self) -> &'static str;

    /// Channels of the picture, 1 or 3.
    fn channels(&self) -> usize;

    /// The latent layout, in coding order.
    fn grids(&self) -> &[GridSpec];

    /// How many segments a tile has. Layer 0 is the coarse part, which a preview needs; a model
    /// without one has a single layer. A layer codes a contiguous range of `grids()`.
    fn layers(&self) -> usize {
        1
    }

    /// The range of `grids()` that `layer` codes.
    fn layer_grids(&self, layer: usize) -> std::ops::Range<usize> {
        let _ = layer;
        0..self.grids().len()
    }

    /// Number of weights in the file.
    fn weights_count(&self) -> usize;

    /// Multiplications a pixel of a decode, entropy model included.
    fn macs_per_pixel(&self) -> f64;

    /// Decodes one layer of one tile. `codes` has every grid over the tile's rectangle; the grids of
    /// earlier layers are filled. Probabilities are integers; contexts outside the tile are 0.
    ///
    /// Any bytes whatsoever give codes or an error.
    fn decode_tile(&self, level: Level, layer: usize, segment: &[u8], codes: &mut Codes) -> Result<()>;

    /// The codes that `region` (pixels) depends on, a rectangle in each grid's coordinates (cut to
    /// the grid) for a picture of `size` (width, height).
    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect>;

    /// Synthesises `region` at `1/2^scale` of a picture of `size` into `out`, interleaved 8-bit samples.
    /// `region` is in pixels of the scaled picture (`ceil(side / 2^scale)`). `codes` covers at least
    /// `support(region, size, scale)`; the result must not depend on how much more it covers.
    /// Memory beyond `out` is bounded by the region.
    fn synthesise(
        &self,
        level: Level,
        codes: &Codes,
        size: (usize, usize),
        region: Rect,
        scale: u32,
        out: &mut [u8],
    ) -> Result<()>;

    /// Grids that `synthesise` needs at `1/2^scale`: a preview skips the finer ones.
    fn grids_for_scale(&self, scale: u32) -> std::ops::Range<usize> {
        let _ = scale;
        0..self.grids().len()
    }
}

/// What the encoder asks of a fitted model beyond [`Model`].
#[cfg(feature = "fit")]
pub trait Encode: Model {
    /// The family byte of the header.
    fn family(&self) -> u8;

    /// The model description of the header.
    fn write_description(&self, out: &mut Vec<u8>);

    /// The weights section.
    fn write_weights(&self, out: &mut Vec<u8>);

    /// The segment of one layer of one tile: the inverse of [`Model::decode_tile`].
    fn encode_tile(&self, level: Level, layer: usize, codes: &Codes) -> Vec<u8>;

    /// The decoder's view.
    fn as_model(&self) -> &dyn Model;
}

/// Family bytes of the header.
pub const GDN: u8 = 1;
pub const PYRAMID: u8 = 3;
#[cfg(test)]
pub const TEST: u8 = 255;

/// The model that a header describes.
pub fn read_model(family: u8, channels: usize, description: &[u8], weights: &[u8]) -> Result<Box<dyn Model>> {
    let model: Box<dyn Model> = match family {
        PYRAMID => Box::new(pyramid::model::PyramidModel::read(description, weights)?),
        GDN => Box::new(gdn::GdnModel::read(channels, description, weights)?),
        #[cfg(all(test, feature = "fit"))]
        TEST => Box::new(crate::decoder::tests::Echo::read(description)),
        _ => {
            return Err(Error::new(
                Class::Unsupported,
                format!("model family {family}: this program knows gdn ({GDN}) and pyramid ({PYRAMID})"),
            ))
        }
    };
    if model.channels() != channels {
        return Err(Error::format(format!("the model has {} channels, the header {channels}", model.channels())));
    }
    Ok(model)
}
