//! The encoder's half: fitting a model and its codes to pictures.
//!
//! A family says how a step is made ([`Fit`]); the [`driver`] does the rest for all of them: stages, time, lambda that follows
//! a target, checkpoints, candidates for the file and the choice among them.

pub mod autograd;
pub mod checkpoint;
mod dct;
pub mod driver;
pub mod estimate;
pub mod file;
pub mod gdn;
pub mod loss;
pub mod optim;
pub mod options;
pub mod pyramid;
pub mod rng;
pub mod soap;
pub mod target;
pub mod transform;
mod water_filling;

use crate::error::Result;
use crate::image::Picture;
use crate::models::{Codes, Encode};
pub use options::{Options, Target, Tune, WeightCoding};
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use target::{LambdaControl, Measured};

/// A part of a fit: steps of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Steps that the effort asks for.
    pub steps: u32,
    /// Steps that a time limit does not take away: with fewer the fit has no result.
    pub least: u32,
    /// What a step takes beside those of the other stages.
    pub cost: f64,
    /// Whether lambda may follow the target here: what [`Fit::look`] measures must say what the file will be.
    pub settles: bool,
}

/// One step of a fit.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The weight of bits.
    pub lambda: f64,
    /// The stage; `None` in a touch-up, a short return to a finished fit after lambda has moved.
    pub stage: Option<usize>,
    /// The part of the stage, or of the touch-up, that has passed: in [0, 1).
    pub progress: f64,
    /// Steps of the whole fit before this one.
    pub number: u64,
}

/// Time that a family may still spend on refining a result.
pub struct TimeLeft<'a> {
    deadline: Option<Instant>,
    stop: &'a AtomicBool,
}

impl TimeLeft<'_> {
    /// Whether `more` is left, and nobody wants the fit to end.
    pub fn has(&self, more: Duration) -> bool {
        let stopped = self.stop.load(std::sync::atomic::Ordering::Relaxed);
        !stopped && self.deadline.is_none_or(|d| Instant::now() + more < d)
    }
}

/// A fit under way, as a family makes it. The driver calls `enter`, then `step` and `look` for each stage, then `leave`; after
/// the last stage `finish`, and for a target that is missed more steps (touch-ups) and `finish` again.
pub trait Fit: Send {
    /// What is to be done, in order.
    fn stages(&self) -> Vec<Stage>;

    /// Prepares a stage before its first step.
    fn enter(&mut self, stage: usize);

    /// One step of gradient descent.
    fn step(&mut self, step: &Step);

    /// What the fit comes to at present: PSNR of all samples, bytes of codes and weights, and MS-SSIM (mean over the pictures)
    /// if it is asked for.
    fn look(&mut self, similarity: bool) -> Measured;

    /// Ends a stage.
    fn leave(&mut self, _stage: usize, _lambda: f64) {}

    /// Rounds the weights, chooses the final codes. More steps may follow.
    fn finish(&mut self, lambda: f64, time: &TimeLeft) -> Fitted;

    /// All that [`Self::restore`] needs to go on.
    fn save(&self, out: &mut Vec<u8>);

    /// Goes on in `stage` from what was saved there; false when `state` is of another fit.
    fn restore(&mut self, stage: usize, state: &[u8]) -> bool;
}

/// A fitted model and the codes of each picture (whole-picture grids).
pub struct Fitted {
    /// The model with its rounded weights.
    pub model: Box<dyn Encode>,
    /// One a picture.
    pub codes: Vec<Codes>,
    /// Side of a code tile in pixels; 0: one tile a picture.
    pub tile: usize,
}

/// A fit that can begin, and the lambda that it begins with.
pub type Begun<'a> = (Box<dyn Fit + 'a>, LambdaControl);

/// What the encoder knows of a family: one line in [`FAMILIES`].
pub struct Family {
    /// The name that options and files use.
    pub name: &'static str,
    /// The distortions that it can minimise.
    pub tunes: &'static [Tune],
    /// The channels that it can be given, if it has a choice.
    pub channels: Option<RangeInclusive<usize>>,
    /// Pictures of more than the first of these pixels are cut into tiles of the second side, unless the options say otherwise.
    pub tiles: (usize, usize),
    /// Seconds on two cores and bytes of memory for `pixels` of all pictures together.
    pub cost: fn(options: &Options, pixels: usize, samples_a_pixel: usize) -> Cost,
    /// Plans a fit of pictures that all have the same number of channels. `besides`: bytes of the file that are not the
    /// family's, for targets that count the whole.
    pub begin: for<'a> fn(pictures: &'a [Picture], options: &'a Options, besides: u64) -> Result<Begun<'a>>,
}

impl Family {
    /// The side of a tile: what the options say, or the family's choice for the largest of the pictures; 0 for none.
    pub fn tile(&self, pictures: &[Picture], options: &Options) -> usize {
        let largest = pictures.iter().map(Picture::pixels).max().unwrap_or(0);
        options.tile.unwrap_or(if largest > self.tiles.0 { self.tiles.1 } else { 0 })
    }
}

/// What a fit takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// On two cores.
    pub seconds: f64,
    /// The part of them that a time limit does not take away.
    pub least_seconds: f64,
    /// Bytes of memory at most.
    pub memory: u64,
}

/// The families that can be fitted; the first is the one that makes the smallest files.
pub const FAMILIES: &[Family] = &[pyramid::FAMILY, gdn::FAMILY];

/// Their names.
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
