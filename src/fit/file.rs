//! Writes the file of a fitted model (tiles, segments, index), decodes it for the digest, and measures its quality. Sizes and
//! qualities of candidates always come from here: from the real bytes and the decoded pictures.

use super::target::Measured;
use super::Fitted;
use crate::container::header::{Header, PictureInfo, Segment, VERSION};
use crate::crc::crc32;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::image::{Picture, Rect};
use crate::limits::Limits;
use crate::metrics;
use crate::models::tone::Curve;
use crate::models::{Codes, Grid, GridSpec, Model};
use kernels::Level;
use rayon::prelude::*;

/// A file, its bytes by section, and its decoded pictures.
#[derive(Clone, Debug)]
pub struct Written {
    /// The model's family.
    pub model: &'static str,
    /// The tone curve of the samples, if there is one.
    pub curve: Option<Curve>,
    pub bytes: Vec<u8>,
    pub header_bytes: usize,
    pub weights_bytes: usize,
    pub codes_bytes: usize,
    pub metadata_bytes: usize,
    pub decoded: Vec<Picture>,
}

/// Writes `fitted` as a file with a section of [`metadata`](crate::container::metadata), and decodes it. `pictures` are the
/// originals; only their sizes are used. `visual` says whether the fit was one for the eye.
pub fn write(fitted: &Fitted, pictures: &[Picture], metadata: &[u8], visual: bool) -> Result<Written> {
    let model = fitted.model.as_model();
    let mut description = Vec::new();
    fitted.model.write_description(&mut description);
    let mut weights = Vec::new();
    fitted.model.write_weights(&mut weights);
    let mut header = Header {
        version: VERSION,
        family: fitted.model.family(),
        format: pictures[0].format,
        pictures: pictures.iter().map(|p| PictureInfo { width: p.width, height: p.height, digest: 0 }).collect(),
        tile: fitted.tile,
        visual,
        description,
        weights,
        metadata: metadata.to_vec(),
        layers: model.layers(),
        segments: Vec::new(),
        first_tiles: Vec::new(),
        length: 0,
    };
    let tiles: Vec<(usize, usize)> =
        (0..pictures.len()).flat_map(|p| (0..header.tiles(p)).map(move |t| (p, t))).collect();
    let mut payload = Vec::new();
    for layer in 0..header.layers {
        let encode = |&(p, t): &(usize, usize)| {
            let codes = part(model.grids(), &fitted.codes[p], header.tile_rect(p, t));
            fitted.model.encode_tile(Level::best(), layer, &codes)
        };
        let segments: Vec<Vec<u8>> = tiles.par_iter().map(encode).collect();
        for s in segments {
            header.segments.push(Segment { offset: 0, length: s.len(), crc: crc32(&s) });
            payload.extend(s);
        }
    }
    let mut bytes = header.write();
    bytes.extend(&payload);
    let decoder = Decoder::new(&bytes, Limits::NONE)?;
    let decoded = (0..pictures.len()).map(|i| decoder.decode(i)).collect::<Result<Vec<_>>>()?;
    for (info, picture) in header.pictures.iter_mut().zip(&decoded) {
        info.digest = picture.digest();
    }
    let mut bytes = header.write();
    let header_bytes = bytes.len() - header.weights.len() - header.metadata.len();
    bytes.extend(&payload);
    Ok(Written {
        model: model.name(),
        curve: model.curve().cloned(),
        bytes,
        header_bytes,
        weights_bytes: header.weights.len(),
        codes_bytes: payload.len(),
        metadata_bytes: header.metadata.len(),
        decoded,
    })
}

/// Bytes of header, index and coder termination of a file with one segment, and of each further segment. A tile has two
/// segments: one is for its coarse grids.
const OVERHEAD: f64 = 44.0;
const OVERHEAD_A_SEGMENT: f64 = 8.0;

/// Estimates the bytes of a file of `pictures` besides codes and weights; `tile` is the side of its tiles, 0 for no tiling.
pub fn overhead(pictures: &[Picture], tile: usize) -> f64 {
    let segments = |p: &Picture| match tile {
        0 => 1,
        side => 2 * p.width.div_ceil(side) * p.height.div_ceil(side),
    };
    OVERHEAD + OVERHEAD_A_SEGMENT * (pictures.iter().map(segments).sum::<usize>() as f64 - 1.0)
}

/// Cuts the codes of the tile that covers `pixels` out of whole-picture grids.
fn part(specs: &[GridSpec], codes: &Codes, pixels: Rect) -> Codes {
    let cut = |(spec, all): (&GridSpec, &Grid)| {
        let mut tile = Grid::new(pixels.shrunk(spec.shift), spec.channels);
        tile.paste(all);
        tile
    };
    specs.iter().zip(codes).map(cut).collect()
}

/// Synthesises one picture from all of its `codes`, as a decoder does.
pub fn decoded(model: &dyn Model, picture: &Picture, codes: &Codes) -> Picture {
    let size = (picture.width, picture.height);
    let mut samples = vec![0; picture.samples.len()];
    let done = model.synthesise(
        Level::best(),
        codes,
        size,
        Rect::whole(size.0, size.1),
        0,
        picture.format.peak(),
        &mut samples,
    );
    done.expect("codes of this model");
    Picture { width: size.0, height: size.1, format: picture.format, samples }
}

/// Quality of decoded pictures: MSE over all samples, the other measures as the mean over the pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Mean squared error of samples in `[0, 1]`.
    pub mse: f64,
    /// `None` if a picture is too small for MS-SSIM.
    pub ms_ssim: Option<f64>,
    /// `None` if a picture has no score of SSIMULACRA2.
    pub ssimulacra2: Option<f64>,
}

impl Quality {
    /// Measures `decoded` against `pictures`.
    pub fn of(pictures: &[Picture], decoded: &[Picture]) -> Quality {
        let (mut squares, mut pixels, mut ms_ssim, mut ssimulacra2) = (0.0, 0.0, Some(0.0), Some(0.0));
        let add = |sum: &mut Option<f64>, value: Option<f64>| {
            *sum = sum.zip(value).map(|(sum, value)| sum + value / pictures.len() as f64);
        };
        for (a, b) in pictures.iter().zip(decoded) {
            squares += metrics::mse(a, b) * a.pixels() as f64;
            pixels += a.pixels() as f64;
            add(&mut ms_ssim, metrics::ms_ssim(a, b));
            add(&mut ssimulacra2, metrics::ssimulacra2(a, b));
        }
        Quality { mse: squares / pixels, ms_ssim, ssimulacra2 }
    }

    /// PSNR in dB, infinite for equal pictures.
    pub fn psnr(&self) -> f64 {
        metrics::mse_to_psnr(self.mse)
    }

    /// The measures that targets are compared with, for a file of `bytes` bytes.
    pub fn measured(&self, bytes: usize) -> Measured {
        let (ms_ssim, ssimulacra2) = (self.ms_ssim.unwrap_or(1.0), self.ssimulacra2.unwrap_or(100.0));
        Measured { ms_ssim, ssimulacra2, ..Measured::new(self.mse, bytes as f64) }
    }
}
