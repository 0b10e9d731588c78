//! From integers to bytes and back.

pub mod adaptive;
pub mod cdf;
pub mod laplace;
pub mod range_coder;
pub mod weights;
