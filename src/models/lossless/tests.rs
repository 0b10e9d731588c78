//! Round trips of the whole family, and hostile bytes.

use super::model::LosslessModel;
use crate::fit::lossless::{encode, Planes};
use crate::image::Rect;
use crate::models::{Codes, Encode, Grid, Model};
use kernels::Level;
use proptest::prelude::*;

/// Samples of many kinds: noise of `bits` bits on a slope, few values, or all the same.
fn picture(kind: u32, seed: u64, channels: usize, width: usize, height: usize, depth: u32) -> Vec<u16> {
    let mut state = seed;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as u32
    };
    let peak = (1u32 << depth) - 1;
    let few: Vec<u32> = (0..5).map(|_| noise() & peak).collect();
    let area = width * height;
    (0..channels * area)
        .map(|i| {
            let (y, x) = (i % area / width, i % width);
            let value = match kind {
                0 => noise() & peak,
                1 => (3 * x + 2 * y + (noise() & 3) as usize) as u32,
                2 => few[(noise() % 5) as usize],
                3 => few[(x / 4 + y / 3) % 5],
                4 => few[0],
                _ => ((x * y) as u32 & 7) * 257,
            };
            value.min(peak) as u16
        })
        .collect()
}

struct File {
    description: Vec<u8>,
    weights: Vec<u8>,
    segment: Vec<u8>,
}

fn file(model: &LosslessModel, codes: &Codes) -> File {
    let (mut description, mut weights) = (Vec::new(), Vec::new());
    model.write_description(&mut description);
    model.write_weights(&mut weights);
    File { description, weights, segment: model.encode_tile(Level::SCALAR, 0, codes) }
}

fn samples(file: &File, channels: usize, size: (usize, usize), depth: u32) -> crate::error::Result<Vec<u16>> {
    let model = LosslessModel::read(channels, depth, &file.description, &file.weights)?;
    let rect = Rect::whole(size.0, size.1);
    let mut codes = vec![Grid::new(rect, channels)];
    model.decode_tile(Level::SCALAR, 0, &file.segment, &mut codes)?;
    let mut out = vec![0; rect.area() * channels];
    model.samples(&codes[0], size, rect, 0, &mut out);
    // Planes again.
    Ok((0..channels).flat_map(|c| out.iter().skip(c).step_by(channels).copied().collect::<Vec<_>>()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn samples_come_back(
        kind in 0u32..6, seed: u64, channels in 1usize..=5, width in 1usize..24, height in 1usize..24,
        depth in 1u32..=16, max_error in prop::sample::select(vec![0u16, 0, 1, 2, 7, 255, 700]),
    ) {
        let original = picture(kind, seed, channels, width, height, depth);
        let planes = Planes { width, height, samples: &original };
        let (model, codes) = encode(&[planes], channels, depth, max_error);
        let back = samples(&file(&model, &codes[0]), channels, (width, height), depth).unwrap();
        let worst = original.iter().zip(&back).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        prop_assert!(worst <= max_error);
    }

    /// A damaged file gives an error or samples within the depth.
    #[test]
    fn damage_is_survived(kind in 0u32..6, seed: u64, channels in 1usize..=4, part in 0usize..3, cut: bool, place: u16, xor in 1u8..=255) {
        let (size, depth) = ((11, 9), 10);
        let original = picture(kind, seed, channels, size.0, size.1, depth);
        let (model, codes) = encode(&[Planes { width: size.0, height: size.1, samples: &original }], channels, depth, 0);
        let mut file = file(&model, &codes[0]);
        let parts = [&mut file.description, &mut file.weights, &mut file.segment];
        let bytes = &mut *parts[part];
        if !bytes.is_empty() {
            let at = usize::from(place) % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] ^= xor }
        }
        if let Ok(samples) = samples(&file, channels, size, depth) {
            prop_assert!(samples.iter().all(|s| *s < 1 << depth));
        }
    }

    #[test]
    fn any_bytes_decode(
        flags in 0u8..8, max_error: u8, channels in 1usize..=4, depth in 1u32..=16,
        weights in prop::collection::vec(any::<u8>(), 0..60), segment in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let file = File { description: vec![flags, max_error], weights, segment };
        if let Ok(samples) = samples(&file, channels, (17, 13), depth) {
            prop_assert!(samples.iter().all(|s| u32::from(*s) < 1 << depth));
        }
    }
}

#[test]
fn sixteen_channels_of_sixteen_bits_come_back() {
    for kind in 0..6 {
        let original = picture(kind, 3, 16, 21, 17, 16);
        let (model, codes) = encode(&[Planes { width: 21, height: 17, samples: &original }], 16, 16, 0);
        assert_eq!(samples(&file(&model, &codes[0]), 16, (21, 17), 16).unwrap(), original, "{kind}");
    }
}

/// Each mode codes any samples, whichever is smallest.
#[test]
fn every_mode_codes_any_samples() {
    use super::planes::{code, Layout, Mode};
    use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};
    for kind in 0..6 {
        let original = picture(kind, 8, 3, 40, 30, 8);
        let layout = Layout { tops: vec![255; 3], order: vec![1, 0, 2], palette: false };
        for mode in [Mode::Plain, Mode::Smooth, Mode::Mixed, Mode::Exact] {
            let mut encoder = RangeEncoder::default();
            code(&mut encoder, &mut original.clone(), &layout, 40, 30, mode).unwrap();
            let bytes = encoder.finish();
            let mut decoder = RangeDecoder::new(&bytes);
            let mut back = vec![0; original.len()];
            code(&mut decoder, &mut back, &layout, 40, 30, Mode::Plain).unwrap();
            decoder.finish().unwrap();
            assert_eq!(back, original, "{kind} {mode:?}");
        }
    }
}

/// One model serves pictures with other values.
#[test]
fn groups_come_back() {
    for kind in 0..6 {
        let pictures = [(1, 20, 11), (2, 7, 30)].map(|(seed, w, h)| (picture(kind, seed, 3, w, h, 8), w, h));
        let planes: Vec<Planes> =
            pictures.iter().map(|(s, w, h)| Planes { width: *w, height: *h, samples: s }).collect();
        let (model, codes) = encode(&planes, 3, 8, 0);
        for ((original, w, h), codes) in pictures.iter().zip(&codes) {
            assert_eq!(samples(&file(&model, codes), 3, (*w, *h), 8).unwrap(), *original, "{kind}");
        }
    }
}

/// Bytes of description, weights and segment, which small and simple pictures are mostly made of.
#[test]
fn simple_pictures_are_small() {
    let bytes = |kind, channels, width, height, depth| {
        let original = picture(kind, 5, channels, width, height, depth);
        let (model, codes) = encode(&[Planes { width, height, samples: &original }], channels, depth, 0);
        let file = file(&model, &codes[0]);
        file.description.len() + file.weights.len() + file.segment.len()
    };
    assert!(bytes(0, 4, 1, 1, 16) < 24);
    assert!(bytes(4, 3, 1000, 700, 8) < 24);
    assert!(bytes(3, 3, 200, 200, 8) < 120);
    // Noise costs its bits.
    assert!(bytes(0, 3, 50, 50, 8) < 7520);
}

/// A region at a scale has the rounded means of the squares that it covers.
#[test]
fn scales_are_means() {
    let (w, h) = (13, 10);
    let original = picture(1, 9, 2, w, h, 12);
    let (model, codes) = encode(&[Planes { width: w, height: h, samples: &original }], 2, 12, 1);
    for scale in 0..5 {
        let side = 1 << scale;
        let region = Rect::new(w.div_ceil(side) / 2, 0, w.div_ceil(side), h.div_ceil(side));
        let support = model.support(region, (w, h), scale)[0];
        let mut part = Grid::new(support, 2);
        part.paste(&codes[0][0]);
        let mut out = vec![0; region.area() * 2];
        model.samples(&part, (w, h), region, scale, &mut out);
        for (i, got) in out.iter().enumerate() {
            let (c, x, y) = (i % 2, region.x0 + i / 2 % region.width(), i / 2 / region.width());
            let places: Vec<usize> = (y * side..((y + 1) * side).min(h))
                .flat_map(|y| (x * side..((x + 1) * side).min(w)).map(move |x| (c * h + y) * w + x))
                .collect();
            let sum: u32 = places.iter().map(|p| (u32::from(codes[0][0].codes[*p] as u16) * 3).min(4095)).sum();
            let count = places.len() as u32;
            assert_eq!(u32::from(*got), (sum + count / 2) / count);
        }
    }
}
