//! The encoder of family `pyramid`.

pub mod grid;
mod plain;
pub mod plan;
pub mod synth;
