//! Encodes and decodes with the `gdn` family: all targets, groups, grey, the smallest pictures, f16 weights, all distortions,
//! threads, checkpoints.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use std::sync::Mutex;
use tilefit::{metrics, Class, Decoder, Encoded, Encoder, Limits, Picture, Result, Signal, Target, Tune, WeightCoding};

/// A test picture of waves, an edge and a little noise.
fn picture(width: usize, height: usize, channels: usize) -> Picture {
    let mut noise = 1u32;
    let mut sample = |i: usize| {
        let (x, y, c) = (i / channels % width, i / channels / width, i % channels);
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wave = 60.0 * (x as f32 * 0.19 + c as f32).sin() * (y as f32 * 0.13).cos();
        let edge = if x + y > 50 { 30.0 } else { -30.0 };
        (128.0 + wave + edge + (noise >> 29) as f32) as u8
    };
    let samples = (0..width * height * channels).map(&mut sample).collect();
    Picture { width, height, channels, samples }
}

fn encoder<'a>(target: Target) -> Encoder<'a> {
    Encoder::new().model("gdn").target(target).effort(1).threads(2).seed(5).channels(4)
}

fn decoded(encoded: &Encoded) -> Vec<Picture> {
    let decoder = Decoder::new(&encoded.bytes, Limits::default()).expect("a file");
    (0..decoder.pictures().len()).map(|i| decoder.decode(i).expect("a picture")).collect()
}

/// The lowest PSNR of the pictures.
fn psnr(pictures: &[Picture], encoded: &Encoded) -> f64 {
    let each = pictures.iter().zip(decoded(encoded)).map(|(a, b)| metrics::psnr(a, &b));
    each.fold(f64::INFINITY, f64::min)
}

fn ms_ssim(picture: &Picture, encoded: &Encoded) -> f64 {
    metrics::ms_ssim(picture, &decoded(encoded)[0]).unwrap()
}

/// Cancels a fit at step `at` and returns its result and its last checkpoint.
fn cancelled(pictures: &[Picture], encoder: Encoder, at: u64) -> (Result<Encoded>, Vec<u8>) {
    let saved = Mutex::new(Vec::new());
    let encoded = encoder
        .progress(|p| if p.step >= at { Signal::Cancel } else { Signal::GoOn })
        .checkpoint(|state| *saved.lock().unwrap() = state.to_vec())
        .encode_group(pictures);
    (encoded, saved.into_inner().unwrap())
}

#[test]
fn all_targets_are_met() {
    let pictures = [picture(96, 64, 3)];
    let file = |target| encoder(target).encode_group(&pictures).expect("a file");
    let free = file(Target::Lambda(1e-3));
    let (db, bytes) = (psnr(&pictures, &free), free.bytes.len());
    assert!(db > 25.0, "{db}");
    assert!(psnr(&pictures, &file(Target::Psnr(db - 1.5))) >= db - 1.5);
    let limit = bytes as u64 * 4 / 5;
    let got = file(Target::Size(limit));
    assert!(got.bytes.len() as u64 <= limit, "{} of {limit}", got.bytes.len());
    let bpp = 8.0 * 0.8 * bytes as f64 / (96.0 * 64.0);
    assert!(8.0 * file(Target::Bpp(bpp)).bytes.len() as f64 / (96.0 * 64.0) <= bpp);
    let wanted = 1.0 - 2.0 * (1.0 - ms_ssim(&pictures[0], &free));
    assert!(ms_ssim(&pictures[0], &file(Target::MsSsim(wanted))) >= wanted);
    let unreachable = encoder(Target::Size(40)).encode_group(&pictures).unwrap_err();
    assert_eq!(unreachable.class(), Class::Target);
}

/// The MS-SSIM of a group, in target and report, is the mean over its pictures.
#[test]
fn a_group_meets_its_ms_ssim_target() {
    let group = [picture(120, 90, 3), picture(33, 61, 3), picture(16, 16, 3)];
    let mean = |encoded: &Encoded| {
        let each = group.iter().zip(decoded(encoded)).map(|(a, b)| metrics::ms_ssim(a, &b).unwrap());
        each.sum::<f64>() / group.len() as f64
    };
    let free = encoder(Target::Lambda(1e-3)).encode_group(&group).unwrap();
    assert!((mean(&free) - free.report.ms_ssim.unwrap()).abs() < 1e-9);
    let wanted = 1.0 - 1.5 * (1.0 - mean(&free));
    let got = encoder(Target::MsSsim(wanted)).encode_group(&group).unwrap();
    assert!(mean(&got) >= wanted && got.bytes.len() < free.bytes.len());
}

#[test]
fn groups_grey_pictures_and_f16_weights_round_trip() {
    let group = [picture(80, 56, 3), picture(33, 61, 3), picture(8, 8, 3)];
    assert!(psnr(&group, &encoder(Target::Lambda(1e-3)).encode_group(&group).unwrap()) > 20.0);
    let grey = [picture(70, 50, 1)];
    let coded = encoder(Target::Lambda(1e-3)).encode_group(&grey).unwrap();
    assert!(psnr(&grey, &coded) > 24.0);
    let plain = encoder(Target::Lambda(1e-3)).weights(WeightCoding::F16).encode_group(&grey).unwrap();
    assert!(psnr(&grey, &plain) > 24.0 && plain.report.weights_bytes > 2 * coded.report.weights_bytes);
}

#[test]
fn smallest_pictures_round_trip() {
    for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 3)] {
        let pictures = [picture(width, height, 3)];
        let encoder = Encoder::new().model("gdn").target(Target::Quality(60.0)).effort(1);
        let encoded = encoder.encode_group(&pictures).unwrap();
        let back = &decoded(&encoded)[0];
        assert_eq!((back.width, back.height), (width, height));
        assert!(psnr(&pictures, &encoded) > 15.0, "{width}x{height}");
    }
}

/// At the same lambda, SSIM and MS-SSIM as distortion give a higher MS-SSIM than MSE, at no more bytes.
#[test]
fn ssim_distortions_raise_ms_ssim() {
    let pictures = [picture(96, 64, 3)];
    let file = |tune| encoder(Target::Lambda(1e-3)).tune(tune).encode_group(&pictures).unwrap();
    let plain = file(Tune::Psnr);
    for tune in [Tune::Ssim, Tune::MsSsim] {
        let tuned = file(tune);
        assert!(ms_ssim(&pictures[0], &tuned) > ms_ssim(&pictures[0], &plain), "{tune:?}");
        assert!(tuned.bytes.len() <= plain.bytes.len(), "{tune:?}");
        assert!(psnr(&pictures, &tuned) < psnr(&pictures, &plain), "{tune:?} must have an effect");
    }
}

#[test]
fn the_file_does_not_depend_on_the_thread_count() {
    let pictures = [picture(61, 40, 3)];
    let run = |threads| encoder(Target::Lambda(2e-3)).threads(threads).encode_group(&pictures).unwrap().bytes;
    assert_eq!(run(1), run(3));
}

/// A fit that is cancelled in either stage and resumed gives a file similar to that of an uninterrupted fit.
#[test]
fn cancelled_fits_resume() {
    let pictures = [picture(64, 48, 3)];
    let new = || encoder(Target::Lambda(1e-3));
    let whole = new().encode_group(&pictures).unwrap();
    // The first stage has 240 steps.
    for at in [50, 280] {
        let (encoded, saved) = cancelled(&pictures, new(), at);
        assert_eq!(encoded.unwrap_err().class(), Class::Cancelled);
        let resumed = new().resume(saved.clone()).encode_group(&pictures).unwrap();
        assert!(psnr(&pictures, &resumed) > psnr(&pictures, &whole) - 1.0, "{at}");
        assert!(resumed.bytes.len() < whole.bytes.len() * 5 / 4, "{at}");
        let others = [picture(64, 56, 3)];
        assert_eq!(new().resume(saved.clone()).encode_group(&others).unwrap_err().argument(), Some("resume"));
        let cut = saved[..saved.len() - 1].to_vec();
        assert_eq!(new().resume(cut).encode_group(&pictures).unwrap_err().argument(), Some("resume"));
    }
}
