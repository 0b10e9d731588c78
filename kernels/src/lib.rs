//! Kernels of Tilefit: slices in, slices out. They know nothing of tensors or files, and hold all
//! `unsafe` of the project.
//!
//! Two contracts, two modules, never mixed:
//!
//! * [`exact`]: integers (wrapping), or f32 with only `+ - * / sqrt`, in a fixed order and without
//!   fused multiply-add. Lanes are different outputs, never parts of one sum. Every [`Level`] gives
//!   the same bits, so a decoder may use them.
//! * [`fast`] (feature `fit`): FMA, matrix products, horizontal sums. Equal to the scalar twin within
//!   a tolerance only. The fit alone may use them.
//!
//! Each kernel takes the [`Level`] at which it runs. Owning a `Level` is the proof that this machine
//! has the instructions.

// Without an operating system `core` and `alloc` are enough.
#![cfg_attr(any(target_os = "none", target_os = "unknown"), no_std)]
// Tests may compute what they compare with by any means.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

extern crate alloc;
#[cfg(any(target_os = "none", target_os = "unknown"))]
extern crate core as std;

#[macro_use]
mod dispatch;
pub mod exact;
#[allow(clippy::disallowed_methods)]
#[cfg(feature = "fit")]
pub mod fast;
mod gather;
mod level;
mod panel;
#[cfg(feature = "fit")]
mod phases;
#[cfg(any(test, target_os = "none", target_os = "unknown"))]
mod root;
mod shape;
mod vector;

pub use level::Level;
pub use shape::{Conv2d, ConvTranspose2d, Window};
