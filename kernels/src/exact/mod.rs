//! Kernels whose bits are the same at every level.

pub mod int_context;
pub mod samples;
