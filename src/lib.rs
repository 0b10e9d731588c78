//! Tilefit: a neural image codec that fits a small model to one picture and ships it in the file.
//!
//! The decoder half builds alone (`--no-default-features`). Feature `fit` adds the encoder.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "fit")]
pub mod codec;
pub mod container;
pub mod decoder;
pub mod entropy;
pub mod error;
#[cfg(feature = "fit")]
pub mod fit;
pub mod image;
pub mod layers;
pub mod limits;
#[cfg(feature = "fit")]
pub mod metrics;
pub mod models;
pub mod tensor;

pub use error::{Class, Error, Result};
pub use image::{Picture, Rect};
pub use kernels::Level;
pub use limits::Limits;
