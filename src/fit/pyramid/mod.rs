//! The encoder of family `pyramid`: codes and networks fitted together, coarse to fine.

mod features;
pub mod grid;
pub mod grid_buf;
pub mod latents;
#[cfg(test)]
pub(crate) mod plain;
pub mod plan;
mod planes;
pub mod rate;
pub mod steps;
pub mod synth;
pub mod train;
mod upsampling;

use super::target::LambdaControl;
use super::{FitOptions, Fitted, Moment, Monitor};
use crate::error::{Class, Error, Result};
use crate::image::Picture;
use crate::models::pyramid::model::PyramidModel;
use kernels::Level;
use plan::{Anneal, Plan};
use std::sync::atomic::Ordering;
use std::time::Instant;
use train::Trainer;

/// Steps between two measurements.
const MEASURE_EVERY: u32 = 50;

/// Pictures up to this many pixels are one tile.
const UNTILED: usize = 3 << 19;

/// Side of a tile of larger ones.
const TILE: usize = 512;

/// Fits a pyramid to `pictures` (all of the same channel count; they share the networks).
pub fn fit(pictures: &[Picture], options: &FitOptions, monitor: &mut Monitor) -> Result<Fitted> {
    let pixels: usize = pictures.iter().map(|p| p.pixels()).sum();
    let smallest = pictures.iter().map(|p| p.width.min(p.height)).min().unwrap_or(1);
    let mut control = LambdaControl::new(options, pixels);
    let plan = Plan::new(options.effort, pictures[0].channels, pixels, smallest, control.lambda());
    let mut trainer = Trainer::new(plan.spec.clone(), pictures, plan.stages[0].finest, Level::best(), options.seed);
    let clock = options.deadline.map(|d| Clock::new(d, &plan));
    let total: u64 = plan.stages.iter().map(|s| s.steps as u64).sum();
    let mut done = 0;
    for (i, stage) in plan.stages.iter().enumerate() {
        let last = i + 1 == plan.stages.len();
        if i > 0 {
            trainer.refine(pictures, stage.finest);
        }
        let started = Instant::now();
        let mut progress = 0f64;
        let mut step = 0;
        while progress < 1.0 {
            if monitor.stop.load(Ordering::Relaxed) {
                return Err(Error::new(Class::Interrupted, "interrupted"));
            }
            trainer.step(control.lambda(), &Anneal::at(progress, last));
            step += 1;
            done += 1;
            progress = step as f64 / stage.steps as f64;
            if let Some(clock) = &clock {
                progress = progress.max(clock.progress(i, started));
            }
            if step % MEASURE_EVERY == 0 || progress >= 1.0 {
                let measured = trainer.measure();
                if last {
                    control.follow(&measured, 0.3);
                }
                (monitor.report)(Moment { step: done, steps: total, psnr: measured.psnr, bytes: measured.bytes });
            }
        }
    }
    let codes = trainer.codes();
    let quantised = steps::search(&mut trainer, &codes, control.lambda());
    let largest = pictures.iter().map(|p| p.pixels()).max().unwrap_or(0);
    let tile = options.tile.unwrap_or(if largest > UNTILED { TILE } else { 0 });
    let model = PyramidModel::from_quantised(plan.spec, quantised, tile != 0);
    Ok(Fitted { model: Box::new(model), codes, steps: done, tile })
}

/// When each stage has to end so that the fit keeps its deadline.
struct Clock {
    ends: Vec<Instant>,
}

/// Part of the time left for choosing the weights' steps, writing and checking.
const RESERVE: f64 = 0.1;

impl Clock {
    /// Shares the time by the stages' cost; a coarse step costs more than its pixels.
    fn new(deadline: Instant, plan: &Plan) -> Clock {
        let cost = |s: &plan::Stage| s.steps as f64 * (0.02 + 1.0 / 4f64.powi(s.finest as i32));
        let whole: f64 = plan.stages.iter().map(cost).sum();
        let now = Instant::now();
        let time = deadline.saturating_duration_since(now).mul_f64(1.0 - RESERVE);
        let mut spent = 0.0;
        let ends = plan.stages.iter().map(|s| {
            spent += cost(s);
            now + time.mul_f64(spent / whole)
        });
        Clock { ends: ends.collect() }
    }

    /// The part of stage `i`, begun at `started`, that has passed.
    fn progress(&self, i: usize, started: Instant) -> f64 {
        let length = self.ends[i].saturating_duration_since(started).as_secs_f64();
        if length <= 0.0 {
            1.0
        } else {
            started.elapsed().as_secs_f64() / length
        }
    }
}
