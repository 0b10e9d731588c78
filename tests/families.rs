//! Every family from pictures to files and back, through the front door: targets, groups, tiles, grey, f16 weights, the
//! smallest pictures, other distortions, seeds and threads, checkpoints.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use std::sync::Mutex;
use tilefit::{metrics, Class, Decoder, Encoded, Encoder, Limits, Picture, Rect, Signal, Target, Tune, WeightCoding};
use tilefit_testing::Noise;

/// Each test for the family of this name.
macro_rules! tests {
    ($family:ident: $($test:ident)*) => {
        $(#[test]
        fn $test() {
            super::$test(stringify!($family));
        })*
    };
}

macro_rules! families {
    ($($family:ident)*) => {
        $(mod $family {
            tests! {
                $family: targets_are_kept a_group_keeps_its_target groups_and_grey tiles_have_no_seams plain_weights
                    smallest_pictures distortions_serve_their_measure same_seed_same_file cancelled_fits_go_on
            }
        })*
        const FAMILIES: &[&str] = &[$(stringify!($family)),*];
    };
}

families!(pyramid gdn hyperprior);

#[test]
fn no_family_is_left_out() {
    assert_eq!(FAMILIES, Encoder::models());
}

/// Waves, an edge and a little noise.
fn picture(width: usize, height: usize, channels: usize) -> Picture {
    let mut noise = Noise::new(1);
    let mut sample = |i: usize| {
        let (x, y, c) = (i / channels % width, i / channels / width, i % channels);
        let wave = 60.0 * (x as f32 * 0.19 + c as f32).sin() * (y as f32 * 0.13).cos();
        let edge = if x + y > 50 { 30.0 } else { -30.0 };
        (128.0 + wave + edge + noise.below(8) as f32) as u8
    };
    let samples: Vec<u8> = (0..width * height * channels).map(&mut sample).collect();
    Picture::from_u8(width, height, channels, &samples)
}

/// The fastest encoder of the family, for the mean squared error.
fn encoder<'a>(family: &str, target: Target) -> Encoder<'a> {
    let new = || Encoder::new().model(family).target(target).tune(Tune::Psnr).effort(1).threads(2).seed(5);
    let few = new().channels(4);
    // Not every family has a choice of channels.
    if few.check().is_ok() {
        few
    } else {
        new()
    }
}

fn decoded(encoded: &Encoded) -> Vec<Picture> {
    let decoder = Decoder::new(&encoded.bytes, Limits::default()).expect("a file");
    (0..decoder.pictures().len()).map(|i| decoder.decode(i).expect("a picture")).collect()
}

/// The least PSNR of any picture.
fn psnr(pictures: &[Picture], encoded: &Encoded) -> f64 {
    let each = pictures.iter().zip(decoded(encoded)).map(|(a, b)| metrics::psnr(a, &b));
    each.fold(f64::INFINITY, f64::min)
}

/// The mean MS-SSIM of all pictures.
fn ms_ssim(pictures: &[Picture], encoded: &Encoded) -> f64 {
    let each = pictures.iter().zip(decoded(encoded)).map(|(a, b)| metrics::ms_ssim(a, &b).unwrap());
    each.sum::<f64>() / pictures.len() as f64
}

fn targets_are_kept(family: &str) {
    let pictures = [picture(96, 64, 3)];
    let file = |target| encoder(family, target).encode_group(&pictures).expect("a file");
    let free = file(Target::Lambda(1e-3));
    let (db, bytes) = (psnr(&pictures, &free), free.bytes.len());
    assert!(db > 25.0, "{db}");
    assert!(psnr(&pictures, &file(Target::Psnr(db - 1.5))) >= db - 1.5);
    let limit = bytes as u64 * 4 / 5;
    let got = file(Target::Size(limit));
    assert!(got.bytes.len() as u64 <= limit, "{} of {limit}", got.bytes.len());
    let bpp = 8.0 * 0.8 * bytes as f64 / (96.0 * 64.0);
    assert!(8.0 * file(Target::Bpp(bpp)).bytes.len() as f64 / (96.0 * 64.0) <= bpp);
    let wanted = 1.0 - 2.0 * (1.0 - ms_ssim(&pictures, &free));
    assert!(ms_ssim(&pictures, &file(Target::MsSsim(wanted))) >= wanted);
    let score = metrics::ssimulacra2(&pictures[0], &decoded(&free)[0]).unwrap() - 15.0;
    let got = file(Target::Ssimulacra2(score));
    assert!(metrics::ssimulacra2(&pictures[0], &decoded(&got)[0]).unwrap() >= score);
    let out_of_reach = encoder(family, Target::Size(40)).encode_group(&pictures).unwrap_err();
    assert_eq!(out_of_reach.class(), Class::Target);
}

/// A group's MS-SSIM is the mean over its pictures, for the target as for the report.
fn a_group_keeps_its_target(family: &str) {
    let group = [picture(120, 90, 3), picture(33, 61, 3), picture(16, 16, 3)];
    let free = encoder(family, Target::Lambda(1e-3)).encode_group(&group).unwrap();
    assert!((ms_ssim(&group, &free) - free.report.ms_ssim.unwrap()).abs() < 1e-9);
    // Far below: a fit this short hardly gains quality after its first stage, whose lambda is a guess from the target.
    let wanted = 1.0 - 4.0 * (1.0 - ms_ssim(&group, &free));
    let got = encoder(family, Target::MsSsim(wanted)).encode_group(&group).unwrap();
    let (now, bytes) = (ms_ssim(&group, &got), [got.bytes.len(), free.bytes.len()]);
    assert!(now >= wanted && bytes[0] < bytes[1], "{now} of {wanted}, bytes {bytes:?}");
}

fn groups_and_grey(family: &str) {
    let group = [picture(80, 56, 3), picture(33, 61, 3), picture(8, 8, 3)];
    let encoded = encoder(family, Target::Lambda(1e-3)).encode_group(&group).unwrap();
    assert!(psnr(&group, &encoded) > 20.0);
    let sizes = |p: &[Picture]| -> Vec<_> { p.iter().map(|p| (p.width, p.height, p.format.channels)).collect() };
    assert_eq!(sizes(&decoded(&encoded)), sizes(&group));
    let grey = [picture(70, 50, 1)];
    let encoded = encoder(family, Target::Lambda(1e-3)).encode_group(&grey).unwrap();
    assert!(psnr(&grey, &encoded) > 24.0);
    assert_eq!(sizes(&decoded(&encoded)), sizes(&grey));
}

/// Tiles change what the file costs, not what it decodes to; regions across their borders are those of the whole.
fn tiles_have_no_seams(family: &str) {
    let group = [picture(150, 90, 3), picture(65, 64, 3)];
    let file = |tile| encoder(family, Target::Lambda(1e-3)).tile(tile).encode_group(&group).unwrap();
    let (whole, tiled) = (file(0), file(64));
    let decoder = Decoder::new(&tiled.bytes, Limits::default()).unwrap();
    assert_eq!((decoder.info().tile, decoder.info().tiles), (64, 6 + 2));
    assert!((psnr(&group, &whole) - psnr(&group, &tiled)).abs() < 0.5);
    for (i, picture) in decoded(&tiled).iter().enumerate() {
        let region = Rect::new(60, 30, picture.width.min(131), picture.height.min(70));
        let part = decoder.decode_region(i, region).unwrap();
        for y in 0..part.height {
            let row = 3 * ((region.y0 + y) * picture.width + region.x0);
            let want = &picture.samples[row..row + 3 * part.width];
            assert_eq!(&part.samples[3 * y * part.width..][..3 * part.width], want, "picture {i}, row {y}");
        }
    }
}

fn plain_weights(family: &str) {
    let pictures = [picture(70, 50, 1)];
    let file = |weights| encoder(family, Target::Lambda(1e-3)).weights(weights).encode_group(&pictures).unwrap();
    let (coded, plain) = (file(WeightCoding::Coded), file(WeightCoding::F16));
    assert!(psnr(&pictures, &plain) > psnr(&pictures, &coded) - 0.5);
    assert!(plain.report.weights_bytes > 2 * coded.report.weights_bytes);
}

fn smallest_pictures(family: &str) {
    for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 3)] {
        let pictures = [picture(width, height, 3)];
        // With the channels of the family's own choice.
        let encoder = Encoder::new().model(family).target(Target::Quality(60.0)).effort(1);
        let encoded = encoder.encode_group(&pictures).unwrap();
        let back = &decoded(&encoded)[0];
        assert_eq!((back.width, back.height), (width, height));
        assert!(psnr(&pictures, &encoded) > 15.0, "{width}x{height}");
    }
}

/// Texture whose contrast falls from left to right: structural distortions care for all of it, MSE for the strong alone.
fn contrasts(width: usize, height: usize) -> Picture {
    let mut noise = Noise::new(1);
    let mut sample = |i: usize| {
        let (x, y) = ((i % width) as f32, (i / width) as f32);
        let contrast = 2f32.powf(6.5 - 6.0 * x / width as f32);
        let wave = (0.9 * x).sin() * (0.7 * y + (0.1 * x).cos()).cos();
        (128.0 + contrast * (wave + 0.6 * (noise.unit() as f32 - 0.5))) as u8
    };
    Picture::from_u8(width, height, 1, &(0..width * height).map(&mut sample).collect::<Vec<u8>>())
}

/// A file is the best by the loss that was minimised.
fn distortions_serve_their_measure(family: &str) {
    let pictures = [contrasts(96, 64)];
    let lambda = 3e-4;
    let new = |tune| encoder(family, Target::Lambda(lambda)).tune(tune);
    let plain = new(Tune::Psnr).encode_group(&pictures).unwrap();
    let mse = |e: &Encoded| 10f64.powf(-0.1 * psnr(&pictures, e));
    // In MSE of samples in [0, 1], to which `Tune` scales the other measures.
    let rate = |e: &Encoded| lambda * 8.0 * e.bytes.len() as f64 / pictures[0].pixels() as f64;
    let by_error = |e: &Encoded| mse(e) + rate(e);
    let by_structure = |e: &Encoded| 0.3 * mse(e) + 0.02 * (1.0 - ms_ssim(&pictures, e)) + rate(e);
    let by_eye = |e: &Encoded| {
        let errors = metrics::ssimulacra2::sum_of(metrics::ssimulacra2(&pictures[0], &decoded(e)[0]).unwrap());
        0.3 * mse(e) + 1e-4 * errors.powf(0.8) + rate(e)
    };
    for tune in [Tune::Ssim, Tune::MsSsim, Tune::Visual] {
        if let Err(e) = new(tune).check() {
            assert_eq!((e.class(), e.argument()), (Class::Argument, Some("tune")), "{e}");
            continue;
        }
        let tuned = new(tune).encode_group(&pictures).unwrap();
        let by_measure = |e: &Encoded| if tune == Tune::Visual { by_eye(e) } else { by_structure(e) };
        assert!(by_measure(&tuned) < by_measure(&plain), "{tune:?}");
        assert!(by_error(&plain) < by_error(&tuned), "{tune:?}");
    }
}

fn same_seed_same_file(family: &str) {
    let pictures = [picture(61, 40, 3)];
    let run = |threads, seed| {
        let encoder = encoder(family, Target::Lambda(2e-3)).threads(threads).seed(seed);
        encoder.encode_group(&pictures).unwrap().bytes
    };
    assert_eq!(run(1, 5), run(3, 5));
    assert_ne!(run(2, 5), run(2, 6));
}

/// A cancelled fit saves a state in any stage, and goes on from there to a file like that of one run.
fn cancelled_fits_go_on(family: &str) {
    let pictures = [picture(64, 48, 3)];
    let new = || encoder(family, Target::Lambda(1e-3));
    let loss = |e: &Encoded| {
        let rate = 1e-3 * 8.0 * e.bytes.len() as f64 / pictures[0].pixels() as f64;
        10f64.powf(-0.1 * psnr(&pictures, e)) + rate
    };
    let whole = new().encode_group(&pictures).unwrap();
    let steps = whole.report.planned_steps;
    for at in [steps / 8, steps * 3 / 4] {
        let saved = Mutex::new(Vec::new());
        let encoded = new()
            .progress(|p| if p.step >= at { Signal::Cancel } else { Signal::GoOn })
            .checkpoint(|state| *saved.lock().unwrap() = state.to_vec())
            .encode_group(&pictures);
        assert_eq!(encoded.unwrap_err().class(), Class::Cancelled);
        let saved = saved.into_inner().unwrap();
        let mut first = None;
        let resumed = new().resume(saved.clone()).progress(|p| {
            first.get_or_insert(p.step);
            Signal::GoOn
        });
        let resumed = resumed.encode_group(&pictures).unwrap();
        assert!(first.is_some_and(|step| (at..at + 5).contains(&step)), "{first:?} after {at} of {steps}");
        // Other seeds differ by up to 40 % on a picture as small as this one.
        assert!(loss(&resumed) < 1.5 * loss(&whole), "{} of {}", loss(&resumed), loss(&whole));
        let others = [picture(64, 56, 3)];
        assert_eq!(new().resume(saved.clone()).encode_group(&others).unwrap_err().argument(), Some("resume"));
        let cut = saved[..saved.len() - 1].to_vec();
        assert_eq!(new().resume(cut).encode_group(&pictures).unwrap_err().argument(), Some("resume"));
    }
}
