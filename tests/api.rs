//! The front door under misuse: every option is obeyed, or refused by its name before the work starts.
#![cfg(feature = "fit")]
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tilefit::{Class, Decoder, Encoder, Error, Limits, Picture, Rect, Signal, Target, Tune};

fn picture(width: usize, height: usize, channels: usize) -> Picture {
    let sample = |i: usize| (128.0 + 90.0 * ((i / channels % width) as f32 * 0.3).sin() + (i % 7) as f32) as u8;
    Picture { width, height, channels, samples: (0..width * height * channels).map(sample).collect() }
}

/// The failure of an encoder that must not begin to work.
fn refused(encoder: Encoder, pictures: &[Picture]) -> Error {
    let encoder = encoder.progress(|_| panic!("the fit has begun"));
    let e = encoder.encode_group(pictures).expect_err("this must be refused");
    let text = e.to_string();
    assert!(!text.contains('\n') && !text.contains("--"), "one line, no flags: {text}");
    e
}

#[track_caller]
fn argument(encoder: Encoder, pictures: &[Picture], name: &str) {
    let e = refused(encoder, pictures);
    assert_eq!((e.class(), e.argument()), (Class::Argument, Some(name)), "{e}");
}

#[test]
fn options_that_make_no_sense() {
    let one = [picture(24, 16, 3)];
    for name in Encoder::models() {
        let new = || Encoder::new().model(name);
        argument(new().effort(0), &one, "effort");
        argument(new().effort(10), &one, "effort");
        for side in [1, 32, 100, 65536] {
            argument(new().tile(side), &one, "tile");
        }
        argument(new().threads(0), &one, "threads");
        argument(new().channels(0), &one, "channels");
        argument(new().channels(100_000), &one, "channels");
        for target in [
            Target::Quality(101.0),
            Target::Quality(f64::NAN),
            Target::Lambda(0.0),
            Target::Psnr(-3.0),
            Target::MsSsim(1.5),
            Target::Bpp(f64::INFINITY),
            Target::Size(0),
        ] {
            argument(new().target(target), &one, "target");
        }
        argument(new().resume(vec![1, 2, 3]), &one, "resume");
        assert_eq!(refused(new().max_memory(1000), &one).class(), Class::MemoryLimit);
    }
    argument(Encoder::new().model("none"), &one, "model");
    argument(Encoder::new().model("pyramid").channels(4), &one, "channels");
    argument(Encoder::new().model("pyramid").tune(Tune::Ssim), &one, "tune");
}

#[test]
fn pictures_that_make_no_sense() {
    for name in Encoder::models() {
        let new = || Encoder::new().model(name);
        argument(new(), &[], "pictures");
        for bad in [
            Picture { samples: vec![0; 5], ..picture(2, 2, 3) },
            Picture { width: 0, samples: Vec::new(), ..picture(2, 2, 1) },
            Picture { width: usize::MAX, ..picture(2, 2, 1) },
            picture(4, 4, 2),
            picture(4, 4, 4),
        ] {
            argument(new(), &[bad], "pictures");
        }
        argument(new(), &[picture(8, 8, 3), picture(8, 8, 1)], "pictures");
        argument(new().target(Target::MsSsim(0.9)), &[picture(10, 40, 1)], "target");
    }
}

/// The picture is far too large for the time: nothing begins.
#[test]
fn a_hopeless_time_limit() {
    let large = [picture(5000, 4000, 1)];
    let e = refused(Encoder::new().time_limit(Duration::from_millis(1)), &large);
    assert_eq!(e.class(), Class::Target);
    assert!(e.to_string().contains("the least takes"), "{e}");
}

/// However short the time: what comes out has begun to converge.
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
fn a_flag_of_another_thread_ends_a_fit() {
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

/// `threads` is obeyed: the callback runs in a pool of that many.
#[test]
fn threads_are_obeyed() {
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
fn a_plan_foretells_effort_and_memory() {
    let pictures = [picture(400, 300, 3)];
    let plan = |encoder: Encoder| encoder.plan(&pictures).unwrap();
    let free = plan(Encoder::new().effort(9));
    let hasty = plan(Encoder::new().effort(9).time_limit(Duration::from_secs(5)));
    assert_eq!(free.effort, 9);
    assert!(hasty.effort < 9 && hasty.time < free.time && hasty.memory <= free.memory);
    let now = Instant::now();
    assert!(Encoder::new().max_memory(free.memory - 1).effort(9).encode_group(&pictures).is_err());
    assert!(now.elapsed() < free.time / 4, "refused, not fitted");
}

#[test]
fn what_a_decoder_is_not_asked_for() {
    let encoded = Encoder::new().effort(1).encode(&picture(20, 10, 1)).unwrap();
    let decoder = Decoder::new(&encoded.bytes, Limits::default()).unwrap();
    let name = |e: Error| (e.class(), e.argument());
    assert_eq!(name(decoder.decode(1).unwrap_err()), (Class::Argument, Some("picture")));
    assert_eq!(name(decoder.decode_scaled(0, 9, None).unwrap_err()), (Class::Argument, Some("scale")));
    let outside = decoder.decode_region(0, Rect::new(0, 0, 21, 10));
    assert_eq!(name(outside.unwrap_err()), (Class::Argument, Some("region")));
    let few = decoder.decode_into(0, 0, None, &mut [0; 10]);
    assert_eq!(name(few.unwrap_err()), (Class::Argument, Some("out")));
}
