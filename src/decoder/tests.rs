//! The decoder over a model that shows each mistake: every sample mixes codes of two grids and a neighbour.

use super::*;
use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};
use crate::fit::file::write;
use crate::fit::Fitted;
use crate::models::{Encode, GridSpec};
use proptest::prelude::*;

/// Sample = fine(x, y) + fine(x - 1, y) + coarse(x / 4, y / 4), modulo 256; codes are 0 to 255.
#[derive(Clone, Copy)]
pub struct Echo {
    split: bool,
}

const GRIDS: [GridSpec; 2] = [GridSpec { shift: 2, channels: 2 }, GridSpec { shift: 0, channels: 1 }];

impl Echo {
    pub fn read(description: &[u8]) -> Echo {
        Echo { split: description == [1] }
    }
}

impl Model for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }
    fn channels(&self) -> usize {
        3
    }
    fn grids(&self) -> &[GridSpec] {
        &GRIDS
    }
    fn layers(&self) -> usize {
        1 + self.split as usize
    }
    fn layer_grids(&self, layer: usize) -> std::ops::Range<usize> {
        match (self.split, layer) {
            (false, _) => 0..2,
            (true, l) => l..l + 1,
        }
    }
    fn weights_count(&self) -> usize {
        0
    }
    fn macs_per_pixel(&self) -> f64 {
        2.0
    }
    fn decode_tile(&self, _: Level, layer: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let mut d = RangeDecoder::new(segment);
        for g in self.layer_grids(layer) {
            codes[g].codes.iter_mut().for_each(|c| *c = d.decode_bits(8) as i16);
        }
        d.finish()
    }
    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        assert_eq!(scale, 0);
        let left = Rect { x0: region.x0.saturating_sub(1), ..region };
        vec![left.shrunk(2).intersect(&Rect::whole(size.0.div_ceil(4), size.1.div_ceil(4))), left]
    }
    fn synthesise(
        &self,
        _: Level,
        codes: &Codes,
        _: (usize, usize),
        region: Rect,
        _: u32,
        out: &mut [u8],
    ) -> Result<()> {
        let at = |g: &Grid, c: usize, x: usize, y: usize| {
            g.codes[(c * g.rect.height() + y - g.rect.y0) * g.rect.width() + x - g.rect.x0] as u8
        };
        let mut i = 0;
        for y in region.y0..region.y1 {
            for x in region.x0..region.x1 {
                let left = if x > 0 { at(&codes[1], 0, x - 1, y) } else { 0 };
                let sum = at(&codes[1], 0, x, y).wrapping_add(left).wrapping_add(at(&codes[0], 1, x / 4, y / 4));
                out[i..i + 3].fill(sum);
                i += 3;
            }
        }
        Ok(())
    }
}

impl Encode for Echo {
    fn family(&self) -> u8 {
        models::TEST
    }
    fn write_description(&self, out: &mut Vec<u8>) {
        out.push(self.split as u8);
    }
    fn write_weights(&self, _: &mut Vec<u8>) {}
    fn encode_tile(&self, _: Level, layer: usize, codes: &Codes) -> Vec<u8> {
        let mut e = RangeEncoder::default();
        for g in self.layer_grids(layer) {
            codes[g].codes.iter().for_each(|c| e.encode_bits(*c as u32, 8));
        }
        e.finish()
    }
    fn as_model(&self) -> &dyn Model {
        self
    }
}

fn file(width: usize, height: usize, tile: usize, split: bool, count: usize) -> Vec<u8> {
    let picture = Picture { width, height, channels: 3, samples: vec![0; 3 * width * height] };
    let grids = |p: usize| -> Codes {
        GRIDS
            .iter()
            .map(|s| {
                let mut g = Grid::new(Rect::whole(width, height).shrunk(s.shift), s.channels);
                let mut v = (p * 77 + 1) as u32;
                for c in &mut g.codes {
                    v = v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *c = (v >> 24) as i16;
                }
                g
            })
            .collect()
    };
    let fitted = Fitted { model: Box::new(Echo { split }), codes: (0..count).map(grids).collect(), tile };
    write(&fitted, &vec![picture; count], &[]).unwrap().bytes
}

fn crop(p: &Picture, r: Rect) -> Vec<u8> {
    (r.y0..r.y1).flat_map(|y| p.samples[3 * (y * p.width + r.x0)..3 * (y * p.width + r.x1)].iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn tiles_layers_and_regions_agree(
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
    fn any_change_is_noticed_or_harmless(at in 0f64..1.0, bit in 0u32..8, cut in 0f64..1.0) {
        let good = file(150, 90, 64, true, 2);
        let mut bad = good.clone();
        let i = (at * good.len() as f64) as usize;
        bad[i] ^= 1 << bit;
        // Every byte is under a checksum.
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
fn limits_refuse_before_decoding() {
    let bytes = file(100, 100, 64, false, 1);
    let small = |max_pixels, max_memory| Decoder::new(&bytes, Limits { max_pixels, max_memory }).unwrap();
    assert!(small(9_999, u64::MAX).decode(0).unwrap_err().message().contains("pixels"));
    assert!(small(10_000, u64::MAX).decode(0).is_ok());
    assert!(small(100, u64::MAX).decode_region(0, Rect::new(5, 5, 15, 15)).is_ok());
    assert!(small(u64::MAX, 1000).decode(0).unwrap_err().message().contains("memory"));
}

#[test]
fn overhead_is_small() {
    let bytes = file(768, 512, 0, false, 1);
    let info = probe(&bytes).unwrap();
    assert!(info.header_bytes <= 32, "{}", info.header_bytes);
    assert_eq!(info.header_bytes + info.weights_bytes + info.codes_bytes, bytes.len());
}

/// There is one version so far, so that of the header is changed behind the parser.
#[test]
fn the_version_is_that_of_the_file() {
    let bytes = file(8, 8, 0, false, 1);
    let mut decoder = Decoder::new(&bytes, Limits::default()).unwrap();
    assert_eq!(decoder.info().version, bytes[crate::container::header::MAGIC.len()]);
    decoder.header.version += 1;
    assert_eq!(decoder.info().version, bytes[crate::container::header::MAGIC.len()] + 1);
}

/// A small region of a vast picture in one tile needs all of its codes: refused, not allocated.
#[test]
fn a_vast_tile_is_refused_before_it_is_allocated() {
    let bytes = file(64, 64, 0, false, 1);
    let mut header = Header::read(&bytes).unwrap();
    header.pictures[0] = PictureInfo { width: 1 << 20, height: 1 << 20, digest: 0 };
    let mut vast = header.write();
    vast.extend(&bytes[header.length..]);
    let decoder = Decoder::new(&vast, Limits::default()).unwrap();
    let refused = |r: Result<Picture>| r.unwrap_err().class() == crate::Class::MemoryLimit;
    assert!(refused(decoder.decode_region(0, Rect::new(0, 0, 8, 8))));
    assert!(refused(decoder.decode(0)));
    assert!(decoder.info().decode_memory_bytes > 1 << 42);
}

/// Every prefix, and every bit flipped, of a file of several tiles, layers and pictures.
#[test]
fn every_prefix_and_every_bit() {
    let good = file(70, 66, 64, true, 2);
    let open = |bytes: &[u8]| Decoder::new(bytes, Limits::default()).and_then(|d| d.verify());
    open(&good).unwrap();
    let header = Header::read(&good).unwrap().length;
    for n in 0..good.len() {
        assert!(Decoder::new(&good[..n], Limits::default()).is_err() == (n < header), "prefix of {n}");
        // Short prefixes are cheap; of those that open, every 97th is decoded.
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
    /// Random fields under a checksum that holds: the parser alone stands between them and the decoder.
    #[test]
    fn any_header_is_refused_or_honest(
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
            if let Ok(d) = Decoder::new(&file, Limits { max_pixels: 1 << 16, max_memory: 1 << 26 }) {
                let _ = d.info();
                for p in 0..d.pictures().len().min(3) {
                    let _ = d.decode_partial(p, 0, Some(Rect::new(0, 0, 1, 1)));
                }
            }
        }
    }
}
