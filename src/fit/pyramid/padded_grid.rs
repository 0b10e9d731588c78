//! A grid of real-valued codes, with the zeros around it that contexts see.

use super::planes::clear;
use super::view::{PlaneView, PlaneViewMut};
use kernels::fast::context::{PAD, SLACK};

/// `[PAD + height][PAD + width + PAD]`, then `SLACK` values that the kernel may read. Everything but the codes is zero and
/// stays so.
#[derive(Clone, Debug, Default)]
pub struct PaddedGrid {
    /// Codes in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Values of a padded row.
    pub stride: usize,
    /// Codes and padding.
    pub data: Vec<f32>,
}

impl PaddedGrid {
    /// A grid of zeros.
    pub fn new(width: usize, height: usize) -> Self {
        let stride = width + 2 * PAD;
        PaddedGrid { width, height, stride, data: vec![0.0; (PAD + height) * stride + SLACK] }
    }

    /// The codes of row `y`.
    pub fn row(&self, y: usize) -> &[f32] {
        &self.data[(PAD + y) * self.stride + PAD..][..self.width]
    }

    /// The codes of row `y`.
    pub fn row_mut(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[(PAD + y) * self.stride + PAD..][..self.width]
    }

    /// All rows that have codes, padding included: `[height][stride]`, the codes of a row from `PAD` on.
    pub fn rows(&self) -> &[f32] {
        &self.data[PAD * self.stride..][..self.height * self.stride]
    }

    /// As [`rows`](Self::rows).
    pub fn rows_mut(&mut self) -> &mut [f32] {
        &mut self.data[PAD * self.stride..][..self.height * self.stride]
    }

    /// Sets all codes to zero.
    pub fn clear(&mut self) {
        clear(self.rows_mut());
    }

    /// The codes as a plane.
    pub fn view(&self) -> PlaneView<'_> {
        PlaneView { data: &self.data[PAD * self.stride + PAD..], stride: self.stride }
    }

    /// The codes as a plane to write to.
    pub fn view_mut(&mut self) -> PlaneViewMut<'_> {
        PlaneViewMut { data: &mut self.data[PAD * self.stride + PAD..], stride: self.stride }
    }
}
