//! From a fitted model to a file: tiles, segments, index, and the digest of what it really decodes to.

use crate::container::crc::crc32;
use crate::container::header::{Header, PictureInfo, Segment, VERSION};
use crate::decoder::Decoder;
use crate::error::Result;
use crate::fit::Fitted;
use crate::image::{Picture, Rect};
use crate::limits::Limits;
use crate::models::{Codes, Grid, GridSpec};
use kernels::Level;
use rayon::prelude::*;

/// A file, where its bytes went, and what it decodes to.
#[derive(Clone, Debug)]
pub struct Written {
    pub bytes: Vec<u8>,
    pub header_bytes: usize,
    pub weights_bytes: usize,
    pub codes_bytes: usize,
    pub metadata_bytes: usize,
    pub decoded: Vec<Picture>,
}

/// Writes `fitted` as a file and decodes it. Sizes of the pictures come from the originals.
pub fn write_file(fitted: &Fitted, pictures: &[Picture]) -> Result<Written> {
    write_file_with(fitted, pictures, Vec::new())
}

/// [`write_file`] with a section of [`metadata`](crate::container::metadata).
pub fn write_file_with(fitted: &Fitted, pictures: &[Picture], metadata: Vec<u8>) -> Result<Written> {
    let model = fitted.model.as_model();
    let mut description = Vec::new();
    fitted.model.write_description(&mut description);
    let mut weights = Vec::new();
    fitted.model.write_weights(&mut weights);
    let mut header = Header {
        version: VERSION,
        family: fitted.model.family(),
        channels: pictures[0].channels,
        pictures: pictures.iter().map(|p| PictureInfo { width: p.width, height: p.height, digest: 0 }).collect(),
        tile: fitted.tile,
        description,
        weights,
        metadata,
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
        info.digest = crc32(&picture.samples);
    }
    let mut bytes = header.write();
    let header_bytes = bytes.len() - header.weights.len() - header.metadata.len();
    bytes.extend(&payload);
    Ok(Written {
        bytes,
        header_bytes,
        weights_bytes: header.weights.len(),
        codes_bytes: payload.len(),
        metadata_bytes: header.metadata.len(),
        decoded,
    })
}

/// The codes of the tile that covers `pixels`.
fn part(specs: &[GridSpec], codes: &Codes, pixels: Rect) -> Codes {
    let cut = |(spec, all): (&GridSpec, &Grid)| {
        let mut tile = Grid::new(pixels.shrunk(spec.shift), spec.channels);
        tile.paste(all);
        tile
    };
    specs.iter().zip(codes).map(cut).collect()
}
