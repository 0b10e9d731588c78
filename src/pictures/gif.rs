//! GIF (version 89a). Written by hand on the crate `weezl`: the crate `gif` drops comments.

use super::bytes::Bytes;
use super::metadata::{self, Item, Text};
use super::png::no_frame;
use super::{blank, check_size, damaged, source, PixelFormat, ReadOptions, Source};
use crate::error::Result;
use crate::limits::try_vec;
use weezl::{decode::Decoder, BitOrder, LzwStatus};

const NAME: &str = "GIF";

/// What happens to a frame before the next one is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Dispose {
    Keep,
    Background,
    Previous,
}

/// Reads a frame, by default the first. Pixels that no frame has drawn are transparent.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut b = Bytes::new(data, NAME);
    if !matches!(b.take(6)?, b"GIF87a" | b"GIF89a") {
        return Err(damaged(NAME, "its version is unknown"));
    }
    let (width, height) = (b.u16_le()?, b.u16_le()?);
    let n = check_size(width.into(), height.into(), 4, options)?;
    let (w, h) = (usize::from(width), usize::from(height));
    let flags = b.u8()?;
    b.take(2)?;
    let global = palette(&mut b, flags)?;
    let wanted = options.frame.unwrap_or(1);
    let mut canvas: Vec<u8> = try_vec(n)?;
    let (mut items, mut warnings) = (Vec::new(), Vec::new());
    let (mut frames, mut transparent, mut dispose) = (0u32, None, Dispose::Keep);
    loop {
        let block = match b.rest().first() {
            // Some writers forget the end mark.
            None if frames > 0 => {
                warnings.push("the end mark of the GIF is missing".to_string());
                break;
            }
            _ => b.u8()?,
        };
        match block {
            0x3b => break,
            0x21 => match b.u8()? {
                0xf9 => {
                    let control = sub_blocks(&mut b)?;
                    if let [flags, _, _, index, ..] = control[..] {
                        transparent = (flags & 1 == 1).then_some(index);
                        dispose = match flags >> 2 & 7 {
                            2 => Dispose::Background,
                            3 => Dispose::Previous,
                            _ => Dispose::Keep,
                        };
                    }
                }
                0xfe => items.push(Text::new("Comment", metadata::any_text(&sub_blocks(&mut b)?)).item()),
                0xff => application(&mut b, &mut items, &mut warnings)?,
                label => {
                    sub_blocks(&mut b)?;
                    warnings.push(format!("the GIF extension {label:#x} is not kept"));
                }
            },
            0x2c => {
                frames = frames.saturating_add(1);
                let side = |b: &mut Bytes| Ok(usize::from(b.u16_le()?));
                let (fx, fy, fw, fh) = (side(&mut b)?, side(&mut b)?, side(&mut b)?, side(&mut b)?);
                let flags = b.u8()?;
                let local = palette(&mut b, flags)?;
                let code = b.u8()?;
                let stream = sub_blocks(&mut b)?;
                if frames <= wanted {
                    if fx + fw > w || fy + fh > h {
                        return Err(damaged(NAME, "a frame is not inside the picture"));
                    }
                    let palette = if local.is_empty() { &global } else { &local };
                    let indices = decompress(&stream, code, fw * fh)?;
                    let before = if dispose == Dispose::Previous { canvas.clone() } else { Vec::new() };
                    for (i, row) in indices.chunks_exact(fw.max(1)).enumerate() {
                        let y = fy + if flags & 64 != 0 { interlaced(i, fh) } else { i };
                        for (x, &index) in row.iter().enumerate().filter(|(_, &i)| Some(i) != transparent) {
                            let outside = || damaged(NAME, "a colour is not in the palette");
                            let [r, g, blue] = *palette.get(usize::from(index)).ok_or_else(outside)?;
                            canvas[(y * w + fx + x) * 4..][..4].copy_from_slice(&[r, g, blue, 255]);
                        }
                    }
                    if frames < wanted {
                        match dispose {
                            Dispose::Keep => {}
                            Dispose::Previous => canvas = before,
                            Dispose::Background => {
                                (fy..fy + fh).for_each(|y| canvas[(y * w + fx) * 4..][..fw * 4].fill(0));
                            }
                        }
                    }
                }
                (transparent, dispose) = (None, Dispose::Keep);
            }
            _ => return Err(damaged(NAME, "an unknown block")),
        }
    }
    if frames == 0 {
        return Err(damaged(NAME, "it has no picture"));
    }
    if wanted == 0 || wanted > frames {
        return Err(no_frame(wanted, frames));
    }
    if frames > 1 {
        warnings.push(format!(
            "frame {wanted} of {frames} is kept{}",
            if options.frame.is_none() { " (--frame chooses another)" } else { "" }
        ));
    }
    let alpha = canvas.chunks_exact(4).any(|p| p[3] == 0);
    let channels = if alpha { 4 } else { 3 };
    let mut picture = blank(w, h, PixelFormat { channels, depth: 8, alpha })?;
    for (o, p) in picture.samples.chunks_exact_mut(channels).zip(canvas.chunks_exact(4)) {
        o.iter_mut().zip(p).for_each(|(o, &p)| *o = u16::from(p));
    }
    Ok(source(picture, items, warnings))
}

fn palette(b: &mut Bytes, flags: u8) -> Result<Vec<[u8; 3]>> {
    let n = if flags & 128 != 0 { 2 << (flags & 7) } else { 0 };
    Ok(b.take(3 * n)?.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect())
}

/// The bytes of sub-blocks up to their end.
fn sub_blocks(b: &mut Bytes) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        match b.u8()? {
            0 => return Ok(out),
            n => out.extend(b.take(n.into())?),
        }
    }
}

/// The row that is stored at place `i` of an interlaced frame of `h` rows.
fn interlaced(i: usize, h: usize) -> usize {
    let mut i = i;
    for (start, step) in [(0, 8), (4, 8), (2, 4), (1, 2)] {
        let rows = h.saturating_sub(start).div_ceil(step);
        if i < rows {
            return start + i * step;
        }
        i -= rows;
    }
    // Not reached: the four passes have h rows.
    0
}

fn decompress(stream: &[u8], code: u8, n: usize) -> Result<Vec<u8>> {
    if !(1..=11).contains(&code) {
        return Err(damaged(NAME, "an invalid code size"));
    }
    let mut out: Vec<u8> = try_vec(n)?;
    let mut decoder = Decoder::new(BitOrder::Lsb, code);
    let (mut read, mut written) = (0, 0);
    while written < n {
        let step = decoder.decode_bytes(&stream[read..], &mut out[written..]);
        (read, written) = (read + step.consumed_in, written + step.consumed_out);
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(_) if written == n => {}
            _ => return Err(damaged(NAME, "the samples of a frame are incomplete")),
        }
    }
    Ok(out)
}

fn application(b: &mut Bytes, items: &mut Vec<Item>, warnings: &mut Vec<String>) -> Result<()> {
    let n = b.u8()?;
    let name = b.take(n.into())?;
    let start = b.clone();
    let data = sub_blocks(b)?;
    let item = match name {
        b"NETSCAPE2.0" | b"ANIMEXTS1.0" => return Ok(()),
        b"ICCRGBG1012" => metadata::icc_item(&data),
        // The packet is not in sub-blocks; 258 bytes after it lead readers of sub-blocks to their end.
        b"XMP DataXMP" => {
            let all = &start.rest()[..b.position() - start.position()];
            metadata::xmp_item(&all[..all.len().saturating_sub(258)])
        }
        _ => Err(format!("the GIF extension {} is not kept", name.escape_ascii())),
    };
    match item {
        Ok(item) => items.push(item),
        Err(warning) => warnings.push(warning),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interlacing_has_every_row_once() {
        for h in 1..40 {
            let mut rows: Vec<usize> = (0..h).map(|i| interlaced(i, h)).collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..h).collect::<Vec<_>>());
        }
    }
}
