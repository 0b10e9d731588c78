//! Options of a fit.

use crate::image::PixelFormat;

/// The valid efforts.
pub const EFFORTS: std::ops::RangeInclusive<u32> = 1..=9;

/// The quality or size of the file. The fit minimises `D + lambda * bpp` with the distortion `D` of its [`Tune`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// A quality `q` from 0 (smallest file) to 100 (best quality). Under [`Tune::Visual`] the fit aims at a score of
    /// SSIMULACRA2 of about `q`: 30 is low, 50 medium, 70 high, 90 visually lossless, and 100 is lossless. Otherwise
    /// `lambda = 10^(-1.3 - 0.028 q)`.
    Quality(f64),
    /// The value of lambda, from 1e-9 to 1e6.
    Lambda(f64),
    /// At least this PSNR in dB, from 1 to 100, over all samples of all pictures.
    Psnr(f64),
    /// At least this MS-SSIM, from 0.01 to 1; the mean over the pictures.
    MsSsim(f64),
    /// At least this score of SSIMULACRA2, from 0 to 100; the mean over the pictures.
    Ssimulacra2(f64),
    /// At most this many bits per pixel, from 1e-6 to 64, counting the whole file.
    Bpp(f64),
    /// At most this many bytes, at least 1, counting the whole file.
    Size(u64),
    /// Each sample differs by at most this; 0 is lossless. There is no fit.
    MaxError(u16),
}

impl Target {
    /// Whether a file may miss the target, so that lambda is adapted until one meets it.
    pub fn may_be_missed(self) -> bool {
        !matches!(self, Target::Quality(_) | Target::Lambda(_) | Target::MaxError(_))
    }
}

/// The distortion that is minimised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tune {
    /// Mean squared error.
    Psnr,
    /// `1 - SSIM` of luma at one scale, and mean squared error.
    Ssim,
    /// `1 - MS-SSIM` of luma, and mean squared error.
    MsSsim,
    /// The error sum of SSIMULACRA2 and mean squared error together: for people's eyes.
    Visual,
}

impl Tune {
    /// The distortion for pictures of `format` that are fitted to `target` by a family that has `tunes`, if none was chosen: for
    /// the eye where the picture is one to look at (grey or RGB), else the mean squared error.
    pub fn default_for(tunes: &[Tune], target: Target, format: PixelFormat) -> Tune {
        let other = matches!(target, Target::Psnr(_) | Target::MsSsim(_) | Target::MaxError(_));
        let seen = matches!(format.colours(), 1 | 3) && tunes.contains(&Tune::Visual);
        if seen && !other {
            Tune::Visual
        } else {
            Tune::Psnr
        }
    }

    /// The name in flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            Tune::Psnr => "psnr",
            Tune::Ssim => "ssim",
            Tune::MsSsim => "msssim",
            Tune::Visual => "visual",
        }
    }
}

/// The domain in which samples are fitted, and in which targets are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Domain {
    /// Samples as they are.
    #[default]
    Linear,
    /// Samples on an asinh curve around the background, for pictures of high dynamic range: errors of faint parts weigh as much
    /// as those of bright ones. The curve is in the file, and the decoder gives samples as they were.
    Asinh,
    /// The curve for pictures of high dynamic range: 90 % of the samples lie within a 32nd of their range, which has at least
    /// 1024 levels. Other pictures are linear.
    Automatic,
}

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightCoding {
    /// As integers times a power of two for each group, entropy coded.
    Coded,
    /// As plain f16, to show what coding saves.
    F16,
}

/// The options that a family needs. Time, threads and memory are handled by the driver.
#[derive(Clone, Debug)]
pub struct Options {
    /// The quality or size of the file.
    pub target: Target,
    /// The distortion that is minimised.
    pub tune: Tune,
    /// The domain of the fit. Nothing of [`Target::MaxError`] is fitted: it is always linear.
    pub domain: Domain,
    /// 1 (fastest) to 9 (smallest file).
    pub effort: u32,
    /// Seed of the random numbers. The same pictures, options and seed give the same bytes on one instruction set, at any thread
    /// count, if there is no time limit.
    pub seed: u64,
    /// Side of a tile in pixels, 0 for one tile per picture; `None` for the family's default.
    pub tile: Option<usize>,
    /// How weights are stored.
    pub weights: WeightCoding,
    /// Number of latent channels, for families that have a choice; `None` for the family's default.
    pub channels: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            target: Target::Quality(75.0),
            tune: Tune::Psnr,
            domain: Domain::Linear,
            effort: 5,
            seed: 0,
            tile: None,
            weights: WeightCoding::Coded,
            channels: None,
        }
    }
}
