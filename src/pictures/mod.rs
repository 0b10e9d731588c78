//! Picture files: their samples at the depth they have, and their metadata.
//!
//! [`read`] recognises a format by its first bytes, [`write`] writes the formats of [`OutFormat`]. Nothing is dropped in
//! silence: what a format or this module cannot represent is an error or a warning of one line.

mod bmp;
mod bytes;
mod fits;
#[cfg(feature = "gif")]
mod gif;
#[cfg(feature = "jpeg")]
mod jpeg;
pub mod metadata;
mod orientation;
mod png;
mod pnm;
mod qoi;
mod samples;
mod tiff;
#[cfg(feature = "webp")]
mod webp;
pub mod window;

pub use metadata::Item;
pub use orientation::apply_orientation;
pub use window::Window;

use crate::container::metadata::SCALE;
use crate::error::{Class, Error, Result};
use crate::image::{Picture, PixelFormat};
use crate::limits::{try_vec, Limits};
use std::io::{self, Write};
use std::path::Path;

/// A picture as its file has it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The picture.
    pub picture: Picture,
    /// Size of its file in bytes.
    pub bytes: u64,
    /// Whether the samples are measurements: FITS, floats or wide integers. Those of other files are usually made for a screen.
    pub measured: bool,
    /// Metadata that is kept.
    pub metadata: Vec<Item>,
    /// What of the file is not kept: one line each.
    pub warnings: Vec<String>,
}

/// How a picture is read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Pictures of more pixels are an error, before memory for them is allocated.
    pub max_pixels: u64,
    /// The frame of an animation, counted from 1. Without it an animation is an error, but for GIF, where it is the first.
    pub frame: Option<u32>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { max_pixels: Limits::default().max_pixels, frame: None }
    }
}

/// Formats that can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutFormat {
    /// Grey or RGB, with or without alpha, of 8 or 16 bits.
    Png,
    /// Any picture.
    Pam,
    /// Grey, no alpha.
    Pgm,
    /// RGB, no alpha.
    Ppm,
    /// PGM or PPM.
    Pnm,
    /// Any picture.
    Tiff,
    /// Any picture with alpha of 0 and 1 only.
    Fits,
}

/// The format of an output, by its extension; `-` is PNG.
///
/// # Errors
/// [`Class::Argument`] for other extensions.
pub fn writer_for(path: &Path) -> Result<OutFormat> {
    if path == Path::new("-") {
        return Ok(OutFormat::Png);
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    Ok(match extension.as_str() {
        "png" => OutFormat::Png,
        "pam" => OutFormat::Pam,
        "pgm" => OutFormat::Pgm,
        "ppm" => OutFormat::Ppm,
        "pnm" => OutFormat::Pnm,
        "tif" | "tiff" => OutFormat::Tiff,
        "fits" | "fit" | "fts" => OutFormat::Fits,
        _ => {
            let what = "decode writes PNG, PAM, TIFF or FITS: .png, .pam, .pgm, .ppm, .tif, .fits";
            return Err(Error::new(Class::Argument, what).at(path.display()));
        }
    })
}

/// How every FITS file begins.
const FITS_START: &[u8] = b"SIMPLE  =";

/// Reads a picture of any format that this build has.
///
/// # Errors
/// [`Class::Truncated`], [`Class::Format`] or [`Class::Unsupported`] for files that cannot be read,
/// [`Class::PixelLimit`] for too many pixels, [`Class::MemoryLimit`] if an allocation fails.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut source = match data {
        [] => return Err(Error::format("the file is empty")),
        [0x89, ..] => png::read(data, options),
        [0xff, 0xd8, ..] => jpeg(data, options),
        [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => tiff::read(data, options),
        [b'G', b'I', b'F', b'8', ..] => gif(data, options),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(data, options),
        [b'P', b'1'..=b'7' | b'f' | b'F', ..] => pnm::read(data, options),
        [b'B', b'M', ..] => bmp::read(data, options),
        [b'q', b'o', b'i', b'f', ..] => qoi::read(data, options),
        _ if data.starts_with(FITS_START) => fits::read(data, options),
        _ => return Err(unknown(data)),
    }?;
    source.bytes = data.len() as u64;
    source.measured = data.starts_with(FITS_START) || metadata::find(&source.metadata, SCALE).is_some();
    Ok(source)
}

#[cfg(feature = "jpeg")]
use jpeg::read as jpeg;
#[cfg(not(feature = "jpeg"))]
fn jpeg(_: &[u8], _: &ReadOptions) -> Result<Source> {
    Err(not_built("JPEG"))
}
#[cfg(feature = "gif")]
use gif::read as gif;
#[cfg(not(feature = "gif"))]
fn gif(_: &[u8], _: &ReadOptions) -> Result<Source> {
    Err(not_built("GIF"))
}
#[cfg(feature = "webp")]
use webp::read as webp;
#[cfg(not(feature = "webp"))]
fn webp(_: &[u8], _: &ReadOptions) -> Result<Source> {
    Err(not_built("WebP"))
}

#[cfg(not(all(feature = "jpeg", feature = "gif", feature = "webp")))]
fn not_built(name: &str) -> Error {
    unsupported(format!("this build does not read {name}: convert the picture to PNG first"))
}

/// Writes a picture. Returns what the format cannot hold of the metadata, one line each.
///
/// # Errors
/// [`Class::Unsupported`] if the format cannot hold the samples, [`Class::Io`] if `out` fails.
pub fn write(format: OutFormat, picture: &Picture, items: &[Item], out: &mut dyn Write) -> Result<Vec<String>> {
    match format {
        OutFormat::Png => png::write(picture, items, out),
        OutFormat::Pam | OutFormat::Pgm | OutFormat::Ppm | OutFormat::Pnm => pnm::write(format, picture, items, out),
        OutFormat::Tiff => tiff::write(picture, items, out),
        OutFormat::Fits => fits::write(picture, items, out),
    }
}

/// The error of bytes in no format of this module.
fn unknown(data: &[u8]) -> Error {
    let box_type = data.get(4..12).unwrap_or(&[]);
    let found = match data {
        [0xff, 0x0a, ..] => "a JPEG XL file",
        _ if box_type.starts_with(b"JXL ") => "a JPEG XL file",
        _ if box_type.starts_with(b"jP  ") => "a JPEG 2000 file",
        _ if box_type == b"ftypavif" => "an AVIF file",
        _ if box_type.starts_with(b"ftyp") => "a HEIF file or a video",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file",
        [0x76, 0x2f, 0x31, 1, ..] => "an OpenEXR file",
        [b'%', b'P', b'D', b'F', ..] => "a PDF file",
        [b'T', b'F', b'I', b'T', ..] => "a .tfit file, not a picture: tilefit decode decodes it",
        _ => return Error::format(
            "not a picture of a known format: PNG, JPEG, TIFF, WebP, GIF, BMP, QOI, PNM, PAM, PFM and FITS are read",
        ),
    };
    match found.contains(':') {
        true => unsupported(format!("this is {found}")),
        false => unsupported(format!("this is {found}, which is not read: convert it to PNG or TIFF first")),
    }
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::new(Class::Unsupported, message)
}

fn damaged(format: &str, what: impl std::fmt::Display) -> Error {
    Error::format(format!("damaged {format}: {what}"))
}

fn truncated(format: &str) -> Error {
    Error::new(Class::Truncated, format!("truncated {format}: the file ends before the picture does"))
}

fn cannot_write(e: io::Error) -> Error {
    let text = e.to_string();
    let text = text.find(" (os error").map_or(text.clone(), |end| text[..end].to_lowercase());
    Error::new(Class::Io, format!("cannot write: {text}"))
}

/// Checks the size of a picture before memory is allocated for it: no pixels, too many channels, or more pixels than allowed.
/// Returns the number of samples.
fn check_size(width: u64, height: u64, channels: usize, options: &ReadOptions) -> Result<usize> {
    if width == 0 || height == 0 {
        return Err(Error::format(format!("the picture has no pixels ({width}x{height})")));
    }
    if channels == 0 || channels > PixelFormat::MAX_CHANNELS {
        return Err(unsupported(format!("{channels} channels: 1 to {} are possible", PixelFormat::MAX_CHANNELS)));
    }
    // Saturation is above every limit that allows the memory.
    let pixels = width.saturating_mul(height);
    if pixels > options.max_pixels {
        let what = format!("{width}x{height} is {pixels} pixels, the limit is {}", options.max_pixels);
        return Err(Error::new(Class::PixelLimit, what));
    }
    pixels
        .checked_mul(channels as u64)
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| Error::new(Class::PixelLimit, format!("{width}x{height} is more than this machine can address")))
}

/// A black picture of a checked size.
fn blank(width: usize, height: usize, format: PixelFormat) -> Result<Picture> {
    Ok(Picture { width, height, format, samples: try_vec(width * height * format.channels)? })
}

/// A source that is complete but for the size of its file.
fn source(picture: Picture, metadata: Vec<Item>, warnings: Vec<String>) -> Source {
    Source { picture, bytes: 0, measured: false, metadata, warnings }
}

/// A sample of `depth` bits (8 to 16) as 16 bits: its leading bits are repeated, so 0 and the peak stay 0 and the peak, and
/// `>> (16 - depth)` gives the sample back (PNG, "sample depth scaling").
fn widened(sample: u16, depth: u32) -> u16 {
    sample << (16 - depth) | if depth == 16 { 0 } else { sample >> (2 * depth - 16) }
}

/// Samples that are written with 8 bits if the picture has 8, and with 16 otherwise, big-endian.
fn push_bytes(samples: &[u16], depth: u32, out: &mut Vec<u8>) {
    out.clear();
    if depth == 8 {
        out.extend(samples.iter().map(|&s| s as u8));
    } else {
        out.extend(samples.iter().flat_map(|&s| widened(s, depth).to_be_bytes()));
    }
}
