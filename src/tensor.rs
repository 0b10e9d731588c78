//! Contiguous f32 tensors `[channels][height][width]`. Sizes are checked before memory is allocated.

use crate::error::{Class, Error, Result};
use crate::limits::try_vec;
use alloc::vec::Vec;

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

    /// Values of all planes. For shapes that came from a file use [`checked_len`](Self::checked_len).
    pub fn len(&self) -> usize {
        self.channels * self.plane()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [`len`](Self::len), or an error if it overflows.
    pub fn checked_len(&self) -> Result<usize> {
        let len = self.channels.checked_mul(self.height).and_then(|n| n.checked_mul(self.width));
        len.ok_or_else(|| Error::new(Class::MemoryLimit, "a feature map is too large for this machine"))
    }
}

/// A tensor.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tensor {
    /// Its shape.
    pub shape: Shape,
    /// `[channels][height][width]`
    pub values: Vec<f32>,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// A shape whose length overflows, and an allocation that fails.
    pub fn zeros(shape: Shape) -> Result<Self> {
        Ok(Tensor { shape, values: try_vec(shape.checked_len()?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(Tensor::zeros(Shape::new(2, 3, 4)).unwrap().values.len(), 24);
        assert!(Tensor::zeros(Shape::new(usize::MAX, 2, 1)).is_err());
        assert!(Tensor::zeros(Shape::new(1 << 40, 1 << 20, 1)).is_err());
    }
}
