//! Kernels whose bits are the same at every level.

pub mod samples;
