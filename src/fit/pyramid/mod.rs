//! The encoder of family `pyramid`.

pub mod grid;
mod plain;
pub mod synth;
