//! Kernels whose bits are the same at every level.

pub mod conv2d;
pub mod conv3x3;
pub mod conv_transpose2d;
pub mod gdn;
pub mod int_context;
pub mod map;
pub mod pointwise;
pub mod samples;
mod taps;
pub mod upsample;
