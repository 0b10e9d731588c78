//! Kernels whose bits are the same at every level.

pub mod conv_transpose2d;
pub mod gdn;
pub mod int_context;
pub mod samples;

/// A rectangle of a feature map, in the map's own coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub y0: usize,
    pub x0: usize,
    pub height: usize,
    pub width: usize,
}
