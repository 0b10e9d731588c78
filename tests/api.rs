//! The public interface: invalid options are errors that name the option, before the fit starts; valid ones have their effect.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tilefit::{Class, Decoder, Encoder, Error, Limits, Picture, Rect, Signal, Target, Tune};

fn picture(width: usize, height: usize, channels: usize) -> Picture {
    let sample = |i: usize| (128.0 + 90.0 * ((i / channels % width) as f32 * 0.3).sin() + (i % 7) as f32) as u8;
    Picture::from_u8(width, height, channels, &(0..width * height * channels).map(sample).collect::<Vec<u8>>())
}

/// The error of an encode that must fail before its first step.
fn error_before_fit(encoder: Encoder, pictures: &[Picture]) -> Error {
    let encoder = encoder.progress(|_| panic!("the fit has started"));
    let e = encoder.encode_group(pictures).expect_err("an error is expected");
    let text = e.to_string();
    assert!(!text.contains('\n') && !text.contains("--"), "expected one line without flags: {text}");
    e
}

#[track_caller]
fn assert_invalid(encoder: Encoder, pictures: &[Picture], name: &str) {
    let e = error_before_fit(encoder, pictures);
    assert_eq!((e.class(), e.argument()), (Class::Argument, Some(name)), "{e}");
}

#[test]
fn invalid_options_are_errors() {
    let one = [picture(24, 16, 3)];
    for name in Encoder::models() {
        let new = || Encoder::new().model(name);
        assert_invalid(new().effort(0), &one, "effort");
        assert_invalid(new().effort(10), &one, "effort");
        for side in [1, 32, 100, 65536] {
            assert_invalid(new().tile(side), &one, "tile");
        }
        assert_invalid(new().threads(0), &one, "threads");
        assert_invalid(new().stop(&AtomicBool::new(false), Signal::GoOn), &one, "stop");
        assert_invalid(new().channels(0), &one, "channels");
        assert_invalid(new().alpha_quality(100.5), &one, "alpha_quality");
        assert_invalid(new().alpha_quality(-1.0), &one, "alpha_quality");
        assert_invalid(new().channels(100_000), &one, "channels");
        for target in [
            Target::Quality(101.0),
            Target::Quality(f64::NAN),
            Target::Lambda(0.0),
            Target::Psnr(-3.0),
            Target::MsSsim(1.5),
            Target::Bpp(f64::INFINITY),
            Target::Size(0),
        ] {
            assert_invalid(new().target(target), &one, "target");
        }
        assert_invalid(new().resume(vec![1, 2, 3]), &one, "resume");
        assert_eq!(error_before_fit(new().max_memory(1000), &one).class(), Class::MemoryLimit);
    }
    assert_invalid(Encoder::new().model("none"), &one, "model");
    assert_invalid(Encoder::new().model("pyramid").channels(4), &one, "channels");
    assert_invalid(Encoder::new().model("pyramid").tune(Tune::Ssim), &one, "tune");
}

#[test]
fn invalid_pictures_are_errors() {
    for name in Encoder::models() {
        let new = || Encoder::new().model(name);
        assert_invalid(new(), &[], "pictures");
        for bad in [
            Picture { samples: vec![0; 5], ..picture(2, 2, 3) },
            Picture { width: 0, samples: Vec::new(), ..picture(2, 2, 1) },
            Picture { width: usize::MAX, ..picture(2, 2, 1) },
            picture(4, 4, 17),
            Picture { samples: vec![256; 4], ..picture(2, 2, 1) },
        ] {
            assert_invalid(new(), &[bad], "pictures");
        }
        assert_invalid(new(), &[picture(8, 8, 3), picture(8, 8, 1)], "pictures");
        assert_invalid(new().target(Target::MsSsim(0.9)), &[picture(10, 40, 1)], "target");
    }
}

/// The picture is far too large for the time limit: the fit does not start.
#[test]
fn a_time_limit_too_short_for_any_result_is_an_error() {
    let large = [picture(5000, 4000, 1)];
    let e = error_before_fit(Encoder::new().time_limit(Duration::from_millis(1)), &large);
    assert_eq!(e.class(), Class::Target);
    assert!(e.to_string().contains("the shortest fit takes"), "{e}");
}

/// Even without any time the minimum steps are made, so that the result has begun to converge.
#[test]
fn a_short_time_limit_still_gives_a_result() {
    let small = picture(64, 48, 3);
    for name in Encoder::models() {
        let encoded = Encoder::new().model(name).effort(9).time_limit(Duration::ZERO).encode(&small).unwrap();
        assert_eq!(encoded.report.effort, 1);
        assert!(encoded.report.steps < encoded.report.planned_steps, "{name}");
        assert!(encoded.report.psnr > 22.0, "{name}: {} dB", encoded.report.psnr);
    }
}

#[test]
fn a_stop_flag_ends_a_fit() {
    let small = picture(48, 32, 1);
    let stop = AtomicBool::new(false);
    let raise = |at: u64| {
        let stop = &stop;
        move |p: &tilefit::Progress| {
            if p.step == at {
                stop.store(true, Ordering::Relaxed);
            }
            Signal::GoOn
        }
    };
    let e = Encoder::new().progress(raise(3)).stop(&stop, Signal::Cancel).encode(&small).unwrap_err();
    assert_eq!(e.class(), Class::Cancelled);
    stop.store(false, Ordering::Relaxed);
    let encoded = Encoder::new().progress(raise(3)).stop(&stop, Signal::Finish).encode(&small).unwrap();
    assert!(encoded.report.steps < encoded.report.planned_steps);
    assert!(Decoder::new(&encoded.bytes, Limits::default()).is_ok());
}

/// The callback runs in a pool with the requested number of threads.
#[test]
fn the_fit_uses_the_requested_threads() {
    for threads in [1, 3] {
        let mut seen = 0;
        let count = |_: &tilefit::Progress| {
            seen = rayon::current_num_threads();
            Signal::Finish
        };
        Encoder::new().effort(1).threads(threads).progress(count).encode(&picture(16, 16, 1)).unwrap();
        assert_eq!(seen, threads);
    }
}

#[test]
fn a_plan_gives_effort_time_and_memory() {
    let pictures = [picture(400, 300, 3)];
    // By default a picture for which there is less memory gets a distortion that takes less.
    let new = || Encoder::new().tune(Tune::Psnr);
    let plan = |encoder: Encoder| encoder.plan(&pictures).unwrap();
    let unlimited = plan(new().effort(9));
    let limited = plan(new().effort(9).time_limit(Duration::from_secs(5)));
    assert_eq!(unlimited.effort, 9);
    assert!(limited.effort < 9 && limited.time < unlimited.time && limited.memory <= unlimited.memory);
    let now = Instant::now();
    assert!(new().max_memory(unlimited.memory - 1).effort(9).encode_group(&pictures).is_err());
    assert!(now.elapsed() < unlimited.time / 4, "the error comes before the fit");
}

#[test]
fn invalid_arguments_of_a_decoder_are_errors() {
    let encoded = Encoder::new().effort(1).encode(&picture(20, 10, 1)).unwrap();
    let decoder = Decoder::new(&encoded.bytes, Limits::default()).unwrap();
    let name = |e: Error| (e.class(), e.argument());
    assert_eq!(name(decoder.decode(1).unwrap_err()), (Class::Argument, Some("picture")));
    assert_eq!(name(decoder.decode_scaled(0, 9, None).unwrap_err()), (Class::Argument, Some("scale")));
    let outside = decoder.decode_region(0, Rect::new(0, 0, 21, 10));
    assert_eq!(name(outside.unwrap_err()), (Class::Argument, Some("region")));
    let too_short = decoder.decode_into(0, 0, None, &mut [0u8; 10]);
    assert_eq!(name(too_short.unwrap_err()), (Class::Argument, Some("out")));
}
