//! Contiguous f32 tensors `[channels][height][width]` (one sample of NCHW), sizes checked before allocation.

use crate::error::{Class, Error, Result};
use crate::limits::try_vec;
use alloc::vec::Vec;

/// Channels, rows, columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Shape {
    pub fn new(channels: usize, height: usize, width: usize) -> Self {
        Shape { channels, height, width }
    }

    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    pub fn len(&self) -> usize {
        self.channels * self.plane()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [`len`](Self::len), or an error where it does not fit.
    pub fn checked_len(&self) -> Result<usize> {
        let len = self.channels.checked_mul(self.height).and_then(|n| n.checked_mul(self.width));
        len.ok_or_else(|| Error::new(Class::MemoryLimit, "a feature map is too large for this machine"))
    }
}

/// A shape and its values.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tensor {
    pub shape: Shape,
    pub values: Vec<f32>,
}

impl Tensor {
    /// Zeros; an allocation that fails is an error.
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
