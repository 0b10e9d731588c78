//! Every kind of samples from pictures to files and back: depths, numbers of channels, alpha, equal colours, exact and nearly
//! exact files, tiny pictures.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use tilefit::{metrics, Decoder, Encoder, Limits, Picture, PixelFormat, Rect, Target, Tune};
use tilefit_testing::Noise;

/// Grey, RGB and bands of all depths, each with and without alpha where that can be.
fn formats() -> Vec<PixelFormat> {
    let plain = [(1, 8), (1, 10), (1, 12), (1, 16), (2, 8), (3, 8), (3, 10), (3, 16), (4, 8), (6, 8), (6, 16)];
    let alpha = [(2, 8), (2, 16), (4, 8), (4, 10), (4, 16), (5, 8)];
    let plain = plain.map(|(channels, depth)| PixelFormat::new(channels, depth));
    plain.into_iter().chain(alpha.map(|(channels, depth)| PixelFormat::new(channels, depth).with_alpha())).collect()
}

/// Waves with a little noise; alpha is 0 on the left, opaque on the right, and a slope between.
fn picture(width: usize, height: usize, format: PixelFormat) -> Picture {
    let (mut noise, peak) = (Noise::new(3), f64::from(format.peak()));
    let mut samples = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for c in 0..format.channels {
            let wave = (0.19 * x as f64 + c as f64).sin() * (0.13 * y as f64).cos();
            let value = 0.5 + 0.3 * wave + 0.01 * noise.unit();
            let alpha = (1.5 * (x as f64 + 0.5) / width as f64 - 0.25).clamp(0.0, 1.0);
            let is_alpha = format.alpha && c + 1 == format.channels;
            samples.push((peak * if is_alpha { alpha } else { value }).round() as u16);
        }
    }
    Picture { width, height, format, samples }
}

/// The fastest encoder of fitted files.
fn fitted<'a>() -> Encoder<'a> {
    Encoder::new().model("pyramid").tune(Tune::Psnr).effort(1).threads(2)
}

fn encoded(encoder: Encoder, pictures: &[Picture]) -> Vec<u8> {
    encoder.encode_group(pictures).unwrap_or_else(|e| panic!("{:?}: {e}", pictures[0].format)).bytes
}

fn decoded(bytes: &[u8]) -> Picture {
    Decoder::new(bytes, Limits::default()).expect("a file").decode(0).expect("a picture")
}

fn there_and_back(encoder: Encoder, picture: &Picture) -> Picture {
    let back = decoded(&encoded(encoder, std::slice::from_ref(picture)));
    assert_eq!((back.width, back.height, back.format), (picture.width, picture.height, picture.format));
    back
}

/// The largest difference of any sample.
fn farthest(a: &Picture, b: &Picture) -> u16 {
    a.samples.iter().zip(&b.samples).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn alpha(p: &Picture) -> Vec<u16> {
    assert!(p.format.alpha);
    p.samples.iter().skip(p.format.channels - 1).step_by(p.format.channels).copied().collect()
}

#[test]
fn every_kind_is_fitted() {
    for format in formats() {
        let original = picture(48, 40, format);
        let back = there_and_back(fitted(), &original);
        let db = metrics::psnr(&original, &back);
        assert!(db > 27.0, "{format:?}: {db} dB");
    }
}

#[test]
fn other_families_fit_other_kinds() {
    for family in ["gdn", "hyperprior"] {
        for format in [PixelFormat::new(1, 12), PixelFormat::new(6, 8), PixelFormat::new(4, 16).with_alpha()] {
            let original = picture(48, 40, format);
            let encoder = Encoder::new().model(family).channels(8).effort(1).target(Target::Lambda(1e-4));
            let db = metrics::psnr(&original, &there_and_back(encoder, &original));
            assert!(db > 22.0, "{family} {format:?}: {db} dB");
        }
    }
}

/// Rounding to 8 bits anywhere on the way would leave 59 dB.
#[test]
fn sixteen_bits_are_not_eight() {
    let samples = (0..64 * 48).map(|i| (16000 + 300 * (i % 64) + 200 * (i / 64)) as u16).collect();
    let original = Picture { width: 64, height: 48, format: PixelFormat::new(1, 16), samples };
    let back = there_and_back(fitted().target(Target::Psnr(60.0)), &original);
    let db = metrics::psnr(&original, &back);
    assert!(db >= 60.0, "{db}");
}

#[test]
fn quality_of_alpha() {
    let original = picture(48, 40, PixelFormat::new(4, 8).with_alpha());
    let back = there_and_back(fitted(), &original);
    for (a, b) in alpha(&original).iter().zip(alpha(&back)) {
        assert!(a.abs_diff(b) < 30, "{a} {b}");
    }
    let exact = there_and_back(fitted().alpha_quality(100.0), &original);
    assert_eq!(alpha(&exact), alpha(&original));
    let near = there_and_back(fitted().alpha_quality(80.0), &original);
    let most = alpha(&near).iter().zip(alpha(&original)).map(|(a, b)| a.abs_diff(b)).max().unwrap();
    // 5 % of 255.
    assert!((1..=13).contains(&most), "{most}");
}

/// What cannot be seen costs nothing.
#[test]
fn hidden_colours_cost_nothing() {
    let mut noise = Noise::new(9);
    let original = picture(64, 48, PixelFormat::new(4, 8).with_alpha());
    let mut noisy = original.clone();
    for pixel in noisy.samples.chunks_exact_mut(4).filter(|p| p[3] == 0) {
        pixel[..3].iter_mut().for_each(|s| *s = noise.below(256) as u16);
    }
    assert_ne!(noisy, original);
    for quality in [None, Some(100.0)] {
        let file = |p: &Picture| {
            let encoder = fitted();
            let encoder = match quality {
                Some(q) => encoder.alpha_quality(q),
                None => encoder,
            };
            encoded(encoder, std::slice::from_ref(p))
        };
        assert_eq!(file(&noisy), file(&original), "{quality:?}");
    }
}

#[test]
fn equal_colours_come_back_with_all_channels() {
    for depth in [8, 16] {
        let grey = picture(48, 40, PixelFormat::new(1, depth));
        let samples = grey.samples.iter().flat_map(|s| [*s; 3]).collect();
        let equal = Picture { format: PixelFormat::new(3, depth), samples, ..grey.clone() };
        for encoder in [fitted, || Encoder::new().target(Target::MaxError(0))] {
            let bytes = encoded(encoder(), std::slice::from_ref(&equal));
            let back = decoded(&bytes);
            assert_eq!(back.format, equal.format);
            assert!(back.samples.chunks_exact(3).all(|p| p[1] == p[0] && p[2] == p[0]));
            let alone = encoded(encoder(), std::slice::from_ref(&grey));
            assert!(bytes.len() <= alone.len() + 20, "{} and {}", bytes.len(), alone.len());
        }
    }
}

#[test]
fn opaque_alpha_is_no_alpha() {
    let mut original = picture(48, 40, PixelFormat::new(4, 8).with_alpha());
    original.samples.iter_mut().skip(3).step_by(4).for_each(|a| *a = 255);
    for encoder in [fitted(), fitted().alpha_quality(100.0), Encoder::new().target(Target::MaxError(0))] {
        let back = decoded(&encoded(encoder, std::slice::from_ref(&original)));
        assert_eq!(back.format, PixelFormat::RGB);
    }
}

#[test]
fn errors_are_bounded() {
    for format in formats() {
        let original = picture(31, 22, format);
        let exact = there_and_back(Encoder::new().target(Target::MaxError(0)), &original);
        assert!(exact == original, "{format:?}");
        for most in [3, if format.depth == 16 { 300 } else { 9 }] {
            let near = there_and_back(Encoder::new().target(Target::MaxError(most)), &original);
            let got = farthest(&near, &original);
            assert!((1..=most).contains(&got), "{format:?}: {got} of {most}");
        }
    }
}

#[test]
fn tiny_pictures_of_every_kind() {
    for (i, format) in formats().into_iter().enumerate() {
        let exact = || Encoder::new().target(Target::MaxError(0));
        for (width, height) in [(1, 1), (1, 7), (7, 1)] {
            let original = picture(width, height, format);
            // Alpha of one pixel may be opaque, so the format may be another.
            let back = decoded(&encoded(exact(), std::slice::from_ref(&original)));
            assert_eq!((back.width, back.height), (width, height));
            assert!(metrics::psnr(&original, &back).is_infinite(), "{format:?}");
        }
        let one = encoded(Encoder::new().effort(1), &[picture(1, 1, format)]);
        assert!(one.len() < 100, "{format:?}: {} bytes", one.len());
        assert_eq!(decoded(&one).format.colours(), format.colours());
        // Each kind once as a row or a column.
        let (width, height) = if i % 2 == 0 { (1, 7) } else { (7, 1) };
        let back = there_and_back(fitted(), &picture(width, height, format));
        assert!(metrics::psnr(&picture(width, height, format), &back) > 15.0, "{format:?}");
    }
}

/// Regions across tiles, and previews, of files of several models.
#[test]
fn tiles_and_groups_with_alpha() {
    let rgba = PixelFormat::new(4, 8).with_alpha();
    let group = [picture(150, 90, rgba), picture(65, 64, rgba)];
    for encoder in [fitted(), fitted().alpha_quality(100.0), Encoder::new().target(Target::MaxError(0))] {
        let bytes = encoded(encoder.tile(64), &group);
        let decoder = Decoder::new(&bytes, Limits::default()).unwrap();
        assert_eq!((decoder.info().tile, decoder.info().tiles), (64, 6 + 2));
        for (i, original) in group.iter().enumerate() {
            let whole = decoder.decode(i).unwrap();
            assert_eq!(whole.format, rgba);
            assert!(metrics::psnr(original, &whole) > 27.0);
            for (scale, whole) in [(0, whole.clone()), (2, decoder.decode_scaled(i, 2, None).unwrap())] {
                let (w, h) = (whole.width, whole.height);
                let region = Rect::new(w / 3, h / 4, w - 1, h);
                let part = decoder.decode_scaled(i, scale, Some(region)).unwrap();
                let rows = (region.y0..region.y1)
                    .flat_map(|y| &whole.samples[4 * (y * w + region.x0)..4 * (y * w + region.x1)]);
                assert!(part.samples.iter().eq(rows), "picture {i}, 1/2^{scale}");
            }
        }
    }
}

#[test]
fn targets_count_alpha() {
    let original = [picture(96, 64, PixelFormat::new(4, 8).with_alpha())];
    for quality in [None, Some(90.0)] {
        let new = || match quality {
            Some(q) => fitted().alpha_quality(q),
            None => fitted(),
        };
        let free = encoded(new(), &original);
        let db = metrics::psnr(&original[0], &decoded(&free)) - 2.0;
        let back = decoded(&encoded(new().target(Target::Psnr(db)), &original));
        assert!(metrics::psnr(&original[0], &back) >= db, "{quality:?}");
        let limit = free.len() as u64 * 4 / 5;
        let small = encoded(new().target(Target::Size(limit)), &original);
        assert!(small.len() as u64 <= limit, "{quality:?}: {} of {limit}", small.len());
    }
}

/// A narrow picture is fitted with rows and columns exchanged: it decodes to what the wide picture decodes to, and parts of it
/// are parts of that.
#[test]
fn narrow_pictures_are_fitted_like_wide_ones() {
    for format in [PixelFormat::GREY, PixelFormat::RGB, PixelFormat::new(4, 8).with_alpha()] {
        let wide = picture(230, 17, format);
        let n = format.channels;
        let turned = |p: &Picture| {
            let pixels = (0..p.width).flat_map(|x| (0..p.height).map(move |y| (x, y)));
            let samples = pixels.flat_map(|(x, y)| &p.samples[(y * p.width + x) * n..][..n]).copied().collect();
            Picture { width: p.height, height: p.width, format, samples }
        };
        let narrow = turned(&wide);
        let bytes = encoded(fitted().tile(64), std::slice::from_ref(&narrow));
        let other = encoded(fitted().tile(64), std::slice::from_ref(&wide));
        let decoder = Decoder::new(&bytes, Limits::default()).unwrap();
        decoder.verify().unwrap();
        let whole = decoder.decode(0).unwrap();
        assert_eq!(whole, turned(&decoded(&other)), "{format:?}");
        assert!(bytes.len() <= other.len() + 12, "{format:?}: {} and {} bytes", bytes.len(), other.len());
        let part = decoder.decode_region(0, Rect::new(2, 50, 6, 201)).unwrap();
        for (y, row) in part.samples.chunks_exact(4 * n).enumerate() {
            assert_eq!(row, &whole.samples[((y + 50) * 17 + 2) * n..][..4 * n], "{format:?} row {y}");
        }
        let wide = Decoder::new(&other, Limits::default()).unwrap();
        for scale in 1..=3 {
            let small = decoder.decode_scaled(0, scale, None).unwrap();
            assert_eq!(small, turned(&wide.decode_scaled(0, scale, None).unwrap()), "{format:?} 1/2^{scale}");
        }
    }
}
