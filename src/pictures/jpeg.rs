//! JPEG of grey or colour samples of 8 bits. The crate `zune-jpeg` decodes it; the segments with metadata are read here.

use super::bytes::Bytes;
use super::metadata::{self, Item, Text};
use super::{check_size, damaged, source, truncated, unsupported, Picture, PixelFormat, ReadOptions, Source};
use crate::container::metadata::EXIF;
use crate::error::Result;
use crate::limits::try_vec;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

const NAME: &str = "JPEG";

/// What the segments before the samples say.
#[derive(Default)]
struct Segments {
    /// Width, height and number of components of the frame header.
    frame: Option<(u64, u64, u8)>,
    items: Vec<Item>,
    /// Number and data of the parts of the ICC profile.
    profile: Vec<(u8, Vec<u8>)>,
    warnings: Vec<String>,
}

/// Reads a JPEG.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut s = segments(data)?;
    let (width, height, components) = s.frame.ok_or_else(|| damaged(NAME, "it has no frame header"))?;
    let channels = if components == 1 { 1 } else { 3 };
    let n = check_size(width, height, channels, options)?;
    let raw = samples_of(data, width, height, channels, n)?;
    if !s.profile.is_empty() {
        s.profile.sort_by_key(|p| p.0);
        let whole = s.profile.iter().enumerate().all(|(i, p)| usize::from(p.0) == i + 1);
        let profile: Vec<u8> = s.profile.into_iter().flat_map(|p| p.1).collect();
        match metadata::icc_item(&profile) {
            Ok(item) if whole => s.items.push(item),
            Ok(_) => s.warnings.push("a part of the ICC profile is missing: it is not kept".into()),
            Err(warning) => s.warnings.push(warning),
        }
    }
    let mut samples = try_vec(n)?;
    samples.iter_mut().zip(&raw).for_each(|(s, &b)| *s = u16::from(b));
    let format = PixelFormat { channels, depth: 8, alpha: false };
    let picture = Picture { width: width as usize, height: height as usize, format, samples };
    Ok(source(picture, s.items, s.warnings))
}

/// Decodes the samples of a JPEG whose size was checked.
pub fn samples_of(data: &[u8], width: u64, height: u64, channels: usize, n: usize) -> Result<Vec<u8>> {
    let failed = |e: zune_jpeg::errors::DecodeErrors| {
        let text = format!("{e:?}");
        match text.contains("ExhaustedData") || text.contains("No more bytes") {
            true => truncated(NAME),
            false => damaged(NAME, text.lines().next().unwrap_or_default()),
        }
    };
    let space = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    // Without the strict mode missing data become grey.
    let options = DecoderOptions::default()
        .set_max_width(1 << 16)
        .set_max_height(1 << 16)
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(space);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(data), options);
    decoder.decode_headers().map_err(failed)?;
    if decoder.dimensions() != Some((width as usize, height as usize)) || decoder.output_buffer_size() != Some(n) {
        return Err(damaged(NAME, "its frame headers contradict each other"));
    }
    let mut samples = try_vec(n)?;
    decoder.decode_into(&mut samples).map_err(failed)?;
    Ok(samples)
}

/// Reads the segments up to the first scan.
fn segments(data: &[u8]) -> Result<Segments> {
    let mut b = Bytes::new(data, NAME);
    let mut s = Segments::default();
    b.take(2)?;
    loop {
        let mut mark = b.u8()?;
        if mark != 0xff {
            return Err(damaged(NAME, "a marker is missing"));
        }
        while mark == 0xff {
            mark = b.u8()?;
        }
        let length = usize::from(b.u16_be()?);
        let body = b.take(length.checked_sub(2).ok_or_else(|| damaged(NAME, "a segment is too short"))?)?;
        match mark {
            // Start of scan.
            0xda => break,
            0xc0..=0xc2 => s.frame = Some(frame(body)?),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let what = "lossless, hierarchical and arithmetic coding are not read: convert the JPEG to PNG first";
                return Err(unsupported(what));
            }
            0xfe => s.items.push(Text::new("Comment", metadata::any_text(body)).item()),
            0xe0..=0xef => application(mark, body, &mut s),
            _ => {}
        }
    }
    let end = data.iter().rposition(|&b| b != 0).unwrap_or(0);
    if !data[..=end].ends_with(&[0xff, 0xd9]) {
        match data.windows(2).rposition(|w| w == [0xff, 0xd9]) {
            Some(at) if at > b.position() => {
                s.warnings.push(format!("{} bytes after the end of the JPEG are not kept", data.len() - at - 2));
            }
            _ => return Err(truncated(NAME)),
        }
    }
    Ok(s)
}

fn frame(body: &[u8]) -> Result<(u64, u64, u8)> {
    let mut b = Bytes::new(body, NAME);
    let (depth, height, width, components) = (b.u8()?, b.u16_be()?, b.u16_be()?, b.u8()?);
    match (depth, components) {
        (8, 1 | 3) => Ok((width.into(), height.into(), components)),
        (8, 4) => Err(unsupported("CMYK is not supported: convert the JPEG to RGB first")),
        (8, n) => Err(unsupported(format!("a JPEG of {n} components is not supported"))),
        _ => Err(unsupported(format!("a JPEG of {depth} bits is not supported: convert it to PNG or TIFF first"))),
    }
}

/// Keeps an application segment, or warns.
fn application(mark: u8, body: &[u8], s: &mut Segments) {
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    match (mark, body) {
        (0xe0, [b'J', b'F', b'I', b'F', 0, _, _, unit, xh, xl, yh, yl, ..]) => {
            let (x, y) = (f64::from(u16::from_be_bytes([*xh, *xl])), f64::from(u16::from_be_bytes([*yh, *yl])));
            let metres = [0.0, 0.0254, 0.01].get(usize::from(*unit)).copied().unwrap_or(0.0);
            if metres > 0.0 {
                s.items.extend(metadata::resolution_item(x, y, metres));
            } else if x != y && x > 0.0 && y > 0.0 {
                // Only the shape of a pixel: JFIF and pHYs both have pixels per unit.
                let data = [(x as u32).to_be_bytes(), (y as u32).to_be_bytes()].concat();
                s.items.push(Item { kind: crate::container::metadata::PHYS, data: [&data[..], &[0]].concat() });
            }
        }
        // A thumbnail, which can be made again; and how the colours are coded, which the decoder uses.
        (0xe0, [b'J', b'F', b'X', b'X', ..]) | (0xee, [b'A', b'd', b'o', b'b', b'e', ..]) => {}
        (0xe1, [b'E', b'x', b'i', b'f', 0, _, exif @ ..]) => match s.items.iter().any(|i| i.kind == EXIF) {
            false => s.items.push(Item { kind: EXIF, data: exif.to_vec() }),
            true => s.warnings.push("the second EXIF block is not kept".into()),
        },
        (0xe1, packet) if packet.starts_with(XMP) => match metadata::xmp_item(&packet[XMP.len()..]) {
            Ok(item) => s.items.push(item),
            Err(warning) => s.warnings.push(warning),
        },
        (0xe2, [b'I', b'C', b'C', b'_', b'P', b'R', b'O', b'F', b'I', b'L', b'E', 0, number, _, part @ ..]) => {
            s.profile.push((*number, part.to_vec()));
        }
        _ => {
            let name: String = metadata::latin1(body).chars().take_while(|c| c.is_ascii_graphic()).take(40).collect();
            let text = format!("the JPEG segment APP{} {name} ({} bytes) is not kept", mark & 15, body.len());
            s.warnings.push(text);
        }
    }
}
