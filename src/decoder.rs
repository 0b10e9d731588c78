//! Decodes files to pictures: whole, a region, or at a smaller scale.
//!
//! Tiles are units of entropy coding, not of synthesis: the codes that a region depends on are collected from all tiles
//! that contain them. A decoded region therefore equals the same part of the whole picture.

use crate::container::header::{Header, PictureInfo, Segment};
use crate::container::metadata::{self, Item};
use crate::container::source::{merged, Source};
use crate::crc::crc32;
#[cfg(doc)]
use crate::error::Class;
use crate::error::{Error, Result};
use crate::image::{Picture, PixelFormat, Rect};
use crate::limits::{try_vec, Limits};
use crate::models::{self, Codes, Cost, Grid, Model};
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use kernels::Level;
#[cfg(feature = "threads")]
use rayon::prelude::*;

/// The smallest scale at which pictures are decoded is `1/2^MAX_SCALE`.
pub const MAX_SCALE: u32 = 3;

/// About how many pixels a thread synthesises at a time. Models keep feature maps only for a part of them.
const BLOCK: usize = 1 << 16;

/// Bytes of a sample in a [`Picture`].
const SAMPLE: usize = std::mem::size_of::<u16>();

/// Columns of these pixels at most; a multiple of the blocks of all models. It bounds the memory of wide pictures.
const COLUMNS: usize = 4096;

/// Bytes for what is small in any decode: lists of tiles, the results of a batch.
const SMALL: u64 = 1 << 16;

/// Number of threads that decode.
fn threads() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    return 1;
}

/// Number of tiles that are decoded before their codes are copied to the picture's grids, which bounds the memory.
fn tiles_at_once() -> usize {
    2 * threads()
}

/// Rows and columns of the blocks in which `region` is synthesised.
fn block_of(region: &Rect) -> (usize, usize) {
    let rows = (BLOCK / region.width().max(1)).clamp(64, 1024).min(region.height());
    (rows, region.width().min(COLUMNS))
}

/// An opened file. Decoding never panics, whatever the bytes are.
///
/// Methods that take a picture count from 0. Those that take a `scale` decode at `1/2^scale`, with `scale` from 0 to 3;
/// width and height are then divided by `2^scale` and rounded up. Samples are interleaved.
///
/// # Errors
/// Methods that decode return
/// [`Class::Argument`] for a picture, scale or region that the file does not have,
/// [`Class::PixelLimit`], [`Class::MemoryLimit`] and [`Class::WorkLimit`] for what exceeds the [`Limits`],
/// [`Class::Format`] for damaged bytes,
/// and [`Class::Io`] if bytes that are needed were not [supplied](Self::supply).
pub struct Decoder<'a> {
    source: Source<'a>,
    header: Header,
    model: Box<dyn Model>,
    limits: Limits,
    level: Level,
}

/// The type of a sample in a buffer: `u8` or `u16`.
pub trait Sample: sealed::Sealed + Copy + Send {
    /// The sample, which fits.
    #[doc(hidden)]
    fn of(sample: u16) -> Self;

    /// The same buffer, if its samples have 16 bits.
    #[doc(hidden)]
    fn as_u16(out: &mut [Self]) -> Option<&mut [u16]> {
        let _ = out;
        None
    }
}

impl Sample for u16 {
    fn of(sample: u16) -> u16 {
        sample
    }

    fn as_u16(out: &mut [u16]) -> Option<&mut [u16]> {
        Some(out)
    }
}

impl Sample for u8 {
    fn of(sample: u16) -> u8 {
        sample as u8
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
}

/// Facts about a file that are known without decoding its segments.
#[derive(Clone, Debug)]
pub struct Info {
    /// Version of the file's format.
    pub version: u8,
    pub model: &'static str,
    /// Samples at the knots of the tone curve; empty if there is none.
    pub knots: Vec<u16>,
    pub format: PixelFormat,
    pub pictures: Vec<PictureInfo>,
    pub bytes: usize,
    pub header_bytes: usize,
    pub weights_bytes: usize,
    pub codes_bytes: usize,
    pub metadata_bytes: usize,
    pub weights_count: usize,
    pub macs_per_pixel: f64,
    /// Side of a tile in pixels; 0 if each picture is one tile.
    pub tile: usize,
    pub tiles: usize,
    pub layers: usize,
    /// Whether the fit was one for the eye, [`Tune::Visual`](https://docs.rs/tilefit/latest/tilefit/enum.Tune.html).
    pub visual: bool,
    pub segments: Vec<Segment>,
    /// Upper bound of the memory in bytes that decoding one picture takes, the picture and the model included.
    pub decode_memory_bytes: u64,
    /// About the multiplications that decoding one picture takes: the largest number of all pictures.
    pub decode_work: u64,
}

/// Reads everything but the segments.
pub fn probe(bytes: &[u8]) -> Result<Info> {
    Ok(Decoder::new(bytes, Limits::NONE)?.info())
}

/// A segment that a partial decode could not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub tile: usize,
    pub layer: usize,
    pub reason: String,
}

impl<'a> Decoder<'a> {
    /// Opens a file: reads and checks header, model and index. Segments are not decoded yet.
    ///
    /// # Errors
    /// [`Class::Format`], [`Class::Truncated`], [`Class::Unsupported`], or [`Class::MemoryLimit`] if an allocation fails.
    pub fn new(bytes: &'a [u8], limits: Limits) -> Result<Self> {
        Self::open(Header::read(bytes)?, Source::Whole(bytes), limits)
    }

    /// Opens a file of `length` bytes of which only the beginning is available. [`Self::missing`] tells which bytes a decode
    /// needs, [`Self::supply`] adds them.
    ///
    /// # Errors
    /// As [`Self::new`]; [`Class::Truncated`] means that a longer beginning is needed.
    pub fn from_beginning(bytes: &[u8], length: usize, limits: Limits) -> Result<Decoder<'static>> {
        let header = Header::read(bytes)?;
        let rest = bytes.get(header.length..).unwrap_or_default().to_vec();
        let parts = vec![(header.length, rest)];
        Decoder::open(header, Source::Parts { length, parts }, limits)
    }

    fn open(header: Header, source: Source<'a>, limits: Limits) -> Result<Self> {
        let model = models::read_model(header.family, header.format, &header.description, &header.weights, &limits)?;
        if model.layers() != header.layers {
            return Err(Error::format(format!(
                "the file has {} layers of segments, its model has {}",
                header.layers,
                model.layers()
            )));
        }
        let coarsest = model.grids().iter().map(|g| g.shift).max().unwrap_or(0);
        if header.tile != 0 && header.tile >> coarsest == 0 {
            return Err(Error::format(format!(
                "tiles of {} pixels are smaller than the {} pixels that a code of the coarsest grid covers",
                header.tile,
                1u64 << coarsest
            )));
        }
        Ok(Decoder { source, header, model, limits, level: Level::best() })
    }

    /// Decodes with the instruction set `level`. The samples do not depend on it.
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets the limits of later decodes.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn pictures(&self) -> &[PictureInfo] {
        &self.header.pictures
    }

    pub fn info(&self) -> Info {
        let h = &self.header;
        let codes = h.segments.iter().fold(0usize, |sum, s| sum.saturating_add(s.length));
        let costs = (0..h.pictures.len()).map(|p| self.cost(p, 0, self.area(p, 0), SAMPLE * h.format.channels));
        let whole =
            costs.fold(Cost::default(), |a, b| Cost { memory: a.memory.max(b.memory), work: a.work.max(b.work) });
        Info {
            version: h.version,
            model: self.model.name(),
            knots: self.model.curve().map_or(Vec::new(), |curve| curve.knots().to_vec()),
            format: h.format,
            pictures: h.pictures.clone(),
            bytes: self.source.length(),
            header_bytes: h.length - h.weights.len() - h.metadata.len(),
            weights_bytes: h.weights.len(),
            codes_bytes: codes,
            metadata_bytes: h.metadata.len(),
            weights_count: self.model.weights_count(),
            macs_per_pixel: self.model.macs_per_pixel(),
            tile: h.tile,
            tiles: (0..h.pictures.len()).map(|p| h.tiles(p)).sum(),
            layers: h.layers,
            visual: h.visual,
            segments: h.segments.clone(),
            decode_memory_bytes: whole.memory,
            decode_work: whole.work,
        }
    }

    /// The metadata section as it is in the file.
    pub fn metadata(&self) -> &[u8] {
        &self.header.metadata
    }

    /// The metadata of one picture.
    ///
    /// # Errors
    /// [`Class::Format`] or [`Class::Truncated`] if the metadata section is damaged.
    pub fn items(&self, picture: usize) -> Result<Vec<Item>> {
        let mut items = metadata::read(&self.header.metadata)?;
        items.retain(|i| i.picture == picture);
        Ok(items)
    }

    fn area(&self, picture: usize, scale: u32) -> Rect {
        let p = &self.header.pictures[picture];
        Rect::whole(p.width.div_ceil(1 << scale), p.height.div_ceil(1 << scale))
    }

    /// What decoding `region` takes, known from the header and the model: the model, the codes, and the larger of what the
    /// tiles take and what synthesis takes; the output has `output` bytes per pixel.
    fn cost(&self, picture: usize, scale: u32, region: Rect, output: usize) -> Cost {
        let PictureInfo { width, height, .. } = self.header.pictures[picture];
        let (header, specs, channels) = (&self.header, self.model.grids(), self.header.format.channels);
        let product = |a: usize, b: usize| a as u64 * b as u64;
        let area = |r: &Rect| product(r.x1.saturating_sub(r.x0), r.y1.saturating_sub(r.y0));
        let bytes = |rects: &mut dyn Iterator<Item = Rect>| {
            let grids = rects.zip(specs).map(|(r, s)| area(&r).saturating_mul(2 * s.channels as u64));
            grids.fold(0u64, u64::saturating_add)
        };
        let index = product(header.segments.len(), std::mem::size_of::<Segment>());
        let held = index + (header.weights.len() + header.metadata.len()) as u64 + self.model.memory() + SMALL;
        let support = self.model.support(region, (width, height), scale);
        let codes = bytes(&mut support.iter().copied());
        // The first tile is the largest.
        let tile = header.tile_rect(picture, 0);
        let count = area(&self.touched(picture, &support));
        let each = self.model.tile_cost(tile.width(), tile.height());
        let tiles =
            bytes(&mut specs.iter().map(|s| tile.shrunk(s.shift))).saturating_mul(count.min(tiles_at_once() as u64));
        let tiles = tiles.saturating_add(each.memory.saturating_mul(count.min(threads() as u64)));
        let (rows, columns) = block_of(&region);
        let bands = region.height().div_ceil(rows.max(1)).min(threads()) as u64;
        let block = SAMPLE as u64 * product(rows, columns) * channels as u64;
        // All threads may work on one band, as far as the model divides it.
        let synthesis = self.model.synthesis_cost(columns, rows, scale).memory.saturating_mul(threads() as u64);
        let output =
            area(&region).saturating_mul(output as u64).saturating_add(synthesis).saturating_add(bands * block);
        let whole = self.model.synthesis_cost(region.width(), region.height(), scale);
        Cost {
            memory: held.saturating_add(codes).saturating_add(tiles.max(output)),
            work: each.work.saturating_mul(count).saturating_add(whole.work),
        }
    }

    /// The tiles that contain codes of `support`, as columns and rows of tiles: all tiles of the rectangle around them.
    fn touched(&self, picture: usize, support: &[Rect]) -> Rect {
        let (columns, rows) = self.header.tile_grid(picture);
        if self.header.tile == 0 {
            return Rect::whole(1, 1);
        }
        let parts = support.iter().zip(self.model.grids()).filter(|(r, _)| !r.is_empty()).map(|(r, spec)| {
            let side = self.header.tile >> spec.shift;
            Rect::new(r.x0 / side, r.y0 / side, r.x1.div_ceil(side).min(columns), r.y1.div_ceil(side).min(rows))
        });
        let around = |a: Rect, b: Rect| Rect::new(a.x0.min(b.x0), a.y0.min(b.y0), a.x1.max(b.x1), a.y1.max(b.y1));
        parts.reduce(around).unwrap_or_default()
    }

    /// Decodes a whole picture.
    pub fn decode(&self, picture: usize) -> Result<Picture> {
        self.decode_scaled(picture, 0, None)
    }

    /// Decodes `region`, in pixels: the same samples as that part of the whole picture.
    pub fn decode_region(&self, picture: usize, region: Rect) -> Result<Picture> {
        self.decode_scaled(picture, 0, Some(region))
    }

    /// Decodes a picture at `1/2^scale`, or `region` of it, in pixels of that scale.
    pub fn decode_scaled(&self, picture: usize, scale: u32, region: Option<Rect>) -> Result<Picture> {
        let (out, damage) = self.window(picture, scale, region, false)?;
        debug_assert!(damage.is_empty());
        Ok(out)
    }

    /// The number of samples that a decode gives.
    pub fn samples(&self, picture: usize, scale: u32, region: Option<Rect>) -> Result<usize> {
        Ok(self.check(picture, scale, region, 0)?.area() * self.header.format.channels)
    }

    /// As [`Self::decode_scaled`], but writes to `out`, whose length must be [`Self::samples`]. Samples of more than 8 bits
    /// need an `out` of `u16`.
    pub fn decode_into<S: Sample>(
        &self,
        picture: usize,
        scale: u32,
        region: Option<Rect>,
        out: &mut [S],
    ) -> Result<()> {
        let region = self.check(picture, scale, region, 0)?;
        let samples = region.area() * self.header.format.channels;
        if out.len() != samples {
            let message = format!("the buffer has {} samples, the region has {samples}", out.len());
            return Err(Error::of_argument("out", message));
        }
        if self.header.format.sample_bytes() > std::mem::size_of::<S>() {
            let message = format!("samples of {} bits do not fit into bytes", self.header.format.depth);
            return Err(Error::of_argument("out", message));
        }
        self.check_end()?;
        let (codes, _) = self.codes(picture, scale, region, false)?;
        self.synthesise(picture, scale, region, &codes, out)
    }

    /// As [`Self::decode_scaled`], but the codes of segments that cannot be read are taken as zero; these segments are
    /// reported.
    pub fn decode_partial(&self, picture: usize, scale: u32, region: Option<Rect>) -> Result<(Picture, Vec<Damage>)> {
        self.window(picture, scale, region, true)
    }

    /// Checks all checksums, decodes all pictures and compares their digests with those in the file.
    ///
    /// # Errors
    /// [`Class::Format`] if a check fails or bytes follow the last segment; errors of decoding.
    pub fn verify(&self) -> Result<()> {
        for (i, p) in self.header.pictures.iter().enumerate() {
            let digest = self.decode(i)?.digest();
            if digest != p.digest {
                return Err(Error::format(format!(
                    "the decoded samples of picture {i} have digest {digest:08x}, the header says {:08x}",
                    p.digest
                )));
            }
        }
        Ok(())
    }

    /// The byte ranges of the file that a decode needs and that were not supplied yet, sorted. Ranges at most `gap` bytes
    /// apart are merged into one.
    pub fn missing(
        &self,
        picture: usize,
        scale: u32,
        region: Option<Rect>,
        gap: usize,
    ) -> Result<Vec<std::ops::Range<usize>>> {
        let region = self.check(picture, scale, region, SAMPLE * self.header.format.channels)?;
        let info = &self.header.pictures[picture];
        let support = self.model.support(region, (info.width, info.height), scale);
        let mut ranges = Vec::new();
        for (tile, last) in self.tiles(picture, &support) {
            let segments = (0..=last).map(|layer| self.header.segment(layer, picture, tile));
            let end = self.source.length();
            let range = |s: Segment| s.offset..s.offset.saturating_add(s.length);
            // Segments that end after the file cannot be supplied; decoding them is an error.
            ranges.extend(segments.filter(|s| !self.source.holds(*s)).map(range).filter(|r| r.end <= end));
        }
        Ok(merged(ranges.into_iter(), gap))
    }

    /// Adds the bytes at `offset` of the file to a decoder that was opened [from the beginning](Self::from_beginning). A
    /// decoder of a whole file ignores them.
    pub fn supply(&mut self, offset: usize, bytes: Vec<u8>) {
        if let Source::Parts { parts, .. } = &mut self.source {
            parts.push((offset, bytes));
        }
    }

    /// Drops all bytes of segments that were supplied.
    pub fn forget(&mut self) {
        if let Source::Parts { parts, .. } = &mut self.source {
            parts.clear();
        }
    }

    /// The header as it was read.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn window(
        &self,
        picture: usize,
        scale: u32,
        region: Option<Rect>,
        partial: bool,
    ) -> Result<(Picture, Vec<Damage>)> {
        let format = self.header.format;
        let region = self.check(picture, scale, region, SAMPLE * format.channels)?;
        if !partial {
            self.check_end()?;
        }
        let (codes, damage) = self.codes(picture, scale, region, partial)?;
        let mut samples = try_vec(region.area() * format.channels)?;
        self.synthesise(picture, scale, region, &codes, &mut samples)?;
        Ok((Picture { width: region.width(), height: region.height(), format, samples }, damage))
    }

    fn synthesise<S: Sample>(
        &self,
        picture: usize,
        scale: u32,
        region: Rect,
        codes: &Codes,
        samples: &mut [S],
    ) -> Result<()> {
        let info = &self.header.pictures[picture];
        let channels = self.header.format.channels;
        let (rows, columns) = block_of(&region);
        let (peak, size) = (self.header.format.peak(), (info.width, info.height));
        let row = region.width() * channels;
        let band = |(i, out): (usize, &mut [S])| -> Result<()> {
            let (y0, height) = (region.y0 + i * rows, out.len() / row);
            if columns == region.width() {
                if let Some(out) = S::as_u16(out) {
                    let part = Rect::new(region.x0, y0, region.x1, y0 + height);
                    return self.model.synthesise(self.level, codes, size, part, scale, peak, out);
                }
            }
            let mut block = try_vec(columns * height * channels)?;
            for x0 in (region.x0..region.x1).step_by(columns) {
                let part = Rect::new(x0, y0, (x0 + columns).min(region.x1), y0 + height);
                let block = &mut block[..part.area() * channels];
                self.model.synthesise(self.level, codes, size, part, scale, peak, block)?;
                let parts = block.chunks_exact(part.width() * channels);
                for (out, from) in out.chunks_exact_mut(row).zip(parts) {
                    let out = &mut out[(x0 - region.x0) * channels..][..from.len()];
                    out.iter_mut().zip(from).for_each(|(o, s)| *o = S::of(*s));
                }
            }
            Ok(())
        };
        #[cfg(feature = "threads")]
        return samples.par_chunks_mut(rows * row).enumerate().try_for_each(band);
        #[cfg(not(feature = "threads"))]
        return samples.chunks_mut(rows * row).enumerate().try_for_each(band);
    }

    /// Refuses bytes after the last segment.
    fn check_end(&self) -> Result<()> {
        let end = self.header.segments.last().map_or(self.header.length, |s| s.offset.saturating_add(s.length));
        if end < self.source.length() {
            return Err(Error::format(format!("{} bytes follow the last segment", self.source.length() - end)));
        }
        Ok(())
    }

    /// Checks the arguments of a decode against the file and the limits, and returns the region. `output` is the number of
    /// bytes per pixel that the decode allocates for its output.
    fn check(&self, picture: usize, scale: u32, region: Option<Rect>, output: usize) -> Result<Rect> {
        if picture >= self.header.pictures.len() {
            return Err(Error::of_argument(
                "picture",
                format!("there is no picture {picture}: the file has {}", self.header.pictures.len()),
            ));
        }
        if scale > MAX_SCALE {
            return Err(Error::of_argument(
                "scale",
                format!("scale 1/{}: expected 1/1, 1/2, 1/4 or 1/8", 1u64 << scale.min(63)),
            ));
        }
        let area = self.area(picture, scale);
        let region = region.unwrap_or(area);
        if region.is_empty() || region.x1 > area.x1 || region.y1 > area.y1 {
            return Err(Error::of_argument(
                "region",
                format!("the region is not inside the picture of {}x{}", area.x1, area.y1),
            ));
        }
        self.limits.check_pixels((region.width() as u64).saturating_mul(region.height() as u64))?;
        let cost = self.cost(picture, scale, region, output);
        self.limits.check_memory(cost.memory)?;
        self.limits.check_work(cost.work)?;
        Ok(region)
    }

    /// Decodes all codes that `region` depends on.
    fn codes(&self, picture: usize, scale: u32, region: Rect, partial: bool) -> Result<(Codes, Vec<Damage>)> {
        let info = &self.header.pictures[picture];
        let specs = self.model.grids();
        let support = self.model.support(region, (info.width, info.height), scale);
        let mut codes = Codes::new();
        for (rect, spec) in support.iter().zip(specs) {
            let rect = if rect.is_empty() { Rect::default() } else { *rect };
            codes.push(Grid { rect, channels: spec.channels, codes: try_vec(rect.area() * spec.channels)? });
        }
        let tiles = self.tiles(picture, &support);
        let mut damage = Vec::new();
        for batch in tiles.chunks(tiles_at_once()) {
            let decode = |&(tile, layer): &(usize, usize)| self.tile(picture, tile, layer, partial);
            #[cfg(feature = "threads")]
            let decoded: Vec<_> = batch.par_iter().map(decode).collect();
            #[cfg(not(feature = "threads"))]
            let decoded: Vec<_> = batch.iter().map(decode).collect();
            for result in decoded {
                let (tile, bad) = result?;
                damage.extend(bad);
                codes.iter_mut().zip(&tile).for_each(|(to, from)| to.paste(from));
            }
        }
        Ok((codes, damage))
    }

    /// The tiles that contain codes of `support`, each with the finest layer that is needed. The coarser layers are needed
    /// too, as its context.
    fn tiles(&self, picture: usize, support: &[Rect]) -> Vec<(usize, usize)> {
        let specs = self.model.grids();
        let needed = |tile: usize| -> Option<usize> {
            let r = self.header.tile_rect(picture, tile);
            let holds =
                |g: usize| !support[g].is_empty() && !r.shrunk(specs[g].shift).intersect(&support[g]).is_empty();
            (0..self.header.layers).rev().find(|&l| self.model.layer_grids(l).any(holds))
        };
        let (touched, (columns, _)) = (self.touched(picture, support), self.header.tile_grid(picture));
        let tiles = (touched.y0..touched.y1).flat_map(|y| (touched.x0..touched.x1).map(move |x| y * columns + x));
        tiles.filter_map(|t| needed(t).map(|l| (t, l))).collect()
    }

    /// Decodes layers `0 ..= last` of one tile.
    fn tile(&self, picture: usize, tile: usize, last: usize, partial: bool) -> Result<(Codes, Vec<Damage>)> {
        let rect = self.header.tile_rect(picture, tile);
        let mut codes = Codes::new();
        for spec in self.model.grids() {
            let rect = rect.shrunk(spec.shift);
            codes.push(Grid { rect, channels: spec.channels, codes: try_vec(rect.area() * spec.channels)? });
        }
        let mut damage = Vec::new();
        for layer in 0..=last {
            let result = self
                .segment(self.header.segment(layer, picture, tile))
                .and_then(|bytes| self.model.decode_tile(self.level, layer, bytes, &mut codes));
            match result {
                Ok(()) => {}
                Err(e) if partial => {
                    damage.push(Damage { tile, layer, reason: e.to_string() });
                    // Later layers use this one as context, so they cannot be decoded either.
                    for g in self.model.layer_grids(layer) {
                        codes[g].codes.fill(0);
                    }
                    break;
                }
                Err(e) => return Err(e.at(format!("tile {tile}"))),
            }
        }
        Ok((codes, damage))
    }

    fn segment(&self, s: Segment) -> Result<&[u8]> {
        let bytes = self.source.segment(s)?;
        if crc32(bytes) != s.crc {
            return Err(Error::format(format!(
                "the checksum of the segment at byte {} does not match: the file is damaged",
                s.offset
            )));
        }
        Ok(bytes)
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests;
