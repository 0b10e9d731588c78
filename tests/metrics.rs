//! Compares PSNR and MS-SSIM with the results of an independent implementation (numpy and scipy, f64).
#![cfg(feature = "cli")]

use std::path::Path;
use tilefit::cli::files::read_picture;
use tilefit::{metrics, Picture};

fn fixture(name: &str) -> Picture {
    read_picture(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name), &Default::default())
        .unwrap()
        .picture
}

fn check(a: &Picture, b: &Picture, psnr: f64, ms_ssim: f64) {
    let (p, m) = (metrics::psnr(a, b), metrics::ms_ssim(a, b).unwrap());
    assert!((p - psnr).abs() < 1e-8, "PSNR {p}, expected {psnr}");
    assert!((m - ms_ssim).abs() < 1e-8, "MS-SSIM {m}, expected {ms_ssim}");
}

#[test]
fn five_scales() {
    check(&fixture("text.png"), &fixture("text-coarse.png"), 12.707804504755671, 0.8673547262644861);
}

/// Small enough for only two scales, whose exponents are scaled to the sum of all five.
#[test]
fn small_picture() {
    check(&fixture("odd.png"), &fixture("odd-coarse.png"), 14.302745519087011, 0.7246861500038682);
}

/// The sides are odd at several scales.
#[test]
fn odd_sides() {
    let whole = fixture("nebula.png");
    let (width, height) = (257, 333);
    let row = |y: usize| &whole.samples[y * whole.width * 3..][..width * 3];
    let crop = Picture { width, height, format: whole.format, samples: (0..height).flat_map(row).copied().collect() };
    let coarse = Picture { samples: crop.samples.iter().map(|v| v / 16 * 16 + 8).collect(), ..crop.clone() };
    check(&crop, &coarse, 35.03099023044901, 0.9325662459215053);
}
