//! The encoder of family `pyramid`: codes and networks fitted together, coarse to fine.

mod curvature;
mod features;
pub mod latents;
pub mod padded_grid;
pub mod plan;
mod planes;
pub mod prune;
pub mod rate;
mod rdo;
#[cfg(test)]
pub(crate) mod reference;
mod scratch_pool;
mod sensitivity;
mod strip;
mod strip_rows;
pub mod synth;
pub mod train;
mod upsampling;
pub mod view;
mod weight_rate;
pub mod weight_steps;

use super::target::{self, LambdaControl, Measured};
use super::water_filling::Spectrum;
use super::{FitOptions, Fitted, Monitor, Progress, Target, Tune, WeightCoding};
use crate::error::{Class, Error, Result};
use crate::image::Picture;
use crate::metrics;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::Quantised;
use crate::models::Codes;
use kernels::Level;
use plan::{Anneal, Plan};
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use std::time::Instant;
use train::Trainer;

/// Measurements in a stage: lambda must find its way to a target within the last.
const MEASUREMENTS: u32 = 24;
/// They cost as much as half a step: without a target a few are enough to look at.
const LOOKS: u32 = 6;

/// Pictures up to this many pixels are one tile.
const UNTILED: usize = 3 << 19;

/// Side of a tile of larger ones.
const TILE: usize = 512;

/// Seconds between two checkpoints.
const SAVE_EVERY: f64 = 20.0;

/// Random networks that go through the coarsest stage, where a step costs next to nothing; the best goes on. Which one
/// it is decides about 1 % of J.
const STARTS: u64 = 4;

/// Touch-ups towards a target, and the steps of each in parts of the last stage's.
const TOUCH_UPS: u32 = 4;
const TOUCH_UP_PART: f64 = 0.08;

/// The part of the last stage in which lambda follows the target: before, measurements say more of the fit's
/// youth than of lambda, bar that quality to spare remains so; after, codes no longer follow.
const SETTLED: std::ops::Range<f64> = 0.3..0.9;

/// Part of the gap to a target that one measurement closes: codes take a while to follow.
const FOLLOW: f64 = 0.35;

/// What a fit takes for each pixel, for each of them and feature of the context network, and besides, in bytes.
const BYTES_A_PIXEL: u64 = 124;
const BYTES_A_FEATURE: u64 = 5;
const BYTES_FIXED: u64 = 24 << 20;

/// Memory of a fit of so many pixels, in bytes.
pub fn memory(effort: u32, pixels: usize) -> u64 {
    (BYTES_A_PIXEL + BYTES_A_FEATURE * plan::features(effort, pixels) as u64) * pixels as u64 + BYTES_FIXED
}

/// Fits a pyramid to `pictures` (all of the same channel count; they share the networks).
pub fn fit(pictures: &[Picture], options: &FitOptions, monitor: &mut Monitor) -> Result<Fitted> {
    if pictures.iter().any(|p| p.channels != pictures[0].channels) {
        return Err(Error::new(Class::Usage, "grey and colour pictures cannot share a model: encode them apart"));
    }
    let pixels: usize = pictures.iter().map(|p| p.pixels()).sum();
    let need = memory(options.effort, pixels);
    if need > options.max_memory {
        let need = need.div_ceil(1 << 20);
        let what =
            format!("a fit of {pixels} pixels needs {need} MB of memory: raise --max-memory, or use --model gdn");
        return Err(Error::new(Class::Limit, what));
    }
    let spectrum = Spectrum::new(pictures);
    let control = LambdaControl::new(options, pixels, || &spectrum);
    let plan = Plan::of(pictures, options.effort, spectrum.cost(control.lambda()) * pixels as f64);
    // Up to 50 MB.
    drop(spectrum);
    Ok(package(pictures, options, learn(pictures, options, plan, control, monitor)?))
}

/// What a fit ends with.
struct Learned {
    plan: Plan,
    codes: Vec<Codes>,
    quantised: Quantised,
    /// Steps made.
    done: u64,
}

fn package(pictures: &[Picture], options: &FitOptions, learned: Learned) -> Fitted {
    let largest = pictures.iter().map(|p| p.pixels()).max().unwrap_or(0);
    let tile = options.tile.unwrap_or(if largest > UNTILED { TILE } else { 0 });
    let f16 = options.weights == WeightCoding::F16;
    let model = PyramidModel::from_quantised(learned.plan.spec, learned.quantised, tile != 0).with_f16(f16);
    Fitted { model: Box::new(model), codes: learned.codes, steps: learned.done, tile }
}

/// Fits networks and codes.
fn learn(
    pictures: &[Picture],
    options: &FitOptions,
    plan: Plan,
    control: LambdaControl,
    monitor: &mut Monitor,
) -> Result<Learned> {
    let trainer = start(pictures, options, &plan, 0);
    let total = plan.stages.iter().map(|s| s.steps as u64).sum();
    let clock = options.deadline.map(|d| Clock::new(d, &plan));
    let (others, saved) = (Vec::new(), Instant::now());
    let mut run = Run { pictures, options, plan, trainer, others, control, clock, done: 0, total, saved };
    let (first, step) = run.resume(monitor.resume.take())?;
    match run.done {
        0 => run.starts(monitor)?,
        _ => run.stage(first, step, monitor)?,
    }
    for i in first + 1..run.plan.stages.len() {
        run.trainer.refine(pictures, run.plan.stages[i].finest, run.plan.kept());
        if run.plan.builds() {
            run.trainer.inherit();
        }
        run.stage(i, 0, monitor)?;
    }
    let (codes, quantised) = run.finish(monitor)?;
    Ok(Learned { plan: run.plan, codes, quantised, done: run.done })
}

/// The `n`-th start of a fit.
fn start(pictures: &[Picture], options: &FitOptions, plan: &Plan, n: u64) -> Trainer {
    let seed = options.seed ^ n << 32;
    Trainer::new(plan.spec.clone(), pictures, plan.stages[0].finest, Level::best(), seed, options.tune)
}

/// A fit under way.
struct Run<'a> {
    pictures: &'a [Picture],
    options: &'a FitOptions,
    plan: Plan,
    trainer: Trainer,
    /// Other starts, which make the same steps.
    others: Vec<Trainer>,
    control: LambdaControl,
    clock: Option<Clock>,
    done: u64,
    total: u64,
    saved: Instant,
}

impl Run<'_> {
    /// Runs the first stage from several starts side by side and goes on with the one of least loss.
    fn starts(&mut self, monitor: &mut Monitor) -> Result<()> {
        self.others = (1..STARTS).map(|n| start(self.pictures, self.options, &self.plan, n)).collect();
        self.stage(0, 0, monitor)?;
        let mut lowest = self.loss();
        for other in std::mem::take(&mut self.others) {
            let best = std::mem::replace(&mut self.trainer, other);
            let loss = self.loss();
            if loss < lowest {
                lowest = loss;
            } else {
                self.trainer = best;
            }
        }
        Ok(())
    }

    fn step(&mut self, anneal: &Anneal) {
        let lambda = self.control.lambda();
        // Small pictures keep few threads busy, several of them side by side more.
        self.others.par_iter_mut().chain([&mut self.trainer]).for_each(|t| t.step(lambda, anneal));
        self.done += 1;
    }

    fn loss(&mut self) -> f64 {
        let m = self.trainer.measure(self.pictures, false);
        m.mse() + m.rate(self.control.lambda(), self.trainer.pixels())
    }

    /// Runs stage `i` from `step` on.
    fn stage(&mut self, i: usize, mut step: u32, monitor: &mut Monitor) -> Result<()> {
        let last = i + 1 == self.plan.stages.len();
        let steps = self.plan.stages[i].steps;
        let looks = if self.options.target.moves() { MEASUREMENTS } else { LOOKS };
        let between = steps.div_ceil(looks).max(8);
        let (started, before) = (Instant::now(), step);
        let mut progress = step as f64 / steps as f64;
        let course = self.plan.course(i);
        loop {
            if let Some(clock) = &self.clock {
                progress = progress.max(clock.progress(i, started, step - before));
            }
            if progress >= 1.0 {
                return Ok(());
            }
            self.check(monitor, i, step)?;
            self.step(&course(progress));
            step += 1;
            progress = step as f64 / steps as f64;
            if step.is_multiple_of(between) || step == steps {
                let measured = self.measure();
                if last && (SETTLED.contains(&progress) || progress < SETTLED.start && self.control.spares(&measured)) {
                    self.control.follow(&measured, FOLLOW);
                }
                self.report(&measured, monitor);
            }
        }
    }

    fn measure(&mut self) -> Measured {
        let similarity = matches!(self.options.target, Target::MsSsim(_));
        let measured = self.trainer.measure(self.pictures, similarity);
        Measured {
            bytes: measured.bytes + self.plan.spec.weights_count() as f64 * BYTES_A_WEIGHT + OVERHEAD,
            ..measured
        }
    }

    fn report(&self, m: &Measured, monitor: &mut Monitor) {
        (monitor.report)(Progress { step: self.done, steps: self.total, psnr: m.psnr, bytes: m.bytes });
    }

    /// Saves a checkpoint now and then, and when the user stops the fit.
    fn check(&mut self, monitor: &mut Monitor, stage: usize, step: u32) -> Result<()> {
        let stopped = monitor.stop.load(Ordering::Relaxed);
        if stopped || self.saved.elapsed().as_secs_f64() > SAVE_EVERY {
            let mut state = Vec::new();
            state.extend((stage as u32).to_le_bytes());
            state.extend(step.to_le_bytes());
            state.extend(self.done.to_le_bytes());
            state.extend(self.control.lambda().to_le_bytes());
            self.trainer.save(&mut state);
            (monitor.save)(&state);
            self.saved = Instant::now();
        }
        if stopped {
            return Err(Error::new(Class::Interrupted, "interrupted"));
        }
        Ok(())
    }

    /// The stage and step to start at: those of the checkpoint, if there is one.
    fn resume(&mut self, state: Option<Vec<u8>>) -> Result<(usize, u32)> {
        let Some(state) = state else { return Ok((0, 0)) };
        let wrong =
            || Error::new(Class::Usage, "the checkpoint does not fit this picture and effort: run without --resume");
        let (head, rest) = state.split_at_checked(24).ok_or_else(wrong)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = |at: usize| word(at) as u64 | (word(at + 4) as u64) << 32;
        let stage = self.plan.stages.get(word(0) as usize).ok_or_else(wrong)?;
        self.trainer.refine(self.pictures, stage.finest, self.plan.kept());
        if !self.trainer.restore(rest) {
            return Err(wrong());
        }
        self.done = long(8);
        self.control.set_lambda(f64::from_bits(long(16)));
        Ok((word(0) as usize, word(4)))
    }

    /// Quantises the weights; while a target is missed, moves lambda and touches the fit up.
    fn finish(&mut self, monitor: &mut Monitor) -> Result<(Vec<Codes>, Quantised)> {
        let steps = (self.plan.stages.last().map_or(0, |s| s.steps) as f64 * TOUCH_UP_PART) as u32 + 10;
        let mut best: Option<((bool, f64), Vec<Codes>, Quantised)> = None;
        // How far a touch-up goes of the way that lambda asks for, learned from the one before.
        let mut response = 0.5;
        let mut before: Option<(f64, f64)> = None;
        for round in 0.. {
            let mut codes = self.trainer.codes();
            let quantised = weight_steps::search(&mut self.trainer, self.control.lambda());
            let (spec, lambda, tune) = (&self.plan.spec, self.control.lambda(), self.options.tune);
            for (n, g) in prune::prune(spec, &quantised, self.pictures, &mut codes, lambda, tune) {
                self.trainer.empty(n, g);
            }
            self.choose(&quantised, &mut codes, monitor);
            self.check(monitor, self.plan.stages.len() - 1, u32::MAX)?;
            let measured = self.proof(&codes, &quantised);
            self.report(&measured, monitor);
            let Some(gap) = self.control.gap(&measured) else { return Ok((codes, quantised)) };
            let late = self.options.deadline.is_some_and(|d| Instant::now() >= d);
            let rank = self.control.rank(&measured);
            if best.as_ref().is_none_or(|b| rank > b.0) {
                best = Some((rank, codes, quantised));
            }
            if round == TOUCH_UPS || late || (self.control.met(&measured) && gap.abs() < CLOSE) {
                break;
            }
            if let Some(seen) = before.and_then(|(last_gap, moved)| target::response(last_gap, gap, moved)) {
                response = seen.clamp(0.4, 1.0);
            }
            let lambda = self.control.lambda();
            self.control.follow(&measured, 1.0 / response);
            before = Some((gap, (self.control.lambda() / lambda).ln()));
            self.control.lean(SAFETY * (1.0 + round as f64));
            for k in 0..steps {
                self.check(monitor, self.plan.stages.len() - 1, u32::MAX)?;
                self.step(&Anneal::touch_up(k as f64 / steps as f64));
            }
        }
        best.map(|(_, codes, quantised)| (codes, quantised))
            .ok_or_else(|| Error::new(Class::Target, "the target was not reached"))
    }

    /// The last choice of codes, while there is time.
    fn choose(&mut self, quantised: &Quantised, codes: &mut [Codes], monitor: &Monitor) {
        if self.options.tune != Tune::Psnr {
            return;
        }
        let model = PyramidModel::from_quantised(self.plan.spec.clone(), quantised.clone(), false);
        let (lambda, deadline, mut last) = (self.control.lambda(), self.options.deadline, Instant::now());
        let mut go_on = || {
            let now = Instant::now();
            let after = (now - std::mem::replace(&mut last, now)) * PASSES_AFTER;
            !monitor.stop.load(Ordering::Relaxed) && deadline.is_none_or(|d| now + after < d)
        };
        rdo::optimise_codes(&mut self.trainer, &model, self.pictures, codes, lambda, self.plan.passes(), &mut go_on);
    }

    /// The file as it would be, and what it decodes to.
    fn proof(&self, codes: &[Codes], quantised: &Quantised) -> Measured {
        let similarity = matches!(self.options.target, Target::MsSsim(_)) || self.options.tune == Tune::MsSsim;
        let model = PyramidModel::from_quantised(self.plan.spec.clone(), quantised.clone(), false);
        let (mut squares, mut ms_ssim) = (0.0, 0.0);
        for (picture, codes) in self.pictures.iter().zip(codes) {
            let decoded = prune::decoded(&model, picture, codes);
            squares += metrics::mse(picture, &decoded) * picture.pixels() as f64;
            if similarity {
                ms_ssim += metrics::ms_ssim(picture, &decoded).unwrap_or(1.0) / self.pictures.len() as f64;
            }
        }
        let f16 = self.options.weights == WeightCoding::F16;
        let bytes = quantised.write(&self.plan.spec, f16).len() as f64
            + self.trainer.code_bits(quantised, codes) / 8.0
            + OVERHEAD;
        let mse = squares / (metrics::PEAK_SQUARE * self.trainer.pixels());
        Measured { psnr: -10.0 * mse.max(1e-10).log10(), ms_ssim, bytes }
    }
}

/// What comes after the choice of codes, in the time of its passes.
const PASSES_AFTER: u32 = 12;

/// A weight's typical cost before it is known.
const BYTES_A_WEIGHT: f64 = 0.95;

/// Header, index and the ends of segments, in bytes.
const OVERHEAD: f64 = 44.0;

/// A target is close enough within this move of `ln lambda`: about 0.03 dB or 1 % of the bytes.
const CLOSE: f64 = 0.015;

/// What each touch-up aims beyond the target, in `ln lambda`.
const SAFETY: f64 = 0.006;

/// When each stage of a fit has to end so that it keeps its deadline.
struct Clock {
    ends: Vec<Instant>,
}

/// Part of the time that is left for rounding the weights, writing and checking, and full-size steps that these take.
const RESERVE: f64 = 0.06;
const FINISH: f64 = 40.0;

impl Clock {
    /// Shares the time by the stages' cost; a coarse step costs more than its pixels.
    fn new(deadline: Instant, plan: &Plan) -> Clock {
        let cost = |s: &plan::Stage| s.steps as f64 * (0.02 + 1.0 / 4f64.powi(s.finest as i32));
        let mut costs: Vec<f64> = plan.stages.iter().map(cost).collect();
        costs[0] *= STARTS as f64;
        let now = Instant::now();
        let time = deadline.saturating_duration_since(now).mul_f64((1.0 - RESERVE) / costs.iter().sum::<f64>());
        let mut spent = 0.0;
        let ends = costs.iter().map(|cost| {
            spent += cost;
            now + time.mul_f64(spent)
        });
        Clock { ends: ends.collect() }
    }

    /// The part of a stage, begun at `started` and `steps` long since, that has passed.
    fn progress(&self, stage: usize, started: Instant, steps: u32) -> f64 {
        let passed = started.elapsed().as_secs_f64();
        let finish = if stage + 1 == self.ends.len() { FINISH * passed / f64::from(steps.max(1)) } else { 0.0 };
        let length = self.ends[stage].saturating_duration_since(started).as_secs_f64() - finish;
        if length <= 0.0 {
            1.0
        } else {
            passed / length
        }
    }
}
