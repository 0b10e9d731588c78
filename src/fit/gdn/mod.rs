//! Family `gdn`: analysis, synthesis and density are learned on patches of the pictures; then the codes that one
//! pass of the analysis gives are moved directly, with the synthesis, until they cost least.

mod bands;
mod checkpoint;
mod net;
mod rate;
mod refine;
mod search;
mod train;
mod wavelet_start;
mod workers;

use super::target::{LambdaControl, Measured};
use super::water_filling::Spectrum;
use super::{FitOptions, Fitted, Monitor, Progress, Target};
use crate::error::{Class, Error, Result};
use crate::image::Picture;
use crate::models::gdn::{GdnSpec, MAX_CHANNELS};
use bands::Bands;
use checkpoint::State;
use net::Net;
use refine::Refiner;
use search::Search;
use std::sync::atomic::Ordering;
use std::time::Instant;
use train::Trainer;

/// Steps of the two stages at effort 1; half as many again for each level.
const STEPS: [f64; 2] = [240.0, 120.0];
/// Share of a deadline that the first stage takes, and at which the second ends.
const TRAIN_SHARE: f64 = 0.35;
const REFINE_SHARE: f64 = 0.95;
/// The same where a target may need touching up.
const TOUCH_UP_SHARE: f64 = 0.75;
/// Lambda stays within this factor in the first stage, whose noise is not yet rounding.
const FIRST_MOVE: f64 = 1.6;

/// How far the bands may take the first lambda from that of an ideal code: what few channels cannot reach, no lambda can.
const PLAN_MOVE: f64 = 4.0;

/// What ends a stage: its steps, or its share of the time.
struct Clock {
    start: Instant,
    steps: u64,
    until: Option<Instant>,
}

impl Clock {
    fn new(steps: u64, until: Option<Instant>) -> Self {
        Clock { start: Instant::now(), steps, until }
    }

    fn progress(&self, step: u64) -> f32 {
        let by_steps = step as f64 / self.steps.max(1) as f64;
        let by_time = self.until.map_or(0.0, |until| {
            let all = until.saturating_duration_since(self.start).as_secs_f64();
            if all > 0.0 {
                self.start.elapsed().as_secs_f64() / all
            } else {
                1.0
            }
        });
        by_steps.max(by_time) as f32
    }
}

/// Seconds between two checkpoints.
const SAVE_EVERY: f64 = 20.0;

/// Saves now and then, and before an interrupted fit ends.
fn keep(monitor: &mut Monitor, saved: &mut Instant, state: impl FnOnce() -> State) -> Result<()> {
    let stop = monitor.stop.load(Ordering::Relaxed);
    if stop || saved.elapsed().as_secs_f64() > SAVE_EVERY {
        (monitor.save)(&state().write());
        *saved = Instant::now();
    }
    match stop {
        true => Err(Error::new(Class::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

fn state(net: &Net, step: u64, lambda: f64, codes: Vec<Vec<f32>>) -> State {
    State {
        channels: net.spec.n as u32,
        step,
        lambda,
        exponents: net.exponents.clone().unwrap_or_default(),
        parameters: net.parameters.clone(),
        codes,
    }
}

/// What weights cost in bytes before their steps are chosen.
fn weight_bytes(spec: &GdnSpec) -> f64 {
    0.3 * spec.weights_count() as f64
}

/// See [`FitFn`](super::FitFn).
pub fn fit(pictures: &[Picture], options: &FitOptions, monitor: &mut Monitor) -> Result<Fitted> {
    let pixels: usize = pictures.iter().map(Picture::pixels).sum();
    let mut control = LambdaControl::new(options, pixels, || Spectrum::new(pictures));
    let resumed = monitor.resume.take().map(|b| State::read(&b)).transpose()?;
    let given = resumed.as_ref().map(|r| r.channels as usize).or(options.channels);
    let bands = Bands::new(pictures);
    let planned = match options.target {
        Target::Psnr(db) => Some(bands.solve(given, db, |p| -10.0 * p.mse.log10())),
        Target::Bpp(bpp) => Some(bands.solve(given, bpp, |p| p.bpp)),
        Target::Size(bytes) => Some(bands.solve(given, 8.0 * bytes as f64 / pixels as f64, |p| p.bpp)),
        Target::Quality(_) | Target::Lambda(_) | Target::MsSsim(_) => None,
    };
    if let Some(planned) = planned {
        let (least, most) = (control.lambda() / PLAN_MOVE, control.lambda() * PLAN_MOVE);
        control.set_lambda(planned.clamp(least, most));
    }
    if let Some(r) = &resumed {
        control.set_lambda(r.lambda);
    }
    let plan = bands.plan(control.lambda(), given);
    let n = plan.n;
    if !(1..=MAX_CHANNELS).contains(&n) {
        return Err(Error::new(Class::Usage, format!("{n} channels: 1 to {MAX_CHANNELS} are possible")));
    }
    let spec = GdnSpec::new(n, pictures[0].channels);
    let moves = options.target.moves();
    let growth = 1.5f64.powi(options.effort as i32 - 1);
    let [train_steps, refine_steps] = STEPS.map(|s| (s * growth) as u64);
    let begin = Instant::now();
    let share = |s: f64| options.deadline.map(|d| begin + d.saturating_duration_since(begin).mul_f64(s));

    let samples: u64 = pictures[0].samples.iter().map(|&s| u64::from(s)).sum();
    let mean = samples as f32 / pictures[0].samples.len() as f32 / 255.0;
    let first_lambda = control.lambda();
    let mut net = Net::new(spec, &plan.order, mean, first_lambda, options.seed);
    let mut start = 0;
    if let Some(r) = &resumed {
        let sizes = pictures.iter().map(|p| n * net::grid_of(p).0 * net::grid_of(p).1);
        let fits = r.codes.is_empty() || sizes.eq(r.codes.iter().map(Vec::len));
        if r.parameters.len() != net.parameters.len() || !fits {
            return Err(Error::format("the checkpoint is of other pictures: start without --resume"));
        }
        net.parameters.copy_from_slice(&r.parameters);
        start = r.step;
    }
    let resumed = resumed.map(|r| (r.exponents, r.codes)).filter(|(_, codes)| !codes.is_empty());
    let mut saved = Instant::now();
    let mut trainer = Trainer::new(&net);
    let clock = Clock::new(train_steps, share(TRAIN_SHARE));
    let (mut step, mut mse, mut bpp) = (if resumed.is_some() { train_steps } else { start }, 0.0, 0.0);
    let all = train_steps + refine_steps;
    loop {
        let progress = clock.progress(step);
        if progress >= 1.0 {
            break;
        }
        keep(monitor, &mut saved, || state(&net, step, control.lambda(), Vec::new()))?;
        let now = trainer.step(&mut net, pictures, options.tune, control.lambda(), options.seed, step, progress);
        let fade = if mse == 0.0 { 1.0 } else { 0.02 };
        mse += fade * (now.mse - mse);
        bpp += fade * (now.bpp - bpp);
        let m = Measured {
            psnr: -10.0 * mse.log10(),
            ms_ssim: 0.0,
            bytes: bpp * pixels as f64 / 8.0 + weight_bytes(&spec),
        };
        if moves && step % 50 == 49 && progress > 0.3 && !matches!(options.target, Target::MsSsim(_)) {
            control.follow(&m, 0.2);
            control.set_lambda(control.lambda().clamp(first_lambda / FIRST_MOVE, first_lambda * FIRST_MOVE));
        }
        step += 1;
        if step % 10 == 0 {
            (monitor.report)(Progress { step, steps: all, psnr: m.psnr, bytes: m.bytes });
        }
    }

    let mut k = 0;
    let (team, refiner) = if let Some((exponents, codes)) = resumed {
        net.exponents = (!exponents.is_empty()).then_some(exponents);
        k = start;
        let refiner = Refiner::new(&net, pictures, codes);
        (trainer.team, refiner)
    } else {
        let codes = train::analyse(&mut net, &mut trainer.team, pictures);
        let mut refiner = Refiner::new(&net, pictures, codes);
        refiner.sort_channels(&mut net);
        refiner.update_rates(n);
        (trainer.team, refiner)
    };
    let end = if moves { TOUCH_UP_SHARE } else { REFINE_SHARE };
    let clock = Clock::new(refine_steps, share(end));
    let mut search = Search::new(net, team, refiner, pictures, options, control);
    (search.before, search.all, search.late) = (step, all, share(REFINE_SHARE));
    search.run(k, &clock, monitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Tune;

    fn waves(width: usize, height: usize) -> Picture {
        let sample = |i: usize| {
            let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
            (128.0 + 90.0 * (x as f32 * 0.17 + c as f32).sin() * (y as f32 * 0.11 + 0.3).cos()) as u8
        };
        Picture { width, height, channels: 3, samples: (0..3 * width * height).map(sample).collect() }
    }

    /// The steady state of both stages allocates nothing: memory grows in the first steps alone.
    #[test]
    fn steps_allocate_nothing() {
        let pictures = [waves(200, 150)];
        let (spec, lambda) = (GdnSpec::new(4, 3), 1e-3);
        // One thread, this one: the counter counts a thread's.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
        pool.install(|| {
            for tune in [Tune::Psnr, Tune::MsSsim] {
                let mut net = Net::new(spec, &Bands::new(&pictures).plan(lambda, Some(4)).order, 0.5, lambda, 1);
                let mut trainer = Trainer::new(&net);
                let mut count = |net: &mut Net, steps: std::ops::Range<u64>| {
                    let mut run = |k| {
                        trainer.step(net, &pictures, tune, lambda, 1, k, 0.5);
                    };
                    allocation_counter::measure(|| steps.for_each(&mut run)).count_total
                };
                assert!(count(&mut net, 0..3) > 0, "the counter counts");
                assert_eq!(count(&mut net, 3..9), 0, "{tune:?}, first stage");

                let codes = train::analyse(&mut net, &mut trainer.team, &pictures);
                let (mut refiner, team) = (Refiner::new(&net, &pictures, codes), &mut trainer.team);
                refiner.choose_steps(&mut net, team, &pictures, tune, lambda);
                let mut count = |steps: std::ops::Range<u64>| {
                    let mut run = |k| {
                        refiner.step(&mut net, team, &pictures, tune, lambda, 1, k, 0.5);
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
        let (spec, lambda) = (GdnSpec::new(6, 3), 5e-4);
        let mut net = Net::new(spec, &Bands::new(&pictures).plan(lambda, Some(6)).order, 0.5, lambda, 1);
        let mut trainer = Trainer::new(&net);
        for k in 0..300 {
            trainer.step(&mut net, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 300.0);
        }
        let codes = train::analyse(&mut net, &mut trainer.team, &pictures);
        let mut refiner = Refiner::new(&net, &pictures, codes);
        let team = &mut trainer.team;
        refiner.choose_steps(&mut net, team, &pictures, Tune::Psnr, lambda);
        for k in 0..150 {
            refiner.step(&mut net, team, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 150.0);
        }
        let psnr = |net: &mut Net, team: &mut workers::Workers| {
            net.prepare(net::SYNTHESIS);
            -10.0 * refiner.distortion(net, team, &pictures, Tune::Psnr, &[0]).mse().log10()
        };
        let rounded = psnr(&mut net, team);
        net.exponents = None;
        let float = psnr(&mut net, team);
        assert!(rounded > 28.0 && rounded > float - 0.1, "{rounded} dB, with float weights {float} dB");
    }
}
