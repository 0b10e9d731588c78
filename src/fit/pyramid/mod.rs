//! The encoder of family `pyramid`.

mod features;
pub mod grid;
pub mod grid_buf;
pub mod latents;
#[cfg(test)]
pub(crate) mod plain;
pub mod plan;
mod planes;
pub mod rate;
pub mod synth;
mod upsampling;
