//! The encoder's half: fitting a model and its codes to pictures.

pub mod autograd;
mod dct;
pub mod gdn;
pub mod loss;
pub mod optim;
pub mod pyramid;
pub mod rng;
pub mod soap;
pub mod target;
mod water_filling;

use crate::error::Result;
use crate::image::Picture;
use crate::models::{Codes, Encode};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What the file is asked to be. `lambda` weighs bits: loss = MSE + lambda * bpp, MSE over samples in [0, 1].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// 0 (smallest) to 100 (best): `lambda = 10^(-1.3 - 0.028 q)`.
    Quality(f64),
    Lambda(f64),
    /// dB
    Psnr(f64),
    MsSsim(f64),
    /// Bits a pixel of the whole file, at most.
    Bpp(f64),
    /// Bytes of the whole file, at most.
    Size(u64),
}

impl Target {
    /// Whether lambda follows what is measured; else the target is a lambda itself.
    pub fn moves(self) -> bool {
        !matches!(self, Target::Quality(_) | Target::Lambda(_))
    }
}

/// The distortion that is minimised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tune {
    Psnr,
    /// At one scale: the `gdn` family alone.
    Ssim,
    MsSsim,
}

impl Tune {
    /// What a decoded picture is judged by: MSE of samples in `[0, 1]`, or `0.02 (1 - MS-SSIM)` where there is one.
    pub fn distortion(self, mse: f64, ms_ssim: impl FnOnce() -> Option<f64>) -> f64 {
        let similarity = if self == Tune::MsSsim { ms_ssim() } else { None };
        similarity.map_or(mse, |s| (1.0 - s) * loss::MS_SSIM_UNIT)
    }
}

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightCoding {
    Coded,
    F16,
}

/// How to fit.
#[derive(Clone, Debug)]
pub struct FitOptions {
    pub target: Target,
    pub tune: Tune,
    /// 1 (fast) to 9 (small).
    pub effort: u32,
    /// The fit ends early enough to finish before this.
    pub deadline: Option<Instant>,
    pub threads: usize,
    pub max_memory: u64,
    /// Same input, options and seed: same bytes, at any thread count (a deadline excepted).
    pub seed: u64,
    /// Side of a code tile in pixels; `None`: the family's choice.
    pub tile: Option<usize>,
    pub weights: WeightCoding,
    /// Channels of the `gdn` families; `None`: chosen for the picture's size and target.
    pub channels: Option<usize>,
}

impl Default for FitOptions {
    /// Quality 75 at effort 5, 4 GiB of memory (enough for 31 megapixels there), and the threads that there are.
    fn default() -> Self {
        FitOptions {
            target: Target::Quality(75.0),
            tune: Tune::Psnr,
            effort: 5,
            deadline: None,
            threads: rayon::current_num_threads(),
            max_memory: 4 << 30,
            seed: 0,
            tile: None,
            weights: WeightCoding::Coded,
            channels: None,
        }
    }
}

/// A moment of a fit, for the progress display.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub step: u64,
    pub steps: u64,
    pub psnr: f64,
    /// Whole file, estimated.
    pub bytes: f64,
}

/// What a fit reports to and is stopped by.
pub struct Monitor<'a> {
    pub report: &'a mut dyn FnMut(Progress),
    /// Set by Ctrl-C: the fit returns [`Class::Interrupted`](crate::Class::Interrupted) at the next step,
    /// after saving a checkpoint if there is a place for one.
    pub stop: &'a AtomicBool,
    /// Where to save what `--resume` continues from (the state is the family's own format).
    pub save: &'a mut dyn FnMut(&[u8]),
    /// The state to continue from.
    pub resume: Option<Vec<u8>>,
}

/// A fitted model and the codes of each picture (whole-picture grids).
pub struct Fitted {
    pub model: Box<dyn Encode>,
    pub codes: Vec<Codes>,
    pub steps: u64,
    /// Side of a code tile in pixels; 0: one tile a picture.
    pub tile: usize,
}

/// A family's fit: pictures of equal channel count in, model and codes out.
pub type FitFn = fn(&[Picture], &FitOptions, &mut Monitor) -> Result<Fitted>;

/// The families that can be fitted, by the name that `--model` knows.
pub const FAMILIES: &[(&str, FitFn)] = &[("pyramid", pyramid::fit), ("gdn", gdn::fit)];

/// The fit of a family.
pub fn family(name: &str) -> Option<FitFn> {
    FAMILIES.iter().find(|(n, _)| *n == name).map(|(_, fit)| *fit)
}
