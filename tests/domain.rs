//! Pictures of high dynamic range: the domain in which they are fitted, and what comes back.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use tilefit::{Class, Decoder, Domain, Encoder, Limits, Picture, PixelFormat, Rect, Target, Tune};
use tilefit_testing::Noise;

/// The level of the sky and its noise.
const SKY: f64 = 1000.0;
const NOISE: f64 = 20.0;

/// A field of stars of 16 bits with a faint nebula: the samples, and what they are without noise.
fn stars(width: usize, height: usize, format: PixelFormat) -> (Picture, Vec<f64>) {
    let mut noise = Noise::new(5);
    // A sum of 12 uniform numbers has a standard deviation of 1.
    let mut light = vec![SKY; width * height];
    for i in 0..40 {
        let (cx, cy) = (noise.unit() * width as f64, noise.unit() * height as f64);
        // From the noise to over the peak, at equal distances of their logarithms.
        let flux = 50.0 * 1500f64.powf(f64::from(i) / 39.0);
        for (i, v) in light.iter_mut().enumerate() {
            let squared = ((i % width) as f64 - cx).powi(2) + ((i / width) as f64 - cy).powi(2);
            *v += flux * (1.0 + squared / 4.0).powf(-2.5);
        }
    }
    for (i, v) in light.iter_mut().enumerate() {
        let (x, y) = ((i % width) as f64 / width as f64, (i / width) as f64 / height as f64);
        *v += 10.0 * NOISE * (-20.0 * (x - 0.4).powi(2) - 60.0 * (y - x / 2.0 - 0.2).powi(2)).exp();
    }
    let mut samples = Vec::new();
    for (i, v) in light.iter().enumerate() {
        for c in 0..format.channels {
            let normal = (0..12).map(|_| noise.unit()).sum::<f64>() - 6.0;
            let alpha = if i % width < width / 4 { 0 } else { 65535 };
            let is_alpha = format.alpha && c + 1 == format.channels;
            let sample = (v * (1.0 + 0.1 * c as f64) + NOISE * normal).round().clamp(0.0, 65535.0) as u16;
            samples.push(if is_alpha { alpha } else { sample });
        }
    }
    (Picture { width, height, format, samples }, light)
}

fn grey() -> (Picture, Vec<f64>) {
    stars(128, 96, PixelFormat::new(1, 16))
}

fn fitted<'a>() -> Encoder<'a> {
    Encoder::new().model("pyramid").tune(Tune::Psnr).effort(1).threads(2)
}

fn decoded(bytes: &[u8]) -> Picture {
    Decoder::new(bytes, Limits::default()).expect("a file").decode(0).expect("a picture")
}

/// The root of the mean squared error where the light is below 2 % of the peak above the sky.
fn faint_error(light: &[f64], p: &Picture) -> f64 {
    let faint = light.iter().zip(&p.samples).filter(|(l, _)| **l < SKY + 0.02 * 65535.0);
    let (sum, n) = faint.fold((0.0, 0), |(sum, n), (l, s)| (sum + (l - f64::from(*s)).powi(2), n + 1));
    (sum / f64::from(n)).sqrt()
}

/// With fewer bytes than a linear fit the faint parts are much closer to the light without noise.
#[test]
fn faint_parts_are_much_better_at_equal_bytes() {
    let (picture, light) = grey();
    let linear = fitted().target(Target::Lambda(3e-7)).encode(&picture).unwrap();
    let curved = fitted().domain(Domain::Asinh).encode(&picture).unwrap();
    assert!(linear.report.domain.is_none() && curved.report.domain.is_some());
    let (a, b) = (faint_error(&light, &decoded(&linear.bytes)), faint_error(&light, &decoded(&curved.bytes)));
    let bytes = (linear.bytes.len(), curved.bytes.len());
    println!("{a} {b}, {bytes:?} bytes");
    assert!(bytes.1 <= bytes.0 && b < 0.5 * a, "{a} {b}, {bytes:?} bytes");
    // Less than the noise of the samples.
    assert!(b < NOISE, "{b}");
}

/// Colours and bands of high dynamic range, with alpha too: a region and a scale of the file are those of its picture.
#[test]
fn every_kind_of_picture_has_a_domain() {
    for format in [PixelFormat::new(2, 16).with_alpha(), PixelFormat::new(3, 16), PixelFormat::new(4, 16).with_alpha()]
    {
        let (picture, _) = stars(64, 48, format);
        let encoded = fitted().domain(Domain::Asinh).encode(&picture).unwrap();
        let decoder = Decoder::new(&encoded.bytes, Limits::default()).unwrap();
        let knots = encoded.report.domain.expect("a curve").knots;
        assert_eq!(decoder.info().knots, knots);
        let whole = decoder.decode(0).unwrap();
        let region = Rect::new(9, 5, 40, 33);
        let part = decoder.decode_region(0, region).unwrap();
        let n = format.channels;
        for (y, row) in part.samples.chunks_exact(part.width * n).enumerate() {
            assert_eq!(row, &whole.samples[((y + 5) * 64 + 9) * n..][..row.len()], "{format:?} row {y}");
        }
        let small = decoder.decode_scaled(0, 1, None).unwrap();
        let colours = small.samples.chunks_exact(n).flat_map(|v| &v[..format.colours()]);
        assert!(colours.copied().all(|s| s == 0 && format.alpha || (knots[0]..=knots[32]).contains(&s)));
        if format.alpha {
            assert!(whole.samples.chunks_exact(n).enumerate().all(|(i, v)| (v[n - 1] == 0) == (i % 64 < 16)));
        }
    }
}

/// Targets are measured in the domain, and the report has both qualities.
#[test]
fn targets_are_measured_in_the_domain() {
    let (picture, _) = grey();
    let encoded = fitted().domain(Domain::Asinh).target(Target::Psnr(33.0)).encode(&picture).unwrap();
    let on_curve = encoded.report.domain.unwrap();
    assert!(on_curve.psnr >= 33.0 && on_curve.psnr < 36.0, "{}", on_curve.psnr);
    assert!(on_curve.ms_ssim.is_some());
    assert_eq!(encoded.report.psnr, tilefit::metrics::psnr(&picture, &decoded(&encoded.bytes)));
}

/// Bounds of errors hold for the samples as they are: such files have no curve, and to ask for one is an error.
#[test]
fn exact_files_are_linear() {
    let (picture, _) = stars(40, 30, PixelFormat::new(1, 16));
    let refused = Encoder::new().target(Target::MaxError(0)).domain(Domain::Asinh).encode(&picture).unwrap_err();
    assert_eq!((refused.class(), refused.argument()), (Class::Argument, Some("domain")));
    for most in [0, 9] {
        let encoded = Encoder::new().target(Target::MaxError(most)).domain(Domain::Automatic).encode(&picture).unwrap();
        assert!(encoded.report.domain.is_none());
        let back = decoded(&encoded.bytes);
        assert!(back.samples.iter().zip(&picture.samples).all(|(a, b)| a.abs_diff(*b) <= most));
    }
}

/// A picture that has no high dynamic range is fitted as ever.
#[test]
fn automatic_changes_no_other_picture() {
    let samples = (0..64 * 48u32).map(|i| (700 * (i % 64) + 300 * (i / 64)) as u16).collect();
    let plain = Picture { width: 64, height: 48, format: PixelFormat::new(1, 16), samples };
    let file = |domain| fitted().domain(domain).encode(&plain).unwrap().bytes;
    assert_eq!(file(Domain::Automatic), file(Domain::Linear));
}
