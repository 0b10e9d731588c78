//! Runs a fit of any family: its stages within a time limit, the adaptation of lambda to a target, checkpoints, and touch-ups
//! while a target is missed.
//!
//! ```text
//! stage 0 ─ stage 1 ─ … ─ last stage ─► finish ─► write and measure file ─► keep it if it is the best
//!                          lambda follows   ▲                                │ target missed, or not close
//!                          the target       └──── touch-up with new lambda ──┘
//! ```

use super::checkpoint::Checkpoint;
use super::domain::stretched;
use super::file::{self, Quality, Written};
use super::prepare::Prepared;
use super::target::{self, LambdaControl, Measure, Measured};
use super::{Family, Fit, Fitted, Options, Stage, Step, Target, TimeLeft, Tune};
use crate::error::{Class, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Measurements per stage: with a target, to which lambda is adapted, and without one, where they only serve the progress
/// report. A measurement takes about the time of half a step.
const MEASUREMENTS: u32 = 24;
const MEASUREMENTS_WITHOUT_TARGET: u32 = 6;

/// Minimum number of steps between two measurements.
const MIN_MEASURE_INTERVAL: u32 = 8;

/// The part of the last stage in which lambda is adapted to the target. Before it, quality still rises with every step, so a
/// measurement says little about lambda; only a quality that exceeds the target already will keep exceeding it. After it, the
/// codes have too few steps to adapt to a new lambda.
const LAMBDA_CONTROL: std::ops::Range<f64> = 0.3..0.9;

/// Gain of the lambda control at each measurement. It is below 1 because the codes adapt to a new lambda with a delay.
const CONTROL_GAIN: f64 = 0.35;
/// The same where the measurement already counts on the steps to come: see [`LambdaControl::expected`].
const SCORE_GAIN: f64 = 0.6;

/// Maximum number of touch-ups: once a file meets its target, to get closer to it, and while the target is missed.
const TOUCH_UPS: u32 = 4;
const TOUCH_UPS_WHILE_MISSED: u32 = 10;

/// Steps of a touch-up: this fraction of the last stage's steps plus a constant.
const TOUCH_UP_FRACTION: f64 = 0.08;
const TOUCH_UP_CONSTANT: u32 = 10;

/// No more touch-ups are made if the gap to the target is below this change of `ln lambda`: about 0.03 dB or 1 % of the bytes.
const CLOSE: f64 = 0.015;

/// Margin by which a touch-up aims beyond the target, in `ln lambda`.
const TOUCH_UP_MARGIN: f64 = 0.006;

/// The fraction of the gap that a touch-up closes for a given change of lambda: the initial guess, and the range to which the
/// fraction measured at the previous touch-up is clamped.
const RESPONSE: f64 = 0.5;
const RESPONSES: (f64, f64) = (0.4, 1.0);

/// Time between two checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// Fractions of the time that are reserved for writing and checking the file: without a target, and with one, where touch-ups
/// follow. Then the time of finishing, in steps of the last stage.
const RESERVE: f64 = 0.06;
const RESERVE_FOR_TOUCH_UPS: f64 = 0.2;
const FINISH_STEPS: f64 = 40.0;

/// The progress of a fit.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Steps made.
    pub step: u64,
    /// Steps planned, without touch-ups; never less than `step`.
    pub steps: u64,
    /// The current weight of the rate in the loss.
    pub lambda: f64,
    /// PSNR in dB at the last measurement, in the domain of the fit.
    pub psnr: Option<f64>,
    /// Estimated bytes of the whole file at the last measurement.
    pub bytes: Option<f64>,
}

/// The answer of a progress callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Signal {
    /// The fit continues.
    #[default]
    GoOn,
    /// The fit saves a checkpoint and ends with the error [`Class::Cancelled`].
    Cancel,
    /// The fit ends with the best file that it can make from its current state.
    Finish,
}

/// Takes the bytes of a checkpoint.
pub type CheckpointSink<'a> = &'a mut (dyn FnMut(&[u8]) + Send);

/// The callbacks of a fit, and the conditions that end it early.
pub struct Monitor<'a> {
    /// Called after every step.
    pub progress: &'a mut (dyn FnMut(&Progress) -> Signal + Send),
    /// Receives checkpoints every 20 seconds, and before a cancelled fit ends.
    pub checkpoint: Option<CheckpointSink<'a>>,
    /// Set by another thread or a signal handler to end the fit.
    pub stop: &'a AtomicBool,
    /// How the fit ends when `stop` is set.
    pub on_stop: Signal,
    /// When the file should be finished.
    pub deadline: Option<Instant>,
}

/// The result of a fit.
pub struct Outcome {
    /// The file.
    pub file: Written,
    /// Its quality.
    pub quality: Quality,
    /// Its quality in the domain of the fit, where targets are measured.
    pub in_domain: Quality,
    /// The weight of the rate that the file was finished with.
    pub lambda: f64,
    /// Steps made.
    pub steps: u64,
    /// Steps planned, without touch-ups.
    pub planned: u64,
}

/// Fits the colours of `prepared` pictures and writes the file, with a section of metadata.
///
/// # Errors
/// [`Class::Target`] if a target is missed, [`Class::Cancelled`], [`Class::Argument`] if the checkpoint is not of this fit.
pub fn fit<'a>(
    family: &Family,
    prepared: &'a Prepared,
    options: &Options,
    metadata: &'a [u8],
    resume: Option<Checkpoint>,
    key: u64,
    monitor: Monitor<'a>,
) -> Result<Outcome> {
    let tile = family.tile(&prepared.colours, options);
    let besides = metadata.len() as u64 + prepared.alpha_bytes();
    let options = Options { tile: Some(tile), ..options.clone() };
    let (fit, control) = (family.begin)(&prepared.colours, &options, besides)?;
    let stages = fit.stages();
    let clock = monitor.deadline.map(|d| Clock::new(d, &stages, options.target.may_be_missed()));
    let planned = stages.iter().map(|s| u64::from(s.steps)).sum();
    let overhead = file::overhead(&prepared.colours, tile) + besides as f64;
    let run = Run {
        fit,
        control,
        stages,
        prepared,
        options: &options,
        metadata,
        key,
        monitor,
        clock,
        finishing: false,
        done: 0,
        planned,
        overhead,
        last_measured: None,
        best: Best(None),
        saved: Instant::now(),
    };
    run.run(resume)
}

/// A running fit.
struct Run<'a, 'o> {
    fit: Box<dyn Fit + 'o>,
    control: LambdaControl,
    stages: Vec<Stage>,
    prepared: &'a Prepared<'a>,
    options: &'o Options,
    metadata: &'a [u8],
    key: u64,
    monitor: Monitor<'a>,
    clock: Option<Clock>,
    /// The fit was asked to end with the best file from its current state.
    finishing: bool,
    done: u64,
    planned: u64,
    /// Bytes of the file besides codes and weights.
    overhead: f64,
    last_measured: Option<Measured>,
    best: Best,
    saved: Instant,
}

impl Run<'_, '_> {
    fn run(mut self, resume: Option<Checkpoint>) -> Result<Outcome> {
        let (first, mut step) = match resume {
            None => {
                self.fit.enter(0);
                (0, 0)
            }
            Some(c) => {
                let stage = c.stage as usize;
                if stage >= self.stages.len() || !self.fit.restore(stage, &c.state) {
                    return Err(Error::of_argument("resume", "the checkpoint is not of these pictures and options"));
                }
                self.done = c.done;
                self.control.set_lambda(c.lambda);
                (stage, c.step)
            }
        };
        for stage in first..self.stages.len() {
            if stage > first {
                self.fit.enter(stage);
                step = 0;
            }
            self.run_stage(stage, step)?;
            self.fit.leave(stage, self.control.lambda());
        }
        match self.options.target.may_be_missed() {
            true => self.file_for_target(),
            false => self.file_at_fixed_lambda(),
        }
    }

    /// Runs stage `i` from `step` on.
    fn run_stage(&mut self, i: usize, mut step: u32) -> Result<()> {
        let Stage { steps, least, settles, candidates, .. } = self.stages[i];
        let looks = if self.control.follows() { MEASUREMENTS } else { MEASUREMENTS_WITHOUT_TARGET };
        let between = steps.div_ceil(looks).max(MIN_MEASURE_INTERVAL);
        let gain = if self.control.measure() == Measure::Ssimulacra2 { SCORE_GAIN } else { CONTROL_GAIN };
        let (started, before) = (Instant::now(), step);
        let progress = |run: &Self, step: u32| {
            let by_steps = f64::from(step) / f64::from(steps);
            match &run.clock {
                _ if step < least => by_steps,
                _ if run.finishing => 1.0,
                Some(clock) => by_steps.max(clock.progress(i, started, step - before)),
                None => by_steps,
            }
        };
        let due = |progress: f64| (progress * f64::from(candidates)) as u32;
        let mut made = due(progress(self, step));
        loop {
            let now = progress(self, step);
            if now >= 1.0 {
                return Ok(());
            }
            self.pause(i, step)?;
            self.step(Some(i), now);
            step += 1;
            let now = progress(self, step);
            let measured = if due(now) > made && now < 1.0 {
                made = due(now);
                Some(self.candidate()?)
            } else if candidates == 0 && (step.is_multiple_of(between) || step == steps) {
                Some(self.look())
            } else {
                None
            };
            if let Some(measured) = measured.filter(|_| settles).map(|m| self.control.expected(&m, now)) {
                let early = now < LAMBDA_CONTROL.start;
                if LAMBDA_CONTROL.contains(&now) || early && self.control.exceeds(&measured) {
                    self.control.follow(&measured, gain);
                }
            }
            self.report();
        }
    }

    fn step(&mut self, stage: Option<usize>, progress: f64) {
        self.fit.step(&Step { lambda: self.control.lambda(), stage, progress, number: self.done });
        self.done += 1;
    }

    fn look(&mut self) -> Measured {
        let mut measured = self.fit.look(self.control.measure());
        measured.bytes += self.overhead;
        self.last_measured = Some(measured);
        measured
    }

    fn report(&mut self) {
        let (psnr, bytes) = (self.last_measured.map(|m| m.psnr), self.last_measured.map(|m| m.bytes));
        let steps = self.planned.max(self.done);
        let progress = Progress { step: self.done, steps, lambda: self.control.lambda(), psnr, bytes };
        match (self.monitor.progress)(&progress) {
            Signal::GoOn => {}
            signal => {
                self.monitor.on_stop = signal;
                self.monitor.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Called where a fit may end: handles `stop`, and saves a checkpoint at intervals and on cancellation.
    fn pause(&mut self, stage: usize, step: u32) -> Result<()> {
        let stopped = self.monitor.stop.load(Ordering::Relaxed);
        self.finishing |= stopped && self.monitor.on_stop == Signal::Finish;
        let cancelled = stopped && !self.finishing;
        let due = cancelled || self.saved.elapsed() > SAVE_EVERY;
        if let Some(checkpoint) = self.monitor.checkpoint.as_mut().filter(|_| due) {
            let (effort, lambda, stage) = (self.options.effort, self.control.lambda(), stage as u32);
            let head = Checkpoint { key: self.key, effort, stage, step, done: self.done, lambda, state: Vec::new() };
            checkpoint(&head.write(|out| self.fit.save(out)));
            self.saved = Instant::now();
        }
        match cancelled {
            true => Err(Error::new(Class::Cancelled, "cancelled")),
            false => Ok(()),
        }
    }

    /// Quantises weights and codes. The fit may end or continue afterwards.
    fn finish(&mut self) -> Fitted {
        let time = TimeLeft { deadline: self.monitor.deadline, stop: self.monitor.stop };
        self.fit.finish(self.control.lambda(), &time)
    }

    /// Makes a file of the fit as it is now, and keeps it if it is the best so far.
    fn candidate(&mut self) -> Result<Measured> {
        let fitted = self.finish();
        let candidate = Candidate::new(fitted, self.prepared, self.metadata, self.control.lambda(), self.options.tune)?;
        let measured = self.best.offer(candidate, &self.control);
        self.last_measured = Some(measured);
        Ok(measured)
    }

    /// Finishes a fit at a fixed lambda.
    fn file_at_fixed_lambda(mut self) -> Result<Outcome> {
        let (fitted, lambda) = (self.finish(), self.control.lambda());
        self.pause(self.stages.len() - 1, u32::MAX)?;
        // Frees the memory of the fit before the file is written and decoded.
        drop(self.fit);
        self.best
            .offer(Candidate::new(fitted, self.prepared, self.metadata, lambda, self.options.tune)?, &self.control);
        self.best.outcome(self.options.target, self.prepared, self.done, self.planned)
    }

    /// Finishes a fit with a target: changes lambda and makes touch-ups until the file is close enough or time is up.
    fn file_for_target(mut self) -> Result<Outcome> {
        let last = self.stages.len() - 1;
        let steps = (f64::from(self.stages[last].steps) * TOUCH_UP_FRACTION) as u32 + TOUCH_UP_CONSTANT;
        let mut response = RESPONSE;
        let mut before: Option<(f64, f64)> = None;
        for round in 0.. {
            let (began, lambda) = (Instant::now(), self.control.lambda());
            let measured = self.candidate()?;
            self.pause(last, u32::MAX)?;
            self.report();
            let gap = self.control.gap(&measured).unwrap_or(0.0);
            let rounds = if self.best.meets() { TOUCH_UPS } else { TOUCH_UPS_WHILE_MISSED };
            let close = self.control.met(&measured) && gap.abs() < CLOSE;
            // At an end of lambda's range further touch-ups would change nothing.
            let stuck = before.is_some_and(|(_, moved)| moved == 0.0);
            if close || round >= rounds || stuck || self.finishing || self.is_late(began) {
                break;
            }
            if let Some(measured) = before.and_then(|(last_gap, moved)| target::response(last_gap, gap, moved)) {
                response = measured.clamp(RESPONSES.0, RESPONSES.1);
            }
            self.control.follow(&measured, 1.0 / response);
            before = Some((gap, (self.control.lambda() / lambda).ln()));
            self.control.add_margin(TOUCH_UP_MARGIN * f64::from(1 + round.min(TOUCH_UPS)));
            for k in 0..steps {
                self.pause(last, u32::MAX)?;
                self.step(None, f64::from(k) / f64::from(steps));
                self.report();
            }
        }
        self.best.outcome(self.options.target, self.prepared, self.done, self.planned)
    }

    /// Whether there is no time for another round, assumed to take as long as the one that started at `began`.
    fn is_late(&self, began: Instant) -> bool {
        self.monitor.deadline.is_some_and(|d| Instant::now() + began.elapsed() >= d)
    }
}

/// The best candidate so far, with its [rank](LambdaControl::rank).
struct Best(Option<((bool, f64), Candidate)>);

impl Best {
    /// Keeps `candidate` if none is as good.
    fn offer(&mut self, candidate: Candidate, control: &LambdaControl) -> Measured {
        let measured = candidate.measured();
        let rank = control.rank(&measured);
        if self.0.as_ref().is_none_or(|best| rank > best.0) {
            self.0 = Some((rank, candidate));
        }
        measured
    }

    /// Whether it meets the target.
    fn meets(&self) -> bool {
        matches!(self.0, Some(((true, _), _)))
    }

    /// The best file, or how near it came to the target.
    fn outcome(self, target: Target, prepared: &Prepared, steps: u64, planned: u64) -> Result<Outcome> {
        match self.0 {
            Some(((true, _), best)) => Ok(best.outcome(steps, planned)),
            Some((_, best)) => Err(best.missed(target, prepared)),
            None => unreachable!("every fit ends with a candidate"),
        }
    }
}

/// A finished file, one of those from which the best is chosen.
pub struct Candidate {
    file: Written,
    quality: Quality,
    in_domain: Quality,
    lambda: f64,
}

impl Candidate {
    /// Of a fit under `tune`.
    fn new(colours: Fitted, prepared: &Prepared, metadata: &[u8], lambda: f64, tune: Tune) -> Result<Candidate> {
        Self::of(&prepared.assemble(colours)?, prepared, metadata, lambda, tune)
    }

    /// Writes the file of all channels of `prepared` pictures, and measures it.
    pub fn of(fitted: &Fitted, prepared: &Prepared, metadata: &[u8], lambda: f64, tune: Tune) -> Result<Candidate> {
        let mut file = file::write(fitted, &prepared.pictures, metadata, tune == Tune::Visual)?;
        let quality = Quality::of(&prepared.pictures, &file.decoded);
        let in_domain = match &prepared.curve {
            Some(curve) => {
                let [original, decoded] = [&prepared.pictures, &file.decoded[..]].map(|p| stretched(p, curve));
                Quality::of(&original, &decoded)
            }
            None => quality,
        };
        file.decoded = Vec::new();
        Ok(Candidate { file, quality, in_domain, lambda })
    }

    fn measured(&self) -> Measured {
        self.in_domain.measured(self.file.bytes.len())
    }

    /// The outcome of an encode that ends with this file.
    pub fn outcome(self, steps: u64, planned: u64) -> Outcome {
        let Candidate { file, quality, in_domain, lambda } = self;
        Outcome { file, quality, in_domain, lambda, steps, planned }
    }

    /// The error of a missed `target`, with the closest result.
    fn missed(&self, target: Target, prepared: &Prepared) -> Error {
        let bytes = self.file.bytes.len();
        let bpp = 8.0 * bytes as f64 / prepared.pictures.iter().map(|p| p.pixels() as f64).sum::<f64>();
        let what = match target {
            Target::Psnr(db) => format!("PSNR {db} dB is not reached, the closest is {:.2} dB", self.in_domain.psnr()),
            Target::MsSsim(v) => {
                format!("MS-SSIM {v} is not reached, the closest is {:.5}", self.in_domain.ms_ssim.unwrap_or(0.0))
            }
            Target::Ssimulacra2(v) => {
                let closest = self.in_domain.ssimulacra2.unwrap_or(0.0);
                format!("SSIMULACRA2 {v} is not reached, the closest is {closest:.2}")
            }
            Target::Bpp(limit) => {
                format!("{limit} bpp is not reached, the closest is {bpp:.5} bpp ({bytes} bytes)")
            }
            Target::Size(limit) => format!("{limit} bytes are not reached, the closest is {bytes} bytes"),
            Target::Quality(_) | Target::Lambda(_) | Target::MaxError(_) => {
                "internal error: a fixed lambda cannot be missed".into()
            }
        };
        Error::new(Class::Target, what)
    }
}

/// When each stage has to end for the fit to keep its deadline.
struct Clock {
    ends: Vec<Instant>,
}

impl Clock {
    /// Shares the time among the stages by their cost.
    fn new(deadline: Instant, stages: &[Stage], moves: bool) -> Clock {
        let reserve = if moves { RESERVE_FOR_TOUCH_UPS } else { RESERVE };
        let cost = |s: &Stage| f64::from(s.steps) * s.cost;
        let all: f64 = stages.iter().map(cost).sum();
        let now = Instant::now();
        let time = deadline.saturating_duration_since(now).mul_f64((1.0 - reserve) / all.max(f64::MIN_POSITIVE));
        let mut spent = 0.0;
        let ends = stages.iter().map(|s| {
            spent += cost(s);
            now + time.mul_f64(spent)
        });
        Clock { ends: ends.collect() }
    }

    /// The elapsed fraction of a stage that started at `started` and has made `steps` steps since.
    fn progress(&self, stage: usize, started: Instant, steps: u32) -> f64 {
        let passed = started.elapsed().as_secs_f64();
        let last = stage + 1 == self.ends.len();
        let finish = if last { FINISH_STEPS * passed / f64::from(steps.max(1)) } else { 0.0 };
        let length = self.ends[stage].saturating_duration_since(started).as_secs_f64() - finish;
        if length <= 0.0 {
            1.0
        } else {
            passed / length
        }
    }
}
