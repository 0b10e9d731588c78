//! What a fit is asked for.

/// Efforts there are.
pub const EFFORTS: std::ops::RangeInclusive<u32> = 1..=9;

/// What the file is asked to be. `lambda` weighs bits: loss = MSE + lambda * bpp, MSE over samples in [0, 1].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// 0 (smallest) to 100 (best): `lambda = 10^(-1.3 - 0.028 q)`.
    Quality(f64),
    /// The weight of a bit a pixel against the mean squared error.
    Lambda(f64),
    /// At least this PSNR in dB, over all samples of all pictures.
    Psnr(f64),
    /// At least this MS-SSIM, the mean over the pictures.
    MsSsim(f64),
    /// At most so many bits a pixel, whole file.
    Bpp(f64),
    /// At most so many bytes, whole file.
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
    /// Mean squared error.
    Psnr,
    /// `1 - SSIM` at one scale.
    Ssim,
    /// `1 - MS-SSIM`.
    MsSsim,
}

impl Tune {
    /// The name that options and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Tune::Psnr => "psnr",
            Tune::Ssim => "ssim",
            Tune::MsSsim => "msssim",
        }
    }
}

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightCoding {
    /// As integers times a power of two for each group, entropy coded.
    Coded,
    /// As plain f16, to show what coding saves.
    F16,
}

/// What a family needs to know of a fit. Time, threads and memory are the driver's.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the file is asked to be.
    pub target: Target,
    /// The distortion that is minimised.
    pub tune: Tune,
    /// 1 (fast) to 9 (small).
    pub effort: u32,
    /// Same pictures, options and seed: same bytes on one instruction set, at any thread count (a time limit excepted).
    pub seed: u64,
    /// Side of a code tile in pixels, 0: one tile a picture; `None`: the family's choice.
    pub tile: Option<usize>,
    /// How weights are stored.
    pub weights: WeightCoding,
    /// Channels of the latent field, for families that have a choice; `None`: the family's choice.
    pub channels: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            target: Target::Quality(75.0),
            tune: Tune::Psnr,
            effort: 5,
            seed: 0,
            tile: None,
            weights: WeightCoding::Coded,
            channels: None,
        }
    }
}
