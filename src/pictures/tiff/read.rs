//! Reads the first page of a TIFF, or the page that is asked for.

use super::directory::{append, Entry, File};
use super::{tag, NAME};
use crate::container::metadata::{EXIF, TIFF};
use crate::error::{Error, Result};
use crate::limits::try_vec;
use crate::pictures::metadata::{self, Item, Text};
use crate::pictures::png::no_frame;
use crate::pictures::{blank, check_size, damaged, samples, source, truncated, unsupported};
use crate::pictures::{Picture, PixelFormat, ReadOptions, Source};
use std::io::Read;

/// Files of more pages are refused: it is a loop of directories.
const MAX_PAGES: usize = 1 << 12;

/// The tags of a page that its samples depend on.
struct Page {
    width: u64,
    height: u64,
    /// Samples of a pixel, all of `bits` bits.
    samples: usize,
    bits: u32,
    kind: Kind,
    photometric: u64,
    compression: u64,
    predictor: u64,
    planar: bool,
    reversed_bits: bool,
    /// Number of the sample that is alpha, and whether the others are premultiplied with it.
    alpha: Option<(usize, bool)>,
    chunk_width: u64,
    chunk_height: u64,
    tiled: bool,
    little: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Unsigned,
    Signed,
    Float,
}

/// Reads a TIFF.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let (file, mut offset) = File::open(data)?;
    let mut pages: Vec<(u64, bool)> = Vec::new();
    while offset != 0 {
        if pages.len() == MAX_PAGES || pages.iter().any(|p| p.0 == offset) {
            return Err(damaged(NAME, "its pages have no end"));
        }
        let (entries, next) = file.entries(offset, |tag| tag == tag::NEW_SUBFILE)?;
        // Smaller versions of a page are not pages that get lost.
        pages.push((offset, integer(&entries, tag::NEW_SUBFILE, 0) & 1 == 1));
        offset = next;
    }
    let k = options.frame.unwrap_or(1);
    let count = pages.len();
    let number = usize::try_from(k).ok().filter(|&k| k >= 1 && k <= count).ok_or_else(|| no_frame(k, count as u32))?;
    let others = pages.iter().enumerate().filter(|(i, p)| *i + 1 != number && !p.1).count();
    let entries = &file.directory(pages[number - 1].0)?.0;
    let mut s = page(&file, entries, options)?;
    if others > 0 {
        let hint = if options.frame.is_none() { " (--frame chooses another)" } else { "" };
        s.warnings.insert(0, format!("page {number} of {count} is kept{hint}"));
    }
    items(&file, entries, &mut s);
    Ok(s)
}

fn find(entries: &[Entry], tag: u16) -> Option<&Entry> {
    entries.iter().find(|e| e.tag == tag)
}

fn integer(entries: &[Entry], tag: u16, default: u64) -> u64 {
    find(entries, tag).and_then(|e| e.integer(0)).unwrap_or(default)
}

impl Page {
    fn parse(entries: &[Entry], little: bool) -> Result<Page> {
        let get = |tag, default| integer(entries, tag, default);
        let all_equal = |tag, default: u64, what: &str| {
            let values = find(entries, tag).map_or(vec![default], Entry::integers);
            match values.first() {
                Some(&v) if values.iter().all(|&w| w == v) => Ok(v),
                _ => Err(unsupported(format!("a TIFF whose channels differ in their {what} is not read"))),
            }
        };
        let photometric = get(tag::PHOTOMETRIC, 1);
        let compression = get(tag::COMPRESSION, 1);
        let samples = get(tag::SAMPLES, 1);
        let bits = all_equal(tag::BITS, 1, "bits")?;
        // Type 4, undefined, is stored as unsigned integers.
        let kind = match all_equal(tag::SAMPLE_FORMAT, 1, "sample format")? {
            1 | 4 => Kind::Unsigned,
            2 => Kind::Signed,
            3 => Kind::Float,
            _ => return Err(unsupported("a TIFF of complex numbers is not read")),
        };
        let colours = match photometric {
            0 | 1 => 1,
            2 | 6 => 3,
            3 => 1,
            5 => return Err(unsupported("CMYK is not supported: convert the TIFF to RGB first")),
            8..=10 => return Err(unsupported("CIELAB is not supported: convert the TIFF to RGB first")),
            32803 | 34892 => {
                return Err(unsupported("raw camera samples are not supported: develop the picture first"))
            }
            n => return Err(unsupported(format!("a TIFF of photometric interpretation {n} is not read"))),
        };
        if photometric == 6 && compression != 7 {
            return Err(unsupported("YCbCr is only read in JPEG compression: convert the TIFF to RGB first"));
        }
        if samples < colours {
            return Err(damaged(NAME, "it has too few channels for its colours"));
        }
        let possible = match kind {
            Kind::Unsigned => (1..=16).contains(&bits) || bits == 32,
            Kind::Signed => matches!(bits, 8 | 16 | 32),
            Kind::Float => matches!(bits, 16 | 32 | 64),
        };
        if !possible || (photometric == 3 && (bits > 8 || samples != 1 || kind != Kind::Unsigned)) {
            return Err(unsupported(format!("a TIFF of {bits} bits in this form is not read")));
        }
        let extra = find(entries, tag::EXTRA_SAMPLES).map_or(Vec::new(), Entry::integers);
        let alpha = extra.iter().position(|e| matches!(e, 1 | 2)).map(|i| (colours as usize + i, extra[i] == 1));
        if alpha.is_some_and(|a| a.0 as u64 >= samples) {
            return Err(damaged(NAME, "its alpha is not one of its channels"));
        }
        if alpha.is_some() && (kind != Kind::Unsigned || bits > 16) {
            return Err(unsupported(
                "alpha with floats or 32 bits is not supported: convert the TIFF to 16 bits first",
            ));
        }
        let (width, height) = (get(tag::WIDTH, 0), get(tag::HEIGHT, 0));
        let tiled = find(entries, tag::TILE_OFFSETS).is_some();
        let rows = get(tag::ROWS_PER_STRIP, height).clamp(1, height.max(1));
        Ok(Page {
            width,
            height,
            samples: usize::try_from(samples).unwrap_or(usize::MAX),
            bits: bits as u32,
            kind,
            photometric,
            compression,
            predictor: get(tag::PREDICTOR, 1),
            planar: get(tag::PLANAR, 1) == 2 && samples > 1,
            reversed_bits: get(tag::FILL_ORDER, 1) == 2,
            alpha,
            chunk_width: if tiled { get(tag::TILE_WIDTH, 0) } else { width },
            chunk_height: if tiled { get(tag::TILE_HEIGHT, 0) } else { rows },
            tiled,
            little,
        })
    }

    /// Samples of a pixel in one strip or tile.
    fn chunk_samples(&self) -> usize {
        if self.planar {
            1
        } else {
            self.samples
        }
    }

    fn row_bytes(&self) -> usize {
        (self.chunk_width as usize * self.chunk_samples() * self.bits as usize).div_ceil(8)
    }
}

/// The most bytes of samples in a file of `n` bytes.
fn data_limit(n: usize) -> u64 {
    (n as u64).saturating_mul(4096 * 8 / 12)
}

fn page(file: &File, entries: &[Entry], options: &ReadOptions) -> Result<Source> {
    let p = Page::parse(entries, file.little)?;
    let n = check_size(p.width, p.height, p.samples, options)?;
    // Tiles may be larger than the picture, but not without a limit.
    let slack = ReadOptions { max_pixels: options.max_pixels.saturating_add(1 << 24), ..*options };
    check_size(p.chunk_width, p.chunk_height, p.chunk_samples(), &slack)?;
    let (offsets, sizes) = match p.tiled {
        true => (tag::TILE_OFFSETS, tag::TILE_SIZES),
        false => (tag::STRIP_OFFSETS, tag::STRIP_SIZES),
    };
    let list = |tag| find(entries, tag).map(Entry::integers);
    let offsets = list(offsets).ok_or_else(|| damaged(NAME, "it has no strips"))?;
    let across = p.width.div_ceil(p.chunk_width);
    let down = p.height.div_ceil(p.chunk_height);
    let planes = if p.planar { p.samples as u64 } else { 1 };
    if across * down * planes > offsets.len() as u64 {
        return Err(damaged(NAME, "some of its strips or tiles are missing"));
    }
    // Old writers give no sizes for one strip without compression.
    let sizes = list(sizes).unwrap_or_else(|| vec![p.row_bytes() as u64 * p.chunk_height.min(p.height)]);
    if sizes.len() < offsets.len() {
        return Err(damaged(NAME, "the size of a strip is missing"));
    }
    // LZW packs at most 4096 bytes into 12 bits, and no other method packs more: a small file does not make us allocate a
    // large picture.
    if (n as u64).saturating_mul(p.bits.into()) / 8 > data_limit(file.data.len()) {
        return Err(truncated(NAME));
    }
    let tables = find(entries, tag::JPEG_TABLES).map(|e| &e.values[..]);
    let mut target = match p.kind == Kind::Unsigned && p.bits <= 16 {
        true => Values::Samples(try_vec(n)?),
        false => Values::Numbers(try_vec(n)?),
    };
    for i in 0..across * down * planes {
        let (plane, place) = (i / (across * down), i % (across * down));
        let (x, y) = (place % across * p.chunk_width, place / across * p.chunk_height);
        // Tiles are stored whole, the last strip only as far as the picture.
        let rows = if p.tiled { p.chunk_height } else { p.chunk_height.min(p.height - y) } as usize;
        let chunk = file.chunk(offsets[i as usize], sizes[i as usize])?;
        let mut bytes = expand(chunk, &p, rows, tables)?;
        unpredict(&mut bytes, &p)?;
        let origin = (x as usize, y as usize, plane as usize);
        target.place(&bytes, &p, origin, rows);
    }
    finish(target, entries, &p)
}

/// The samples of a page, or their values if they are not integers of at most 16 bits.
enum Values {
    Samples(Vec<u16>),
    Numbers(Vec<f64>),
}

impl Values {
    /// Puts the rows of a strip or tile to their place.
    fn place(&mut self, bytes: &[u8], p: &Page, (x0, y0, plane): (usize, usize, usize), rows: usize) {
        let (w, h, n) = (p.width as usize, p.height as usize, p.chunk_samples());
        let columns = (p.chunk_width as usize).min(w - x0);
        let size = p.bits as usize / 8;
        for (r, row) in bytes.chunks_exact(p.row_bytes()).enumerate().take(rows.min(h - y0)) {
            for i in 0..columns * n {
                let (column, c) = (i / n, if p.planar { plane } else { i % n });
                let at = ((y0 + r) * w + x0 + column) * p.samples + c;
                match self {
                    Values::Samples(s) => s[at] = packed(row, i, p),
                    Values::Numbers(s) => s[at] = value(&row[i * size..][..size], p),
                }
            }
        }
    }
}

/// Sample `i` of a row.
fn packed(row: &[u8], i: usize, p: &Page) -> u16 {
    match p.bits {
        8 => u16::from(row[i]),
        16 if p.little => u16::from_le_bytes([row[2 * i], row[2 * i + 1]]),
        16 => u16::from_be_bytes([row[2 * i], row[2 * i + 1]]),
        bits => {
            let start = i * bits as usize;
            (start..start + bits as usize).fold(0, |v, b| v << 1 | u16::from(row[b / 8] >> (7 - b % 8) & 1))
        }
    }
}

fn value(bytes: &[u8], p: &Page) -> f64 {
    let join = |n: u64, &b: &u8| n << 8 | u64::from(b);
    let n = if p.little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) };
    match (p.kind, p.bits) {
        (Kind::Float, 16) => half(n as u16),
        (Kind::Float, 32) => f64::from(f32::from_bits(n as u32)),
        (Kind::Float, _) => f64::from_bits(n),
        (Kind::Signed, 8) => f64::from(n as u8 as i8),
        (Kind::Signed, 16) => f64::from(n as u16 as i16),
        (Kind::Signed, _) => f64::from(n as u32 as i32),
        (Kind::Unsigned, _) => n as f64,
    }
}

/// The value of a float of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (u64::from(bits >> 10 & 31), f64::from(bits & 1023));
    // 2^(exponent - 25): the fraction counts units of 2^-10, and exponents start at -15.
    let power = |exponent: u64| f64::from_bits((1023 - 25 + exponent) << 52);
    let size = match exponent {
        0 => fraction * power(1),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * power(e),
    };
    if bits >> 15 == 1 {
        -size
    } else {
        size
    }
}

/// The bytes of a strip or tile without its compression.
fn expand(chunk: &[u8], p: &Page, rows: usize, tables: Option<&[u8]>) -> Result<Vec<u8>> {
    let n = p.row_bytes().checked_mul(rows).ok_or_else(|| truncated(NAME))?;
    let reversed: Vec<u8>;
    let chunk = if p.reversed_bits {
        reversed = chunk.iter().map(|b| b.reverse_bits()).collect();
        &reversed
    } else {
        chunk
    };
    let short = || damaged(NAME, "the samples of a strip or tile are incomplete");
    let mut out = Vec::new();
    match p.compression {
        1 => out.extend(chunk.get(..n).ok_or_else(short)?),
        5 => out = lzw(chunk, n)?,
        8 | 32946 => {
            let mut decoder = flate2::bufread::ZlibDecoder::new(chunk).take(n as u64);
            decoder.read_to_end(&mut out).map_err(|_| damaged(NAME, "a strip or tile is not a valid zlib stream"))?;
        }
        32773 => unpack(chunk, n, &mut out),
        7 => out = jpeg(chunk, p, rows, tables)?,
        other => {
            let name = match other {
                2..=4 => "fax",
                6 => "old JPEG",
                50000 => "Zstandard",
                50001 => "WebP",
                34925 => "LZMA",
                33003 | 33005 | 34712 => "JPEG 2000",
                _ => "unknown",
            };
            return Err(unsupported(format!(
                "{name} compression ({other}) of TIFF is not read: convert it to PNG or deflate first"
            )));
        }
    }
    match out.len() == n {
        true => Ok(out),
        false => Err(short()),
    }
}

#[cfg(feature = "tiff")]
fn lzw(chunk: &[u8], n: usize) -> Result<Vec<u8>> {
    let mut out: Vec<u8> = try_vec(n)?;
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let (mut read, mut written) = (0, 0);
    while written < n {
        let step = decoder.decode_bytes(&chunk[read..], &mut out[written..]);
        (read, written) = (read + step.consumed_in, written + step.consumed_out);
        if step.status.is_err() || step.consumed_in + step.consumed_out == 0 {
            return Err(damaged(NAME, "the samples of a strip or tile are incomplete"));
        }
    }
    Ok(out)
}

#[cfg(not(feature = "tiff"))]
fn lzw(_: &[u8], _: usize) -> Result<Vec<u8>> {
    Err(unsupported("this build does not read LZW in TIFF: convert it to PNG or deflate first"))
}

/// PackBits: runs and literals.
fn unpack(chunk: &[u8], n: usize, out: &mut Vec<u8>) {
    let mut rest = chunk;
    while let ([count, more @ ..], true) = (rest, out.len() < n) {
        let used = match *count {
            128 => 0,
            c if c < 128 => {
                let literals = &more[..(usize::from(c) + 1).min(more.len())];
                out.extend(literals);
                literals.len()
            }
            c => {
                let Some(&byte) = more.first() else { return };
                out.resize(out.len() + 257 - usize::from(c), byte);
                1
            }
        };
        rest = &more[used..];
    }
    out.truncate(n);
}

#[cfg(feature = "jpeg")]
fn jpeg(chunk: &[u8], p: &Page, rows: usize, tables: Option<&[u8]>) -> Result<Vec<u8>> {
    let n = p.chunk_samples();
    if p.bits != 8 || !matches!(n, 1 | 3) || p.predictor != 1 {
        return Err(unsupported("JPEG in TIFF is read for grey and RGB of 8 bits only"));
    }
    // The tables have a start and an end mark of their own.
    let tables = tables.and_then(|t| t.get(2..t.len().checked_sub(2)?)).unwrap_or_default();
    let body = chunk.get(2..).ok_or_else(|| truncated(NAME))?;
    let mut data = [&[0xff, 0xd8][..], tables].concat();
    if p.photometric == 2 && n == 3 {
        // Tells the decoder that the components are RGB: colour transform 0.
        data.extend(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0");
    }
    data.extend(body);
    crate::pictures::jpeg::samples_of(&data, p.chunk_width, rows as u64, n, p.row_bytes() * rows)
}

#[cfg(not(feature = "jpeg"))]
fn jpeg(_: &[u8], _: &Page, _: usize, _: Option<&[u8]>) -> Result<Vec<u8>> {
    Err(unsupported("this build does not read JPEG in TIFF: convert it to PNG or deflate first"))
}

/// Adds up the differences that a predictor made.
fn unpredict(bytes: &mut [u8], p: &Page) -> Result<()> {
    let (row, n) = (p.row_bytes(), p.chunk_samples());
    match (p.predictor, p.bits) {
        (1, _) => {}
        (2, 8) => {
            bytes.chunks_exact_mut(row).for_each(|r| (n..r.len()).for_each(|i| r[i] = r[i].wrapping_add(r[i - n])))
        }
        (2, 16 | 32 | 64) => {
            let size = p.bits as usize / 8;
            let join = |n: u64, &b: &u8| n << 8 | u64::from(b);
            let get = |b: &[u8]| if p.little { b.iter().rev().fold(0, join) } else { b.iter().fold(0, join) };
            for r in bytes.chunks_exact_mut(row) {
                for i in n..r.len() / size {
                    let sum = get(&r[i * size..][..size]).wrapping_add(get(&r[(i - n) * size..][..size]));
                    let (le, be) = (sum.to_le_bytes(), sum.to_be_bytes());
                    r[i * size..][..size].copy_from_slice(if p.little { &le[..size] } else { &be[8 - size..] });
                }
            }
        }
        (3, 16 | 32 | 64) if p.kind == Kind::Float => {
            // The bytes of the values are stored by their place in the value, the highest first, as differences.
            let size = p.bits as usize / 8;
            let mut copy = vec![0; row];
            for r in bytes.chunks_exact_mut(row) {
                (n..r.len()).for_each(|i| r[i] = r[i].wrapping_add(r[i - n]));
                copy.copy_from_slice(r);
                let values = row / size;
                for (i, v) in r.chunks_exact_mut(size).enumerate() {
                    for (k, b) in v.iter_mut().enumerate() {
                        let place = if p.little { size - 1 - k } else { k };
                        *b = copy[place * values + i];
                    }
                }
            }
        }
        (k, bits) => return Err(unsupported(format!("predictor {k} of TIFF with {bits} bits is not read"))),
    }
    Ok(())
}

/// The picture of a page whose samples are all in place.
fn finish(target: Values, entries: &[Entry], p: &Page) -> Result<Source> {
    let (width, height) = (p.width as usize, p.height as usize);
    let mut s = match target {
        Values::Numbers(values) => {
            let mut scaled = samples::from_values(values.len(), p.samples, |i| values[i])?;
            if p.photometric == 0 {
                // White is zero: the negative values.
                scaled.samples.iter_mut().for_each(|s| *s = 65535 - *s);
                (scaled.zero, scaled.scale) = (scaled.zero + 65535.0 * scaled.scale, -scaled.scale);
            }
            let warnings = scaled.warning("the values").into_iter().collect();
            let items = scaled.item().into_iter().collect();
            let format = PixelFormat { channels: scaled.channels, depth: 16, alpha: scaled.alpha };
            return Ok(source(Picture { width, height, format, samples: scaled.samples }, items, warnings));
        }
        Values::Samples(samples) if p.photometric == 3 => return palette(samples, entries, p),
        Values::Samples(samples) => {
            let format = PixelFormat { channels: p.samples, depth: p.bits.max(8), alpha: p.alpha.is_some() };
            source(Picture { width, height, format, samples }, Vec::new(), Vec::new())
        }
    };
    let f = s.picture.format;
    let (file_peak, peak) = ((1u32 << p.bits) - 1, u32::from(f.peak()));
    for pixel in s.picture.samples.chunks_exact_mut(f.channels) {
        if p.bits < 8 {
            // As in PNG, fewer than 8 bits are scaled to 8.
            pixel.iter_mut().for_each(|v| *v = ((u32::from(*v) * peak + file_peak / 2) / file_peak) as u16);
        }
        if p.photometric == 0 {
            pixel[0] = f.peak() - pixel[0];
        }
        if let Some((at, associated)) = p.alpha {
            // Alpha becomes the last channel, not premultiplied.
            pixel[at..].rotate_left(1);
            let (colours, alpha) = pixel.split_at_mut(f.channels - 1);
            let a = u32::from(alpha[0]);
            if associated {
                let divide =
                    |v: u16| (u64::from(v) * u64::from(peak) + u64::from(a / 2)).checked_div(a.into()).unwrap_or(0);
                colours.iter_mut().for_each(|v| *v = divide(*v).min(peak.into()) as u16);
            }
        }
    }
    if p.alpha.is_some_and(|a| a.1) {
        s.warnings.push("the colours are premultiplied with alpha: they are divided by it and rounded".into());
    }
    Ok(s)
}

fn palette(indices: Vec<u16>, entries: &[Entry], p: &Page) -> Result<Source> {
    let n = 1usize << p.bits;
    let map = find(entries, tag::COLOUR_MAP).map_or(Vec::new(), Entry::integers);
    if map.len() < 3 * n {
        return Err(damaged(NAME, "its palette is missing"));
    }
    // Palettes have 16 bits; most are 8 bits, repeated or shifted.
    let repeated = map.iter().all(|v| v >> 8 == v & 255);
    let shifted = map.iter().all(|v| v & 255 == 0);
    let depth = if repeated || shifted { 8 } else { 16 };
    let mut picture = blank(p.width as usize, p.height as usize, PixelFormat { channels: 3, depth, alpha: false })?;
    for (o, i) in picture.samples.chunks_exact_mut(3).zip(indices) {
        for (c, o) in o.iter_mut().enumerate() {
            *o = (map[c * n + usize::from(i)] >> (16 - depth)) as u16;
        }
    }
    Ok(source(picture, Vec::new(), Vec::new()))
}

/// Adds the items of a page's tags.
fn items(file: &File, entries: &[Entry], s: &mut Source) {
    let mut others = Vec::new();
    let (mut exif, mut gps) = (None, None);
    let sub = |e: &Entry, warnings: &mut Vec<String>| {
        let read = e.integer(0).ok_or_else(|| Error::format("no offset")).and_then(|at| file.directory(at));
        match read {
            Ok((mut entries, _)) => {
                // Offsets of further directories mean nothing in another file.
                entries.retain(|e| e.tag != 40965 && e.kind != 13);
                Some(entries)
            }
            Err(e) => {
                warnings.push(format!("the EXIF of the TIFF cannot be read ({}): it is not kept", e.message()));
                None
            }
        }
    };
    for e in entries {
        let text = tag::TEXTS.iter().find(|t| t.0 == e.tag);
        let item = match e.tag {
            tag::ICC => metadata::icc_item(&e.values),
            tag::XMP => metadata::xmp_item(&e.values),
            tag::EXIF => {
                exif = sub(e, &mut s.warnings);
                continue;
            }
            tag::GPS => {
                gps = sub(e, &mut s.warnings);
                continue;
            }
            tag::SUB_IFDS => Err("further pictures in the TIFF (SubIFDs) are not kept".into()),
            _ if text.is_some_and(|_| e.kind == 2) => {
                Ok(Text::new(text.map_or("", |t| t.1), metadata::any_text(&e.values)).item())
            }
            tag::NEW_SUBFILE..=tag::PLANAR if !matches!(e.tag, 267..=269 | 285..=287) => continue,
            tag::RESOLUTION_UNIT | tag::PREDICTOR | tag::COLOUR_MAP..=tag::TILE_SIZES => continue,
            tag::EXTRA_SAMPLES | tag::SAMPLE_FORMAT | tag::JPEG_TABLES => continue,
            t if tag::STORAGE.contains(&t) => continue,
            _ if e.values.len() > metadata::MAX_INFLATED / 16 || e.kind == 13 => {
                Err(format!("tag {} of the TIFF ({} bytes) is not kept", e.tag, e.values.len()))
            }
            _ => {
                e.pack(&mut others);
                continue;
            }
        };
        match item {
            Ok(item) => s.metadata.push(item),
            Err(warning) => s.warnings.push(warning),
        }
    }
    // The orientation is one of EXIF's tags too, and stays with the samples as they are.
    let turned = find(entries, tag::ORIENTATION).filter(|e| e.integer(0).is_some_and(|o| (2..=8).contains(&o)));
    if exif.is_some() || gps.is_some() || turned.is_some() {
        s.metadata.push(Item { kind: EXIF, data: exif_block(turned.cloned().into_iter().collect(), exif, gps) });
    }
    let resolution = |tag| find(entries, tag).and_then(Entry::fraction);
    let metres = match integer(entries, tag::RESOLUTION_UNIT, 2) {
        2 => Some(0.0254),
        3 => Some(0.01),
        _ => None,
    };
    if let (Some(x), Some(y), Some(metres)) = (resolution(tag::X_RESOLUTION), resolution(tag::Y_RESOLUTION), metres) {
        s.metadata.extend(metadata::resolution_item(x, y, metres));
    }
    if !others.is_empty() {
        s.metadata.push(Item { kind: TIFF, data: others });
    }
}

/// An EXIF block with `main` tags and the directories that belong to it.
fn exif_block(mut main: Vec<Entry>, exif: Option<Vec<Entry>>, gps: Option<Vec<Entry>>) -> Vec<u8> {
    let mut out = b"II*\0\0\0\0\0".to_vec();
    for (tag, entries) in [(tag::EXIF, exif), (tag::GPS, gps)] {
        if let Some(entries) = entries {
            let at = append(&mut out, entries);
            main.push(Entry::longs(tag, &[at]));
        }
    }
    let at = append(&mut out, main);
    out[4..8].copy_from_slice(&at.to_le_bytes());
    out
}
