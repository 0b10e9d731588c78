//! Family `gdn`, the decoder's half: one grid of codes at 1/8 with `N` channels and the synthesis
//! [`transform`](super::transform), with `N` channels in all feature maps. The codes are coded with adaptive probabilities.

mod codes;
mod model;

use super::transform::TransformSpec;
pub use model::GdnModel;

/// The transform of a model of `n` channels for a picture of `channels` channels.
pub fn spec(n: usize, channels: usize) -> TransformSpec {
    TransformSpec { maps: [n; 3], channels }
}
