//! Tilefit: a neural image codec that fits a small model to one picture and ships it in the file.
//!
//! [`Encoder`] makes files, [`Decoder`] reads them. Without the feature `fit` the crate is the decoder alone.
//!
//! What this page lists is what the crate promises (semantic versioning). Hidden modules serve the command, tests and
//! benchmarks, and may change at any time.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// Tests may compute what they compare with by any means.
#![cfg_attr(test, allow(clippy::disallowed_methods))]
// Without an operating system the decoder half makes do with `core` and `alloc`.
#![cfg_attr(any(target_os = "none", target_os = "unknown"), no_std)]

extern crate alloc;
#[cfg(any(target_os = "none", target_os = "unknown"))]
extern crate core as std;

#[allow(clippy::disallowed_methods)]
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod container;
#[doc(hidden)]
pub mod crc;
#[doc(hidden)]
pub mod decoder;
#[cfg(feature = "fit")]
mod encoder;
#[doc(hidden)]
pub mod entropy;
mod error;
#[allow(clippy::disallowed_methods)]
#[cfg(feature = "fit")]
#[doc(hidden)]
pub mod fit;
mod image;
#[cfg(feature = "image")]
pub mod image_crate;
#[doc(hidden)]
pub mod layers;
#[doc(hidden)]
pub mod limits;
#[allow(clippy::disallowed_methods)]
#[cfg(feature = "fit")]
pub mod metrics;
#[doc(hidden)]
pub mod models;
#[cfg(feature = "png")]
#[doc(hidden)]
pub mod pictures;
#[doc(hidden)]
pub mod tensor;

pub use container::header::PictureInfo;
pub use container::metadata;
pub use decoder::{Damage, Decoder, Info, Sample};
#[cfg(feature = "fit")]
pub use encoder::{Domain, Encoded, Encoder, OnCurve, Plan, Progress, Report, Signal, Target, Tune, WeightCoding};
pub use error::{Class, Error, Result};
// `self`: there is a crate of that name too.
pub use self::image::{Picture, PixelFormat, Rect};
pub use kernels::Level;
pub use limits::Limits;
