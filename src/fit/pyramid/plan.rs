//! What an effort buys: the size of the networks and the number of steps.

use crate::image::Picture;
use crate::models::pyramid::spec::{usual_trunk, PyramidSpec};

/// Fitting at `1/2^finest` of the picture for `steps` steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    pub finest: u32,
    pub steps: u32,
}

impl Stage {
    /// What a step takes beside one at full size: a coarse step costs more than its pixels.
    pub fn cost(&self) -> f64 {
        0.02 + 1.0 / 4f64.powi(self.finest as i32)
    }
}

/// Steps of each stage below which a fit has no result, and their part of the time of a fit at effort 1.
const LEAST_STEPS: u32 = 60;
pub(super) const LEAST: f64 = 0.35;

/// The course of one fit.
#[derive(Clone, Debug)]
pub struct Plan {
    pub spec: PyramidSpec,
    /// Coarse to fine; the last is the picture itself.
    pub stages: Vec<Stage>,
}

/// A size of the networks.
struct Size {
    /// Inputs of the context network: codes of the grid itself, features of coarser grids.
    spatial: usize,
    features: usize,
    /// Width of the synthesis, and its residual 3x3 layers.
    hidden: usize,
    residuals: usize,
    /// It pays where codes and errors together cost this many bits by reverse water-filling: what larger networks save is a
    /// share of it, their weights cost about the same everywhere. A smooth picture of 0.4 megapixels reaches the bounds at lambda
    /// 0.002, 0.016 and 0.08, a detailed one at three to five times as much. 48 makes 1 % less J than 32 at 0.001 and no less at
    /// 0.003, 32 makes 2 % less than 16 at 0.005 and 0.01, 3 to 6 % at 0.003, and 16 makes 2.6 % less than 8 at 0.03.
    cost: f64,
    /// It pays in fits of this many full-size steps: more weights take longer to learn.
    least: f64,
    /// Steps that it makes in the time of one of width 32.
    speed: f64,
}

const SIZES: [Size; 5] = [
    Size { spatial: 6, features: 2, hidden: 8, residuals: 0, cost: 0.0, least: 0.0, speed: 2.8 },
    Size { spatial: 10, features: 4, hidden: 16, residuals: 0, cost: 2.8e4, least: 150.0, speed: 1.95 },
    Size { spatial: 10, features: 4, hidden: 16, residuals: 1, cost: 2.8e4, least: 300.0, speed: 1.7 },
    Size { spatial: 14, features: 6, hidden: 32, residuals: 2, cost: 5.5e4, least: 550.0, speed: 1.0 },
    Size { spatial: 14, features: 6, hidden: 48, residuals: 2, cost: 1.6e5, least: 3000.0, speed: 0.8 },
];

/// What efforts 1 to 9 buy, in full-size steps of the networks of width 32.
const STEPS: [f64; 9] = [92.0, 210.0, 353.0, 588.0, 820.0, 2200.0, 4000.0, 6500.0, 11000.0];

/// Beyond a megapixel each doubling of the pixels needs fewer passes, as the networks are learned once; by this power.
/// (A picture of 4 megapixels makes 0.55 of the steps, one of 16 makes 0.29.)
const LEARNED_ONCE: f64 = 0.45;

/// Part of the steps of an effort that a picture of so many pixels needs.
pub fn passes(pixels: usize) -> f64 {
    (pixels as f64 / (1 << 20) as f64).max(1.0).powf(-LEARNED_ONCE)
}

/// The largest size that pays, and its full-size steps: what smaller networks leave of an effort's time goes into more steps.
fn size(effort: u32, pixels: usize, cost: f64) -> (&'static Size, f64) {
    let time = STEPS[effort.clamp(1, 9) as usize - 1] * passes(pixels);
    let pays = |(size, steps): &(&Size, f64)| cost >= size.cost && *steps >= size.least;
    SIZES.iter().map(|size| (size, time * size.speed)).rfind(pays).expect("the smallest always pays")
}

/// Features of coarser grids at an effort, at most.
pub(super) fn features(effort: u32, pixels: usize) -> usize {
    size(effort, pixels, f64::INFINITY).0.features
}

/// Scales of colour pictures that have a second grid: 1/4 and 1/8. kodim23 makes 8 % less J with them, kodim08 1 %;
/// coarser ones give 1 % more and take a quarter more time, finer ones lose.
const CHROMA: u8 = 0b1100;

/// Steps of a coarse stage at most: it is a start, not an end.
const COARSE_STEPS: f64 = 600.0;

/// Full-size steps from which a fit is long.
const LONG: u32 = 500;

/// Full-size steps for each pass through a grid in the last choice of codes.
const STEPS_A_PASS: u32 = 180;

/// Soft-rounding temperature at the start of `full` steps at full size. Codes that are hardly rounded pay in halves and
/// thirds, and those of fine texture stay that small; when they must be whole, they vanish. Networks learn best from such
/// codes, so short fits start warm; in long ones there is time enough for a texture to be lost (a crop of kodim13, 8000
/// steps: 10 % of J).
fn warmth(full: u32) -> f64 {
    (0.5 - 0.1 * (f64::from(full) / 1500.0).ln()).clamp(0.35, 0.6)
}

impl Plan {
    /// How to fit pictures that share their networks. `cost` is what the fit is expected to end with, `bits + (P / lambda) MSE`:
    /// [`Spectrum::cost`](crate::fit::water_filling::Spectrum::cost).
    pub fn of(pictures: &[Picture], effort: u32, cost: f64) -> Plan {
        let pixels = pictures.iter().map(Picture::pixels).sum();
        let smallest = pictures.iter().map(|p| p.width.min(p.height)).min().unwrap_or(1);
        Plan::new(effort, pictures[0].channels, pixels, smallest, cost)
    }

    /// `pixels` of all pictures together; `smallest` is the shortest side of any.
    pub(super) fn new(effort: u32, channels: usize, pixels: usize, smallest: usize, cost: f64) -> Plan {
        let (size, steps) = size(effort, pixels, cost);
        let Size { spatial, features, hidden, residuals, .. } = *size;
        let mut spec = PyramidSpec::preset(channels, pixels, spatial, features, hidden);
        spec.trunk = usual_trunk(channels, hidden, residuals);
        if channels > 1 {
            spec.second = CHROMA;
        }
        // Grids of less than two codes a side describe nothing that the next finer one does not.
        spec.depth = spec.depth.min((smallest.max(2) as f64).log2() as u32);
        spec.hyper_from = spec.hyper_from.min(spec.depth + 1);
        spec.second &= ((2u32 << spec.depth) - 1) as u8;
        // Features are of coarser grids.
        spec.feature_scales = spec.feature_scales.min(spec.depth);
        let full = (steps.round() as u32).max(100);
        let coarse_steps = full.min((COARSE_STEPS * passes(pixels)) as u32).max(50);
        let stages = (0..=3.min(spec.depth))
            .rev()
            .map(|finest| Stage { finest, steps: if finest == 0 { full } else { coarse_steps } })
            .collect();
        Plan { spec, stages }
    }

    /// Too short to start again at each finer grid: it builds on codes that are nearly final, and its synthesis sees a new grid
    /// as the next coarser one ([`Trainer::inherit`](super::train::Trainer::inherit)). Long fits have time to find a better
    /// direction for each: 0.5 % of J at 600 steps.
    pub fn builds(&self) -> bool {
        self.stages.last().is_some_and(|s| s.steps < LONG)
    }

    /// What is left of the latents when a finer grid appears.
    pub fn kept(&self) -> f32 {
        if self.builds() {
            0.85
        } else {
            0.3
        }
    }

    /// Steps of stage `i` that a time limit does not take away.
    pub fn least(&self, i: usize) -> u32 {
        self.stages[i].steps.min(LEAST_STEPS)
    }

    /// Passes through each grid in the last choice of codes: a thirtieth of the fit's time.
    pub fn passes(&self) -> usize {
        self.stages.last().map_or(0, |s| s.steps / STEPS_A_PASS).max(1) as usize
    }

    /// How stage `i` is fitted, by the part of it that has passed.
    pub fn course(&self, i: usize) -> impl Fn(f64) -> Anneal {
        let (last, start) = (i + 1 == self.stages.len(), warmth(self.stages[i].steps));
        let coarse = if self.builds() { Anneal::BUILDING } else { Anneal::LEARNING };
        move |progress| if last { Anneal::last(progress, start) } else { coarse }
    }
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug)]
pub struct Anneal {
    pub lr: f32,
    /// Soft-rounding temperature.
    pub temperature: f32,
    /// Standard deviation of the noise, in quantisation steps.
    pub sigma: f32,
    pub betas: (f32, f32),
    /// Steps for each look at the bits.
    pub bits_every: u64,
    /// The rate is weighted by this much more than lambda.
    pub rate_weight: f64,
    /// Bits that a code halfway between two integers is charged besides.
    pub whole: f32,
}

/// Gradients of the rate are the most expensive part of a step; they change slowly and serve the steps between as well.
/// Measured on crops at equal time: 1.1 % of J less than at every step.
const BITS_EVERY: u64 = 3;

/// What a code halfway between two integers is charged at the end of the last stage, in bits, and the part of the stage that
/// passes before.
const WHOLE: f32 = 4.0;
const FREE: f64 = 0.5;

impl Anneal {
    /// The start of each stage.
    const START: Anneal = Anneal {
        lr: 1e-2,
        temperature: 0.5,
        sigma: 0.22,
        betas: (0.8, 0.98),
        bits_every: BITS_EVERY,
        rate_weight: 1.0,
        whole: 0.0,
    };

    /// Coarse stages of a long fit are there for the networks: hardly any rounding, and noise of about its error.
    /// Latents that start again share the picture better among the grids (2.5 % of J at 600 steps).
    const LEARNING: Anneal = Anneal { lr: 1.5e-2, temperature: 1.0, sigma: 0.3, ..Anneal::START };

    /// Coarse stages of a short fit, which builds on their codes: what finer grids describe better is not for them.
    const BUILDING: Anneal = Anneal { rate_weight: 2.0, ..Anneal::START };

    /// A short return to a fitted model, after `lambda` or the weights were changed: its codes lie at whole numbers, and
    /// a larger rate, or gradients of the bits from another step, would drive them off.
    pub fn touch_up(progress: f64) -> Anneal {
        let lr = (1e-3 * (1.0 - progress)) as f32;
        Anneal { lr, temperature: 0.12, sigma: 0.15, bits_every: 1, ..Anneal::START }
    }

    /// The last stage: a cosine to zero, and ever harder rounding.
    fn last(progress: f64, warmth: f64) -> Anneal {
        let mix = |a: f64, b: f64| (a + (b - a) * progress) as f32;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        Anneal {
            lr: (1e-5 + (1e-2 - 1e-5) * cosine) as f32,
            temperature: mix(warmth, 0.07),
            sigma: mix(0.22, 0.15),
            whole: WHOLE * ((progress - FREE) / (1.0 - FREE)).max(0.0) as f32,
            ..Anneal::START
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{short_fit, waves};
    use crate::fit::pyramid::train::Trainer;

    /// Steps of a touch-up at the lambda of the fit make no file more costly.
    #[test]
    fn touch_ups_do_not_spoil_a_fit() {
        let (side, lambda, steps) = (64, 1e-3, 150);
        let pictures = [waves(side, 10.0)];
        let mut trainer = short_fit(&pictures, 1, lambda, steps);
        let loss = |trainer: &mut Trainer| {
            let m = trainer.measure(&pictures, false);
            m.mse() + m.rate(lambda, (side * side) as f64)
        };
        let fitted = loss(&mut trainer);
        for k in 0..30 {
            trainer.step(lambda, &Anneal::touch_up(k as f64 / 30.0));
            let now = loss(&mut trainer);
            assert!(now < 1.02 * fitted, "after {k} steps: {now} instead of {fitted}");
        }
    }

    #[test]
    fn longer_fits_start_cooler() {
        let starts = [100, 1500, 2200, 4000, 6500, 11000].map(warmth);
        assert_eq!((starts[0], starts[1], starts[5]), (0.6, 0.5, 0.35));
        assert!(starts.is_sorted_by(|a, b| a > b), "{starts:?}");
        let temperatures = [0.0, 0.5, 1.0].map(|p| Plan::new(9, 3, 1 << 19, 512, 1e6).course(3)(p).temperature);
        assert_eq!(temperatures, [0.35, 0.21, 0.07]);
    }

    /// Where there is little to save the networks are smaller, and their steps more, in the same time.
    #[test]
    fn an_effort_takes_its_time_at_any_cost() {
        let full = |effort, cost| {
            let plan = Plan::new(effort, 3, 1 << 19, 512, cost);
            (plan.spec.trunk[0].outputs, plan.spec.spatial, plan.stages[3].steps)
        };
        assert_eq!([1e6, 4e4, 1e4].map(|c| full(9, c)), [(48, 14, 8800), (16, 10, 18700), (8, 6, 30800)]);
        assert_eq!(full(9, 8e4), (32, 14, 11000));
        assert_eq!([1e6, 4e4, 1e4].map(|c| full(5, c)), [(32, 14, 820), (16, 10, 1394), (8, 6, 2296)]);
        assert_eq!([1e6, 4e4, 1e4].map(|c| full(1, c)), [(16, 10, 179), (16, 10, 179), (8, 6, 258)]);
    }

    /// A pass through each of six grids takes about as long as six steps.
    #[test]
    fn choices_take_a_part_of_the_steps() {
        let passes = [1, 5, 6, 7, 9].map(|e| Plan::new(e, 3, 1 << 19, 512, 1e6).passes());
        assert_eq!(passes, [1, 4, 12, 17, 48]);
    }

    /// Large networks take many steps to learn; large pictures make few.
    #[test]
    fn short_fits_have_smaller_networks() {
        let full = |effort, megapixels: usize| {
            let plan = Plan::new(effort, 3, megapixels << 20, 1024, 1e6);
            (plan.spec.trunk[0].outputs, plan.stages[3].steps)
        };
        assert_eq!([1, 2, 3, 4, 5].map(|e| full(e, 1)), [(16, 179), (16, 357), (16, 600), (32, 588), (32, 820)]);
        assert_eq!([1, 4, 16].map(|m| full(5, m)), [(32, 820), (16, 747), (16, 400)]);
        assert_eq!([1, 4, 16].map(|m| full(2, m)), [(16, 357), (16, 219), (8, 169)]);
    }

    /// The smallest and the thinnest pictures have a plan too; `tests/pyramid.rs` makes files of such.
    #[test]
    fn any_size_has_a_plan() {
        for (width, height) in [(1, 1), (1, 200), (3, 2), (17, 5)] {
            let plan = Plan::new(1, 3, width * height, width.min(height), 1e4);
            assert!(plan.stages.last().is_some_and(|s| s.finest == 0 && s.steps >= 100));
            assert!((0..plan.stages.len()).all(|i| (1..=plan.stages[i].steps).contains(&plan.least(i))));
        }
    }
}
