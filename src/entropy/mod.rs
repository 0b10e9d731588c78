//! From integers to bytes and back.

pub mod adaptive;
#[cfg(feature = "fit")]
pub mod bottleneck;
pub mod cdf;
pub mod laplace;
pub mod range_coder;
pub mod weights;
