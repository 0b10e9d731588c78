//! Pictures as 8-bit samples, and rectangles of them.

use alloc::{vec, vec::Vec};
/// `height * width * channels` samples, interleaved; 1 channel (grey) or 3 (RGB).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub samples: Vec<u8>,
}

impl Picture {
    /// Planes of f32 in `[0, 1]`, channel after channel: `[channels][height][width]`.
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

    pub fn pixels(&self) -> usize {
        self.width * self.height
    }
}

/// A half-open rectangle in pixels (or codes) of the whole picture: `x0 <= x < x1`, `y0 <= y < y1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rect {
    pub x0: usize,
    pub y0: usize,
    pub x1: usize,
    pub y1: usize,
}

impl Rect {
    pub fn new(x0: usize, y0: usize, x1: usize, y1: usize) -> Self {
        Rect { x0, y0, x1, y1 }
    }
    pub fn whole(width: usize, height: usize) -> Self {
        Rect::new(0, 0, width, height)
    }
    pub fn width(&self) -> usize {
        self.x1 - self.x0
    }
    pub fn height(&self) -> usize {
        self.y1 - self.y0
    }
    pub fn area(&self) -> usize {
        self.width() * self.height()
    }
    pub fn is_empty(&self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }
    /// Grown by `n` on each side, then cut to `0..width` x `0..height`.
    pub fn grown(&self, n: usize, width: usize, height: usize) -> Self {
        Rect {
            x0: self.x0.saturating_sub(n),
            y0: self.y0.saturating_sub(n),
            x1: (self.x1 + n).min(width),
            y1: (self.y1 + n).min(height),
        }
    }
    /// The smallest rectangle of the grid at `1/2^shift` whose codes cover this one.
    pub fn shrunk(&self, shift: u32) -> Self {
        let up = |v: usize| v.div_ceil(1 << shift);
        Rect { x0: self.x0 >> shift, y0: self.y0 >> shift, x1: up(self.x1), y1: up(self.y1) }
    }
    pub fn intersect(&self, o: &Rect) -> Self {
        Rect { x0: self.x0.max(o.x0), y0: self.y0.max(o.y0), x1: self.x1.min(o.x1), y1: self.y1.min(o.y1) }
    }
}
