//! One open file; arguments and results are numbers and bytes.

use alloc::format;
use alloc::vec::Vec;
use tilefit::decoder::Decoder;
use tilefit::{Class, Error, Limits, Picture, Rect, Result};

/// Limits for 32-bit memory: 2 of its 4 GiB for a decode.
const LIMITS: Limits = Limits { max_pixels: 1 << 28, max_memory: 2 << 30, max_work: 1 << 40 };

/// An open file, of which parts are supplied as they are needed.
pub struct Session {
    decoder: Decoder<'static>,
}

impl Session {
    /// Opens a file of `total` bytes from its beginning.
    pub fn open(beginning: &[u8], total: usize) -> Result<Self> {
        match Decoder::from_beginning(beginning, total, LIMITS) {
            // The beginning is the whole file already: it is damaged.
            Err(e) if e.class() == Class::Truncated && beginning.len() >= total => Err(Error::format(e.message())),
            decoder => Ok(Session { decoder: decoder? }),
        }
    }

    /// Little-endian u32 without gaps: version, family, channels; bytes of the file, of its header, weights, codes and
    /// metadata; number of weights, multiplications a pixel, side of a tile, number of tiles, number of layers, memory of a
    /// decode in KiB, bits of a sample, whether the last channel is alpha (1), number of pictures; then for each picture its
    /// width, height, digest, columns and rows of tiles, and the bytes of each tile.
    pub fn info(&self) -> Vec<u8> {
        let (info, header) = (self.decoder.info(), self.decoder.header());
        let mut out = Vec::new();
        let mut put = |n: usize| out.extend((n as u32).to_le_bytes());
        put(info.version.into());
        put(header.family.into());
        put(info.format.channels);
        put(info.bytes);
        put(info.header_bytes);
        put(info.weights_bytes);
        put(info.codes_bytes);
        put(info.metadata_bytes);
        put(info.weights_count);
        put((info.macs_per_pixel + 0.5) as usize);
        put(info.tile);
        put(info.tiles);
        put(info.layers);
        put(info.decode_memory_bytes.div_ceil(1024).min(u32::MAX.into()) as usize);
        put(info.format.depth as usize);
        put(info.format.alpha.into());
        put(info.pictures.len());
        for (i, p) in info.pictures.iter().enumerate() {
            let (columns, rows) = header.tile_grid(i);
            put(p.width);
            put(p.height);
            put(p.digest as usize);
            put(columns);
            put(rows);
            for tile in 0..columns * rows {
                let lengths = (0..info.layers).map(|layer| header.segment(layer, i, tile).length);
                put(lengths.fold(0, usize::saturating_add));
            }
        }
        out
    }

    /// The metadata section of the file.
    pub fn metadata(&self) -> Vec<u8> {
        self.decoder.metadata().to_vec()
    }

    /// The byte ranges that a decode needs and that were not supplied: pairs of offset and length, little-endian u32.
    pub fn missing(&self, picture: u32, scale: u32, region: Option<Rect>, gap: usize) -> Result<Vec<u8>> {
        let ranges = self.decoder.missing(picture as usize, scale, region, gap)?;
        Ok(ranges.into_iter().flat_map(|r| [r.start as u32, r.len() as u32]).flat_map(u32::to_le_bytes).collect())
    }

    /// Adds bytes of the file from `offset` on.
    pub fn supply(&mut self, offset: usize, bytes: Vec<u8>) {
        self.decoder.supply(offset, bytes);
    }

    /// Frees all bytes that were supplied.
    pub fn forget(&mut self) {
        self.decoder.forget();
    }

    /// The samples of a region at `1/2^scale`; with `partial`, a line of text follows for each segment that could not be
    /// read.
    pub fn decode(&self, picture: u32, scale: u32, region: Option<Rect>, rgba: bool, partial: bool) -> Result<Vec<u8>> {
        let picture = picture as usize;
        let (decoded, damage) = if partial {
            self.decoder.decode_partial(picture, scale, region)?
        } else {
            (self.decoder.decode_scaled(picture, scale, region)?, Vec::new())
        };
        let mut out = if rgba { to_rgba(&decoded)? } else { decoded.to_bytes() };
        for d in damage {
            // In the words of `tilefit decode --partial`.
            out.extend(format!("tile {}: {}\n", d.tile, d.reason).into_bytes());
        }
        Ok(out)
    }
}

/// The picture as RGBA of 8 bits, for a canvas. Without alpha it is opaque; of bands the first three are shown.
pub fn to_rgba(picture: &Picture) -> Result<Vec<u8>> {
    let format = picture.format;
    let mut out = Vec::new();
    out.try_reserve_exact(picture.pixels() * 4)
        .map_err(|_| Error::new(Class::MemoryLimit, "no memory for the picture: decode a region"))?;
    let byte = |s: u16| format.scaled(s, 255) as u8;
    let last = format.colours() - 1;
    for p in picture.samples.chunks_exact(format.channels) {
        let colour = if last < 2 { [p[0]; 3] } else { [p[0], p[1], p[2]] };
        out.extend(colour.map(byte));
        out.push(if format.alpha { byte(p[last + 1]) } else { 255 });
    }
    Ok(out)
}
