//! The `gdn` family from pictures to files and back: every target, groups, grey, the smallest pictures, f16 weights,
//! other distortions, threads, checkpoints.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, Ordering};
use tilefit::codec::{write_file, Written};
use tilefit::fit::{gdn, FitOptions, Fitted, Monitor, Target, Tune, WeightCoding};
use tilefit::{metrics, Class, Picture};

/// Waves, an edge and a little noise.
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

fn options(target: Target) -> FitOptions {
    FitOptions { target, effort: 1, threads: 2, seed: 5, channels: Some(4), ..FitOptions::default() }
}

/// A fit that stops after `stop_after` reports, what it saved last, from `resume` if there is a state.
fn fit(
    pictures: &[Picture],
    options: &FitOptions,
    stop_after: usize,
    resume: Option<Vec<u8>>,
) -> (tilefit::Result<Fitted>, Option<Vec<u8>>) {
    let stop = AtomicBool::new(false);
    let (mut reports, mut saved) = (0, None);
    let mut report = |_| {
        reports += 1;
        stop.store(reports >= stop_after, Ordering::Relaxed);
    };
    let mut save = |state: &[u8]| saved = Some(state.to_vec());
    let mut monitor = Monitor { report: &mut report, stop: &stop, save: &mut save, resume };
    let fitted = gdn::fit(pictures, options, &mut monitor);
    (fitted, saved)
}

fn file(pictures: &[Picture], options: &FitOptions) -> Written {
    write_file(&fit(pictures, options, usize::MAX, None).0.expect("a fit"), pictures).expect("a file")
}

fn psnr(pictures: &[Picture], written: &Written) -> f64 {
    let each = pictures.iter().zip(&written.decoded).map(|(a, b)| metrics::psnr(a, b));
    each.fold(f64::INFINITY, f64::min)
}

#[test]
fn targets_are_kept() {
    let pictures = [picture(96, 64, 3)];
    let free = file(&pictures, &options(Target::Lambda(1e-3)));
    let (db, bytes) = (psnr(&pictures, &free), free.bytes.len());
    assert!(db > 25.0, "{db}");
    let got = file(&pictures, &options(Target::Psnr(db - 1.5)));
    assert!(psnr(&pictures, &got) >= db - 1.5);
    let limit = bytes as u64 * 4 / 5;
    let got = file(&pictures, &options(Target::Size(limit)));
    assert!(got.bytes.len() as u64 <= limit, "{} of {limit}", got.bytes.len());
    let bpp = 8.0 * 0.8 * bytes as f64 / (96.0 * 64.0);
    let got = file(&pictures, &options(Target::Bpp(bpp)));
    assert!(8.0 * got.bytes.len() as f64 / (96.0 * 64.0) <= bpp);
    let wanted = 1.0 - 2.0 * (1.0 - metrics::ms_ssim(&pictures[0], &free.decoded[0]).unwrap());
    let got = file(&pictures, &options(Target::MsSsim(wanted)));
    assert!(metrics::ms_ssim(&pictures[0], &got.decoded[0]).unwrap() >= wanted);
    let out_of_reach = fit(&pictures, &options(Target::Size(40)), usize::MAX, None).0.err().unwrap();
    assert_eq!(out_of_reach.class, Class::Target);
}

#[test]
fn groups_grey_and_f16() {
    let group = [picture(80, 56, 3), picture(33, 61, 3), picture(8, 8, 3)];
    let written = file(&group, &options(Target::Lambda(1e-3)));
    assert!(psnr(&group, &written) > 20.0);
    let grey = [picture(70, 50, 1)];
    let written = file(&grey, &options(Target::Lambda(1e-3)));
    assert!(psnr(&grey, &written) > 24.0);
    let plain = file(&grey, &FitOptions { weights: WeightCoding::F16, ..options(Target::Lambda(1e-3)) });
    assert!(psnr(&grey, &plain) > 24.0 && plain.weights_bytes > 2 * written.weights_bytes);
}

#[test]
fn smallest_pictures() {
    for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 3)] {
        let pictures = [picture(width, height, 3)];
        let written = file(&pictures, &FitOptions { channels: None, ..options(Target::Quality(60.0)) });
        let (a, b) = (&pictures[0], &written.decoded[0]);
        assert_eq!((a.width, a.height), (b.width, b.height));
        assert!(psnr(&pictures, &written) > 15.0, "{width}x{height}");
    }
}

/// Structural distortions reach a structural similarity that MSE does not, at no more bytes.
#[test]
fn structural_distortions_serve_their_measure() {
    let pictures = [picture(96, 64, 3)];
    let similarity = |w: &Written| metrics::ms_ssim(&pictures[0], &w.decoded[0]).unwrap();
    let plain = file(&pictures, &options(Target::Lambda(1e-3)));
    for tune in [Tune::Ssim, Tune::MsSsim] {
        let tuned = file(&pictures, &FitOptions { tune, ..options(Target::Lambda(1e-3)) });
        assert!(similarity(&tuned) > similarity(&plain), "{tune:?}");
        assert!(tuned.bytes.len() <= plain.bytes.len(), "{tune:?}");
        assert!(psnr(&pictures, &tuned) < psnr(&pictures, &plain), "{tune:?} changes what is minimised");
    }
}

#[test]
fn same_seed_same_file_at_any_thread_count() {
    let pictures = [picture(61, 40, 3)];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| file(&pictures, &options(Target::Lambda(2e-3))).bytes)
    };
    assert_eq!(run(1), run(3));
}

/// An interrupted fit saves a state in either stage, and goes on from it to a file like that of one run.
#[test]
fn interrupted_fits_go_on() {
    let pictures = [picture(64, 48, 3)];
    let options = options(Target::Lambda(1e-3));
    let whole = file(&pictures, &options);
    // The first stage reports every tenth step.
    for stop_after in [5, 60] {
        let (fitted, saved) = fit(&pictures, &options, stop_after, None);
        assert_eq!(fitted.err().unwrap().class, Class::Interrupted);
        let (fitted, _) = fit(&pictures, &options, usize::MAX, saved);
        let resumed = write_file(&fitted.unwrap(), &pictures).unwrap();
        assert!(psnr(&pictures, &resumed) > psnr(&pictures, &whole) - 1.0, "{stop_after}");
        assert!(resumed.bytes.len() < whole.bytes.len() * 5 / 4, "{stop_after}");
    }
    let (_, saved) = fit(&pictures, &options, 5, None);
    let others = [picture(64, 56, 3)];
    let (_, of_codes) = fit(&pictures, &options, 60, None);
    assert!(fit(&others, &options, usize::MAX, of_codes).0.is_err(), "codes of another size");
    assert!(fit(&pictures, &options, usize::MAX, saved.map(|s| s[..s.len() - 1].to_vec())).0.is_err());
}
