//! From integers to bytes and back.

pub mod adaptive;
#[allow(clippy::disallowed_methods, reason = "the encoder's alone")]
#[cfg(feature = "fit")]
pub mod bottleneck;
pub mod cdf;
pub mod laplace;
pub mod range_coder;
pub mod weights;
