//! Tilefit: a neural image codec that fits a small model to one picture and ships it in the file.
//!
//! The decoder half builds alone (`--no-default-features`). Feature `fit` adds the encoder.
#![forbid(unsafe_code)]
// Tests may compute what they compare with by any means.
#![cfg_attr(test, allow(clippy::disallowed_methods))]
// Without an operating system the decoder half makes do with `core` and `alloc`.
#![cfg_attr(any(target_os = "none", target_os = "unknown"), no_std)]

extern crate alloc;
#[cfg(any(target_os = "none", target_os = "unknown"))]
extern crate core as std;

#[allow(clippy::disallowed_methods)]
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "fit")]
pub mod codec;
pub mod container;
pub mod decoder;
pub mod entropy;
pub mod error;
#[allow(clippy::disallowed_methods)]
#[cfg(feature = "fit")]
pub mod fit;
pub mod image;
#[cfg(feature = "image")]
pub mod image_crate;
pub mod layers;
pub mod limits;
#[allow(clippy::disallowed_methods)]
#[cfg(feature = "fit")]
pub mod metrics;
pub mod models;
pub mod tensor;

pub use error::{Class, Error, Result};
// `self`: there is a crate of that name too.
pub use self::image::{Picture, Rect};
pub use kernels::Level;
pub use limits::Limits;
