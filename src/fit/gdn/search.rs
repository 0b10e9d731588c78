//! The second stage from its first step to the file: looks at whole files on the way, keeps the best, and goes on with
//! another lambda while a target is missed.

use super::checkpoint::State;
use super::net::Net;
use super::refine::Refiner;
use super::workers::Workers;
use super::{keep, state, Clock};
use crate::codec;
use crate::error::{Class, Error, Result};
use crate::fit::target::{self, LambdaControl, Measured};
use crate::fit::{FitOptions, Fitted, Monitor, Progress, Target, Tune, WeightCoding};
use crate::image::{Picture, Rect};
use crate::metrics;
use crate::models::gdn::weights::Quantised;
use crate::models::gdn::{GdnModel, SHIFT};
use crate::models::{Codes, Grid};
use std::time::Instant;

/// Pictures over this many pixels are cut into tiles of `TILE`.
pub const TILED_FROM: usize = 1 << 22;
const TILE: usize = 2048;
/// Looks at the whole file; fewer at a large picture, where each takes long.
const LOOKS: u64 = 8;

/// How far lambda follows a look while all else still moves, and the factor that it stays within.
const GAIN: f64 = 0.3;
const MOST_MOVE: f64 = 2.0;

/// Rounds after the stage's steps while a target is missed, and their steps as a share of the stage's.
const TOUCH_UPS: u32 = 10;
const TOUCH_UP_PART: f64 = 0.15;
/// A target is close enough within this move of `ln lambda`: about 0.05 dB or 1 % of the bytes.
const CLOSE: f64 = 0.02;
/// What each round aims beyond the target, in `ln lambda`.
const SAFETY: f64 = 0.01;

/// Steps of weights are chosen again when they should be finer or coarser by so many bits.
const MOVED: f64 = 0.2;

/// The best file so far.
struct Best {
    rank: (bool, f64),
    fitted: Fitted,
}

/// The stage's state.
pub struct Search<'a> {
    pub net: Net,
    pub team: Workers,
    pub refiner: Refiner,
    pub pictures: &'a [Picture],
    pub options: &'a FitOptions,
    pub control: LambdaControl,
    /// Steps of the first stage, and of both.
    pub before: u64,
    pub all: u64,
    /// When no further round begins.
    pub late: Option<Instant>,
    best: Option<Best>,
    /// The lambda that the weights' steps were chosen for.
    steps_for: f64,
    pixels: f64,
    saved: Instant,
}

impl<'a> Search<'a> {
    pub fn new(
        net: Net,
        team: Workers,
        refiner: Refiner,
        pictures: &'a [Picture],
        options: &'a FitOptions,
        control: LambdaControl,
    ) -> Self {
        let pixels = pictures.iter().map(|p| p.pixels() as f64).sum();
        let saved = Instant::now();
        Search {
            net,
            team,
            refiner,
            pictures,
            options,
            control,
            before: 0,
            all: 0,
            late: None,
            best: None,
            steps_for: 0.0,
            pixels,
            saved,
        }
    }

    /// From step `k` of the stage to the file.
    pub fn run(mut self, mut k: u64, clock: &Clock, monitor: &mut Monitor) -> Result<Fitted> {
        let looks = match (self.pixels > TILED_FROM as f64, self.options.target.moves()) {
            (false, _) => LOOKS,
            (true, true) => LOOKS / 2,
            (true, false) => LOOKS / 4,
        };
        let first = self.control.lambda();
        let mut checks = 0;
        let mut seen;
        loop {
            let progress = clock.progress(k);
            self.save(k, monitor)?;
            seen = None;
            if (progress * looks as f32) as u64 >= checks {
                if progress < 1.0 {
                    self.choose_steps(checks == looks / 2);
                }
                checks += 1;
                let m = self.look(k, monitor)?;
                seen = Some(m);
                // The first look sees a rounding that nothing is used to yet; after the last come rounds.
                if checks > 1 && progress < 1.0 {
                    self.control.follow(&m, GAIN);
                    self.control.set_lambda(self.control.lambda().clamp(first / MOST_MOVE, first * MOST_MOVE));
                }
            }
            if progress >= 1.0 {
                break;
            }
            self.step(k, progress, monitor);
            k += 1;
        }
        let last = seen.expect("the last step is looked at");
        self.touch_up(last, k, clock.steps, monitor)?;
        match self.best {
            Some(Best { rank: (true, _), fitted }) => Ok(fitted),
            _ => Err(Error::new(Class::Target, "the target was not reached: raise --effort, or ask for less")),
        }
    }

    /// Rounds of a few steps with lambda corrected, until the target is met and close.
    fn touch_up(&mut self, mut m: Measured, mut k: u64, stage: u64, monitor: &mut Monitor) -> Result<()> {
        let steps = (stage as f64 * TOUCH_UP_PART) as u64 + 10;
        // How far a round goes of the way that lambda asks for, learned from the one before.
        let mut response = 0.5;
        for round in 0..TOUCH_UPS {
            let Some(gap) = self.control.gap(&m) else { break };
            let late = self.late.is_some_and(|t| Instant::now() >= t);
            if late || (self.control.met(&m) && gap.abs() < CLOSE) {
                break;
            }
            let lambda = self.control.lambda();
            self.control.follow(&m, 1.0 / response);
            self.control.lean(SAFETY * f64::from(1 + round.min(4)));
            let moved = (self.control.lambda() / lambda).ln();
            self.choose_steps(false);
            for i in 0..steps {
                self.save(k, monitor)?;
                self.step(k, 0.6 + 0.4 * i as f32 / steps as f32, monitor);
                k += 1;
            }
            m = self.look(k, monitor)?;
            if let Some(seen) = self.control.gap(&m).and_then(|now| target::response(gap, now, moved)) {
                response = seen.clamp(0.25, 1.0);
            }
        }
        Ok(())
    }

    fn save(&mut self, k: u64, monitor: &mut Monitor) -> Result<()> {
        let (net, refiner, lambda) = (&self.net, &self.refiner, self.control.lambda());
        keep(monitor, &mut self.saved, || -> State { state(net, k, lambda, refiner.values()) })
    }

    /// Chooses the weights' steps if there are none, if it is `due`, or if those were chosen for another lambda: they
    /// would hold quality, or bytes, where they are.
    fn choose_steps(&mut self, due: bool) {
        if self.options.weights != WeightCoding::Coded {
            return;
        }
        let (tune, lambda) = (self.options.tune, self.control.lambda());
        // The step that serves a lambda grows with its root.
        let finer = 0.5 * (self.steps_for / lambda).log2();
        if self.net.exponents.is_some() && finer > MOVED {
            self.net.refine_steps(finer.ceil() as u32);
        } else if due || finer < -MOVED || self.net.exponents.is_none() {
            self.refiner.choose_steps(&mut self.net, &mut self.team, self.pictures, tune, lambda);
        } else {
            return;
        }
        self.steps_for = lambda;
    }

    fn step(&mut self, k: u64, progress: f32, monitor: &mut Monitor) {
        let (tune, seed, lambda) = (self.options.tune, self.options.seed, self.control.lambda());
        let d = self.refiner.step(&mut self.net, &mut self.team, self.pictures, tune, lambda, seed, k, progress);
        let bytes = self.refiner.bits() / 8.0 + super::weight_bytes(&self.net.spec);
        let step = self.before + k + 1;
        (monitor.report)(Progress { step, steps: self.all.max(step), psnr: -10.0 * d.mse().log10(), bytes });
    }

    /// Measures the file as it would be now, and keeps it if it is the best.
    fn look(&mut self, k: u64, monitor: &mut Monitor) -> Result<Measured> {
        let fitted = self.fitted(k);
        let m = measure(&fitted, self.pictures, self.options)?;
        let step = self.before + k;
        (monitor.report)(Progress { step, steps: self.all.max(step), psnr: m.psnr, bytes: m.bytes });
        let rank = self.control.rank(&m);
        if self.best.as_ref().is_none_or(|b| rank > b.rank) {
            self.best = Some(Best { rank, fitted });
        }
        Ok(m)
    }

    fn fitted(&self, k: u64) -> Fitted {
        let (net, pictures) = (&self.net, self.pictures);
        let values = net.synthesis_values();
        let model = match (&net.exponents, self.options.weights) {
            (Some(e), WeightCoding::Coded) => {
                GdnModel::from_quantised(net.spec, Quantised::new(&net.spec, &values, e.clone()))
            }
            _ => GdnModel::from_weights(net.spec, &values),
        };
        let codes = pictures.iter().zip(self.refiner.codes()).map(|(p, codes)| -> Codes {
            let mut grid = Grid::new(Rect::whole(p.width, p.height).shrunk(SHIFT), net.spec.n);
            grid.codes.copy_from_slice(codes);
            vec![grid]
        });
        let largest = pictures.iter().map(Picture::pixels).max().unwrap_or(0);
        let tile = self.options.tile.unwrap_or(if largest > TILED_FROM { TILE } else { 0 });
        Fitted { codes: codes.collect(), model: Box::new(model), steps: self.before + k, tile }
    }
}

fn measure(fitted: &Fitted, pictures: &[Picture], options: &FitOptions) -> Result<Measured> {
    let written = codec::write_file(fitted, pictures)?;
    let (mut squares, mut samples, mut pixels, mut ms_ssim) = (0.0, 0.0, 0.0, 0.0);
    for (a, b) in pictures.iter().zip(&written.decoded) {
        squares += metrics::mse(a, b) / metrics::PEAK_SQUARE * a.samples.len() as f64;
        samples += a.samples.len() as f64;
        let wanted = matches!(options.target, Target::MsSsim(_)) || options.tune == Tune::MsSsim;
        ms_ssim += if wanted { metrics::ms_ssim(a, b).unwrap_or(1.0) * a.pixels() as f64 } else { 0.0 };
        pixels += a.pixels() as f64;
    }
    let mse: f64 = squares / samples;
    Ok(Measured { psnr: -10.0 * mse.max(1e-10).log10(), ms_ssim: ms_ssim / pixels, bytes: written.bytes.len() as f64 })
}
