//! Damaged and malicious files of a real family give an error or a picture, never a panic. Some tests recompute the checksums
//! after the damage, so that the code behind the checksum tests is reached.
#![cfg(feature = "fit")]

mod common;

use common::file;
use proptest::prelude::*;
use tilefit::container::header::{Header, PictureInfo};
use tilefit::crc::crc32;
use tilefit::decoder::probe;
use tilefit::models::pyramid::spec::PyramidSpec;
use tilefit::{Class, Decoder, Limits, Rect};
use tilefit_testing::Noise;

/// Tight limits for pictures of this size.
const LIMITS: Limits = Limits { max_pixels: 1 << 14, max_memory: 64 << 20, max_work: 1 << 32 };

fn spec(channels: usize) -> PyramidSpec {
    let mut spec = PyramidSpec::preset(channels, 1, 6, 2, 4);
    spec.depth = 4;
    spec
}

fn small(split: bool) -> Vec<u8> {
    file(&spec(3), (20, 13), 64, split, 2, 7).bytes
}

/// Calls all functions of the decoder on a file; true if all checksums and digests match.
fn use_file(bytes: &[u8]) -> bool {
    let _ = probe(bytes);
    let Ok(decoder) = Decoder::new(bytes, LIMITS) else { return false };
    let first = decoder.pictures()[0];
    let whole = first.width * first.height;
    if let Ok((picture, damage)) = decoder.decode_partial(0, 0, None) {
        assert_eq!(picture.samples.len(), whole * picture.format.channels);
        // Without damage, a partial decode equals a normal one.
        assert!(!damage.is_empty() || decoder.decode(0).as_ref() == Ok(&picture));
    }
    let _ = decoder.decode_scaled(0, 3, None);
    let _ = decoder.decode_region(0, Rect::new(0, 0, 1, 1));
    decoder.verify().is_ok()
}

/// The parts of a file, to be changed and reassembled with valid checksums.
struct Parts {
    header: Header,
    segments: Vec<Vec<u8>>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let header = Header::read(bytes).expect("a good file");
        let segments = header.segments.iter().map(|s| bytes[s.offset..s.offset + s.length].to_vec()).collect();
        Parts { header, segments }
    }

    fn with_valid_checksums(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        for (entry, bytes) in header.segments.iter_mut().zip(&self.segments) {
            (entry.length, entry.crc) = (bytes.len(), crc32(bytes));
        }
        [header.write(), self.segments.concat()].concat()
    }
}

#[test]
fn every_prefix_is_an_error() {
    for split in [false, true] {
        let good = small(split);
        assert!(use_file(&good));
        for n in 0..good.len() {
            assert!(!use_file(&good[..n]), "prefix of {n}");
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    let mut bytes = small(true);
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!use_file(&bytes), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Description, weights and segments with each bit flipped, and cut at each byte, under valid checksums.
#[test]
fn every_change_under_valid_checksums_is_handled() {
    for split in [false, true] {
        let good = file(&spec(3), (9, 6), 64, split, 1, 7).bytes;
        assert_eq!(Parts::of(&good).with_valid_checksums(), good);
        let sections = 2 + Parts::of(&good).segments.len();
        for section in 0..sections {
            fn part(p: &mut Parts, section: usize) -> &mut Vec<u8> {
                match section {
                    0 => &mut p.header.description,
                    1 => &mut p.header.weights,
                    n => &mut p.segments[n - 2],
                }
            }
            let mut parts = Parts::of(&good);
            let whole = part(&mut parts, section).clone();
            for bit in 0..8 * whole.len() {
                part(&mut parts, section)[bit / 8] ^= 1 << (bit % 8);
                use_file(&parts.with_valid_checksums());
                part(&mut parts, section).clone_from(&whole);
            }
            for n in 0..whole.len() {
                part(&mut parts, section).truncate(n);
                assert!(!use_file(&parts.with_valid_checksums()), "section {section} cut to {n} bytes");
                part(&mut parts, section).clone_from(&whole);
            }
        }
    }
}

/// Whatever size a header states, the limits are checked before codes or samples are allocated.
#[test]
fn huge_sizes_exceed_the_limits() {
    let good = file(&spec(1), (20, 13), 0, false, 1, 3).bytes;
    let max = 1usize << 30;
    for (width, height) in [(max, 1 << 10), (1 << 10, max), (1 << 20, 1 << 20), (max, 1), (1, max), (1 << 16, 3)] {
        let mut parts = Parts::of(&good);
        parts.header.pictures[0] = PictureInfo { width, height, digest: 0 };
        let bytes = parts.with_valid_checksums();
        let info = probe(&bytes).expect("a header within the format");
        assert!(info.decode_memory_bytes >= (width * height) as u64, "{width}x{height}");
        let decoder = Decoder::new(&bytes, LIMITS).expect("a header within the format");
        for e in [decoder.decode(0).unwrap_err(), decoder.decode_partial(0, 0, None).unwrap_err()] {
            assert!(matches!(e.class(), Class::PixelLimit | Class::MemoryLimit), "{width}x{height}: {e}");
        }
        let _ = decoder.decode_partial(0, 0, Some(Rect::new(0, 0, 1, 1)));
    }
    for (width, height) in [(max + 1, 1), (1, max + 1), (max, (1 << 10) + 1), (0, 5), (5, 0)] {
        let mut parts = Parts::of(&good);
        parts.header.pictures[0] = PictureInfo { width, height, digest: 0 };
        assert_eq!(probe(&parts.with_valid_checksums()).unwrap_err().class(), Class::Format, "{width}x{height}");
    }
}

/// The picture size gives more tiles, and so index entries, than the file has bytes for.
#[test]
fn an_index_longer_than_the_file_is_an_error() {
    let mut parts = Parts::of(&file(&spec(1), (20, 13), 64, false, 1, 3).bytes);
    for side in [1usize << 12, 1 << 20] {
        parts.header.pictures[0] = PictureInfo { width: side, height: side, digest: 0 };
        assert_eq!(probe(&parts.with_valid_checksums()).unwrap_err().class(), Class::Format, "{side}");
    }
}

#[test]
fn newer_versions_families_and_flags_are_unsupported() {
    let good = small(false);
    for (at, value, text) in [(5, 2, "version 2"), (6, 200, "family 200"), (7, good[7] | 0x80, "flags")] {
        let mut bytes = good.clone();
        bytes[at] = value;
        // The family is looked up after the checksum was checked.
        let end = Header::read(&good).unwrap().length - 4;
        let sum = crc32(&bytes[..end]).to_le_bytes();
        bytes[end..end + 4].copy_from_slice(&sum);
        let e = probe(&bytes).unwrap_err();
        assert!(e.class() == Class::Unsupported && e.message().contains(text), "{e}");
        assert!(!e.message().contains('\n'));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), signed: bool) {
        let mut file = if signed { small(false)[..8].to_vec() } else { Vec::new() };
        file.extend(bytes);
        prop_assert!(!use_file(&file));
    }

    /// Random description, weights and segments under valid checksums.
    #[test]
    fn random_parts_do_not_panic(
        description in prop::collection::vec(any::<u8>(), 0..24), seed: u64, n in 0usize..400, usual: bool,
        size in (1usize..70, 1usize..70),
    ) {
        let mut parts = Parts::of(&file(&spec(3), size, 64, false, 1, seed).bytes);
        let mut noise = Noise::new(seed);
        if !usual {
            parts.header.description = description;
            parts.header.weights = (0..n).map(|_| noise.bits() as u8).collect();
        } else {
            // Few changed bits: the weights are then often valid, and the segments are decoded.
            parts.header.weights[1..].iter_mut().for_each(|b| *b ^= noise.bits().is_multiple_of(64) as u8);
        }
        for s in &mut parts.segments {
            *s = (0..n).map(|_| noise.bits() as u8).collect();
        }
        use_file(&parts.with_valid_checksums());
    }
}
