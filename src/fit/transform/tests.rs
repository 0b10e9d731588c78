//! The stages by themselves, with the rate of family `gdn`.

use super::*;
use crate::fit::gdn::GdnRate;
use crate::fit::Tune;
use crate::models::gdn::spec;

fn waves(width: usize, height: usize) -> Picture {
    let sample = |i: usize| {
        let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
        (128.0 + 90.0 * (x as f32 * 0.17 + c as f32).sin() * (y as f32 * 0.11 + 0.3).cos()) as u8
    };
    Picture::from_u8(width, height, 3, &(0..3 * width * height).map(sample).collect::<Vec<u8>>())
}

/// The steady state of both stages allocates nothing: memory grows in the first steps alone.
#[test]
fn steps_allocate_nothing() {
    let pictures = [waves(200, 150)];
    let (shape, lambda) = (spec(4, 3), 1e-3);
    // One thread, this one: the counter counts a thread's.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    pool.install(|| {
        for tune in [Tune::Psnr, Tune::MsSsim] {
            let mut rate = GdnRate::new(4);
            let mut net =
                Net::new(shape, &rate, &Bands::new(&pictures, spec).plan(lambda, Some(4)).order, 0.5, lambda, 1);
            let mut trainer = Trainer::<GdnRate>::new(&net);
            let mut count = |net: &mut Net, steps: std::ops::Range<u64>| {
                let mut run = |k| {
                    trainer.step(net, &mut rate, &pictures, tune, lambda, 1, k, 0.5);
                };
                allocation_counter::measure(|| steps.for_each(&mut run)).count_total
            };
            assert!(count(&mut net, 0..3) > 0, "the counter counts");
            assert_eq!(count(&mut net, 3..9), 0, "{tune:?}, first stage");

            let codes = train::analyse(&mut net, &mut trainer.workers, &pictures);
            let (mut refiner, workers) = (Refiner::new(&net, &rate, &pictures, codes), &mut trainer.workers);
            refiner.choose_steps(&mut net, workers, &pictures, tune, lambda);
            let mut count = |steps: std::ops::Range<u64>| {
                let mut run = |k| {
                    refiner.step(&mut net, &mut rate, workers, &pictures, tune, lambda, 1, k, 0.5);
                };
                allocation_counter::measure(|| steps.for_each(&mut run)).count_total
            };
            count(0..3);
            assert_eq!(count(3..9), 0, "{tune:?}, second stage");
        }
    });
}

/// The rounding of weights, of which the last steps know, costs less than 0.1 dB.
#[test]
fn rounded_weights_lose_little() {
    let pictures = [waves(96, 64)];
    let (shape, lambda) = (spec(6, 3), 5e-4);
    let mut rate = GdnRate::new(6);
    let mut net = Net::new(shape, &rate, &Bands::new(&pictures, spec).plan(lambda, Some(6)).order, 0.5, lambda, 1);
    let mut trainer = Trainer::<GdnRate>::new(&net);
    for k in 0..300 {
        trainer.step(&mut net, &mut rate, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 300.0);
    }
    let codes = train::analyse(&mut net, &mut trainer.workers, &pictures);
    let mut refiner = Refiner::new(&net, &rate, &pictures, codes);
    let workers = &mut trainer.workers;
    refiner.choose_steps(&mut net, workers, &pictures, Tune::Psnr, lambda);
    for k in 0..150 {
        refiner.step(&mut net, &mut rate, workers, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 150.0);
    }
    let psnr = |net: &mut Net, workers: &mut workers::Workers<_>| {
        net.prepare(net::SYNTHESIS);
        -10.0 * refiner.distortion(net, workers, &pictures, Tune::Psnr, &[0]).mse().log10()
    };
    let rounded = psnr(&mut net, workers);
    net.exponents = None;
    let float = psnr(&mut net, workers);
    assert!(rounded > 28.0 && rounded > float - 0.1, "{rounded} dB, with float weights {float} dB");
}
