//! PNG (W3C, third edition) with APNG. The crate `png` decodes and encodes the samples; chunks of metadata are read and
//! written here, because that crate drops most of them.

use super::bytes::Bytes;
use super::metadata::{self, Item, Text, LONG_TEXT, MAX_INFLATED};
use super::{cannot_write, check_size, damaged, source, truncated, unsupported};
use super::{Picture, PixelFormat, ReadOptions, Source};
use crate::container::metadata::*;
use crate::crc::crc32;
use crate::error::{Class, Error, Result};
use crate::limits::try_vec;
use png::{BlendOp, DisposeOp};
use std::io::{self, Cursor, Write};

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// Chunks that the pixels depend on: the crate `png` gets only these.
const PIXELS: [&[u8; 4]; 8] = [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"];

/// Bytes of all chunks with pixels, and the other chunks.
struct Chunks<'a> {
    pixels: Vec<u8>,
    header: Header,
    palette: &'a [u8],
    transparency: Option<&'a [u8]>,
    frames: Option<u32>,
    others: Vec<([u8; 4], &'a [u8])>,
    warnings: Vec<String>,
}

/// The IHDR chunk.
#[derive(Clone, Copy, Default)]
struct Header {
    width: u32,
    height: u32,
    depth: u8,
    colour: u8,
}

impl Header {
    fn parse(body: &[u8]) -> Result<Header> {
        let bad = |what: String| Err(damaged("PNG", what));
        let mut b = Bytes::new(body, "PNG");
        let (width, height, depth, colour) = (b.u32_be()?, b.u32_be()?, b.u8()?, b.u8()?);
        let depths: &[u8] = match colour {
            0 => &[1, 2, 4, 8, 16],
            2 | 4 | 6 => &[8, 16],
            3 => &[1, 2, 4, 8],
            _ => return bad(format!("colour type {colour} does not exist")),
        };
        if !depths.contains(&depth) {
            return bad(format!("{depth} bits are not possible with colour type {colour}"));
        }
        match b.take(3)? {
            [0, 0, 0 | 1] => Ok(Header { width, height, depth, colour }),
            _ => bad("unknown compression, filter or interlace method".into()),
        }
    }

    /// Samples of a pixel in the file.
    fn channels(&self) -> u64 {
        [1, 1, 3, 1, 2, 1, 4][usize::from(self.colour)]
    }

    /// The format of the samples. Palettes become RGB, fewer than 8 bits become 8, and tRNS becomes alpha.
    fn format(&self, transparency: bool) -> PixelFormat {
        let alpha = transparency || self.colour & 4 != 0;
        let colours = if self.colour & 2 != 0 { 3 } else { 1 };
        PixelFormat { channels: colours + usize::from(alpha), depth: u32::from(self.depth.max(8)), alpha }
    }
}

fn chunks(data: &[u8]) -> Result<Chunks<'_>> {
    let n = data.len().min(8);
    if data[..n] != SIGNATURE[..n] {
        return Err(damaged("PNG", "its first bytes were changed, as a transfer as text does"));
    }
    let mut b = Bytes::new(data, "PNG");
    b.take(8)?;
    let mut c = Chunks {
        pixels: SIGNATURE.to_vec(),
        header: Header::default(),
        palette: &[],
        transparency: None,
        frames: None,
        others: Vec::new(),
        warnings: Vec::new(),
    };
    let mut first = true;
    loop {
        let start = b.position();
        let length = b.u32_be()? as usize;
        let checked = b.clone().take(4)?;
        let kind: [u8; 4] = [checked[0], checked[1], checked[2], checked[3]];
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return Err(damaged("PNG", "a chunk has no valid type"));
        }
        let checked = b.take(length.checked_add(4).ok_or_else(|| truncated("PNG"))?)?;
        let body = &checked[4..];
        let intact = b.u32_be()? == crc32(checked);
        let name = kind.escape_ascii();
        if std::mem::take(&mut first) {
            match &kind {
                b"IHDR" if intact && length == 13 => c.header = Header::parse(body)?,
                b"IHDR" => return Err(damaged("PNG", "the checksum of IHDR does not match")),
                _ => return Err(damaged("PNG", "the IHDR chunk is missing")),
            }
        } else if &kind == b"IHDR" {
            return Err(damaged("PNG", "it has two IHDR chunks"));
        }
        let pixels = PIXELS.contains(&&kind);
        if !intact && (pixels || kind[0].is_ascii_uppercase()) {
            return Err(damaged("PNG", format!("the checksum of a chunk ({name}) does not match")));
        }
        match &kind {
            b"PLTE" => c.palette = body,
            b"tRNS" => c.transparency = Some(body),
            b"acTL" => c.frames = Some(Bytes::new(body, "PNG").u32_be()?),
            _ if pixels => {}
            _ if kind[0].is_ascii_uppercase() => {
                return Err(unsupported(format!("the PNG needs a chunk {name} that is not known")))
            }
            _ if !intact => c.warnings.push(format!("the checksum of the chunk {name} does not match: it is not kept")),
            _ => c.others.push((kind, body)),
        }
        if pixels {
            c.pixels.extend(&data[start..b.position()]);
        }
        if &kind == b"IEND" {
            if !b.rest().is_empty() {
                c.warnings.push(format!("{} bytes after the end of the PNG are not kept", b.rest().len()));
            }
            return Ok(c);
        }
    }
}

/// Reads a PNG. Palettes become RGB and tRNS becomes alpha, which are the same picture in other samples.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut c = chunks(data)?;
    let format = c.header.format(c.transparency.is_some());
    let n = check_size(c.header.width.into(), c.header.height.into(), format.channels, options)?;
    if let Some(t) = c.transparency {
        let fits = match c.header.colour {
            0 => t.len() == 2,
            2 => t.len() == 6,
            3 => t.len() <= c.palette.len() / 3,
            _ => false,
        };
        if !fits {
            return Err(damaged("PNG", "the chunk tRNS does not fit the picture"));
        }
    }
    let pixels = std::mem::take(&mut c.pixels);
    // Deflate packs at most 258 bytes into 2 bits, so that a small file does not make us allocate a large picture.
    let row_bits = u64::from(c.header.width) * u64::from(c.header.depth) * c.header.channels();
    if (row_bits / 8).saturating_mul(c.header.height.into()) / 1032 > pixels.len() as u64 {
        return Err(truncated("PNG"));
    }
    let samples = match (c.frames, options.frame) {
        (Some(frames), None) => {
            return Err(unsupported(format!(
                "the PNG is an animation of {frames} frames: choose one with --frame 1..{frames}"
            )))
        }
        (None, Some(k)) if k > 1 => return Err(no_frame(k, 1)),
        (Some(frames), Some(k)) if k == 0 || k > frames => return Err(no_frame(k, frames)),
        (Some(frames), Some(k)) => {
            if frames > 1 {
                c.warnings.push(format!("frame {k} of {frames} is kept"));
            }
            frame(pixels, n, format, k)?
        }
        _ => still(pixels, n, format)?,
    };
    let items = items(&mut c, format);
    let (width, height) = (c.header.width as usize, c.header.height as usize);
    Ok(source(Picture { width, height, format, samples }, items, c.warnings))
}

pub(super) fn no_frame(k: u32, frames: u32) -> Error {
    Error::new(
        Class::Argument,
        format!("--frame {k}: the picture has {frames} frame{}", if frames == 1 { "" } else { "s" }),
    )
}

fn decoder(pixels: Vec<u8>, n: usize) -> Result<png::Reader<Cursor<Vec<u8>>>> {
    // Rows and chunks; the crate's own limit of 64 MB would refuse wide pictures.
    let limits = png::Limits { bytes: (1 << 26) + 4 * n };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(pixels), limits);
    decoder.set_transformations(png::Transformations::EXPAND);
    decoder.ignore_checksums(false);
    decoder.read_info().map_err(failed)
}

fn still(pixels: Vec<u8>, n: usize, format: PixelFormat) -> Result<Vec<u16>> {
    let mut reader = decoder(pixels, n)?;
    let mut raw = try_vec(n * format.depth as usize / 8)?;
    if reader.output_buffer_size() != Some(raw.len()) {
        return Err(damaged("PNG", "its chunks contradict each other"));
    }
    reader.next_frame(&mut raw).map_err(failed)?;
    reader.finish().map_err(failed)?;
    to_samples(&raw, format)
}

fn to_samples(raw: &[u8], format: PixelFormat) -> Result<Vec<u16>> {
    let mut samples = try_vec(raw.len() * 8 / format.depth as usize)?;
    match format.depth {
        8 => samples.iter_mut().zip(raw).for_each(|(s, &b)| *s = u16::from(b)),
        _ => samples.iter_mut().zip(raw.chunks_exact(2)).for_each(|(s, b)| *s = u16::from_be_bytes([b[0], b[1]])),
    }
    Ok(samples)
}

/// Frame `k` of an animation, counted from 1: the frames up to it, drawn one over the other.
fn frame(pixels: Vec<u8>, n: usize, format: PixelFormat, k: u32) -> Result<Vec<u16>> {
    let mut reader = decoder(pixels, n)?;
    let stride = reader.info().width as usize;
    let mut canvas: Vec<u16> = try_vec(n)?;
    let mut raw = try_vec(n * format.depth as usize / 8)?;
    if reader.output_buffer_size() != Some(raw.len()) {
        return Err(damaged("PNG", "its chunks contradict each other"));
    }
    let mut done = 0;
    while done < k {
        let info = reader.next_frame(&mut raw).map_err(failed)?;
        // A default image that is not part of the animation has no frame control.
        let Some(control) = reader.info().frame_control else { continue };
        done += 1;
        let samples = to_samples(&raw[..info.buffer_size()], format)?;
        let (w, h) = (info.width as usize, info.height as usize);
        let (x, y) = (control.x_offset as usize, control.y_offset as usize);
        if w == 0 || x + w > stride || (y + h) * stride > n / format.channels {
            return Err(damaged("PNG", "a frame is not inside the picture"));
        }
        let dispose = match control.dispose_op {
            // There is nothing before the first frame.
            DisposeOp::Previous if done == 1 => DisposeOp::Background,
            op => op,
        };
        let before = if dispose == DisposeOp::Previous && done < k { canvas.clone() } else { Vec::new() };
        for (row, line) in samples.chunks_exact(w * format.channels).enumerate() {
            let at = ((y + row) * stride + x) * format.channels;
            let target = &mut canvas[at..at + line.len()];
            if control.blend_op == BlendOp::Over && format.alpha {
                target
                    .chunks_exact_mut(format.channels)
                    .zip(line.chunks_exact(format.channels))
                    .for_each(|(t, s)| over(t, s, format));
            } else {
                target.copy_from_slice(line);
            }
        }
        if done < k {
            match dispose {
                DisposeOp::None => {}
                DisposeOp::Previous => canvas = before,
                DisposeOp::Background => {
                    for row in y..y + h {
                        canvas[(row * stride + x) * format.channels..][..w * format.channels].fill(0);
                    }
                }
            }
        }
    }
    Ok(canvas)
}

/// Draws the pixel `s` over `t`, both with alpha that is not premultiplied.
fn over(t: &mut [u16], s: &[u16], format: PixelFormat) {
    let (a, peak) = (format.colours(), f64::from(format.peak()));
    let (front, back) = (f64::from(s[a]) / peak, f64::from(t[a]) / peak * (1.0 - f64::from(s[a]) / peak));
    if front + back == 0.0 {
        return;
    }
    for (t, s) in t.iter_mut().zip(s).take(a) {
        *t = ((f64::from(*s) * front + f64::from(*t) * back) / (front + back)).round() as u16;
    }
    t[a] = ((front + back) * peak).round() as u16;
}

fn failed(e: png::DecodingError) -> Error {
    match e {
        png::DecodingError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => truncated("PNG"),
        png::DecodingError::LimitsExceeded => Error::new(Class::MemoryLimit, "the PNG needs too much memory"),
        e => match e.to_string() {
            // The rest of the library's text is debug output of its types.
            text if text.starts_with("CRC error") => damaged("PNG", "the checksum of a chunk does not match"),
            text => damaged("PNG", text.lines().next().unwrap_or_default()),
        },
    }
}

/// The items of the chunks without pixels. What is left out gets a warning.
fn items(c: &mut Chunks, format: PixelFormat) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut budget = MAX_INFLATED;
    for (kind, body) in std::mem::take(&mut c.others) {
        let name = kind.escape_ascii().to_string();
        let bad = |why: &str| Err(format!("the chunk {name} {why}: it is not kept"));
        let kept = CHUNKS.iter().find(|c| c.1 == &kind);
        let item = match &kind {
            _ if kept.is_some_and(|k| k.2 == body.len()) => {
                Ok(Item { kind: kept.map_or(0, |k| k.0), data: body.to_vec() })
            }
            _ if kept.is_some() => bad("has a wrong length"),
            b"iCCP" => profile(body),
            b"eXIf" if matches!(body, [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..]) => {
                Ok(Item { kind: EXIF, data: body.to_vec() })
            }
            b"eXIf" => bad("is not EXIF"),
            b"tEXt" | b"zTXt" | b"iTXt" => match text(&kind, body, budget) {
                Ok(text) => {
                    budget = budget.saturating_sub(text.text.len());
                    if text.keyword == XMP_KEYWORD {
                        metadata::xmp_item(text.text.as_bytes())
                    } else {
                        Ok(text.item())
                    }
                }
                Err(e) => bad(&format!("cannot be read ({})", e.message())),
            },
            b"sBIT" => significant(&c.header, format, body).map_or_else(|| bad("has a wrong length"), Ok),
            b"bKGD" => background(&c.header, format, c.palette, body).map_or_else(|| bad("has a wrong length"), Ok),
            // How often each colour of the palette occurs.
            b"hIST" => bad("belongs to the palette"),
            // Lower case: safe to copy, even if the pixels change.
            _ if kind[3].is_ascii_lowercase() || matches!(&kind, b"oFFs" | b"sCAL" | b"pCAL" | b"sTER") => {
                Ok(Item { kind: CHUNK, data: [&kind[..], body].concat() })
            }
            _ => bad("depends on the file's other chunks"),
        };
        match item {
            Ok(item) if item.kind != TEXT && item.kind != CHUNK && items.iter().any(|i| i.kind == item.kind) => {
                c.warnings.push(format!("the second chunk {name} is not kept"));
            }
            Ok(item) => items.push(item),
            Err(warning) => c.warnings.push(warning),
        }
    }
    items
}

/// The profile of an iCCP chunk. Its name is not kept: the profile has its own.
fn profile(body: &[u8]) -> std::result::Result<Item, String> {
    let end = body.iter().position(|&b| b == 0).unwrap_or(body.len());
    let Some((0, stream)) = body.get(end + 1..).and_then(|b| b.split_first()).map(|(m, s)| (*m, s)) else {
        return Err("the chunk iCCP has no profile: it is not kept".into());
    };
    match metadata::inflated(stream, MAX_INFLATED) {
        Ok(profile) => metadata::icc_item(&profile),
        Err(e) => Err(format!("the ICC profile cannot be read ({}): it is not kept", e.message())),
    }
}

fn text(kind: &[u8; 4], body: &[u8], budget: usize) -> Result<Text> {
    if kind == b"iTXt" {
        return match Text::parse(body) {
            Ok(t) if t.text.len() > budget => Err(Error::format(format!("more than {MAX_INFLATED} bytes of text"))),
            other => other,
        };
    }
    let end = body.iter().position(|&b| b == 0).ok_or_else(|| Error::format("no keyword"))?;
    let keyword = metadata::latin1(&body[..end]);
    let text = match (kind, &body[end + 1..]) {
        (b"tEXt", text) => metadata::latin1(text),
        (_, [0, stream @ ..]) => metadata::latin1(&metadata::inflated(stream, budget)?),
        _ => return Err(Error::format("unknown compression")),
    };
    Ok(Text { keyword, text, ..Text::default() })
}

/// sBIT for the channels of the samples: a palette has it for RGB, and an alpha from tRNS has all its bits.
fn significant(header: &Header, format: PixelFormat, body: &[u8]) -> Option<Item> {
    let own = if header.colour & 4 != 0 { format.channels } else { format.colours() };
    let mut data = body.to_vec();
    data.resize(format.channels, format.depth as u8);
    (body.len() == own).then_some(Item { kind: SBIT, data })
}

/// bKGD in samples: palettes give the colour of an index, and grey of fewer than 8 bits is scaled.
fn background(header: &Header, format: PixelFormat, palette: &[u8], body: &[u8]) -> Option<Item> {
    let data = match (header.colour, body) {
        (3, [index]) => palette.get(3 * usize::from(*index)..)?.get(..3)?.iter().flat_map(|&b| [0, b]).collect(),
        (0, [high, low]) if header.depth < 8 => {
            let peak = (1u16 << header.depth) - 1;
            let grey = u16::from_be_bytes([*high, *low]) & peak;
            (grey * (255 / peak)).to_be_bytes().to_vec()
        }
        (0 | 2 | 4 | 6, body) if body.len() == 2 * format.colours() => body.to_vec(),
        _ => return None,
    };
    Some(Item { kind: BKGD, data })
}

/// Writes a PNG of 8 bits, or of 16 for all other depths, with the picture's own depth in sBIT.
pub fn write(picture: &Picture, items: &[Item], out: &mut dyn Write) -> Result<Vec<String>> {
    let f = picture.format;
    let colour = match (f.colours(), f.alpha) {
        (1, false) => png::ColorType::Grayscale,
        (1, true) => png::ColorType::GrayscaleAlpha,
        (3, false) => png::ColorType::Rgb,
        (3, true) => png::ColorType::Rgba,
        _ => {
            let what = format!(
                "PNG cannot hold {} channels{}: write .tif, .fits or .pam",
                f.channels,
                if f.alpha { " with alpha" } else { "" }
            );
            return Err(unsupported(what));
        }
    };
    let side = |n: usize| {
        u32::try_from(n).ok().filter(|&n| n < 1 << 31).ok_or_else(|| unsupported("the picture is too large for a PNG"))
    };
    let failed = |e: png::EncodingError| match e {
        png::EncodingError::IoError(e) => cannot_write(e),
        e => Error::new(Class::Io, format!("cannot write the PNG: {e}")),
    };
    let mut encoder = png::Encoder::new(&mut *out, side(picture.width)?, side(picture.height)?);
    encoder.set_color(colour);
    encoder.set_depth(if f.depth == 8 { png::BitDepth::Eight } else { png::BitDepth::Sixteen });
    // For 3 % smaller files the default needs 3 times the time of the fastest.
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    let mut left = Vec::new();
    let own_depth = Item { kind: SBIT, data: vec![f.depth as u8; f.channels] };
    let narrow = !matches!(f.depth, 8 | 16) && metadata::find(items, SBIT).is_none();
    for item in items.iter().chain(narrow.then_some(&own_depth)) {
        match chunk(item, f) {
            Some((kind, body)) => writer.write_chunk(png::chunk::ChunkType(kind), &body).map_err(failed)?,
            None => left.push(item),
        }
    }
    // The streaming writer does not copy the picture; the call for whole pictures does.
    let mut stream = writer.stream_writer_with_size(1 << 16).map_err(failed)?;
    let mut row = Vec::new();
    for samples in picture.samples.chunks_exact(picture.width * f.channels) {
        super::push_bytes(samples, f.depth, &mut row);
        stream.write_all(&row).map_err(cannot_write)?;
    }
    stream.finish().map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(metadata::not_written("PNG", left.into_iter()).into_iter().collect())
}

/// The chunk of an item; `None` if PNG has none for it.
fn chunk(item: &Item, format: PixelFormat) -> Option<([u8; 4], Vec<u8>)> {
    let data = &item.data;
    match item.kind {
        ICC if data.first() == Some(&0) => png_chunk(ICC, &metadata::deflated(data), format.channels, format.colours()),
        // Not deflated: readers search for the packet in the bytes of the file.
        XMP => {
            let packet = metadata::inflated(data, MAX_INFLATED).ok()?;
            Some((*b"iTXt", [XMP_KEYWORD.as_bytes(), &[0; 5], &packet].concat()))
        }
        // Short texts of Latin-1 have a simpler chunk, which all readers know.
        TEXT => match Text::parse(data).ok()? {
            Text { keyword, language, translated, text }
                if language.is_empty() && translated.is_empty() && text.len() < LONG_TEXT =>
            {
                let parts = metadata::to_latin1(&keyword).zip(metadata::to_latin1(&text));
                let plain = |(k, t): (Vec<u8>, Vec<u8>)| (*b"tEXt", [&k[..], &[0], &t].concat());
                Some(parts.map_or_else(|| (*b"iTXt", data.clone()), plain))
            }
            _ => Some((*b"iTXt", data.clone())),
        },
        // Its samples are those of 8 or 16 bits.
        BKGD if !matches!(format.depth, 8 | 16) => None,
        kind => png_chunk(kind, data, format.channels, format.colours()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_over_mixes_by_alpha() {
        let format = PixelFormat { channels: 2, depth: 8, alpha: true };
        for (front, back, mixed) in [
            ([200, 255], [10, 255], [200, 255]),
            ([200, 0], [10, 77], [10, 77]),
            ([200, 51], [100, 255], [120, 255]),
            // Half over half: 3/4, of which the front has two thirds.
            ([30, 128], [90, 128], [50, 192]),
            ([9, 0], [8, 0], [8, 0]),
        ] {
            let mut t = back;
            over(&mut t, &front, format);
            assert_eq!(t, mixed);
        }
    }
}
