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

use super::target::{LambdaControl, Measure, Measured};
use super::water_filling::Spectrum;
use super::{Begun, Cost, Family, Fit, Fitted, Options, Step, TimeLeft, Tune, WeightCoding};
use crate::error::Result;
use crate::image::Picture;
use crate::models::pyramid::model::PyramidModel;
use crate::models::pyramid::quantised::Quantised;
use crate::models::Codes;
use kernels::Level;
use plan::{Anneal, Plan};
use rayon::prelude::*;
use std::time::Instant;
use train::Trainer;

/// The encoder's half of the family.
pub const FAMILY: Family =
    Family { name: "pyramid", tunes: &[Tune::Psnr, Tune::Visual], channels: None, tiles: (3 << 19, 512), cost, begin };

/// Random networks that go through the coarsest stage, where a step costs next to nothing; the best goes on. Which one
/// it is decides about 1 % of J.
const STARTS: u64 = 4;

/// What a fit takes for each pixel, for each of them and feature of the context network, and besides, in bytes.
const BYTES_A_PIXEL: u64 = 124;
const BYTES_A_FEATURE: u64 = 5;
const BYTES_FIXED: u64 = 40 << 20;
/// What `--tune visual` takes besides for each pixel in bytes: the planes of the original and of the picture in XYB, their
/// blurs and gradients; and its time over that of `psnr` (1.4 measured at effort 1 on photographs of 0.4 megapixels).
const VISUAL_BYTES_A_PIXEL: u64 = 220;
const VISUAL_TIME: f64 = 1.4;

/// Seconds of a fit for each megapixel at efforts 1 to 9, on two cores: 1, 3, 5 and 9 measured on photographs of 0.4
/// megapixels, the others by their steps.
const SECONDS: [f64; 9] = [25.0, 45.0, 70.0, 100.0, 150.0, 270.0, 480.0, 850.0, 1500.0];
/// A picture of fewer megapixels takes no less.
const LEAST_MEGAPIXELS: f64 = 0.02;

/// A weight's typical cost in bytes before it is known.
const BYTES_A_WEIGHT: f64 = 0.95;

/// What comes after the choice of codes, in the time of its passes.
const PASSES_AFTER: u32 = 12;

fn cost(options: &Options, pixels: usize, _samples_a_pixel: usize) -> Cost {
    let megapixels = (pixels as f64 / 1e6).max(LEAST_MEGAPIXELS);
    let seconds = SECONDS[options.effort as usize - 1] * megapixels * plan::passes(pixels);
    let features = plan::features(options.effort, pixels) as u64;
    let visual = options.tune == Tune::Visual;
    let seconds = seconds * if visual { VISUAL_TIME } else { 1.0 };
    let more = if visual { VISUAL_BYTES_A_PIXEL } else { 0 };
    let memory = (BYTES_A_PIXEL + more + BYTES_A_FEATURE * features) * pixels as u64 + BYTES_FIXED;
    let least_seconds = plan::LEAST * SECONDS[0] * megapixels * plan::passes(pixels);
    Cost { seconds, least_seconds: least_seconds.min(seconds), memory }
}

fn begin<'a>(pictures: &'a [Picture], options: &'a Options, besides: u64) -> Result<Begun<'a>> {
    let pixels: usize = pictures.iter().map(|p| p.pixels()).sum();
    let spectrum = Spectrum::new(pictures);
    let control = LambdaControl::new(options, pixels, besides, || &spectrum);
    let plan = Plan::of(pictures, options.effort, spectrum.cost(control.lambda()) * pixels as f64);
    let trainer = start(pictures, options, &plan, 0);
    Ok((Box::new(PyramidFit { pictures, options, plan, trainer, others: Vec::new() }), control))
}

/// The `n`-th start of a fit.
fn start(pictures: &[Picture], options: &Options, plan: &Plan, n: u64) -> Trainer {
    let seed = options.seed ^ n << 32;
    Trainer::new(plan.spec.clone(), pictures, plan.stages[0].finest, Level::best(), seed, options.tune)
}

/// A fit under way.
struct PyramidFit<'a> {
    pictures: &'a [Picture],
    options: &'a Options,
    plan: Plan,
    trainer: Trainer,
    /// Other starts, which make the same steps in the first stage.
    others: Vec<Trainer>,
}

impl PyramidFit<'_> {
    fn loss(&mut self, lambda: f64) -> f64 {
        let m = self.trainer.measure(self.pictures, Measure::Psnr);
        m.mse() + m.rate(lambda, self.trainer.pixels())
    }

    fn split(&self) -> bool {
        self.options.tile.is_some_and(|side| side != 0)
    }

    /// The last choice of codes, while there is time.
    fn optimise_codes(&mut self, quantised: &Quantised, codes: &mut [Codes], lambda: f64, time: &TimeLeft) {
        if self.options.tune != Tune::Psnr {
            return;
        }
        let model = PyramidModel::from_quantised(self.plan.spec.clone(), quantised.clone(), false);
        let mut last = Instant::now();
        let mut go_on = || {
            let now = Instant::now();
            time.has((now - std::mem::replace(&mut last, now)) * PASSES_AFTER)
        };
        rdo::optimise_codes(&mut self.trainer, &model, self.pictures, codes, lambda, self.plan.passes(), &mut go_on);
    }
}

impl Fit for PyramidFit<'_> {
    fn stages(&self) -> Vec<super::Stage> {
        let last = self.plan.stages.len() - 1;
        let stage = |(i, s): (usize, &plan::Stage)| super::Stage {
            steps: s.steps,
            least: self.plan.least(i),
            cost: s.cost() * if i == 0 { STARTS as f64 } else { 1.0 },
            candidates: 0,
            settles: i == last,
        };
        self.plan.stages.iter().enumerate().map(stage).collect()
    }

    fn enter(&mut self, stage: usize) {
        if stage == 0 {
            self.others = (1..STARTS).map(|n| start(self.pictures, self.options, &self.plan, n)).collect();
            return;
        }
        self.trainer.refine(self.pictures, self.plan.stages[stage].finest, self.plan.kept());
        if self.plan.builds() {
            self.trainer.inherit();
        }
    }

    fn step(&mut self, step: &Step) {
        let anneal = match step.stage {
            Some(stage) => self.plan.course(stage)(step.progress),
            None => Anneal::touch_up(step.progress),
        };
        // Small pictures keep few threads busy, several of them side by side more.
        self.others.par_iter_mut().chain([&mut self.trainer]).for_each(|t| t.step(step.lambda, &anneal));
    }

    fn look(&mut self, measure: Measure) -> Measured {
        let m = self.trainer.measure(self.pictures, measure);
        Measured { bytes: m.bytes + self.plan.spec.weights_count() as f64 * BYTES_A_WEIGHT, ..m }
    }

    /// The first stage ends with the start of least loss.
    fn leave(&mut self, _stage: usize, lambda: f64) {
        if self.others.is_empty() {
            return;
        }
        let mut lowest = self.loss(lambda);
        for other in std::mem::take(&mut self.others) {
            let best = std::mem::replace(&mut self.trainer, other);
            let loss = self.loss(lambda);
            if loss < lowest {
                lowest = loss;
            } else {
                self.trainer = best;
            }
        }
    }

    fn finish(&mut self, lambda: f64, time: &TimeLeft) -> Fitted {
        let (spec, tune) = (self.plan.spec.clone(), self.options.tune);
        let mut codes = self.trainer.codes();
        let quantised = weight_steps::search(&mut self.trainer, lambda);
        for (n, g) in prune::prune(&spec, &quantised, self.pictures, &mut codes, lambda, tune) {
            self.trainer.prune(n, g);
        }
        self.optimise_codes(&quantised, &mut codes, lambda, time);
        let f16 = self.options.weights == WeightCoding::F16;
        let model = PyramidModel::from_quantised(spec, quantised, self.split()).with_f16(f16);
        Fitted { model: Box::new(model), codes, tile: self.options.tile.unwrap_or(0) }
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.trainer.save(out);
    }

    fn restore(&mut self, stage: usize, state: &[u8]) -> bool {
        if stage > 0 {
            self.trainer.refine(self.pictures, self.plan.stages[stage].finest, self.plan.kept());
        }
        self.trainer.restore(state)
    }
}
