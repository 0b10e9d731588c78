//! What `-q` and `--tune` mean for pictures that people look at.
#![cfg(feature = "cli")]
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use tilefit::{metrics, Decoder, Encoded, Encoder, Limits, Picture, PixelFormat, Rect, Target, Tune};
use tilefit_testing::Noise;

/// A part of the fixture: stars and dust.
fn stars() -> Picture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nebula.png");
    let whole = tilefit::cli::files::read_picture(&path, &Default::default()).unwrap().picture;
    cut(&whole, Rect::new(300, 200, 300 + 192, 200 + 128))
}

fn cut(p: &Picture, r: Rect) -> Picture {
    let row = |y: usize| &p.samples[(y * p.width + r.x0) * p.format.channels..][..r.width() * p.format.channels];
    let samples = (r.y0..r.y1).flat_map(|y| row(y).iter().copied()).collect();
    Picture { width: r.width(), height: r.height(), format: p.format, samples }
}

/// Soft shapes of several colours with fine texture on some of them.
fn shapes() -> Picture {
    let (width, height) = (192, 128);
    let mut noise = Noise::new(3);
    let samples: Vec<u8> = (0..width * height)
        .flat_map(|i| {
            let (x, y) = ((i % width) as f64, (i / width) as f64);
            let hill = (-((x - 60.0).powi(2) + (y - 60.0).powi(2)) / 1800.0).exp();
            let leaf = if x + 0.5 * y > 130.0 { 35.0 * (noise.unit() - 0.5) } else { 0.0 };
            let stripe = if ((y / 16.0) as usize).is_multiple_of(3) { 25.0 } else { 0.0 };
            [90.0 + 120.0 * hill + leaf, 80.0 + 60.0 * hill + leaf + stripe, 120.0 - 50.0 * hill + stripe]
        })
        .map(|v| v as u8)
        .collect();
    Picture::from_u8(width, height, 3, &samples)
}

fn encode(target: Target, picture: &Picture) -> Encoded {
    // A family of its own choice, so that no lossless file takes the place of a fitted one.
    Encoder::new().model("pyramid").target(target).effort(1).threads(2).encode(picture).unwrap()
}

fn score(picture: &Picture, encoded: &Encoded) -> f64 {
    let back = Decoder::new(&encoded.bytes, Limits::default()).unwrap().decode(0).unwrap();
    metrics::ssimulacra2(picture, &back).unwrap()
}

/// A quality is about the score of the file, and a higher one never makes a smaller or worse file.
#[test]
fn a_quality_is_a_score() {
    for picture in [stars(), shapes()] {
        let mut before = (0, f64::NEG_INFINITY);
        for quality in [30.0, 55.0, 80.0] {
            let encoded = encode(Target::Quality(quality), &picture);
            let got = score(&picture, &encoded);
            assert_eq!(encoded.report.tune, Tune::Visual);
            assert!((encoded.report.ssimulacra2.unwrap() - got).abs() < 1e-9);
            assert!((got - quality).abs() < 8.0, "{got} at quality {quality}");
            assert!(encoded.bytes.len() > before.0 && got > before.1, "quality {quality}");
            before = (encoded.bytes.len(), got);
        }
    }
}

#[test]
fn a_target_is_kept() {
    for (picture, wanted) in [(stars(), 62.0), (shapes(), 45.0)] {
        let got = score(&picture, &encode(Target::Ssimulacra2(wanted), &picture));
        assert!(got >= wanted && got < wanted + 5.0, "{got} for {wanted}");
    }
}

/// The highest quality is every sample, as in other encoders.
#[test]
fn quality_100_is_lossless() {
    let picture = stars();
    let encoded = Encoder::new().target(Target::Quality(100.0)).encode(&picture).unwrap();
    assert!(encoded.report.psnr.is_infinite());
}

/// The default distortion is one for the eye where the picture is one to look at; the file says so.
#[test]
fn the_distortion_follows_the_picture() {
    let of = |format: PixelFormat, target: Target| {
        let samples = vec![0; 16 * 16 * format.channels];
        let picture = Picture { width: 16, height: 16, format, samples };
        let plan = |e: Encoder| e.target(target).plan(std::slice::from_ref(&picture)).unwrap().tune;
        (plan(Encoder::new()), plan(Encoder::new().tune(Tune::Psnr)), plan(Encoder::new().model("gdn")))
    };
    let quality = Target::Quality(50.0);
    for format in [PixelFormat::RGB, PixelFormat::GREY, PixelFormat::new(4, 12).with_alpha()] {
        assert_eq!(of(format, quality), (Tune::Visual, Tune::Psnr, Tune::Psnr));
    }
    assert_eq!(of(PixelFormat::new(5, 16), quality).0, Tune::Psnr);
    for target in [Target::Size(500), Target::Bpp(0.5), Target::Lambda(1e-3), Target::Ssimulacra2(70.0)] {
        assert_eq!(of(PixelFormat::RGB, target).0, Tune::Visual);
    }
    for target in [Target::Psnr(40.0), Target::MsSsim(0.9), Target::MaxError(3)] {
        assert_eq!(of(PixelFormat::RGB, target).0, Tune::Psnr);
    }
    // Memory for the simpler one only.
    let picture = Picture::from_u8(1000, 800, 1, &vec![7; 800_000]);
    let limited = |bytes| Encoder::new().max_memory(bytes).plan(std::slice::from_ref(&picture)).unwrap();
    assert_eq!(limited(u64::MAX).tune, Tune::Visual);
    assert_eq!(limited(limited(u64::MAX).memory - 1).tune, Tune::Psnr);
    for (tune, visual) in [(Tune::Visual, true), (Tune::Psnr, false)] {
        let encoder = Encoder::new().model("pyramid").target(Target::Lambda(1e-2)).effort(1).tune(tune);
        let bytes = encoder.encode(&cut(&stars(), Rect::new(0, 0, 24, 16))).unwrap().bytes;
        assert_eq!(Decoder::new(&bytes, Limits::default()).unwrap().info().visual, visual);
    }
}
