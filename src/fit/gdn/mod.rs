//! Family `gdn`: analysis, synthesis and density are learned on patches of the pictures; then the codes that one
//! pass of the analysis gives are moved directly, with the synthesis, until they cost least.

mod bands;
mod net;
mod rate;
mod refine;
mod train;
mod wavelet_start;
mod workers;

use super::checkpoint::{read_floats, write_floats};
use super::file;
use super::target::{LambdaControl, Measured};
use super::water_filling::Spectrum;
use super::{Begun, Cost, Family, Fit, Fitted, Options, Stage, Step, Target, TimeLeft, Tune, WeightCoding};
use crate::error::Result;
use crate::image::{Picture, Rect};
use crate::metrics;
use crate::models::gdn::weights::Quantised;
use crate::models::gdn::{GdnModel, GdnSpec, MAX_CHANNELS, SHIFT};
use crate::models::{Codes, Grid};
use bands::Bands;
use net::Net;
use refine::Refiner;
use train::Trainer;

/// The encoder's half of the family.
pub const FAMILY: Family = Family {
    name: "gdn",
    tunes: &[Tune::Psnr, Tune::Ssim, Tune::MsSsim],
    channels: Some(1..=MAX_CHANNELS),
    tiles: (1 << 22, 2048),
    cost,
    begin,
};

/// Steps of the two stages at effort 1; half as many again for each level. And those without which there is no result.
const STEPS: [f64; 2] = [240.0, 120.0];
const LEAST_STEPS: [u32; 2] = [24, 12];
const GROWTH: f64 = 1.5;

/// Seconds of the two stages at effort 1, on two cores and at 24 channels.
const SECONDS: [f64; 2] = [14.0, 22.0];
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

/// Files that are tried in the second stage: weights close to a rounding boundary jump back and forth, and the quality with
/// them, by up to 1 dB. Fewer for more pixels than `LARGE`, where each takes long.
const CANDIDATES: u32 = 8;
const LARGE: f64 = (1 << 22) as f64;

/// The part of the second stage after which the weights' steps are chosen once more.
const CHOOSE_AGAIN: f64 = 0.5;

/// Weights' steps are chosen again when they should be finer or coarser by so many bits.
const MOVED: f64 = 0.2;

/// How fast the running means of what steps measured follow.
const FADE: f64 = 0.02;

/// Seconds of a step of each stage.
fn step_seconds(pixels: usize) -> [f64; 2] {
    // A small picture's patches are smaller; 32 pixels of margin are computed with them.
    let side = (pixels as f64).sqrt() + 32.0;
    let patch = (side / PATCH_SIDE).powi(2).min(1.0);
    let part = (pixels as f64 / STEP_PIXELS).min(1.0);
    [SECONDS[0] / STEPS[0] * patch, SECONDS[1] / STEPS[1] * part]
}

fn steps(effort: u32) -> [u32; 2] {
    STEPS.map(|s| (s * GROWTH.powi(effort as i32 - 1)) as u32)
}

fn cost(options: &Options, pixels: usize, samples_a_pixel: usize) -> Cost {
    let passes = SECONDS_A_MEGAPIXEL * pixels as f64 / 1e6;
    let all = |counts: [u32; 2]| {
        let each = step_seconds(pixels);
        f64::from(counts[0]) * each[0] + f64::from(counts[1]) * each[1] + passes
    };
    let memory = BYTES_FIXED + (BYTES_A_PIXEL + BYTES_A_SAMPLE * samples_a_pixel as f64) * pixels as f64;
    Cost { seconds: all(steps(options.effort)), least_seconds: all(LEAST_STEPS), memory: memory as u64 }
}

fn begin<'a>(pictures: &'a [Picture], options: &'a Options, besides: u64) -> Result<Begun<'a>> {
    let pixels: usize = pictures.iter().map(Picture::pixels).sum();
    let mut control = LambdaControl::new(options, pixels, besides, || Spectrum::new(pictures));
    let bands = Bands::new(pictures);
    let planned = match options.target {
        Target::Psnr(db) => Some(bands.solve(options.channels, db, |p| -10.0 * p.mse.log10())),
        Target::Bpp(bpp) => Some(bands.solve(options.channels, bpp, |p| p.bpp)),
        Target::Size(bytes) => Some(bands.solve(options.channels, 8.0 * bytes as f64 / pixels as f64, |p| p.bpp)),
        Target::Quality(_) | Target::Lambda(_) | Target::MsSsim(_) => None,
    };
    if let Some(planned) = planned {
        let (least, most) = (control.lambda() / PLAN_MOVE, control.lambda() * PLAN_MOVE);
        control.set_lambda(planned.clamp(least, most));
    }
    let plan = bands.plan(control.lambda(), options.channels);
    let spec = GdnSpec::new(plan.n, pictures[0].channels);
    let samples: u64 = pictures[0].samples.iter().map(|&s| u64::from(s)).sum();
    let mean = samples as f32 / pictures[0].samples.len() as f32 / 255.0;
    let net = Net::new(spec, &plan.order, mean, control.lambda(), options.seed);
    let trainer = Trainer::new(&net);
    let fit = GdnFit {
        pictures,
        options,
        net,
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
struct GdnFit<'a> {
    pictures: &'a [Picture],
    options: &'a Options,
    net: Net,
    trainer: Trainer,
    /// Of the second stage.
    refiner: Option<Refiner>,
    /// The lambda that the weights' steps were chosen for.
    steps_for: f64,
    /// Whether they were chosen for the second time.
    chosen_again: bool,
    /// Running means over the steps of a stage.
    mse: Option<f64>,
    bpp: f64,
    pixels: f64,
}

impl GdnFit<'_> {
    /// The codes of one pass of the analysis, by falling activity of their channels.
    fn analysed(&mut self) -> Refiner {
        let codes = train::analyse(&mut self.net, &mut self.trainer.workers, self.pictures);
        let mut refiner = Refiner::new(&self.net, self.pictures, codes);
        refiner.sort_channels(&mut self.net);
        refiner.update_rates(self.net.spec.n);
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
        let (net, pictures) = (&self.net, self.pictures);
        let values = net.synthesis_values();
        let model = match (&net.exponents, self.options.weights) {
            (Some(e), WeightCoding::Coded) => {
                GdnModel::from_quantised(net.spec, Quantised::new(&net.spec, &values, e.clone()))
            }
            _ => GdnModel::from_weights(net.spec, &values),
        };
        let codes = self.refiner.iter().flat_map(Refiner::codes);
        let codes = pictures.iter().zip(codes).map(|(p, codes)| -> Codes {
            let mut grid = Grid::new(Rect::whole(p.width, p.height).shrunk(SHIFT), net.spec.n);
            grid.codes.copy_from_slice(codes);
            vec![grid]
        });
        Fitted { codes: codes.collect(), model: Box::new(model), tile: self.options.tile.unwrap_or(0) }
    }
}

impl Fit for GdnFit<'_> {
    fn stages(&self) -> Vec<Stage> {
        let (steps, costs) = (steps(self.options.effort), step_seconds(self.pixels as usize));
        let candidates = match (self.pixels > LARGE, self.options.target.moves()) {
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
            let (net, trainer) = (&mut self.net, &mut self.trainer);
            let now = trainer.step(net, self.pictures, tune, step.lambda, seed, step.number, progress);
            return self.note(now.mse, now.bpp);
        }
        let due = !self.chosen_again && step.stage.is_some() && step.progress >= CHOOSE_AGAIN;
        self.chosen_again |= due;
        self.choose_steps(step.lambda, due);
        let Some(refiner) = &mut self.refiner else { return };
        // A touch-up goes on with the small moves of the stage's end.
        let progress = if step.stage.is_some() { progress } else { 0.6 + 0.4 * progress };
        let (net, workers) = (&mut self.net, &mut self.trainer.workers);
        let d = refiner.step(net, workers, self.pictures, tune, step.lambda, seed, step.number, progress);
        let bpp = refiner.bits() / self.pixels;
        self.note(d.mse(), bpp);
    }

    fn look(&mut self, similarity: bool) -> Measured {
        let weights = match &self.net.exponents {
            Some(e) => {
                Quantised::new(&self.net.spec, &self.net.synthesis_values(), e.clone()).bits(&self.net.spec) / 8.0
            }
            None => WEIGHT_BYTES * self.net.spec.weights_count() as f64,
        };
        let bpp = self.refiner.as_ref().map_or(self.bpp, |r| r.bits() / self.pixels);
        let similarity = (similarity && self.refiner.is_some()).then(|| {
            let fitted = self.fitted();
            let of = |(p, codes): (&Picture, &Codes)| {
                metrics::ms_ssim(p, &file::decoded(fitted.model.as_model(), p, codes)).unwrap_or(1.0)
            };
            self.pictures.iter().zip(&fitted.codes).map(of).sum::<f64>() / self.pictures.len() as f64
        });
        Measured::new(self.mse.unwrap_or(1.0), similarity.unwrap_or(0.0), bpp * self.pixels / 8.0 + weights)
    }

    fn finish(&mut self, lambda: f64, _: &TimeLeft) -> Fitted {
        self.choose_steps(lambda, false);
        self.fitted()
    }

    /// Exponents of the weights' steps (none: 0 of them), parameters, codes before rounding in the second stage.
    fn save(&self, out: &mut Vec<u8>) {
        let exponents = self.net.exponents.as_deref().unwrap_or_default();
        out.push(exponents.len() as u8);
        out.extend(exponents.iter().map(|&e| e as u8));
        write_floats(out, &self.net.parameters);
        self.refiner.iter().flat_map(Refiner::values).for_each(|y| write_floats(out, y));
    }

    fn restore(&mut self, stage: usize, mut state: &[u8]) -> bool {
        let b = &mut state;
        let Some((&count, rest)) = b.split_first() else { return false };
        *b = rest;
        let Some(exponents) = b.split_off(..usize::from(count)) else { return false };
        let fits = matches!(exponents.len(), 0) || exponents.len() == self.net.spec.tensors().len();
        if !fits || !read_floats(b, &mut self.net.parameters) {
            return false;
        }
        self.net.exponents = (count > 0).then(|| exponents.iter().map(|&e| u32::from(e)).collect());
        if stage == 1 {
            let sizes = self.pictures.iter().map(net::grid_of);
            let mut codes: Vec<Vec<f32>> = sizes.map(|(w, h)| vec![0.0; self.net.spec.n * w * h]).collect();
            if !codes.iter_mut().all(|y| read_floats(b, y)) {
                return false;
            }
            self.refiner = Some(Refiner::new(&self.net, self.pictures, codes));
        }
        b.is_empty()
    }
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

                let codes = train::analyse(&mut net, &mut trainer.workers, &pictures);
                let (mut refiner, workers) = (Refiner::new(&net, &pictures, codes), &mut trainer.workers);
                refiner.choose_steps(&mut net, workers, &pictures, tune, lambda);
                let mut count = |steps: std::ops::Range<u64>| {
                    let mut run = |k| {
                        refiner.step(&mut net, workers, &pictures, tune, lambda, 1, k, 0.5);
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
        let codes = train::analyse(&mut net, &mut trainer.workers, &pictures);
        let mut refiner = Refiner::new(&net, &pictures, codes);
        let workers = &mut trainer.workers;
        refiner.choose_steps(&mut net, workers, &pictures, Tune::Psnr, lambda);
        for k in 0..150 {
            refiner.step(&mut net, workers, &pictures, Tune::Psnr, lambda, 1, k, k as f32 / 150.0);
        }
        let psnr = |net: &mut Net, workers: &mut workers::Workers| {
            net.prepare(net::SYNTHESIS);
            -10.0 * refiner.distortion(net, workers, &pictures, Tune::Psnr, &[0]).mse().log10()
        };
        let rounded = psnr(&mut net, workers);
        net.exponents = None;
        let float = psnr(&mut net, workers);
        assert!(rounded > 28.0 && rounded > float - 0.1, "{rounded} dB, with float weights {float} dB");
    }
}
