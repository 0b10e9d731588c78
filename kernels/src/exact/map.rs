//! Feature maps of a part of the picture, with zeros where that part reaches beyond the picture.

use super::taps::STRIP;
use crate::Window;
use alloc::vec::Vec;

/// A rectangle in the coordinates of a whole feature map; it may reach beyond the map on any side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Frame {
    /// First row.
    pub top: isize,
    /// First column.
    pub left: isize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
}

impl From<&Window> for Frame {
    fn from(w: &Window) -> Frame {
        Frame { top: w.y0 as isize, left: w.x0 as isize, rows: w.height, cols: w.width }
    }
}

/// Floats of a cache line.
const LINE: usize = 16;
/// Sets of L1 on most processors: 4 KB a way.
const SETS: usize = 64;

/// Floats from a plane to the next. Planes lie `64 k + 39` cache lines apart: 39/64 is near the golden ratio, which spreads
/// the same pixel of successive planes over the 64 sets of L1.
fn plane_of(frame: &Frame) -> usize {
    let lines = (frame.rows * frame.cols).div_ceil(LINE);
    (lines + (SETS + 39 - lines % SETS) % SETS) * LINE
}

/// `[channels][rows][cols]` values of a [`Frame`]. The buffer is kept from one [`reset`](Map::reset) to the next.
#[derive(Clone, Debug, Default)]
pub struct Map {
    channels: usize,
    frame: Frame,
    plane: usize,
    values: Vec<f32>,
}

impl Map {
    /// Gives the map another shape. Values outside `inside`, the part of the frame that lies in the picture, become 0;
    /// those inside are unspecified until they are written.
    pub fn reset(&mut self, channels: usize, frame: Frame, inside: &Window) {
        let inner = Frame::from(inside);
        // Rows and columns of the frame before, within and after `inside`.
        let cut = |from: isize, first: isize, n: usize, size: usize| {
            let before = (first - from).clamp(0, size as isize) as usize;
            (before, n.min(size - before))
        };
        let (above, height) = cut(frame.top, inner.top, inner.rows, frame.rows);
        let (before, width) = cut(frame.left, inner.left, inner.cols, frame.cols);
        let plane = plane_of(&frame);
        let need = Self::floats(channels, &frame);
        if self.values.len() < need {
            self.values.resize(need, 0.0);
        }
        (self.channels, self.frame, self.plane) = (channels, frame, plane);
        for plane in self.values.chunks_exact_mut(plane).take(channels) {
            let (top, rest) = plane.split_at_mut(above * frame.cols);
            let (middle, rest) = rest.split_at_mut(height * frame.cols);
            top.fill(0.0);
            rest.fill(0.0);
            if width < frame.cols {
                for row in middle.chunks_exact_mut(frame.cols) {
                    row[..before].fill(0.0);
                    row[before + width..].fill(0.0);
                }
            }
        }
    }

    /// Floats that a map of this shape holds.
    pub fn floats(channels: usize, frame: &Frame) -> usize {
        channels * plane_of(frame) + 2 * frame.cols + 2 * STRIP
    }

    /// Where the map lies.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Values of a row of one channel from column `x` on, in the coordinates of the whole feature map, to the end of
    /// the frame.
    pub fn row(&self, channel: usize, y: usize, x: usize) -> &[f32] {
        let at = self.at(channel, y, x);
        &self.values[at..at + self.frame.cols - (x as isize - self.frame.left) as usize]
    }

    /// [`row`](Self::row), to write.
    #[inline(always)]
    pub fn row_mut(&mut self, channel: usize, y: usize, x: usize) -> &mut [f32] {
        let at = self.at(channel, y, x);
        let end = at + self.frame.cols - (x as isize - self.frame.left) as usize;
        &mut self.values[at..end]
    }

    #[inline(always)]
    fn at(&self, channel: usize, y: usize, x: usize) -> usize {
        let (i, j) = (y as isize - self.frame.top, x as isize - self.frame.left);
        assert!(channel < self.channels);
        assert!((0..self.frame.rows as isize).contains(&i) && (0..=self.frame.cols as isize).contains(&j));
        channel * self.plane + i as usize * self.frame.cols + j as usize
    }

    /// All channels, one after another, equally long; what is behind the last row of each is unspecified.
    pub fn planes_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.channels * self.plane]
    }

    /// Floats from one channel to the next.
    pub(crate) fn plane(&self) -> usize {
        self.plane
    }

    /// All channels, one after another.
    pub(crate) fn planes(&self) -> &[f32] {
        &self.values[..self.channels * self.plane]
    }

    /// All channels, and behind them two rows and two strips, which kernels read for points that they drop.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }
}
