//! Several planes of one scale with padded rows, and scratch memory for threads.
//!
//! The words of this directory:
//!
//! - **grid**: the codes of one scale, or, while they are fitted, its real-valued latents;
//! - **plane**: a 2-D array of one channel: a grid, a feature, a map of the synthesis, a channel of the picture;
//! - **row**: a row of one plane;
//! - **strip**: a range of rows of all planes of one scale. It is the unit of parallel work: which rows a strip has depends
//!   on sizes alone, and what strips add up is added in their order, so that results do not depend on the threads;
//! - **tile**: a unit of entropy coding in the file. Training does not divide grids into tiles.
//!
//! *Maps* are, as in `docs/FORMAT.md`, the planes that the synthesis works on: one for each synthesised grid.

use super::view::PlaneView;
use kernels::fast::lines::{lines, to_line, LINE};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Values before and after each row: room for filter tails and for whole vectors.
pub(super) const PAD: usize = 16;

/// Planes of one scale, or a strip of them: `[rows][count][stride]`, the values of a row at `PAD ..` of its stride. Rows have
/// their numbers in the whole plane.
pub(super) struct Planes {
    /// Number of planes.
    pub count: usize,
    /// Values of a row.
    pub w: usize,
    /// Rows of a whole plane.
    pub h: usize,
    /// Values of a padded row.
    pub stride: usize,
    /// The rows that are here.
    pub rows: Range<usize>,
    data: Vec<f32>,
    /// Where the first row starts in `data`: at a cache line, so that few vectors cross one.
    start: usize,
}

impl Planes {
    /// Whole planes of `w` x `h`, zero.
    pub fn new(count: usize, w: usize, h: usize) -> Self {
        Planes::strip(count, w, h, h)
    }

    /// Memory for a strip of up to `rows` of the `h` rows; at first it has the first ones.
    pub fn strip(count: usize, w: usize, h: usize, rows: usize) -> Self {
        let stride = stride_of(w);
        let data = vec![0.0; count * rows * stride + LINE];
        Planes { count, w, h, stride, rows: 0..rows, start: to_line(&data), data }
    }

    /// From now on these are `rows`, no more than there is memory for; their values are arbitrary.
    pub fn set_rows(&mut self, rows: &Range<usize>) {
        self.rows = rows.clone();
    }

    /// The part of `data` that is in use.
    fn used(&self) -> Range<usize> {
        self.start..self.start + self.count * self.rows.len() * self.stride
    }

    /// Row `y` of `plane`, from its padding on, and everything after it: the same row of the next plane follows at `stride`.
    pub fn row(&self, y: usize, plane: usize) -> &[f32] {
        &self.data[self.start + ((y - self.rows.start) * self.count + plane) * self.stride..]
    }

    /// Rows `y - 1 ..= y + 1` of the first plane, with the first and the last row repeated outside, each from the value
    /// before its first one on.
    pub fn around(&self, y: usize) -> [&[f32]; 3] {
        let rows = [y.saturating_sub(1).max(self.rows.start), y, (y + 1).min(self.rows.end - 1)];
        rows.map(|y| &self.row(y, 0)[PAD - 1..])
    }

    /// All rows that are here, of all planes.
    pub fn all_mut(&mut self) -> &mut [f32] {
        let used = self.used();
        &mut self.data[used]
    }

    /// The rows of all planes, one number after the other.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let len = self.count * self.stride;
        self.all_mut().chunks_exact_mut(len)
    }

    /// Strips of `rows` rows, each with the number of its first row.
    pub fn strips_mut(&mut self, rows: usize) -> impl IndexedParallelIterator<Item = (usize, &mut [f32])> {
        let (first, used) = (self.rows.start, self.used());
        let strips = self.data[used].par_chunks_mut(rows * self.count * self.stride);
        strips.enumerate().map(move |(n, strip)| (first + n * rows, strip))
    }

    /// Sets all values to zero.
    pub fn clear(&mut self) {
        clear(self.all_mut());
    }

    /// Copies the rows that are here from `grids`, one for each plane, and repeats their edges into the padding.
    pub fn copy_from(&mut self, grids: &[PlaneView]) {
        assert_eq!(grids.len(), self.count);
        let (first, count, w, stride) = (self.rows.start, self.count, self.w, self.stride);
        for (n, row) in self.all_mut().chunks_exact_mut(stride).enumerate() {
            row[PAD..][..w].copy_from_slice(grids[n % count].row(first + n / count, w));
            repeat_edges(row, w);
        }
    }
}

/// Length of a padded row of `w` values.
pub(super) fn stride_of(w: usize) -> usize {
    w.next_multiple_of(16) + 2 * PAD
}

/// Sets `values` to zero, large ones on all threads: a single one would be limited by its memory bandwidth while the others
/// wait.
pub(super) fn clear(values: &mut [f32]) {
    values.par_chunks_mut(1 << 17).for_each(|chunk| chunk.fill(0.0));
}

/// Repeats the first and the last of the `w` values of a padded row into its padding.
pub(super) fn repeat_edges(row: &mut [f32], w: usize) {
    let (first, last) = (row[PAD], row[PAD + w - 1]);
    row[..PAD].fill(first);
    row[PAD + w..].fill(last);
}

/// Sets the padding of a padded row of `w` values to zero.
pub(super) fn zero_edges(row: &mut [f32], w: usize) {
    row[..PAD].fill(0.0);
    row[PAD + w..].fill(0.0);
}

/// Runs `f` with `n` values of this thread's scratch memory, which grows if need be. The values are arbitrary.
pub(super) fn with_scratch<R>(n: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    SCRATCH.with_borrow_mut(|s| f(lines(s, n)))
}
