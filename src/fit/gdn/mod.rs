//! Family `gdn`: the fit of the [transform](super::transform) with a rate of its own. In the first stage each channel has
//! a learned density; in the second the rate is what the adaptive coder charges.

mod rate;

use super::{transform, Begun, Cost, Family, Options, Tune};
use crate::error::Result;
use crate::image::Picture;
use crate::models::gdn::spec;
use crate::models::transform::MAX_CHANNELS;
pub use rate::GdnRate;

/// The encoder's half of the family.
pub const FAMILY: Family = Family {
    name: "gdn",
    tunes: &[Tune::Psnr, Tune::Ssim, Tune::MsSsim],
    channels: Some(1..=MAX_CHANNELS),
    tiles: transform::TILES,
    cost,
    begin,
};

/// Seconds of the two stages at effort 1, on two cores and at 24 channels.
const SECONDS: transform::Seconds = [14.0, 22.0];

fn cost(options: &Options, pixels: usize, samples_a_pixel: usize) -> Cost {
    transform::cost(SECONDS, options, pixels, samples_a_pixel)
}

fn begin<'a>(pictures: &'a [Picture], options: &'a Options, besides: u64) -> Result<Begun<'a>> {
    transform::begin(pictures, options, besides, spec, SECONDS, |spec| GdnRate::new(spec.n()))
}
