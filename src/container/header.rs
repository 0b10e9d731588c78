//! Header, metadata, model description, weights and index: everything before the segments.

use super::reader::Reader;
#[cfg(feature = "fit")]
use super::reader::{write_u32, write_varint};
use crate::crc::crc32;
use crate::error::{Class, Error, Result};
use crate::image::{PixelFormat, Rect};
use alloc::{format, vec::Vec};

/// The signature: a non-ASCII byte so that the file is not taken for text, two letters, and CR LF, which a text-mode transfer
/// would change.
pub const MAGIC: [u8; 5] = [0x8b, b'T', b'F', 0x0d, 0x0a];
/// The version that this build writes, and the highest that it reads.
pub const VERSION: u8 = 1;

// Limits of the format (docs/FORMAT.md): they bound what a decoder allocates for a header.
pub const MAX_SIDE: u64 = 1 << 30;
pub const MAX_PIXELS: u64 = 1 << 40;
pub const MAX_PICTURES: u64 = 1 << 16;
pub const MAX_TILES: u64 = 1 << 24;
pub const MAX_DESCRIPTION: u64 = 1 << 12;
pub const MAX_WEIGHTS: u64 = 1 << 26;
pub const MAX_METADATA: u64 = 1 << 26;
/// Tile sides are `2^k`, `k` in this range.
pub const TILE_LOG2: std::ops::RangeInclusive<u8> = 6..=15;

/// One picture of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureInfo {
    pub width: usize,
    pub height: usize,
    /// CRC-32 of the decoded samples, interleaved.
    pub digest: u32,
}

/// One entropy-coded segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// In bytes from the start of the file.
    pub offset: usize,
    pub length: usize,
    pub crc: u32,
}

/// Everything before the segments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version of the format.
    pub version: u8,
    pub family: u8,
    pub format: PixelFormat,
    pub pictures: Vec<PictureInfo>,
    /// Side of a tile in pixels; 0 if each picture is one tile.
    pub tile: usize,
    /// Whether the fit was one for the eye.
    pub visual: bool,
    pub description: Vec<u8>,
    pub weights: Vec<u8>,
    pub metadata: Vec<u8>,
    /// Number of layers of segments. The segments of layer 0 of all tiles come before those of layer 1.
    pub layers: usize,
    pub segments: Vec<Segment>,
    /// For each picture the number of tiles in the pictures before it, then the total: see [`Self::count_tiles`].
    pub first_tiles: Vec<usize>,
    /// Bytes before the first segment.
    pub length: usize,
}

impl Header {
    /// Number of tile columns and tile rows of a picture.
    pub fn tile_grid(&self, picture: usize) -> (usize, usize) {
        let p = &self.pictures[picture];
        match self.tile {
            0 => (1, 1),
            side => (p.width.div_ceil(side), p.height.div_ceil(side)),
        }
    }

    /// The pixels that tile `index` of a picture covers; tiles are numbered row by row.
    pub fn tile_rect(&self, picture: usize, index: usize) -> Rect {
        let p = &self.pictures[picture];
        if self.tile == 0 {
            return Rect::whole(p.width, p.height);
        }
        let (columns, _) = self.tile_grid(picture);
        let (x, y) = (index % columns * self.tile, index / columns * self.tile);
        Rect::new(x, y, (x + self.tile).min(p.width), (y + self.tile).min(p.height))
    }

    pub fn tiles(&self, picture: usize) -> usize {
        let (columns, rows) = self.tile_grid(picture);
        columns * rows
    }

    /// The segment of a layer of a tile. Segments are ordered by layer, then by picture, then by tile.
    pub fn segment(&self, layer: usize, picture: usize, tile: usize) -> Segment {
        let all = self.first_tiles[self.pictures.len()];
        self.segments[layer * all + self.first_tiles[picture] + tile]
    }

    /// Computes `first_tiles` from the pictures and the tile size.
    pub fn count_tiles(&mut self) {
        let mut before = 0;
        let ends = (0..self.pictures.len()).map(|p| {
            before += self.tiles(p);
            before
        });
        self.first_tiles = core::iter::once(0).chain(ends).collect();
    }

    /// Parses everything before the segments.
    ///
    /// # Errors
    /// [`Class::Truncated`] if the bytes end too early, [`Class::Unsupported`] for a newer version or unknown flags,
    /// [`Class::Format`] for everything else that docs/FORMAT.md does not allow.
    pub fn read(bytes: &[u8]) -> Result<Header> {
        let mut r = Reader::new(bytes);
        if r.take(MAGIC.len(), "the signature").ok() != Some(&MAGIC[..]) {
            return Err(Error::format("not a Tilefit file: the first bytes are not its signature"));
        }
        let version = r.u8("the version")?;
        if version == 0 || version > VERSION {
            return Err(Error::new(
                Class::Unsupported,
                format!("format version {version}: this program reads up to version {VERSION}, a newer one is needed"),
            ));
        }
        let family = r.u8("the model family")?;
        let flags = r.u8("the flags")?;
        if flags & !FLAGS != 0 {
            return Err(Error::new(
                Class::Unsupported,
                format!("unknown feature flags {:#04x}: a newer program is needed", flags & !FLAGS),
            ));
        }
        let count = if flags & GROUP != 0 { r.varint(MAX_PICTURES, "the number of pictures")? } else { 1 };
        if flags & GROUP != 0 && count < 2 {
            return Err(Error::format(format!("a group of {count} pictures, a group has at least 2")));
        }
        let mut pictures = Vec::new();
        for _ in 0..count {
            let mut side = |what| -> Result<usize> {
                match r.varint(MAX_SIDE, what)? {
                    0 => Err(Error::format(format!("{what} is 0"))),
                    n => Ok(n as usize),
                }
            };
            let (width, height) = (side("a width")?, side("a height")?);
            if width as u64 * height as u64 > MAX_PIXELS {
                return Err(Error::format(format!("a picture of {width}x{height} has more than 2^40 pixels")));
            }
            let digest = r.u32("a picture's digest")?;
            pictures.push(PictureInfo { width, height, digest });
        }
        let format = match flags & (GREY | SAMPLES) {
            0 => PixelFormat::RGB,
            GREY => PixelFormat::GREY,
            SAMPLES => read_format(&mut r)?,
            _ => return Err(Error::format("the header says twice how many channels there are")),
        };
        let tile = if flags & TILED != 0 {
            let log2 = r.u8("the tile size")?;
            if !TILE_LOG2.contains(&log2) {
                return Err(Error::format(format!("a tile of 2^{log2} pixels: 2^6 to 2^15 are allowed")));
            }
            1usize << log2
        } else {
            0
        };
        let metadata = if flags & METADATA != 0 {
            let n = r.varint(MAX_METADATA, "the metadata's length")?;
            r.take(n as usize, "the metadata")?.to_vec()
        } else {
            Vec::new()
        };
        let n = r.varint(MAX_DESCRIPTION, "the model description's length")?;
        let description = r.take(n as usize, "the model description")?.to_vec();
        let n = r.varint(MAX_WEIGHTS, "the weights' length")?;
        let weights = r.take(n as usize, "the weights")?.to_vec();
        let layers = if flags & LAYERED != 0 { 2 } else { 1 };
        let mut header = Header {
            version,
            family,
            format,
            pictures,
            tile,
            visual: flags & VISUAL != 0,
            description,
            weights,
            metadata,
            layers,
            segments: Vec::new(),
            first_tiles: Vec::new(),
            length: 0,
        };
        // As u64: the product may exceed 2^32.
        let grid = |p| header.tile_grid(p);
        let tiles: u64 = (0..count as usize).map(grid).map(|(columns, rows)| columns as u64 * rows as u64).sum();
        if tiles > MAX_TILES {
            return Err(Error::format(format!("{tiles} tiles, at most 2^24 are allowed")));
        }
        header.count_tiles();
        // An entry takes at least five bytes, so a short file cannot make the index long.
        let entries = tiles as usize * layers;
        let mut lengths = Vec::new();
        for _ in 0..entries {
            let length = r.varint(u32::MAX as u64, "a segment's length")? as usize;
            lengths.push((length, r.u32("a segment's checksum")?));
        }
        let end = r.position();
        let sum = r.u32("the header's checksum")?;
        if sum != crc32(&bytes[..end]) {
            return Err(Error::format("the header's checksum does not match: the file is damaged"));
        }
        let mut offset = r.position();
        header.length = offset;
        for (length, crc) in lengths {
            header.segments.push(Segment { offset, length, crc });
            offset = offset.saturating_add(length);
        }
        Ok(header)
    }

    /// Writes the bytes before the segments: the inverse of [`Self::read`]. The offsets in `segments` are not stored; they
    /// follow from the lengths.
    #[cfg(feature = "fit")]
    pub fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([self.version, self.family]);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let explicit = ![PixelFormat::RGB, PixelFormat::GREY].contains(&self.format);
        out.push(
            flag(self.pictures.len() > 1, GROUP)
                | flag(self.tile > 0, TILED)
                | flag(!self.metadata.is_empty(), METADATA)
                | flag(self.format == PixelFormat::GREY, GREY)
                | flag(self.layers == 2, LAYERED)
                | flag(explicit, SAMPLES)
                | flag(self.visual, VISUAL),
        );
        if self.pictures.len() > 1 {
            write_varint(&mut out, self.pictures.len() as u64);
        }
        for p in &self.pictures {
            write_varint(&mut out, p.width as u64);
            write_varint(&mut out, p.height as u64);
            write_u32(&mut out, p.digest);
        }
        if explicit {
            let PixelFormat { channels, depth, alpha } = self.format;
            out.extend([channels as u8 | flag(alpha, ALPHA), depth as u8]);
        }
        if self.tile > 0 {
            out.push(self.tile.trailing_zeros() as u8);
        }
        if !self.metadata.is_empty() {
            write_varint(&mut out, self.metadata.len() as u64);
            out.extend(&self.metadata);
        }
        for section in [&self.description, &self.weights] {
            write_varint(&mut out, section.len() as u64);
            out.extend(section);
        }
        for s in &self.segments {
            write_varint(&mut out, s.length as u64);
            write_u32(&mut out, s.crc);
        }
        let sum = crc32(&out);
        write_u32(&mut out, sum);
        out
    }
}

/// More than one picture: their number follows.
const GROUP: u8 = 1;
/// A tile size follows the pictures; without it each picture is one tile.
const TILED: u8 = 2;
/// The file has metadata.
const METADATA: u8 = 4;
/// One channel of 8 bits instead of three.
const GREY: u8 = 8;
/// Two segments per tile instead of one: the coarse grids form a separate layer.
const LAYERED: u8 = 16;
/// The pixel format follows the pictures; it is neither RGB nor grey of 8 bits.
const SAMPLES: u8 = 32;
const VISUAL: u8 = 64;
const FLAGS: u8 = GROUP | TILED | METADATA | GREY | LAYERED | SAMPLES | VISUAL;
/// Added to the number of channels where the last of them is alpha.
const ALPHA: u8 = 128;

/// Reads the pixel format: channels and [`ALPHA`], then the depth.
fn read_format(r: &mut Reader) -> Result<PixelFormat> {
    let (channels, depth) = (r.u8("the channels")?, r.u8("the depth")?);
    let format =
        PixelFormat { channels: usize::from(channels & !ALPHA), depth: u32::from(depth), alpha: channels & ALPHA != 0 };
    if [PixelFormat::RGB, PixelFormat::GREY].contains(&format) || format.check().is_err() {
        return Err(Error::format("the header's pixel format is not one that this field may hold"));
    }
    Ok(format)
}
