//! The encoder of family `pyramid`.

mod features;
pub mod grid;
pub mod grid_buf;
pub mod latents;
mod plain;
pub mod plan;
pub mod rate;
pub mod synth;
