//! Family `hyperprior`: the fit of the [transform](super::transform) with codes whose distributions hyper-codes and earlier
//! codes tell.

mod block;
mod laplace;
mod planes;
mod rate;

use super::{transform, Begun, Cost, Family, Options, Tune};
use crate::error::Result;
use crate::image::Picture;
use crate::models::hyperprior::HyperSpec;
use crate::models::transform::{TransformSpec, MAX_CHANNELS};
use rate::HyperRate;

/// The encoder's half of the family.
pub const FAMILY: Family = Family {
    name: "hyperprior",
    tunes: &[Tune::Psnr, Tune::Ssim, Tune::MsSsim],
    channels: Some(1..=MAX_CHANNELS),
    tiles: transform::TILES,
    cost,
    begin,
};

/// Seconds of the two stages at effort 1, on two cores and at 24 channels.
const SECONDS: transform::Seconds = [10.0, 16.0];

/// Channels of hyper-codes.
const HYPER: usize = 2;

/// Most feature maps at 1/4, and at 1/2 for each component: a wavelet packet has four bands of each at 1/2, which most of
/// the work of a decoder and half of a fit's go into.
const QUARTER: usize = 16;
const HALF: usize = 4;

fn shape(n: usize, channels: usize) -> TransformSpec {
    TransformSpec { maps: [n, n.max(HALF * channels).min(QUARTER), HALF * channels], channels }
}

fn cost(options: &Options, pixels: usize, samples_a_pixel: usize) -> Cost {
    transform::cost(SECONDS, options, pixels, samples_a_pixel)
}

fn begin<'a>(pictures: &'a [Picture], options: &'a Options, besides: u64) -> Result<Begun<'a>> {
    transform::begin(pictures, options, besides, shape, SECONDS, |&transform| {
        HyperRate::new(HyperSpec { transform, hyper: HYPER })
    })
}
