//! Kernels of the fit: equal to their scalar twins within a tolerance.

pub mod conv2d;
pub mod conv_transpose2d;
pub mod gdn;
mod outer;
pub mod peak;
mod scratch;
pub mod ssim;

pub use conv2d::PackedConv;
pub use scratch::Scratch;
