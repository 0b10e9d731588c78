//! Reads PNG and JPEG, writes PNG.
//!
//! Features that the codec does not support (alpha, 16-bit samples, animation) are errors that name the feature: no part
//! of a picture is dropped without an error.

use super::failure::{Code, Failure, Result};
use crate::container::metadata::{self, Item};
use crate::image::{Picture, PixelFormat};
use crate::limits::{try_vec, Limits};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, Write};
use std::path::Path;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// Limits on the pictures that are read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    pub max_pixels: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits { max_pixels: Limits::default().max_pixels }
    }
}

/// A picture as it was read.
#[derive(Debug)]
pub struct Source {
    pub picture: Picture,
    /// Size of its file in bytes.
    pub bytes: u64,
    /// Colour and camera metadata of the file: kinds of [`metadata`] and their bytes.
    pub metadata: Vec<(u8, Vec<u8>)>,
}

/// Reads a PNG; `-` is stdin.
pub fn read_file(path: &Path, limits: &ReadLimits) -> Result<Source> {
    let read = || {
        if path == Path::new("-") {
            read_png(Cursor::new(read_bytes(path)?), limits)
        } else {
            read_png(BufReader::with_capacity(1 << 16, open(path)?), limits)
        }
    };
    read().map_err(|e| e.at(path.display()))
}

/// Reads a PNG or a JPEG; the first bytes tell which.
pub fn read_any(data: &[u8], limits: &ReadLimits) -> Result<Source> {
    if data.starts_with(&[0xff, 0xd8, 0xff]) {
        read_jpeg(data, limits)
    } else {
        read_png(Cursor::new(data), limits)
    }
}

/// All bytes of a file; `-` is stdin.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut data).map_err(cannot_read)?;
    } else {
        open(path)?.read_to_end(&mut data).map_err(cannot_read)?;
    }
    Ok(data)
}

fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(cannot_read)?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(bad("this is a folder, not a file"));
    }
    Ok(file)
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::Input, message)
}

/// The operating system's message without the error number.
pub fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

fn cannot_read(e: io::Error) -> Failure {
    bad(format!("cannot read: {}", reason(&e)))
}

/// Reads a PNG of 8-bit grey or RGB samples. Palettes become RGB, grey of 1, 2 and 4 bits becomes 8-bit
/// grey (the same picture in other samples); interlaced files are read like any other.
///
/// # Errors
/// [`Code::Input`] if the file is damaged or not supported, [`Code::Damaged`] if it has more pixels than `limits` allow.
pub fn read_png<R: BufRead + Seek>(mut reader: R, limits: &ReadLimits) -> Result<Source> {
    let bytes = reader.seek(io::SeekFrom::End(0)).map_err(cannot_read)?;
    reader.rewind().map_err(cannot_read)?;
    let mut head = Vec::new();
    reader.by_ref().take(29).read_to_end(&mut head).map_err(cannot_read)?;
    check_header(&head, limits)?;
    reader.rewind().map_err(cannot_read)?;

    let mut decoder = png::Decoder::new(reader);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    if info.animation_control.is_some() {
        return Err(bad("animated PNG is not supported: extract the frame that you want"));
    }
    let (colour, bits) = reader.output_color_type();
    let channels = colour.samples();
    let wide = bits == png::BitDepth::Sixteen;
    let (width, height) = (info.width as usize, info.height as usize);
    let mut bytes_of_samples = try_vec(width * height * channels * (1 + usize::from(wide)))?;
    reader.next_frame(&mut bytes_of_samples).map_err(damaged)?;
    reader.finish().map_err(damaged)?;
    let info = reader.info();
    let icc = info.icc_profile.as_ref().map(|p| (metadata::ICC, p.to_vec()));
    let exif = info.exif_metadata.as_ref().map(|e| (metadata::EXIF, e.to_vec()));
    let cicp = info.coding_independent_code_points.map(|c| {
        let range = u8::from(c.is_video_full_range_image);
        (metadata::CICP, vec![c.color_primaries, c.transfer_function, c.matrix_coefficients, range])
    });
    let metadata = [icc, exif, cicp].into_iter().flatten().collect();
    let samples = match wide {
        true => bytes_of_samples.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect(),
        false => bytes_of_samples.iter().map(|b| u16::from(*b)).collect(),
    };
    let alpha = matches!(colour, png::ColorType::GrayscaleAlpha | png::ColorType::Rgba);
    let format = PixelFormat { channels, depth: if wide { 16 } else { 8 }, alpha };
    Ok(Source { picture: Picture { width, height, format, samples }, bytes, metadata })
}

/// Checks signature and IHDR before the PNG library does, so that each error can name its reason.
fn check_header(head: &[u8], limits: &ReadLimits) -> Result<()> {
    if head.is_empty() {
        return Err(bad("the file is empty, expected a PNG"));
    }
    if !SIGNATURE.starts_with(&head[..head.len().min(8)]) {
        let found = match head {
            [0xff, 0xd8, ..] => " (it is a JPEG)",
            [b'G', b'I', b'F', b'8', ..] => " (it is a GIF)",
            [b'R', b'I', b'F', b'F', ..] => " (it may be a WebP)",
            _ => "",
        };
        return Err(bad(format!("not a PNG{found}: convert the picture to PNG first")));
    }
    if head.len() < 29 {
        return Err(bad("truncated PNG: the file ends in its header"));
    }
    if &head[12..16] != b"IHDR" {
        return Err(bad("damaged PNG: the IHDR chunk is missing"));
    }
    let side = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as u64;
    let (width, height) = (side(16), side(20));
    if width == 0 || height == 0 {
        return Err(bad(format!("the picture has no pixels ({width}x{height})")));
    }
    // The sides are below 2^32, so this does not overflow.
    if width * height > limits.max_pixels {
        return Err(Failure::new(
            Code::Damaged,
            format!(
                "{width}x{height} is {} pixels, the limit is {}: raise it with --max-pixels",
                width * height,
                limits.max_pixels
            ),
        ));
    }
    Ok(())
}

fn damaged(e: png::DecodingError) -> Failure {
    match e {
        png::DecodingError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            bad("truncated PNG: the file ends before the picture does")
        }
        png::DecodingError::IoError(e) => cannot_read(e),
        e => match e.to_string() {
            // The rest of the library's text is debug output of its types.
            text if text.starts_with("CRC error") => bad("damaged PNG: the checksum of a chunk does not match"),
            text => bad(format!("damaged PNG: {text}")),
        },
    }
}

/// Reads a baseline or progressive JPEG of grey or YCbCr samples.
pub fn read_jpeg(data: &[u8], limits: &ReadLimits) -> Result<Source> {
    let damaged = |e| bad(format!("damaged JPEG: {e:?}").replace('\n', " "));
    let options = DecoderOptions::default().set_max_width(1 << 16).set_max_height(1 << 16);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| bad("damaged JPEG: it has no dimensions"))?;
    Limits { max_pixels: limits.max_pixels, ..Limits::NONE }.check_pixels(width as u64 * height as u64)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (space, channels) = if grey { (ColorSpace::Luma, 1) } else { (ColorSpace::RGB, 3) };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let mut samples = try_vec(width * height * channels)?;
    decoder.decode_into(&mut samples).map_err(damaged)?;
    Ok(Source {
        picture: Picture::from_u8(width, height, channels, &samples),
        bytes: data.len() as u64,
        metadata: Vec::new(),
    })
}

/// Writes a PNG of 8-bit samples with the picture's metadata.
pub fn write_png(picture: &Picture, items: &[Item], out: impl Write) -> Result<()> {
    let side = |n: usize| u32::try_from(n).map_err(|_| bad("the picture is too large for a PNG"));
    let mut info = png::Info::with_size(side(picture.width)?, side(picture.height)?);
    info.icc_profile = metadata::find(items, metadata::ICC).map(Cow::from);
    info.exif_metadata = metadata::find(items, metadata::EXIF).map(Cow::from);
    let mut encoder = png::Encoder::with_info(out, info).map_err(|e| bad(format!("cannot write the PNG: {e}")))?;
    let format = picture.format;
    encoder.set_color(match (format.colours(), format.alpha) {
        (1, false) => png::ColorType::Grayscale,
        (1, true) => png::ColorType::GrayscaleAlpha,
        (3, false) => png::ColorType::Rgb,
        (3, true) => png::ColorType::Rgba,
        _ => return Err(bad(format!("a PNG cannot hold {}: choose another format", format.name()))),
    });
    encoder.set_depth(if format.depth > 8 { png::BitDepth::Sixteen } else { png::BitDepth::Eight });
    encoder.set_compression(png::Compression::Fast);
    // The streaming writer does not copy the picture; the call for whole pictures does.
    let failed = |e: png::EncodingError| match e {
        png::EncodingError::IoError(e) => cannot_write(&e),
        e => bad(format!("cannot write the PNG: {e}")),
    };
    let mut writer = encoder.write_header().map_err(failed)?;
    if let Some(points) = metadata::find(items, metadata::CICP) {
        writer.write_chunk(png::chunk::cICP, points).map_err(failed)?;
    }
    let mut stream = writer.stream_writer_with_size(1 << 16).map_err(failed)?;
    for row in picture.samples.chunks((picture.width * format.channels).max(1)) {
        let row: Vec<u8> = match format.sample_bytes() {
            1 => row.iter().map(|s| *s as u8).collect(),
            _ => row.iter().flat_map(|s| s.to_be_bytes()).collect(),
        };
        stream.write_all(&row).map_err(|e| cannot_write(&e))?;
    }
    stream.finish().map_err(failed)?;
    writer.finish().map_err(failed)
}

pub fn cannot_write(e: &io::Error) -> Failure {
    bad(format!("cannot write: {}", reason(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(colour: png::ColorType, depth: png::BitDepth, data: &[u8], palette: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, 4, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if palette {
            encoder.set_palette(vec![1, 2, 3, 250, 251, 252]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        out
    }

    fn read(data: &[u8]) -> Result<Source> {
        read_any(data, &ReadLimits::default())
    }

    #[test]
    fn grey_of_few_bits_and_palettes_keep_their_picture() {
        let grey =
            read(&encode(png::ColorType::Grayscale, png::BitDepth::Two, &[0b00011011, 0b11100100], false)).unwrap();
        assert_eq!(
            (grey.picture.format.channels, &grey.picture.samples[..]),
            (1, &[0, 85, 170, 255, 255, 170, 85, 0][..])
        );
        let palette = read(&encode(png::ColorType::Indexed, png::BitDepth::One, &[0b0101_0000, 0], true)).unwrap();
        assert_eq!(palette.picture.format.channels, 3);
        assert_eq!(palette.picture.samples[..9], [1, 2, 3, 250, 251, 252, 1, 2, 3]);
    }

    #[test]
    fn written_pictures_and_metadata_are_read_back() {
        let samples: Vec<u8> = (0..3 * 70 * 41).map(|i| (i * i % 251) as u8).collect();
        let picture = Picture::from_u8(70, 41, 3, &samples);
        let mut out = Vec::new();
        let item = |kind, data: &[u8]| Item { picture: 0, kind, data: data.to_vec() };
        let items =
            [item(metadata::ICC, &[7; 300]), item(metadata::EXIF, b"MM\0*...."), item(metadata::CICP, &[9, 16, 0, 1])];
        write_png(&picture, &items, &mut out).unwrap();
        let source = read(&out).unwrap();
        assert_eq!(source.picture, picture);
        assert_eq!(source.metadata, items.map(|i| (i.kind, i.data)));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut out = Vec::new();
        write_png(&Picture::from_u8(9, 9, 1, &vec![7; 81]), &[], &mut out).unwrap();
        for n in 0..out.len() {
            let e = read(&out[..n]).unwrap_err();
            assert_eq!(e.exit_code(), 1, "{n}");
            assert!(e.message.contains("truncated") || n == 0, "{n}: {e}");
        }
    }

    #[test]
    fn checksum_errors_have_a_short_message() {
        let mut out = Vec::new();
        write_png(&Picture::from_u8(9, 9, 1, &vec![7; 81]), &[], &mut out).unwrap();
        let end = out.len() - 14;
        out[end] ^= 1;
        assert_eq!(read(&out).unwrap_err().message, "damaged PNG: the checksum of a chunk does not match");
    }

    #[test]
    fn the_pixel_limit_is_checked_from_the_header() {
        let mut out = Vec::new();
        write_png(&Picture::from_u8(9, 9, 1, &vec![7; 81]), &[], &mut out).unwrap();
        let e = read_any(&out, &ReadLimits { max_pixels: 80 }).unwrap_err();
        assert_eq!(e.code, Code::Damaged);
        assert!(e.message.contains("--max-pixels"));
    }
}
