//! Pictures as 8-bit samples, and rectangles of them.

use alloc::{vec, vec::Vec};

/// A picture of 8-bit samples.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples of a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `[height][width][channels]`: row by row, the samples of a pixel together.
    pub samples: Vec<u8>,
}

impl Picture {
    /// The samples as f32 in `[0, 1]`, channel after channel: `[channels][height][width]`.
    pub fn to_planes(&self) -> Vec<f32> {
        let n = self.width * self.height;
        let mut planes = vec![0f32; n * self.channels];
        for c in 0..self.channels {
            for (p, s) in planes[c * n..][..n].iter_mut().zip(self.samples[c..].iter().step_by(self.channels)) {
                *p = *s as f32 / 255.0;
            }
        }
        planes
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }
}

/// A rectangle of pixels (or of codes of a grid), counted from the top left: `x0 <= x < x1`, `y0 <= y < y1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rect {
    /// First column.
    pub x0: usize,
    /// First row.
    pub y0: usize,
    /// Column after the last.
    pub x1: usize,
    /// Row after the last.
    pub y1: usize,
}

impl Rect {
    /// Columns `x0 .. x1` and rows `y0 .. y1`.
    pub fn new(x0: usize, y0: usize, x1: usize, y1: usize) -> Self {
        Rect { x0, y0, x1, y1 }
    }
    /// All of a picture of this size.
    pub fn whole(width: usize, height: usize) -> Self {
        Rect::new(0, 0, width, height)
    }
    /// Number of columns. The rectangle is not reversed (`x0 <= x1`).
    pub fn width(&self) -> usize {
        self.x1 - self.x0
    }
    /// Number of rows. The rectangle is not reversed (`y0 <= y1`).
    pub fn height(&self) -> usize {
        self.y1 - self.y0
    }
    /// Columns times rows.
    pub fn area(&self) -> usize {
        self.width() * self.height()
    }
    /// Whether it has no pixels; true for a reversed rectangle.
    pub fn is_empty(&self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }
    /// The rectangle with `n` more on each side, clamped to a picture of `width` x `height`.
    pub fn grown(&self, n: usize, width: usize, height: usize) -> Self {
        Rect {
            x0: self.x0.saturating_sub(n),
            y0: self.y0.saturating_sub(n),
            x1: (self.x1 + n).min(width),
            y1: (self.y1 + n).min(height),
        }
    }
    /// The smallest rectangle of a grid at `1/2^shift` whose codes cover this rectangle of pixels.
    pub fn shrunk(&self, shift: u32) -> Self {
        let up = |v: usize| v.div_ceil(1 << shift);
        Rect { x0: self.x0 >> shift, y0: self.y0 >> shift, x1: up(self.x1), y1: up(self.y1) }
    }
    /// The overlap with another rectangle; without one it [is empty](Self::is_empty), and may be reversed.
    pub fn intersect(&self, o: &Rect) -> Self {
        Rect { x0: self.x0.max(o.x0), y0: self.y0.max(o.y0), x1: self.x1.min(o.x1), y1: self.y1.min(o.y1) }
    }
}
