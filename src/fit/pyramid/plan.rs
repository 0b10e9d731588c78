//! From an effort to a plan: the size of the networks, the stages and their steps, and how the settings of a step change in
//! the course of a stage.
//!
//! J is the loss `MSE + lambda bpp` of the file. Percentages below were measured on Kodak pictures of 0.4 megapixels.

use crate::image::Picture;
use crate::models::pyramid::spec::{usual_trunk, PyramidSpec};

/// A stage of a fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// The pictures are fitted at `1/2^finest`.
    pub finest: u32,
    /// Number of steps.
    pub steps: u32,
}

impl Stage {
    /// The time of a step over that of a step at full size. A coarse step takes more than its part of the pixels, because the
    /// step of the networks and the start of threads do not depend on them.
    pub fn cost(&self) -> f64 {
        0.02 + 1.0 / 4f64.powi(self.finest as i32)
    }
}

/// Number of steps that each stage makes at least, however short the time limit is.
const LEAST_STEPS: u32 = 60;
/// The time of a fit with as many steps, relative to one at effort 1.
pub(super) const LEAST: f64 = 0.35;

/// The plan of one fit.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The shape of the model.
    pub spec: PyramidSpec,
    /// From coarse to fine; the last one is at full size.
    pub stages: Vec<Stage>,
}

/// A size of the networks.
struct Size {
    /// Inputs of the context network: neighbours in the grid, and features of coarser grids.
    spatial: usize,
    features: usize,
    /// Width of the synthesis network, and number of its residual 3x3 layers.
    hidden: usize,
    residuals: usize,
    /// The size pays if `bits + (P / lambda) MSE` is at least this, by reverse water-filling: what larger networks save is a
    /// part of this cost, while their weights take about the same bits for every picture. A smooth picture reaches the bounds
    /// of widths 48, 32 and 16 at lambda 0.002, 0.016 and 0.08, a detailed one at three to five times as much. Width 48 makes
    /// 1 % less J than 32 at lambda 0.001 and no less at 0.003; 32 makes 3 to 6 % less than 16 at 0.003 and 2 % less at 0.005
    /// and 0.01; 16 makes 2.6 % less than 8 at 0.03.
    min_cost: f64,
    /// The size pays in fits of at least this many steps at full size: more weights take longer to learn.
    min_steps: f64,
    /// Steps of this size in the time of one step of width 32.
    speed: f64,
}

/// The sizes from small to large. Speeds were measured on two cores.
const SIZES: [Size; 5] = [
    Size { spatial: 6, features: 2, hidden: 8, residuals: 0, min_cost: 0.0, min_steps: 0.0, speed: 2.8 },
    Size { spatial: 10, features: 4, hidden: 16, residuals: 0, min_cost: 2.8e4, min_steps: 150.0, speed: 1.95 },
    Size { spatial: 10, features: 4, hidden: 16, residuals: 1, min_cost: 2.8e4, min_steps: 300.0, speed: 1.7 },
    Size { spatial: 14, features: 6, hidden: 32, residuals: 2, min_cost: 5.5e4, min_steps: 550.0, speed: 1.0 },
    Size { spatial: 14, features: 6, hidden: 48, residuals: 2, min_cost: 1.6e5, min_steps: 3000.0, speed: 0.8 },
];

/// The time of efforts 1 to 9, in steps at full size of the networks of width 32. Chosen for the times that README promises:
/// a few seconds for a photograph of 0.4 megapixels at effort 1, minutes at effort 9.
const STEPS: [f64; 9] = [92.0, 210.0, 353.0, 588.0, 820.0, 2200.0, 4000.0, 6500.0, 11000.0];

/// Beyond a megapixel the number of steps falls with this power of the pixels, because a step on more pixels teaches the
/// networks more: a picture of 4 megapixels makes 0.54 of the steps, one of 16 makes 0.29. A compromise with time, which still
/// grows with the pixels.
const LARGE_PICTURE_EXPONENT: f64 = 0.45;

/// Number of steps of a fit of this many pixels, relative to one of up to a megapixel at the same effort.
pub fn passes(pixels: usize) -> f64 {
    (pixels as f64 / (1 << 20) as f64).max(1.0).powf(-LARGE_PICTURE_EXPONENT)
}

/// The largest size that pays, and its number of steps at full size: smaller networks make more steps in the time of the
/// effort.
fn size(effort: u32, pixels: usize, cost: f64) -> (&'static Size, f64) {
    let time = STEPS[effort.clamp(1, 9) as usize - 1] * passes(pixels);
    let pays = |(size, steps): &(&Size, f64)| cost >= size.min_cost && *steps >= size.min_steps;
    SIZES.iter().map(|size| (size, time * size.speed)).rfind(pays).expect("the smallest always pays")
}

/// Most features of coarser grids at an effort.
pub(super) fn features(effort: u32, pixels: usize) -> usize {
    size(effort, pixels, f64::INFINITY).0.features
}

/// Bits of the scales of colour pictures that have a second grid: 1/4 and 1/8. With them kodim23 has 8 % less J, kodim08 1 %.
/// Second grids at coarser scales too make 1 % less and take a quarter more time; at finer scales J rises.
const CHROMA: u8 = 0b1100;

/// Most steps of a coarse stage. 450 and 700 instead, in fits of the same time, make 0.8 to 1.3 % more J.
const COARSE_STEPS: f64 = 600.0;

/// Fits of at least this many steps at full size are long: see [`Plan::builds`].
const LONG: u32 = 500;

/// The optimisation of the final codes makes one pass through each grid for this many steps at full size: about a thirtieth
/// of the time of a fit. Half as many passes make 0.2 % more J, twice as many 0.14 % less, four times as many 0.3 % less
/// (kodim04, 15 and 23, effort 3).
const STEPS_A_PASS: u32 = 180;

/// The soft-rounding temperature with which a last stage of `steps` steps starts. At a high temperature codes are hardly
/// rounded, and networks learn best. But codes of fine texture then settle at fractions of a quantisation step and vanish when
/// they are rounded at last, the more so the longer the stage is: so short fits start at a higher temperature than long ones.
/// At effort 1, which starts at 0.6, 0.5 makes 0.6 % more J and 0.7 the same (means of kodim04, 15 and 23).
fn start_temperature(steps: u32) -> f64 {
    (0.5 - 0.1 * (f64::from(steps) / 1500.0).ln()).clamp(0.35, 0.6)
}

impl Plan {
    /// The plan for pictures that share their networks. `cost` is the expected `bits + (P / lambda) MSE` of the result, see
    /// [`Spectrum::cost`](crate::fit::water_filling::Spectrum::cost).
    pub fn of(pictures: &[Picture], effort: u32, cost: f64) -> Plan {
        let pixels = pictures.iter().map(Picture::pixels).sum();
        let smallest = pictures.iter().map(|p| p.width.min(p.height)).min().unwrap_or(1);
        Plan::new(effort, pictures[0].format.channels, pixels, smallest, cost)
    }

    /// `pixels` are those of all pictures together, `smallest` is the shortest side of any.
    pub(super) fn new(effort: u32, channels: usize, pixels: usize, smallest: usize, cost: f64) -> Plan {
        let (size, steps) = size(effort, pixels, cost);
        let Size { spatial, features, hidden, residuals, .. } = *size;
        let mut spec = PyramidSpec::preset(channels, pixels, spatial, features, hidden);
        spec.trunk = usual_trunk(channels, hidden, residuals);
        if channels > 1 {
            spec.second = CHROMA;
        }
        // A grid of fewer than two codes a side has nothing that the next finer grid does not have.
        spec.depth = spec.depth.min((smallest.max(2) as f64).log2() as u32);
        spec.hyper_from = spec.hyper_from.min(spec.depth + 1);
        spec.second &= ((2u32 << spec.depth) - 1) as u8;
        // The coarsest scale has no features, which come from coarser grids.
        spec.feature_scales = spec.feature_scales.min(spec.depth);
        let full = (steps.round() as u32).max(100);
        let coarse_steps = full.min((COARSE_STEPS * passes(pixels)) as u32).max(50);
        let stages = (0..=3.min(spec.depth))
            .rev()
            .map(|finest| Stage { finest, steps: if finest == 0 { full } else { coarse_steps } })
            .collect();
        Plan { spec, stages }
    }

    /// Whether the coarse stages already fit codes that are nearly final, and a new grid inherits the synthesis weights of the
    /// next coarser one ([`Trainer::inherit`](super::train::Trainer::inherit)). Short fits need this. Long fits have the time to
    /// start the latents anew at each stage and to find better weights for each grid: 0.5 % of J at 600 steps.
    pub fn builds(&self) -> bool {
        self.stages.last().is_some_and(|s| s.steps < LONG)
    }

    /// By what the latents are multiplied when a finer grid is added. Values near 1 keep the codes; small ones start them anew
    /// from the networks, which share the picture better among the grids.
    pub fn kept(&self) -> f32 {
        if self.builds() {
            0.85
        } else {
            0.3
        }
    }

    /// Number of steps of stage `i` that are made even if a time limit is shorter.
    pub fn least(&self, i: usize) -> u32 {
        self.stages[i].steps.min(LEAST_STEPS)
    }

    /// Passes through each grid in the optimisation of the final codes.
    pub fn passes(&self) -> usize {
        self.stages.last().map_or(0, |s| s.steps / STEPS_A_PASS).max(1) as usize
    }

    /// The settings of a step of stage `i`, by the part of the stage that has passed.
    pub fn course(&self, i: usize) -> impl Fn(f64) -> Anneal {
        let (last, start) = (i + 1 == self.stages.len(), start_temperature(self.stages[i].steps));
        let coarse = if self.builds() { Anneal::BUILDING } else { Anneal::LEARNING };
        move |progress| if last { Anneal::last(progress, start) } else { coarse }
    }
}

/// The settings of one step.
#[derive(Clone, Copy, Debug)]
pub struct Anneal {
    /// Learning rate of the latents.
    pub lr: f32,
    /// Soft-rounding temperature.
    pub temperature: f32,
    /// Standard deviation of the noise, in quantisation steps of the codes.
    pub sigma: f32,
    /// Adam's decays of the moments of the latents.
    pub betas: (f32, f32),
    /// The gradient of the bits is computed in every so-many-th step, and used again in those between.
    pub bits_every: u64,
    /// Factor of lambda.
    pub rate_weight: f64,
    /// Penalty on a code halfway between two integers, in bits.
    pub integer_penalty: f32,
}

/// The gradient of the bits is the most expensive part of a step and changes slowly. At equal time this makes 1.1 % less J than
/// computing it at every step (crops of Kodak pictures).
const BITS_EVERY: u64 = 3;

/// The integer penalty at the end of the last stage, in bits, and the part of the stage after which it starts to grow from 0.
/// Without it the rounding of the codes costs 5 to 7 % of J (kodim13 and 15, effort 5). 2 and 8 bits make 0.1 and 0.4 % more J,
/// a start at 0.3 and 0.7 of the stage 0.2 % less and 0.25 % more (means of kodim04, 15 and 23, effort 1).
const INTEGER_PENALTY: f32 = 4.0;
const PENALTY_START: f64 = 0.5;

impl Anneal {
    /// What the stages have in common. The betas have a shorter memory than is usual, because fits are short: 0.9 and 0.98
    /// instead make 0.3 % more J, 0.8 and 0.995 make 0.1 % less (effort 5, four Kodak pictures).
    const START: Anneal = Anneal {
        lr: 1e-2,
        temperature: 0.5,
        sigma: 0.22,
        betas: (0.8, 0.98),
        bits_every: BITS_EVERY,
        rate_weight: 1.0,
        integer_penalty: 0.0,
    };

    /// Coarse stages of a long fit, which only teach the networks: hardly any rounding, and noise with the deviation of the
    /// rounding error. Starting the latents anew after them makes 2.5 % less J than keeping them (600 steps).
    const LEARNING: Anneal = Anneal { lr: 1.5e-2, temperature: 1.0, sigma: 0.3, ..Anneal::START };

    /// Coarse stages of a short fit, whose codes are kept. Bits count twice, so that coarse grids do not code what finer grids
    /// code with fewer bits.
    const BUILDING: Anneal = Anneal { rate_weight: 2.0, ..Anneal::START };

    /// Steps of a fitted model after lambda has changed. Its codes are near integers; a larger learning rate, or gradients of the
    /// bits from another step, would move them away.
    pub fn touch_up(progress: f64) -> Anneal {
        let lr = (1e-3 * (1.0 - progress)) as f32;
        Anneal { lr, temperature: 0.12, sigma: 0.15, bits_every: 1, ..Anneal::START }
    }

    /// The last stage: the learning rate falls to zero along half a cosine, and codes are rounded more and more.
    fn last(progress: f64, start_temperature: f64) -> Anneal {
        let mix = |a: f64, b: f64| (a + (b - a) * progress) as f32;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        Anneal {
            lr: (1e-5 + (1e-2 - 1e-5) * cosine) as f32,
            temperature: mix(start_temperature, 0.07),
            sigma: mix(0.22, 0.15),
            integer_penalty: INTEGER_PENALTY * ((progress - PENALTY_START) / (1.0 - PENALTY_START)).max(0.0) as f32,
            ..Anneal::START
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::pyramid::reference::{short_fit, waves};
    use crate::fit::pyramid::train::Trainer;

    /// A touch-up at the lambda of the fit does not make the file worse.
    #[test]
    fn touch_ups_do_not_spoil_a_fit() {
        let (side, lambda, steps) = (64, 1e-3, 150);
        let pictures = [waves(side, 10.0)];
        let mut trainer = short_fit(&pictures, 1, lambda, steps);
        let loss = |trainer: &mut Trainer| {
            let m = trainer.measure(&pictures, crate::fit::target::Measure::Psnr);
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
        let starts = [100, 1500, 2200, 4000, 6500, 11000].map(start_temperature);
        assert_eq!((starts[0], starts[1], starts[5]), (0.6, 0.5, 0.35));
        assert!(starts.is_sorted_by(|a, b| a > b), "{starts:?}");
        let temperatures = [0.0, 0.5, 1.0].map(|p| Plan::new(9, 3, 1 << 19, 512, 1e6).course(3)(p).temperature);
        assert_eq!(temperatures, [0.35, 0.21, 0.07]);
    }

    /// For pictures of little cost the networks are smaller, and make more steps in the same time.
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
    fn passes_follow_the_steps() {
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
