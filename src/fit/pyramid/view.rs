//! Borrowed planes: how the parts of training pass planes to each other.

/// A plane: row `y` is `data[y * stride ..][.. width]`. The width is known to whoever uses it.
#[derive(Clone, Copy, Debug)]
pub struct PlaneView<'a> {
    /// From the first value of row 0 on.
    pub data: &'a [f32],
    /// Distance between the first values of two rows.
    pub stride: usize,
}

impl<'a> PlaneView<'a> {
    /// Row `y` of `width` values.
    pub fn row(&self, y: usize, width: usize) -> &'a [f32] {
        &self.data[y * self.stride..][..width]
    }
}

/// A plane to write to, as [`PlaneView`].
#[derive(Debug)]
pub struct PlaneViewMut<'a> {
    /// From the first value of row 0 on.
    pub data: &'a mut [f32],
    /// Distance between the first values of two rows.
    pub stride: usize,
}

impl PlaneViewMut<'_> {
    /// Row `y` of `width` values.
    pub fn row(&mut self, y: usize, width: usize) -> &mut [f32] {
        &mut self.data[y * self.stride..][..width]
    }
}
