//! A grid of real-valued codes with the zeros around it that contexts read.

use super::planes::clear;
use super::view::{View, ViewMut};
use kernels::fast::context::{PAD, SLACK};

/// `[PAD + height][PAD + width + PAD]` and some slack; everything outside the latents stays zero.
#[derive(Clone, Debug, Default)]
pub struct PaddedGrid {
    pub width: usize,
    pub height: usize,
    pub stride: usize,
    pub data: Vec<f32>,
}

impl PaddedGrid {
    /// All zero.
    pub fn new(width: usize, height: usize) -> Self {
        let stride = width + 2 * PAD;
        PaddedGrid { width, height, stride, data: vec![0.0; (PAD + height) * stride + SLACK] }
    }

    pub fn row(&self, y: usize) -> &[f32] {
        &self.data[(PAD + y) * self.stride + PAD..][..self.width]
    }

    pub fn row_mut(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[(PAD + y) * self.stride + PAD..][..self.width]
    }

    /// The rows from the first latent's, padding and all: whole strides, the latents of each from `PAD` on.
    pub fn rows(&self) -> &[f32] {
        &self.data[PAD * self.stride..][..self.height * self.stride]
    }

    /// The same.
    pub fn rows_mut(&mut self) -> &mut [f32] {
        &mut self.data[PAD * self.stride..][..self.height * self.stride]
    }

    pub fn clear(&mut self) {
        clear(self.rows_mut());
    }

    pub fn view(&self) -> View<'_> {
        View { data: &self.data[PAD * self.stride + PAD..], stride: self.stride }
    }

    pub fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut { data: &mut self.data[PAD * self.stride + PAD..], stride: self.stride }
    }
}
