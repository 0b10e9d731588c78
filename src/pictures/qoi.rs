//! QOI ("The Quite OK Image PixelFormat", version 1.0). Written by hand: it is shorter than the use of a library.

use super::bytes::Bytes;
use super::metadata::Item;
use super::{blank, check_size, damaged, source, truncated, PixelFormat, ReadOptions, Source};
use crate::container::metadata::{GAMA, SRGB};
use crate::error::Result;

const NAME: &str = "QOI";

/// Reads a picture of RGB or RGBA samples.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut b = Bytes::new(data, NAME);
    b.take(4)?;
    let (width, height, channels, space) = (b.u32_be()?, b.u32_be()?, b.u8()?, b.u8()?);
    if !matches!(channels, 3 | 4) || space > 1 {
        return Err(damaged(NAME, "the header is not valid"));
    }
    let channels = usize::from(channels);
    let n = check_size(width.into(), height.into(), channels, options)?;
    // A byte stands for at most 62 pixels, so that a small file does not make us allocate a large picture.
    if n / channels / 62 > data.len() {
        return Err(truncated(NAME));
    }
    let mut picture = blank(width as usize, height as usize, PixelFormat { channels, depth: 8, alpha: channels == 4 })?;
    let mut seen = [[0u8; 4]; 64];
    let mut pixel = [0, 0, 0, 255u8];
    let mut run = 0;
    for out in picture.samples.chunks_exact_mut(channels) {
        if run > 0 {
            run -= 1;
        } else {
            let tag = b.u8()?;
            match (tag >> 6, tag & 63) {
                (_, 62) if tag == 0xfe => pixel[..3].copy_from_slice(b.take(3)?),
                (_, 63) if tag == 0xff => pixel.copy_from_slice(b.take(4)?),
                (0, index) => pixel = seen[usize::from(index)],
                (1, d) => add(&mut pixel, [d >> 4 & 3, d >> 2 & 3, d & 3], 2),
                (2, green) => {
                    let d = b.u8()?;
                    let base = green.wrapping_sub(8);
                    add(&mut pixel, [base.wrapping_add(d >> 4), green, base.wrapping_add(d & 15)], 32);
                }
                (_, n) => run = n,
            }
            let [r, g, blue, a] = pixel.map(usize::from);
            seen[(r * 3 + g * 5 + blue * 7 + a * 11) % 64] = pixel;
        }
        out.iter_mut().zip(pixel).for_each(|(o, p)| *o = u16::from(p));
    }
    if b.take(8)? != [0, 0, 0, 0, 0, 0, 0, 1] {
        return Err(damaged(NAME, "its end mark is missing"));
    }
    let mut warnings = Vec::new();
    if !b.rest().is_empty() {
        warnings.push(format!("{} bytes after the end of the QOI are not kept", b.rest().len()));
    }
    let space = match space {
        0 => Item { kind: SRGB, data: vec![0] },
        // Linear samples: a gamma of 1, which PNG writes as 100000.
        _ => Item { kind: GAMA, data: 100_000u32.to_be_bytes().to_vec() },
    };
    Ok(source(picture, vec![space], warnings))
}

/// Adds differences that were stored with `bias`.
fn add(pixel: &mut [u8; 4], differences: [u8; 3], bias: u8) {
    for (p, d) in pixel.iter_mut().zip(differences) {
        *p = p.wrapping_add(d).wrapping_sub(bias);
    }
}
