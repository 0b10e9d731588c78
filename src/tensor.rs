//! The shape of contiguous f32 tensors, `[channels][height][width]`.

/// The shape of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Planes.
    pub channels: usize,
    /// Rows of a plane.
    pub height: usize,
    /// Values of a row.
    pub width: usize,
}

impl Shape {
    /// `[channels][height][width]`
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Shape { channels, height, width }
    }

    /// Values of one plane.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Values of all planes.
    pub fn len(&self) -> usize {
        self.channels * self.plane()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
