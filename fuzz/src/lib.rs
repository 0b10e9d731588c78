//! What the targets do with their input. `tests/fuzz.rs` includes this file and runs it without a fuzzer.

use tilefit::container::{header::Header, metadata};
use tilefit::crc::crc32;
use tilefit::decoder::Decoder;
use tilefit::entropy::cdf::{Cdf, TailedCdf};
use tilefit::entropy::laplace::Laplace;
use tilefit::entropy::range_coder::RangeDecoder;
use tilefit::models::read_model;
use tilefit::pictures::{self, ReadOptions};
use tilefit::{Limits, PixelFormat, Rect};

const LIMITS: Limits = Limits { max_pixels: 1 << 16, max_memory: 64 << 20, max_work: 1 << 30 };

/// A file, whole, by a region and as a preview.
pub fn decode(data: &[u8]) {
    for bytes in [data.to_vec(), repaired(data)] {
        let Ok(decoder) = Decoder::new(&bytes, LIMITS) else { continue };
        let _ = decoder.info();
        let whole = decoder.decode(0);
        let _ = decoder.decode_region(0, Rect::new(0, 0, 1, 1));
        let _ = decoder.decode_partial(0, 2, None);
        // Without damage a partial decode is a whole one.
        if let Ok((picture, damage)) = decoder.decode_partial(0, 0, None) {
            assert!(!damage.is_empty() || whole.is_err() || whole == Ok(picture));
        }
    }
}

/// Checksums would stop nearly every change at the door: they are made to hold.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for end in (8..bytes.len().saturating_sub(3).min(2048)).rev() {
        let kept: [u8; 4] = std::array::from_fn(|i| bytes[end + i]);
        bytes[end..end + 4].copy_from_slice(&crc32(&data[..end]).to_le_bytes());
        if Header::read(&bytes).is_ok_and(|h| h.length == end + 4) {
            break;
        }
        bytes[end..end + 4].copy_from_slice(&kept);
    }
    let Ok(mut header) = Header::read(&bytes) else { return bytes };
    let rest = &bytes[header.length..];
    let mut at = 0;
    for segment in &mut header.segments {
        let end = at + segment.length.min(rest.len() - at);
        segment.crc = crc32(&rest[at..end]);
        at = end;
    }
    [&header.write(), rest].concat()
}

/// A file that comes piece by piece, its first two bytes saying how long the first piece is.
pub fn parts(data: &[u8]) {
    let Some((head, file)) = data.split_first_chunk::<2>() else { return };
    let first = usize::from(u16::from_le_bytes(*head)).min(file.len());
    let Ok(mut decoder) = Decoder::from_beginning(&file[..first], file.len(), LIMITS) else { return };
    let region = Rect::new(0, 0, 1, 1);
    for scale in [3, 0] {
        let Ok(ranges) = decoder.missing(0, scale, Some(region), 16) else { continue };
        let none = ranges.is_empty();
        for range in ranges {
            decoder.supply(range.start, file[range].to_vec());
        }
        // What was missing is there now.
        assert!(none || decoder.missing(0, scale, Some(region), 16).is_ok_and(|r| r.is_empty()));
        let _ = decoder.decode_scaled(0, scale, Some(region));
    }
    decoder.forget();
}

/// The header, its tiles and their segments.
pub fn header(data: &[u8]) {
    if let Ok(header) = Header::read(data) {
        metadata(&header.metadata);
        assert!(header.length <= data.len());
        for picture in 0..header.pictures.len().min(4) {
            for tile in 0..header.tiles(picture).min(4) {
                assert!(!header.tile_rect(picture, tile).is_empty());
                let _ = header.segment(0, picture, tile);
            }
        }
    }
}

/// A section of metadata.
pub fn metadata(data: &[u8]) {
    if let Ok(items) = metadata::read(data) {
        assert!(items.iter().map(|i| i.data.len() + 3).sum::<usize>() <= data.len());
    }
}

/// Description and weights; the first bytes have the family, the number of channels, the depth and the length of the
/// description.
pub fn weights(data: &[u8]) {
    let Some((&[family, channels, depth, length], rest)) = data.split_first_chunk() else { return };
    let format = PixelFormat::new(usize::from(channels) % 16 + 1, 8 + u32::from(depth) % 9);
    let (description, weights) = rest.split_at(usize::from(length).min(rest.len()));
    let _ = read_model(family, format, description, weights, &LIMITS);
}

/// Decisions, numbers, symbols of a table with and without a tail, and codes by the Laplace law, out of any stream.
pub fn range_coder(data: &[u8]) {
    let (head, stream) = data.split_at(data.len().min(16));
    let weights: Vec<u32> = head.iter().map(|&b| u32::from(b)).collect();
    let mut decoder = RangeDecoder::new(stream);
    let table = Cdf::from_weights(&weights);
    let tail = Cdf::from_weights(&weights).and_then(|cdf| TailedCdf::new(-7, cdf));
    for i in 0..4 * stream.len() + 4 {
        let law = |at: usize| head.get((i + at) % 16).map_or(0, |&b| (i16::from(b as i8) * 256).wrapping_add(i as i16));
        match i % 5 {
            0 => assert!(decoder.decode_bits(1 + i as u32 % 16) < 1 << 16),
            1 if decoder.decode_golomb().is_err() => return,
            2 => {
                Laplace::new(law(0), law(1)).decode(&mut decoder);
            }
            3 if tail.as_ref().is_ok_and(|t| t.decode(&mut decoder).is_err()) => return,
            _ => {
                if let Ok(table) = &table {
                    assert!(table.decode(&mut decoder) < weights.len());
                }
            }
        }
    }
    let _ = decoder.finish();
}

/// What the encoder and `compare` read: PNG and JPEG.
pub fn picture(data: &[u8]) {
    if let Ok(source) = pictures::read(data, &ReadOptions { max_pixels: 1 << 20, ..ReadOptions::default() }) {
        let p = source.picture;
        assert_eq!(p.samples.len(), p.width * p.height * p.format.channels);
    }
}
