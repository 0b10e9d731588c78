//! The encoder: fits a model and its codes to pictures.
//!
//! Each model family implements one step of gradient descent ([`Fit`]). The [`driver`] is shared by all families: it runs the
//! stages, keeps the time limit, adapts lambda to a target, saves checkpoints and chooses the best file.

pub mod autograd;
pub mod checkpoint;
mod dct;
pub mod domain;
pub mod driver;
pub mod estimate;
pub mod file;
pub mod gdn;
pub mod hyperprior;
pub mod loss;
pub mod lossless;
pub mod narrow;
pub mod optim;
pub mod options;
pub mod prepare;
pub mod pyramid;
pub mod rng;
pub mod select;
pub mod soap;
pub mod target;
pub mod transform;
mod water_filling;

use crate::error::Result;
use crate::image::Picture;
use crate::models::{Codes, Encode};
pub use options::{Domain, Options, Target, Tune, WeightCoding};
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use target::{LambdaControl, Measure, Measured};

/// A stage of a fit: consecutive steps with the same schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Steps that the effort asks for.
    pub steps: u32,
    /// Minimum number of steps: a time limit does not cut the stage below it.
    pub least: u32,
    /// Time of a step relative to those of the other stages.
    pub cost: f64,
    /// Files that are made and measured in the course of the stage; the best of all counts at the end. For families whose
    /// quality changes from step to step; 0 for those that [`Fit::finish`] disturbs.
    pub candidates: u32,
    /// Whether lambda may be adapted to the target in this stage. The measurements of [`Fit::look`] must then predict the
    /// final file.
    pub settles: bool,
}

/// One step of a fit.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The weight of the rate in the loss.
    pub lambda: f64,
    /// The stage; `None` in a touch-up, which is a short continuation of a finished fit with a changed lambda.
    pub stage: Option<usize>,
    /// The completed fraction of the stage or touch-up, in [0, 1).
    pub progress: f64,
    /// Steps of the whole fit before this one.
    pub number: u64,
}

/// The remaining time for refining a result.
pub struct TimeLeft<'a> {
    deadline: Option<Instant>,
    stop: &'a AtomicBool,
}

impl TimeLeft<'_> {
    /// Whether at least `more` remains and the fit was not asked to stop.
    pub fn has(&self, more: Duration) -> bool {
        let stopped = self.stop.load(std::sync::atomic::Ordering::Relaxed);
        !stopped && self.deadline.is_none_or(|d| Instant::now() + more < d)
    }
}

/// A running fit of one family. For each stage the driver calls `enter`, then `step` and `look`, then `leave`. After the last
/// stage it calls `finish`. While a target is missed, it calls `step` for a touch-up and then `finish` again.
pub trait Fit: Send {
    /// The stages, in order.
    fn stages(&self) -> Vec<Stage>;

    /// Prepares a stage before its first step.
    fn enter(&mut self, stage: usize);

    /// One step of gradient descent.
    fn step(&mut self, step: &Step);

    /// Measures the current state: PSNR over all samples in dB, bytes of codes and weights, and `measure`, the mean over the
    /// pictures.
    fn look(&mut self, measure: Measure) -> Measured;

    /// Ends a stage.
    fn leave(&mut self, _stage: usize, _lambda: f64) {}

    /// Quantises the weights and chooses the final codes. More steps may follow.
    fn finish(&mut self, lambda: f64, time: &TimeLeft) -> Fitted;

    /// Appends the state that [`Self::restore`] needs to continue.
    fn save(&self, out: &mut Vec<u8>);

    /// Restores the state that was saved in `stage`; false if `state` does not belong to this fit.
    fn restore(&mut self, stage: usize, state: &[u8]) -> bool;
}

/// A fitted model and the codes of each picture (whole-picture grids).
pub struct Fitted {
    /// The model with its quantised weights.
    pub model: Box<dyn Encode>,
    /// The codes of each picture.
    pub codes: Vec<Codes>,
    /// Side of a tile in pixels; 0 for one tile per picture.
    pub tile: usize,
}

/// A fit before its first step, and the control of its lambda.
pub type Begun<'a> = (Box<dyn Fit + 'a>, LambdaControl);

/// A model family, as the encoder uses it: an entry of [`FAMILIES`].
pub struct Family {
    /// The name that options and files use.
    pub name: &'static str,
    /// The distortions that the family can minimise.
    pub tunes: &'static [Tune],
    /// The range of the option `channels`; `None` if the family does not have it.
    pub channels: Option<RangeInclusive<usize>>,
    /// Default tiling `(pixels, side)`: pictures of more than `pixels` pixels are cut into tiles of `side` pixels.
    pub tiles: (usize, usize),
    /// Estimates time and memory of a fit; `pixels` is the sum over all pictures.
    pub cost: fn(options: &Options, pixels: usize, samples_a_pixel: usize) -> Cost,
    /// Plans a fit of pictures that all have the same number of channels. `besides` is the number of bytes of metadata, which
    /// a size target includes.
    pub begin: for<'a> fn(pictures: &'a [Picture], options: &'a Options, besides: u64) -> Result<Begun<'a>>,
}

impl Family {
    /// The side of a tile in pixels: that of the options, or the family's default for the largest picture; 0 for no tiling.
    pub fn tile(&self, pictures: &[Picture], options: &Options) -> usize {
        let largest = pictures.iter().map(Picture::pixels).max().unwrap_or(0);
        options.tile.unwrap_or(if largest > self.tiles.0 { self.tiles.1 } else { 0 })
    }
}

/// The estimated cost of a fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds on two cores.
    pub seconds: f64,
    /// Seconds of the minimum steps of all stages, which a time limit does not cut.
    pub least_seconds: f64,
    /// Peak memory in bytes.
    pub memory: u64,
}

/// The families that can be fitted. The first is the default; it makes the smallest files.
pub const FAMILIES: &[Family] = &[pyramid::FAMILY, gdn::FAMILY, hyperprior::FAMILY];

/// The names of [`FAMILIES`].
pub const NAMES: [&str; FAMILIES.len()] = {
    let mut names = [""; FAMILIES.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = FAMILIES[i].name;
        i += 1;
    }
    names
};

/// The family of that name.
pub fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|f| f.name == name)
}
