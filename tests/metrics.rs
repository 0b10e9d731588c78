//! Compares PSNR, MS-SSIM and SSIMULACRA2 with the results of independent implementations (numpy and scipy, f64).
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

/// A picture, a part of it whose sides are odd at several scales, and this part with coarse samples.
fn odd_nebula() -> (Picture, Picture, Picture) {
    let whole = fixture("nebula.png");
    let (width, height) = (257, 333);
    let row = |y: usize| &whole.samples[y * whole.width * 3..][..width * 3];
    let crop = Picture { width, height, format: whole.format, samples: (0..height).flat_map(row).copied().collect() };
    let coarse = Picture { samples: crop.samples.iter().map(|v| v / 16 * 16 + 8).collect(), ..crop.clone() };
    (whole, crop, coarse)
}

/// The sides are odd at several scales.
#[test]
fn odd_sides() {
    let (_, crop, coarse) = odd_nebula();
    check(&crop, &coarse, 35.03099023044901, 0.9325662459215053);
}

/// SSIMULACRA2 of two independent implementations: a plain one in f64 with the blur of the reference (`exact`), and the crate
/// `ssimulacra2` 0.5.1, whose recursive blur in f32 is off by some hundredths.
fn check_ssimulacra2(a: &Picture, b: &Picture, exact: Option<f64>, by_crate: f64) {
    let own = metrics::ssimulacra2(a, b).unwrap();
    assert!(exact.is_none_or(|v| (own - v).abs() < 2e-3), "{own}, expected {exact:?}");
    assert!((own - by_crate).abs() < 0.03, "{own}, expected {by_crate}");
}

#[test]
fn ssimulacra2() {
    let (whole, cut, coarse) = odd_nebula();
    check_ssimulacra2(&cut, &coarse, Some(5.939102), 5.946190);
    check_ssimulacra2(&whole, &whole, Some(100.0), 100.0);
    // The coarsest scales have fewer than 8 rows; the plain implementation leaves them out.
    check_ssimulacra2(&fixture("odd.png"), &fixture("odd-coarse.png"), None, 34.261622);
    check_ssimulacra2(&fixture("text.png"), &fixture("text-coarse.png"), None, -38.371480);
}

/// At equal quality a picture of 16 bits has the score of one of 8 bits, and grey that of three equal channels.
#[test]
fn ssimulacra2_of_other_formats() {
    let (_, cut, coarse) = odd_nebula();
    let score = |a: &Picture, b: &Picture| metrics::ssimulacra2(a, b).unwrap();
    let deep = |p: &Picture| p.clone().with_depth(16);
    assert!((score(&deep(&cut), &deep(&coarse)) - score(&cut, &coarse)).abs() < 1e-3);
    let grey = |p: &Picture| {
        let samples: Vec<u8> = p.samples.iter().step_by(3).map(|s| *s as u8).collect();
        let rgb: Vec<u8> = samples.iter().flat_map(|s| [*s; 3]).collect();
        [(1, samples), (3, rgb)].map(|(n, s)| Picture::from_u8(p.width, p.height, n, &s))
    };
    let ([one, three], [coarse_one, coarse_three]) = (grey(&cut), grey(&coarse));
    assert_eq!(score(&one, &coarse_one), score(&three, &coarse_three));
    assert_eq!(score(&one, &coarse_three), score(&three, &coarse_one));
    let tiny = Picture::from_u8(20, 7, 1, &[0; 140]);
    assert_eq!(metrics::ssimulacra2(&tiny, &tiny), None);
}
