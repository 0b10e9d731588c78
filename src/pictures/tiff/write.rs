//! Writes a TIFF of one page: strips of deflated differences, little-endian.

use super::directory::{append, Entry, File};
use super::{tag, NAME};
use crate::container::metadata::*;
use crate::error::Result;
use crate::pictures::metadata::{self, Item, Text, MAX_INFLATED};
use crate::pictures::{cannot_write, unsupported, widened, Picture};
use flate2::{write::ZlibEncoder, Compression};
use std::io::Write;

/// Bytes of a strip before compression, about: readers expect small strips, and deflate has a window of 2^15.
const STRIP: usize = 1 << 18;

/// Writes samples of 8 bits, or of 16 for all other depths.
pub fn write(picture: &Picture, items: &[Item], out: &mut dyn Write) -> Result<Vec<String>> {
    let f = picture.format;
    let large = || unsupported("the picture is too large for a TIFF");
    let size = if f.depth == 8 { 1 } else { 2 };
    let row_bytes = picture.width * f.channels * size;
    let rows = (STRIP / row_bytes.max(1)).clamp(1, picture.height);
    let mut file = b"II*\0\0\0\0\0".to_vec();
    let (mut offsets, mut sizes) = (Vec::new(), Vec::new());
    let mut differences = Vec::new();
    for strip in picture.samples.chunks(picture.width * f.channels * rows) {
        differences.clear();
        for row in strip.chunks_exact(picture.width * f.channels) {
            for (i, &s) in row.iter().enumerate() {
                let before = if i < f.channels { 0 } else { row[i - f.channels] };
                match size {
                    1 => differences.push((s as u8).wrapping_sub(before as u8)),
                    _ => {
                        let d =
                            widened(s, f.depth).wrapping_sub(if i < f.channels { 0 } else { widened(before, f.depth) });
                        differences.extend(d.to_le_bytes());
                    }
                }
            }
        }
        let start = file.len();
        let mut encoder = ZlibEncoder::new(file, Compression::default());
        file = encoder.write_all(&differences).and_then(|()| encoder.finish()).map_err(cannot_write)?;
        offsets.push(u32::try_from(start).map_err(|_| large())?);
        sizes.push((file.len() - start) as u32);
    }
    let side = |n: usize| u32::try_from(n).map_err(|_| large());
    let bits = if f.depth == 8 { 8 } else { 16 };
    let rgb = f.colours() == 3;
    let mut entries = vec![
        Entry::longs(tag::WIDTH, &[side(picture.width)?]),
        Entry::longs(tag::HEIGHT, &[side(picture.height)?]),
        Entry::shorts(tag::BITS, &vec![bits; f.channels]),
        Entry::shorts(tag::COMPRESSION, &[8]),
        Entry::shorts(tag::PHOTOMETRIC, &[if rgb { 2 } else { 1 }]),
        Entry::longs(tag::STRIP_OFFSETS, &offsets),
        Entry::shorts(tag::SAMPLES, &[f.channels as u16]),
        Entry::longs(tag::ROWS_PER_STRIP, &[rows as u32]),
        Entry::longs(tag::STRIP_SIZES, &sizes),
        Entry::shorts(tag::PLANAR, &[1]),
        Entry::shorts(tag::PREDICTOR, &[2]),
    ];
    // Bands after grey or RGB have no meaning (0); alpha is not premultiplied (2).
    let mut extra = vec![0; f.channels - if rgb { 3 } else { 1 }];
    if f.alpha {
        extra.pop();
        extra.push(2);
    }
    if !extra.is_empty() {
        entries.push(Entry::shorts(tag::EXTRA_SAMPLES, &extra));
    }
    let mut left = Vec::new();
    for item in items {
        if tags(item, &mut file, &mut entries).is_none() {
            left.push(item);
        }
    }
    let at = append(&mut file, entries);
    if u32::try_from(file.len()).is_err() {
        return Err(large());
    }
    file[4..8].copy_from_slice(&at.to_le_bytes());
    out.write_all(&file).map_err(cannot_write)?;
    Ok(metadata::not_written(NAME, left.into_iter()).into_iter().collect())
}

/// Adds the tags of an item; `None` if TIFF has none for it. Directories that tags refer to are appended to `file`.
fn tags(item: &Item, file: &mut Vec<u8>, entries: &mut Vec<Entry>) -> Option<()> {
    let data = &item.data;
    match item.kind {
        ICC => entries.push(Entry::bytes(tag::ICC, 7, &metadata::profile(data).ok()?)),
        XMP => entries.push(Entry::bytes(tag::XMP, 1, &metadata::inflated(data, MAX_INFLATED).ok()?)),
        EXIF => {
            let (block, at) = File::open(data).ok()?;
            for e in block.directory(at).ok()?.0 {
                match e.tag {
                    tag::EXIF | tag::GPS => {
                        let mut sub = block.directory(e.integer(0)?).ok()?.0;
                        sub.retain(|e| e.tag != 40965 && e.kind != 13);
                        entries.push(Entry::longs(e.tag, &[append(file, sub)]));
                    }
                    tag::ORIENTATION => entries.push(e),
                    tag if tag::TEXTS.iter().any(|t| t.0 == tag) => entries.push(e),
                    _ => {}
                }
            }
        }
        PHYS => {
            let [x @ .., _, _, _, _, 1] = &data[..] else { return None };
            let per_metre = |b: &[u8]| Some(u32::from_be_bytes(b.try_into().ok()?));
            for (tag, value) in [(tag::X_RESOLUTION, per_metre(x)?), (tag::Y_RESOLUTION, per_metre(data.get(4..8)?)?)] {
                // Pixels per centimetre.
                entries.push(Entry { kind: 5, count: 1, ..Entry::longs(tag, &[value, 100]) });
            }
            entries.push(Entry::shorts(tag::RESOLUTION_UNIT, &[3]));
        }
        TEXT => {
            let t = Text::parse(data).ok()?;
            let (tag, _) = tag::TEXTS.iter().find(|k| k.1 == t.keyword)?;
            if entries.iter().any(|e| e.tag == *tag) || t.text.contains('\0') {
                return None;
            }
            entries.push(Entry::bytes(*tag, 2, &[t.text.as_bytes(), &[0]].concat()));
        }
        // TIFF has one time, which a text may give already.
        TIME if !entries.iter().any(|e| e.tag == tag::DATE_TIME) => {
            let [high, low, month, day, hour, minute, second] = data[..] else { return None };
            let year = u16::from_be_bytes([high, low]);
            let text = format!("{year:04}:{month:02}:{day:02} {hour:02}:{minute:02}:{second:02}\0");
            entries.push(Entry::bytes(tag::DATE_TIME, 2, text.as_bytes()));
        }
        TIFF => entries.extend(Entry::unpacked(data)?),
        // sRGB is what TIFF readers assume.
        SRGB => {}
        _ => return None,
    }
    Some(())
}
