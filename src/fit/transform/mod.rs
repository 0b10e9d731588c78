//! The fit of the families that have a [synthesis transform](crate::models::transform): analysis, synthesis and what the
//! rate learns are trained on patches of the pictures; then the codes that one pass of the analysis gives are moved
//! directly, with the synthesis, until they cost least. What codes cost is the family's ([`Rate`]).

pub mod bands;
pub mod net;
pub mod patch;
pub mod rate;
mod refine;
mod train;
mod wavelet_start;
mod workers;

use super::checkpoint::{read_floats, write_floats};
use super::target::{LambdaControl, Measured};
use super::water_filling::Spectrum;
use super::{Begun, Cost, Fit, Fitted, Options, Stage, Step, Target, TimeLeft, WeightCoding};
use crate::error::Result;
use crate::image::Picture;
use crate::models::transform::weights::Quantised;
use crate::models::transform::{Stored, TransformSpec};
use bands::{Bands, Shaped};
use net::Net;
use rate::Rate;
use refine::Refiner;
use train::Trainer;

/// Pictures of more than the first of these pixels are cut into tiles of the second side.
pub const TILES: (usize, usize) = (1 << 22, 2048);

/// Steps of the two stages at effort 1; half as many again for each level. And those without which there is no result.
const STEPS: [f64; 2] = [240.0, 120.0];
const LEAST_STEPS: [u32; 2] = [24, 12];

/// Files that are tried in the second stage: weights close to a rounding boundary jump back and forth, and the quality with
/// them, by up to 1 dB. Fewer for more pixels than `LARGE`, where each takes long.
const CANDIDATES: u32 = 8;
const LARGE: f64 = (1 << 22) as f64;

const GROWTH: f64 = 1.5;

/// Seconds of the two stages of a family at effort 1, on two cores.
pub type Seconds = [f64; 2];

/// Side of the square of pixels that a batch of the first stage sees at most, and pixels of a step of the second: larger
/// pictures take no longer.
const PATCH_SIDE: f64 = 160.0;
const STEP_PIXELS: f64 = 1e6;
/// Passes over all tiles: analysis, rounds of writing and measuring the file.
const SECONDS_A_MEGAPIXEL: f64 = 2.0;
/// Memory, measured at 32 channels; and what a sample takes.
const BYTES_A_PIXEL: f64 = 33.0;
const BYTES_A_SAMPLE: f64 = 2.0;
const BYTES_FIXED: f64 = 40e6;

/// What a weight costs in bytes before the steps are chosen.
const WEIGHT_BYTES: f64 = 0.3;

/// How far the bands may take the first lambda from that of an ideal code: what few channels cannot reach, no lambda can.
const PLAN_MOVE: f64 = 4.0;

/// The part of the second stage after which the weights' steps are chosen once more.
const CHOOSE_AGAIN: f64 = 0.5;

/// Weights' steps are chosen again when they should be finer or coarser by so many bits.
const MOVED: f64 = 0.2;

/// How fast the running means of what steps measured follow.
const FADE: f64 = 0.02;

/// Seconds of a step of each stage.
fn step_seconds(seconds: Seconds, pixels: usize) -> [f64; 2] {
    // A small picture's patches are smaller; 32 pixels of margin are computed with them.
    let side = (pixels as f64).sqrt() + 32.0;
    let patch = (side / PATCH_SIDE).powi(2).min(1.0);
    let part = (pixels as f64 / STEP_PIXELS).min(1.0);
    [seconds[0] / STEPS[0] * patch, seconds[1] / STEPS[1] * part]
}

fn steps(effort: u32) -> [u32; 2] {
    STEPS.map(|s| (s * GROWTH.powi(effort as i32 - 1)) as u32)
}

/// Time and memory of a fit of a family whose stages take `seconds`.
pub fn cost(seconds: Seconds, options: &Options, pixels: usize, samples_a_pixel: usize) -> Cost {
    let passes = SECONDS_A_MEGAPIXEL * pixels as f64 / 1e6;
    let all = |counts: [u32; 2]| {
        let each = step_seconds(seconds, pixels);
        f64::from(counts[0]) * each[0] + f64::from(counts[1]) * each[1] + passes
    };
    let memory = BYTES_FIXED + (BYTES_A_PIXEL + BYTES_A_SAMPLE * samples_a_pixel as f64) * pixels as f64;
    Cost { seconds: all(steps(options.effort)), least_seconds: all(LEAST_STEPS), memory: memory as u64 }
}

/// Plans a fit: `shape` gives the transform, `rate` what its codes cost.
pub fn begin<'a, R: Rate + 'a>(
    pictures: &'a [Picture],
    options: &'a Options,
    besides: u64,
    shape: Shaped,
    seconds: Seconds,
    rate: impl FnOnce(&TransformSpec) -> R,
) -> Result<Begun<'a>> {
    let pixels: usize = pictures.iter().map(Picture::pixels).sum();
    let mut control = LambdaControl::new(options, pixels, besides, || Spectrum::new(pictures));
    let bands = Bands::new(pictures, shape);
    let planned = match options.target {
        Target::Psnr(db) => Some(bands.solve(options.channels, db, |p| -10.0 * p.mse.log10())),
        Target::Bpp(bpp) => Some(bands.solve(options.channels, bpp, |p| p.bpp)),
        Target::Size(bytes) => Some(bands.solve(options.channels, 8.0 * bytes as f64 / pixels as f64, |p| p.bpp)),
        _ => None,
    };
    if let Some(planned) = planned {
        let (least, most) = (control.lambda() / PLAN_MOVE, control.lambda() * PLAN_MOVE);
        control.set_lambda(planned.clamp(least, most));
    }
    let plan = bands.plan(control.lambda(), options.channels);
    let spec = shape(plan.n, pictures[0].format.channels);
    let samples: u64 = pictures[0].samples.iter().map(|&s| u64::from(s)).sum();
    let mean = samples as f32 / pictures[0].samples.len() as f32 / f32::from(pictures[0].format.peak());
    let rate = rate(&spec);
    let net = Net::new(spec, &rate, &plan.order, mean, control.lambda(), options.seed);
    let trainer = Trainer::new(&net);
    let fit = TransformFit {
        pictures,
        options,
        seconds,
        net,
        rate,
        trainer,
        refiner: None,
        steps_for: 0.0,
        chosen_again: false,
        mse: None,
        bpp: 0.0,
        pixels: pixels as f64,
    };
    Ok((Box::new(fit), control))
}

/// A fit under way.
struct TransformFit<'a, R: Rate> {
    pictures: &'a [Picture],
    options: &'a Options,
    seconds: Seconds,
    net: Net,
    rate: R,
    trainer: Trainer<R>,
    /// Of the second stage.
    refiner: Option<Refiner<R>>,
    /// The lambda that the weights' steps were chosen for.
    steps_for: f64,
    /// Whether they were chosen for the second time.
    chosen_again: bool,
    /// Running means over the steps of a stage.
    mse: Option<f64>,
    bpp: f64,
    pixels: f64,
}

impl<R: Rate> TransformFit<'_, R> {
    /// The codes of one pass of the analysis.
    fn analysed(&mut self) -> Refiner<R> {
        let codes = train::analyse(&mut self.net, &mut self.trainer.workers, self.pictures);
        self.rate.prepare(self.net.rates_own(), true);
        let mut refiner = Refiner::new(&self.net, &self.rate, self.pictures, codes);
        if R::SORTS {
            refiner.sort_channels(&mut self.net, &self.rate);
        }
        refiner
    }

    /// Chooses the weights' steps if there are none, if it is `due`, or if those were chosen for another lambda: they
    /// would hold quality, or bytes, where they are.
    fn choose_steps(&mut self, lambda: f64, due: bool) {
        let (Some(refiner), WeightCoding::Coded) = (&self.refiner, self.options.weights) else { return };
        // The step that serves a lambda grows with its root.
        let finer = 0.5 * (self.steps_for / lambda).log2();
        if self.net.exponents.is_some() && finer > MOVED {
            self.net.refine_steps(finer.ceil() as u32);
        } else if due || finer < -MOVED || self.net.exponents.is_none() {
            let (workers, tune) = (&mut self.trainer.workers, self.options.tune);
            refiner.choose_steps(&mut self.net, workers, self.pictures, tune, lambda);
        } else {
            return;
        }
        self.steps_for = lambda;
    }

    fn note(&mut self, mse: f64, bpp: f64) {
        let fade = if self.mse.is_none() { 1.0 } else { FADE };
        let before = self.mse.unwrap_or(0.0);
        self.mse = Some(before + fade * (mse - before));
        self.bpp += fade * (bpp - self.bpp);
    }

    fn fitted(&self) -> Fitted {
        let net = &self.net;
        let values = net.synthesis_values();
        let stored = match (&net.exponents, self.options.weights) {
            (Some(e), WeightCoding::Coded) => Stored::Coded(Quantised::new(&net.tensors, &values, e.clone())),
            _ => Stored::rounded_to_f16(&values),
        };
        Fitted {
            codes: self.refiner.iter().flat_map(|r| r.codes(&self.rate)).collect(),
            model: self.rate.model(net.spec, stored, net.rates_own()),
            tile: self.options.tile.unwrap_or(0),
        }
    }
}

impl<R: Rate> Fit for TransformFit<'_, R> {
    fn stages(&self) -> Vec<Stage> {
        let (steps, costs) = (steps(self.options.effort), step_seconds(self.seconds, self.pixels as usize));
        let candidates = match (self.pixels > LARGE, self.options.target.may_be_missed()) {
            (false, _) => CANDIDATES,
            (true, true) => CANDIDATES / 2,
            (true, false) => CANDIDATES / 4,
        };
        let stage = |i: usize| Stage {
            steps: steps[i],
            least: LEAST_STEPS[i],
            cost: costs[i],
            candidates: if i == 1 { candidates } else { 0 },
            settles: i == 1,
        };
        vec![stage(0), stage(1)]
    }

    fn enter(&mut self, stage: usize) {
        self.mse = None;
        if stage == 1 {
            self.refiner = Some(self.analysed());
        }
    }

    fn step(&mut self, step: &Step) {
        let (tune, seed, progress) = (self.options.tune, self.options.seed, step.progress as f32);
        if step.stage == Some(0) {
            let (net, rate, trainer) = (&mut self.net, &mut self.rate, &mut self.trainer);
            let seen = trainer.step(net, rate, self.pictures, tune, step.lambda, seed, step.number, progress);
            return self.note(seen.mse, seen.bpp);
        }
        let due = !self.chosen_again && step.stage.is_some() && step.progress >= CHOOSE_AGAIN;
        self.chosen_again |= due;
        self.choose_steps(step.lambda, due);
        let Some(refiner) = &mut self.refiner else { return };
        // A touch-up goes on with the small moves of the stage's end.
        let progress = if step.stage.is_some() { progress } else { 0.6 + 0.4 * progress };
        let (net, rate, workers) = (&mut self.net, &mut self.rate, &mut self.trainer.workers);
        refiner.step(net, rate, workers, self.pictures, tune, step.lambda, seed, step.number, progress);
    }

    /// Of the first stage; the second is measured by its candidates.
    fn look(&mut self, _: super::target::Measure) -> Measured {
        let rates = self.rate.weights_bits(self.net.rates_own()) / 8.0;
        let weights = WEIGHT_BYTES * self.net.spec.weights_count() as f64 + rates;
        Measured::new(self.mse.unwrap_or(1.0), self.bpp * self.pixels / 8.0 + weights)
    }

    fn finish(&mut self, lambda: f64, _: &TimeLeft) -> Fitted {
        self.choose_steps(lambda, false);
        self.rate.prepare(self.net.rates_own(), true);
        self.fitted()
    }

    /// Exponents of the weights' steps (none: 0 of them), parameters, codes before rounding in the second stage.
    fn save(&self, out: &mut Vec<u8>) {
        let exponents = self.net.exponents.as_deref().unwrap_or_default();
        out.push(exponents.len() as u8);
        out.extend(exponents.iter().map(|&e| e as u8));
        write_floats(out, &self.net.parameters);
        self.refiner.iter().for_each(|r| r.save(&self.rate, out));
    }

    fn restore(&mut self, stage: usize, mut state: &[u8]) -> bool {
        let b = &mut state;
        let Some((&count, rest)) = b.split_first() else { return false };
        *b = rest;
        let Some(exponents) = b.split_off(..usize::from(count)) else { return false };
        let fits = matches!(exponents.len(), 0) || exponents.len() == self.net.tensors.len();
        if !fits || !read_floats(b, &mut self.net.parameters) {
            return false;
        }
        self.net.exponents = (count > 0).then(|| exponents.iter().map(|&e| u32::from(e)).collect());
        if stage == 1 {
            self.rate.prepare(self.net.rates_own(), true);
            let sizes = self.pictures.iter().map(patch::grid_of);
            let codes: Vec<Vec<f32>> = sizes.map(|(w, h)| vec![0.0; self.net.spec.n() * w * h]).collect();
            let mut refiner = Refiner::new(&self.net, &self.rate, self.pictures, codes);
            if !refiner.restore(&self.rate, b) {
                return false;
            }
            self.refiner = Some(refiner);
        }
        b.is_empty()
    }
}

#[cfg(test)]
mod tests;
