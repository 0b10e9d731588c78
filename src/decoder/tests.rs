//! Tests of the decoder with a test model whose samples mix codes of two grids and of a neighbour, so that every wrong code
//! changes a sample.

use super::*;
use crate::fit::file::write;
use crate::fit::Fitted;
use crate::models::echo::{Echo, GRIDS};
use proptest::prelude::*;
use tilefit_testing::Noise;

fn file(width: usize, height: usize, tile: usize, split: bool, count: usize) -> Vec<u8> {
    let picture = Picture::from_u8(width, height, 3, &vec![0; 3 * width * height]);
    let grids = |p: usize| -> Codes {
        GRIDS
            .iter()
            .map(|s| {
                let mut g = Grid::new(Rect::whole(width, height).shrunk(s.shift), s.channels);
                let mut noise = Noise::new(p as u64);
                g.codes.iter_mut().for_each(|c| *c = noise.below(256) as i16);
                g
            })
            .collect()
    };
    let fitted = Fitted { model: Box::new(Echo { split }), codes: (0..count).map(grids).collect(), tile };
    write(&fitted, &vec![picture; count], &[], false).unwrap().bytes
}

fn crop(p: &Picture, r: Rect) -> Vec<u16> {
    (r.y0..r.y1).flat_map(|y| p.samples[3 * (y * p.width + r.x0)..3 * (y * p.width + r.x1)].iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn tiles_layers_and_regions_give_the_same_samples(
        w in 1usize..300, h in 1usize..200, split: bool, count in 1usize..3, a in 0f64..1.0, b in 0f64..1.0, c in 0f64..1.0, d in 0f64..1.0,
    ) {
        let whole = file(w, h, 0, split, count);
        let tiled = file(w, h, 64, split, count);
        let decoder = Decoder::new(&tiled, Limits::default()).unwrap();
        decoder.verify().unwrap();
        let one = Decoder::new(&whole, Limits::default()).unwrap();
        for p in 0..count {
            let picture = decoder.decode(p).unwrap();
            prop_assert_eq!(&picture, &one.decode(p).unwrap());
            let cut = |v: f64, n: usize| (v * n as f64) as usize;
            let (x0, y0) = (cut(a, w), cut(b, h));
            let r = Rect::new(x0, y0, x0 + 1 + cut(c, w - x0 - 1), y0 + 1 + cut(d, h - y0 - 1));
            prop_assert_eq!(decoder.decode_region(p, r).unwrap().samples, crop(&picture, r));
        }
    }

    #[test]
    fn changed_and_truncated_files_are_errors(at in 0f64..1.0, bit in 0u32..8, cut in 0f64..1.0) {
        let good = file(150, 90, 64, true, 2);
        let mut bad = good.clone();
        let i = (at * good.len() as f64) as usize;
        bad[i] ^= 1 << bit;
        // A checksum covers every byte.
        prop_assert!(Decoder::new(&bad, Limits::default()).and_then(|d| d.verify()).is_err());
        let short = &good[..(cut * good.len() as f64) as usize];
        prop_assert!(Decoder::new(short, Limits::default()).and_then(|d| d.verify()).is_err());
        if let Ok(d) = Decoder::new(&bad, Limits::default()) {
            let (picture, damage) = d.decode_partial(0, 0, None).unwrap();
            prop_assert_eq!(picture.samples.len(), 150 * 90 * 3);
            prop_assert!(damage.len() <= 1);
        }
    }
}

#[test]
fn limits_are_checked_before_decoding() {
    let bytes = file(100, 100, 64, false, 1);
    let small =
        |max_pixels, max_memory| Decoder::new(&bytes, Limits { max_pixels, max_memory, ..Limits::NONE }).unwrap();
    assert!(small(9_999, u64::MAX).decode(0).unwrap_err().message().contains("pixels"));
    assert!(small(10_000, u64::MAX).decode(0).is_ok());
    assert!(small(100, u64::MAX).decode_region(0, Rect::new(5, 5, 15, 15)).is_ok());
    assert!(small(u64::MAX, 1000).decode(0).unwrap_err().message().contains("memory"));
}

#[test]
fn the_header_has_at_most_32_bytes() {
    let bytes = file(768, 512, 0, false, 1);
    let info = probe(&bytes).unwrap();
    assert!(info.header_bytes <= 32, "{}", info.header_bytes);
    assert_eq!(info.header_bytes + info.weights_bytes + info.codes_bytes, bytes.len());
}

/// There is only one version so far, so the test changes the version in the parsed header.
#[test]
fn info_reports_the_version_of_the_file() {
    let bytes = file(8, 8, 0, false, 1);
    let mut decoder = Decoder::new(&bytes, Limits::default()).unwrap();
    assert_eq!(decoder.info().version, bytes[crate::container::header::MAGIC.len()]);
    decoder.header.version += 1;
    assert_eq!(decoder.info().version, bytes[crate::container::header::MAGIC.len()] + 1);
}

/// A small region of a huge picture in one tile needs all of its codes: the memory limit must stop the allocation.
#[test]
fn a_huge_tile_exceeds_the_memory_limit() {
    let bytes = file(64, 64, 0, false, 1);
    let mut header = Header::read(&bytes).unwrap();
    header.pictures[0] = PictureInfo { width: 1 << 20, height: 1 << 20, digest: 0 };
    let mut huge = header.write();
    huge.extend(&bytes[header.length..]);
    let decoder = Decoder::new(&huge, Limits::default()).unwrap();
    let class = |r: Result<Picture>| r.unwrap_err().class();
    assert_eq!(class(decoder.decode_region(0, Rect::new(0, 0, 8, 8))), crate::Class::MemoryLimit);
    assert_eq!(class(decoder.decode(0)), crate::Class::PixelLimit);
    assert!(decoder.info().decode_memory_bytes > 1 << 42);
}

/// The file has several tiles, layers and pictures.
#[test]
fn every_prefix_and_every_flipped_bit_is_an_error() {
    let good = file(70, 66, 64, true, 2);
    let open = |bytes: &[u8]| Decoder::new(bytes, Limits::default()).and_then(|d| d.verify());
    open(&good).unwrap();
    let header = Header::read(&good).unwrap().length;
    for n in 0..good.len() {
        assert!(Decoder::new(&good[..n], Limits::default()).is_err() == (n < header), "prefix of {n}");
        // Prefixes that do not open are cheap to test; of the others, which are decoded, every 97th is tested.
        assert!((n > header && n % 97 != 0) || open(&good[..n]).is_err(), "prefix of {n}");
    }
    let mut bad = good.clone();
    for bit in 0..8 * header {
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bad).is_err(), "bit {bit}");
        bad[bit / 8] ^= 1 << (bit % 8);
    }
}

proptest! {
    /// Random fields with a valid checksum: only the parser's own checks can reject them.
    #[test]
    fn random_headers_with_valid_checksums_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80), flags in 0u8..32, w in 1u64..1 << 31, h in 1u64..1 << 31,
    ) {
        let mut file = crate::container::header::MAGIC.to_vec();
        file.extend([1, models::TEST, flags]);
        crate::container::reader::write_varint(&mut file, w);
        crate::container::reader::write_varint(&mut file, h);
        file.extend(bytes);
        for end in 8..=file.len() {
            let mut file = file[..end].to_vec();
            file.extend(crc32(&file).to_le_bytes());
            if let Ok(d) = Decoder::new(&file, Limits { max_pixels: 1 << 16, max_memory: 1 << 26, max_work: 1 << 30 }) {
                let _ = d.info();
                for p in 0..d.pictures().len().min(3) {
                    let _ = d.decode_partial(p, 0, Some(Rect::new(0, 0, 1, 1)));
                }
            }
        }
    }
}
