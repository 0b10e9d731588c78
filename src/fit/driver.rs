//! The course of every fit, whatever its family: stages in the time there is, lambda that follows a target, checkpoints,
//! candidates for the file, and touch-ups while a target is missed.
//!
//! ```text
//! stage 0 ─ stage 1 ─ … ─ last stage ─► finish ─► file, measured ─► kept if it is the best
//!                          lambda follows   ▲                              │ the target is missed, or not close
//!                          the target       └──── touch-up with lambda moved ┘
//! ```

use super::checkpoint::Checkpoint;
use super::file::{self, Quality, Written};
use super::target::{self, LambdaControl, Measured};
use super::{Family, Fit, Fitted, Options, Stage, Step, Target, TimeLeft};
use crate::error::{Class, Error, Result};
use crate::image::Picture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Measurements in a stage while lambda has to find its way to a target, and without one, where they only inform. One costs
/// about as much as half a step.
const MEASUREMENTS: u32 = 24;
const MEASUREMENTS_WITHOUT_TARGET: u32 = 6;

/// Steps between two measurements at least.
const BETWEEN: u32 = 8;

/// The part of the last stage in which lambda follows the target. Before it, quality still rises with every step and says
/// little about lambda (except that quality which is above the target already will stay so); after it, the codes no longer
/// have the time to follow.
const SETTLED: std::ops::Range<f64> = 0.3..0.9;

/// The part of the gap to a target that lambda's move at one measurement closes: codes take a while to follow.
const FOLLOW: f64 = 0.35;

/// Touch-ups that bring a file which meets its target closer to it; and those that a missed target is worth.
const TOUCH_UPS: u32 = 4;
const TOUCH_UPS_WHILE_MISSED: u32 = 10;

/// Steps of a touch-up: a part of the last stage's, and some more.
const TOUCH_UP_PART: f64 = 0.08;
const TOUCH_UP_LEAST: u32 = 10;

/// A target is close enough within this move of `ln lambda`: about 0.03 dB or 1 % of the bytes.
const CLOSE: f64 = 0.015;

/// What each touch-up aims beyond the target, in `ln lambda`.
const SAFETY: f64 = 0.006;

/// How far a touch-up goes of the way that lambda asks for: before anything is known, and the range of what the one before
/// may have shown.
const RESPONSE: f64 = 0.5;
const RESPONSES: (f64, f64) = (0.4, 1.0);

/// Time between two checkpoints.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// The part of the time that is left for writing and checking the file, and for touch-ups where lambda moves; and what
/// finishing takes in steps of the last stage.
const RESERVE: f64 = 0.06;
const RESERVE_FOR_TOUCH_UPS: f64 = 0.2;
const FINISH_STEPS: f64 = 40.0;

/// A fit as it goes.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Steps made, and steps planned without touch-ups.
    pub step: u64,
    /// Steps planned. Touch-ups come on top.
    pub steps: u64,
    /// The present weight of bits.
    pub lambda: f64,
    /// dB, when last measured.
    pub psnr: Option<f64>,
    /// Bytes of the whole file, when last estimated.
    pub bytes: Option<f64>,
}

/// What a progress callback answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Signal {
    /// The fit goes on.
    #[default]
    GoOn,
    /// The fit ends without a result, as [`Class::Cancelled`], after a last checkpoint.
    Cancel,
    /// The fit ends with the best file that it can make from here.
    Finish,
}

/// Who watches a fit, and what may end it.
pub struct Monitor<'a> {
    /// Called after every step.
    pub progress: &'a mut (dyn FnMut(&Progress) -> Signal + Send),
    /// Takes checkpoints: now and then, and before a cancelled fit ends.
    pub checkpoint: &'a mut (dyn FnMut(&[u8]) + Send),
    /// Another thread (or a signal handler) sets it to end the fit.
    pub stop: &'a AtomicBool,
    /// What `stop` means.
    pub on_stop: Signal,
    /// When the file should be there.
    pub deadline: Option<Instant>,
}

/// What a fit ends with.
pub struct Outcome {
    /// The file.
    pub file: Written,
    /// How near it is to the pictures.
    pub quality: Quality,
    /// The weight of bits that it was finished with.
    pub lambda: f64,
    /// Steps made and planned.
    pub steps: u64,
    /// Steps planned, touch-ups excepted.
    pub planned: u64,
}

/// Fits `pictures` and writes the file, with a section of metadata.
///
/// # Errors
/// [`Class::Target`] if a target is missed, [`Class::Cancelled`], [`Class::Argument`] if the checkpoint does not fit.
pub fn fit<'a>(
    family: &Family,
    pictures: &'a [Picture],
    options: &Options,
    metadata: &'a [u8],
    resume: Option<Checkpoint>,
    key: u64,
    monitor: Monitor<'a>,
) -> Result<Outcome> {
    let tile = family.tile(pictures, options);
    let options = Options { tile: Some(tile), ..options.clone() };
    let (fit, control) = (family.begin)(pictures, &options, metadata.len() as u64)?;
    let stages = fit.stages();
    let clock = monitor.deadline.map(|d| Clock::new(d, &stages, options.target.moves()));
    let planned = stages.iter().map(|s| u64::from(s.steps)).sum();
    let overhead = file::overhead(pictures, tile) + metadata.len() as f64;
    let run = Run {
        fit,
        control,
        stages,
        pictures,
        options: &options,
        metadata,
        key,
        monitor,
        clock,
        finishing: false,
        done: 0,
        planned,
        overhead,
        seen: None,
        saved: Instant::now(),
    };
    run.run(resume)
}

/// A fit under way.
struct Run<'a, 'o> {
    fit: Box<dyn Fit + 'o>,
    control: LambdaControl,
    stages: Vec<Stage>,
    pictures: &'a [Picture],
    options: &'o Options,
    metadata: &'a [u8],
    key: u64,
    monitor: Monitor<'a>,
    clock: Option<Clock>,
    /// The fit is to end with what it has.
    finishing: bool,
    done: u64,
    planned: u64,
    /// Bytes of the file besides codes and weights.
    overhead: f64,
    seen: Option<Measured>,
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
                    return Err(Error::of_argument("resume", "the checkpoint does not fit these pictures and options"));
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
            self.stage(stage, step)?;
            self.fit.leave(stage, self.control.lambda());
        }
        match self.options.target.moves() {
            true => self.file_for_target(),
            false => self.only_file(),
        }
    }

    /// Runs a stage from `step` on.
    fn stage(&mut self, i: usize, mut step: u32) -> Result<()> {
        let Stage { steps, least, settles, .. } = self.stages[i];
        let looks = if self.options.target.moves() { MEASUREMENTS } else { MEASUREMENTS_WITHOUT_TARGET };
        let between = steps.div_ceil(looks).max(BETWEEN);
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
        loop {
            let now = progress(self, step);
            if now >= 1.0 {
                return Ok(());
            }
            self.pause(i, step)?;
            self.step(Some(i), now);
            step += 1;
            if step.is_multiple_of(between) || step == steps {
                let measured = self.look();
                let now = progress(self, step);
                if settles && (SETTLED.contains(&now) || now < SETTLED.start && self.control.spares(&measured)) {
                    self.control.follow(&measured, FOLLOW);
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
        let mut measured = self.fit.look(matches!(self.options.target, Target::MsSsim(_)));
        measured.bytes += self.overhead;
        self.seen = Some(measured);
        measured
    }

    fn report(&mut self) {
        let (psnr, bytes) = (self.seen.map(|m| m.psnr), self.seen.map(|m| m.bytes));
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

    /// Where a fit may be left: saves a checkpoint now and then, and before it is.
    fn pause(&mut self, stage: usize, step: u32) -> Result<()> {
        let stopped = self.monitor.stop.load(Ordering::Relaxed);
        self.finishing |= stopped && self.monitor.on_stop == Signal::Finish;
        let cancelled = stopped && !self.finishing;
        if cancelled || self.saved.elapsed() > SAVE_EVERY {
            let mut state = Vec::new();
            self.fit.save(&mut state);
            let (effort, lambda, stage) = (self.options.effort, self.control.lambda(), stage as u32);
            let checkpoint = Checkpoint { key: self.key, effort, stage, step, done: self.done, lambda, state };
            (self.monitor.checkpoint)(&checkpoint.write());
            self.saved = Instant::now();
        }
        match cancelled {
            true => Err(Error::new(Class::Cancelled, "cancelled")),
            false => Ok(()),
        }
    }

    /// Rounds weights and codes; the fit may be left or go on from here.
    fn finish(&mut self) -> Result<Fitted> {
        let time = TimeLeft { deadline: self.monitor.deadline, stop: self.monitor.stop };
        let fitted = self.fit.finish(self.control.lambda(), &time);
        self.pause(self.stages.len() - 1, u32::MAX)?;
        Ok(fitted)
    }

    /// The file of a fit at a given lambda.
    fn only_file(mut self) -> Result<Outcome> {
        let (fitted, lambda) = (self.finish()?, self.control.lambda());
        // What the fit holds is much; what the file needs is little.
        drop(self.fit);
        let candidate = Candidate::new(&fitted, self.pictures, self.metadata, lambda)?;
        Ok(candidate.outcome(self.done, self.planned))
    }

    /// The file that the fit comes to; while its target is missed, moves lambda and touches the fit up.
    fn file_for_target(mut self) -> Result<Outcome> {
        let last = self.stages.len() - 1;
        let steps = (f64::from(self.stages[last].steps) * TOUCH_UP_PART) as u32 + TOUCH_UP_LEAST;
        let mut best: Option<((bool, f64), Candidate)> = None;
        let mut response = RESPONSE;
        let mut before: Option<(f64, f64)> = None;
        for round in 0.. {
            let (began, lambda) = (Instant::now(), self.control.lambda());
            let fitted = self.finish()?;
            let candidate = Candidate::new(&fitted, self.pictures, self.metadata, lambda)?;
            let measured = candidate.measured();
            self.seen = Some(measured);
            self.report();
            let gap = self.control.gap(&measured).unwrap_or(0.0);
            let rank = self.control.rank(&measured);
            if best.as_ref().is_none_or(|b| rank > b.0) {
                best = Some((rank, candidate));
            }
            let rounds = match &best {
                Some(((true, _), _)) => TOUCH_UPS,
                _ => TOUCH_UPS_WHILE_MISSED,
            };
            let close = self.control.met(&measured) && gap.abs() < CLOSE;
            // At an end of lambda's range nothing moves any more.
            let stuck = before.is_some_and(|(_, moved)| moved == 0.0);
            if close || round >= rounds || stuck || self.finishing || self.is_late(began) {
                break;
            }
            if let Some(seen) = before.and_then(|(last_gap, moved)| target::response(last_gap, gap, moved)) {
                response = seen.clamp(RESPONSES.0, RESPONSES.1);
            }
            self.control.follow(&measured, 1.0 / response);
            before = Some((gap, (self.control.lambda() / lambda).ln()));
            self.control.lean(SAFETY * f64::from(1 + round.min(TOUCH_UPS)));
            for k in 0..steps {
                self.pause(last, u32::MAX)?;
                self.step(None, f64::from(k) / f64::from(steps));
                self.report();
            }
        }
        match best {
            Some(((true, _), best)) => Ok(best.outcome(self.done, self.planned)),
            Some((_, best)) => Err(best.missed(self.options.target, self.pictures)),
            None => unreachable!("each round has a candidate"),
        }
    }

    /// Whether there is no time for another round, which takes at least what the one from `began` took.
    fn is_late(&self, began: Instant) -> bool {
        self.monitor.deadline.is_some_and(|d| Instant::now() + began.elapsed() >= d)
    }
}

/// A file that the fit could end with.
struct Candidate {
    file: Written,
    quality: Quality,
    lambda: f64,
}

impl Candidate {
    fn new(fitted: &Fitted, pictures: &[Picture], metadata: &[u8], lambda: f64) -> Result<Candidate> {
        let mut file = file::write(fitted, pictures, metadata)?;
        let quality = Quality::of(pictures, &file.decoded);
        file.decoded = Vec::new();
        Ok(Candidate { file, quality, lambda })
    }

    fn measured(&self) -> Measured {
        self.quality.measured(self.file.bytes.len())
    }

    fn outcome(self, steps: u64, planned: u64) -> Outcome {
        Outcome { file: self.file, quality: self.quality, lambda: self.lambda, steps, planned }
    }

    /// The failure to keep `target`: this is how near the fit came.
    fn missed(&self, target: Target, pictures: &[Picture]) -> Error {
        let bytes = self.file.bytes.len();
        let bpp = 8.0 * bytes as f64 / pictures.iter().map(|p| p.pixels() as f64).sum::<f64>();
        let what = match target {
            Target::Psnr(db) => format!("PSNR {db} dB is not reached, the closest is {:.2} dB", self.quality.psnr()),
            Target::MsSsim(v) => {
                format!("MS-SSIM {v} is not reached, the closest is {:.5}", self.quality.ms_ssim.unwrap_or(0.0))
            }
            Target::Bpp(limit) => {
                format!("{limit} bpp are not reachable, the closest is {bpp:.5} bpp ({bytes} bytes)")
            }
            Target::Size(limit) => format!("{limit} bytes are not reachable, the closest is {bytes} bytes"),
            Target::Quality(_) | Target::Lambda(_) => "the fit has no file".into(),
        };
        Error::new(Class::Target, what)
    }
}

/// When each stage of a fit has to end so that it keeps its deadline.
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

    /// The part of a stage, begun at `started` and `steps` ago, that has passed.
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
