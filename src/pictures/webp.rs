//! WebP, by the crate `image-webp`.

use super::metadata::{self, Item};
use super::png::no_frame;
use super::{check_size, damaged, source, truncated, unsupported, Picture, PixelFormat, ReadOptions, Source};
use crate::container::metadata::EXIF;
use crate::error::{Class, Error, Result};
use crate::limits::try_vec;
use image_webp::{DecodingError, WebPDecoder};
use std::io::{Cursor, ErrorKind};

/// Reads a picture of RGB or RGBA samples, or a frame of an animation.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let size = data.get(4..8).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    if data.len() < size.saturating_add(8) {
        return Err(truncated("WebP"));
    }
    let mut decoder = WebPDecoder::new(Cursor::new(data)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let n = check_size(width.into(), height.into(), channels, options)?;
    // Beside its output the decoder needs about a further picture.
    decoder.set_memory_limit((1 << 26) + n.saturating_mul(8));
    let mut raw: Vec<u8> = try_vec(n)?;
    if decoder.output_buffer_size() != Some(n) {
        return Err(damaged("WebP", "its chunks contradict each other"));
    }
    let mut warnings = Vec::new();
    let frames = if decoder.is_animated() { decoder.num_frames() } else { 1 };
    match options.frame {
        None if decoder.is_animated() => {
            let what = format!("the WebP is an animation of {frames} frames: choose one with --frame 1..{frames}");
            return Err(unsupported(what));
        }
        Some(k) if k == 0 || k > frames => return Err(no_frame(k, frames)),
        Some(k) if decoder.is_animated() => {
            for _ in 0..k {
                decoder.read_frame(&mut raw).map_err(failed)?;
            }
            if frames > 1 {
                warnings.push(format!("frame {k} of {frames} is kept"));
            }
        }
        _ => decoder.read_image(&mut raw).map_err(failed)?,
    }
    let mut items = Vec::new();
    let mut keep = |item: std::result::Result<Item, String>| match item {
        Ok(item) => items.push(item),
        Err(warning) => warnings.push(warning),
    };
    if let Some(profile) = decoder.icc_profile().map_err(failed)? {
        keep(metadata::icc_item(&profile));
    }
    if let Some(exif) = decoder.exif_metadata().map_err(failed)? {
        // Some writers put the mark of JPEG before it.
        let data = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif).to_vec();
        keep(Ok(Item { kind: EXIF, data }));
    }
    if let Some(packet) = decoder.xmp_metadata().map_err(failed)? {
        keep(metadata::xmp_item(&packet));
    }
    if data.len() > size + 8 + size % 2 {
        warnings.push(format!("{} bytes after the end of the WebP are not kept", data.len() - size - 8));
    }
    let mut samples = try_vec(n)?;
    samples.iter_mut().zip(&raw).for_each(|(s, &b)| *s = u16::from(b));
    let format = PixelFormat { channels, depth: 8, alpha: channels == 4 };
    Ok(source(Picture { width: width as usize, height: height as usize, format, samples }, items, warnings))
}

fn failed(e: DecodingError) -> Error {
    match e {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => truncated("WebP"),
        DecodingError::MemoryLimitExceeded => Error::new(Class::MemoryLimit, "the WebP needs too much memory"),
        e => damaged("WebP", e.to_string().lines().next().unwrap_or_default()),
    }
}
