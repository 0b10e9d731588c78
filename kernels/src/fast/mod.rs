//! Kernels of the fit: equal to their scalar twins within a tolerance.

pub mod adam;
pub mod context;
mod context_net;
pub mod conv2d;
pub mod conv3x3;
pub mod conv_transpose2d;
pub mod density;
pub mod features;
pub mod gdn;
pub mod gemm;
pub mod lines;
mod math;
mod outer;
pub mod peak;
pub mod pointwise;
pub mod quantise;
mod scratch;
pub mod squared_error;
pub mod ssim;
pub mod ssimulacra2;
#[cfg(test)]
mod testing;
pub mod upsample;
pub mod whole;

pub use conv2d::PackedConv;
pub use scratch::Scratch;
