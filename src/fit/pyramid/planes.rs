//! Padded planes of the synthesis and scratch memory for its bands.

use super::view::View;
use kernels::fast::lines::{lines, to_line, LINE};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Values before and after each row: room for filter tails and for whole vectors.
pub(super) const PAD: usize = 16;

/// Several maps of one size, or a strip of them, row by row: `[rows][maps][stride]`, a row standing at `PAD ..` of its
/// stride. Rows are numbered as those of the whole.
pub(super) struct Planes {
    pub maps: usize,
    pub w: usize,
    /// Of the whole.
    pub h: usize,
    pub stride: usize,
    /// The rows that are here.
    pub rows: Range<usize>,
    data: Vec<f32>,
    /// Where the first row starts: at a whole cache line, so that few vectors lie across two.
    start: usize,
}

impl Planes {
    pub fn new(maps: usize, w: usize, h: usize) -> Self {
        Planes::strip(maps, w, h, h)
    }

    /// ScratchPool for `rows` of the `h` rows: the first.
    pub fn strip(maps: usize, w: usize, h: usize, rows: usize) -> Self {
        let stride = stride_of(w);
        let data = vec![0.0; maps * rows * stride + LINE];
        Planes { maps, w, h, stride, rows: 0..rows, start: to_line(&data), data }
    }

    /// From now on these are `rows`, no more than there is room for; their values are arbitrary.
    pub fn move_to(&mut self, rows: &Range<usize>) {
        self.rows = rows.clone();
    }

    fn values(&self) -> Range<usize> {
        self.start..self.start + self.maps * self.rows.len() * self.stride
    }

    /// From the padding before row `y` of `map` to the end of the planes: the maps after it follow at `stride`.
    pub fn row(&self, y: usize, map: usize) -> &[f32] {
        &self.data[self.start + ((y - self.rows.start) * self.maps + map) * self.stride..]
    }

    /// Rows `y - 1 ..= y + 1`, the outermost repeated, from one value before the picture on.
    pub fn around(&self, y: usize) -> [&[f32]; 3] {
        let near = [y.saturating_sub(1).max(self.rows.start), y, (y + 1).min(self.rows.end - 1)];
        near.map(|y| &self.row(y, 0)[PAD - 1..])
    }

    /// All rows that are here.
    pub fn all(&mut self) -> &mut [f32] {
        let values = self.values();
        &mut self.data[values]
    }

    /// One row after the other, of all maps.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let len = self.maps * self.stride;
        self.all().chunks_exact_mut(len)
    }

    /// Bands of `rows` rows with the number of the first.
    pub fn bands(&mut self, rows: usize) -> impl IndexedParallelIterator<Item = (usize, &mut [f32])> {
        let (first, values) = (self.rows.start, self.values());
        let bands = self.data[values].par_chunks_mut(rows * self.maps * self.stride);
        bands.enumerate().map(move |(b, band)| (first + b * rows, band))
    }

    pub fn clear(&mut self) {
        clear(self.all());
    }

    /// The rows of `grids`, one a map.
    pub fn copy_from(&mut self, grids: &[View]) {
        assert_eq!(grids.len(), self.maps);
        let (first, maps, w, stride) = (self.rows.start, self.maps, self.w, self.stride);
        for (n, row) in self.all().chunks_exact_mut(stride).enumerate() {
            row[PAD..][..w].copy_from_slice(grids[n % maps].row(first + n / maps, w));
            repeat_edges(row, w);
        }
    }
}

/// Length of a padded row.
pub(super) fn stride_of(w: usize) -> usize {
    w.next_multiple_of(16) + 2 * PAD
}

/// Zeros; of large planes one thread alone would keep the others waiting for memory.
pub(super) fn clear(values: &mut [f32]) {
    values.par_chunks_mut(1 << 17).for_each(|chunk| chunk.fill(0.0));
}

/// Repeats the first and the last value of a row into its padding.
pub(super) fn repeat_edges(row: &mut [f32], w: usize) {
    let (first, last) = (row[PAD], row[PAD + w - 1]);
    row[..PAD].fill(first);
    row[PAD + w..].fill(last);
}

/// Clears the padding of a row.
pub(super) fn zero_edges(row: &mut [f32], w: usize) {
    row[..PAD].fill(0.0);
    row[PAD + w..].fill(0.0);
}

/// Runs `f` with `n` values of this thread's memory, whose contents are arbitrary. It grows once.
pub(super) fn with_scratch<R>(n: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    SCRATCH.with_borrow_mut(|s| f(lines(s, n)))
}
