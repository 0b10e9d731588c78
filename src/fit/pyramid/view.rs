//! Planes as the fit's stages hand them to each other: rows at a stride.

/// `data[y * stride ..][.. width]` is row `y`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

impl<'a> View<'a> {
    pub fn row(&self, y: usize, width: usize) -> &'a [f32] {
        &self.data[y * self.stride..][..width]
    }
}

/// A [`View`] to write to.
#[derive(Debug)]
pub struct ViewMut<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

impl ViewMut<'_> {
    pub fn row(&mut self, y: usize, width: usize) -> &mut [f32] {
        &mut self.data[y * self.stride..][..width]
    }
}
