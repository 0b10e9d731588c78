//! Padded planes of the synthesis and scratch memory for its bands.

use super::grid::View;
use kernels::fast::lines::{lines, to_line, LINE};
use rayon::prelude::*;
use std::cell::RefCell;

/// Values before and after each row: room for filter tails and for whole vectors.
pub(super) const PAD: usize = 16;

/// Several maps of one size, row by row: `[h][maps][stride]`, a row standing at `PAD ..` of its stride.
pub(super) struct Planes {
    pub maps: usize,
    pub w: usize,
    pub h: usize,
    pub stride: usize,
    data: Vec<f32>,
    /// Where the first row starts: at a whole cache line, so that few vectors lie across two.
    start: usize,
}

impl Planes {
    pub fn new(maps: usize, w: usize, h: usize) -> Self {
        let stride = stride_of(w);
        let data = vec![0.0; maps * h * stride + LINE];
        Planes { maps, w, h, stride, start: to_line(&data), data }
    }

    /// From the padding before row `y` of `map` to the end of the planes: the maps after it follow at `stride`.
    pub fn row(&self, y: usize, map: usize) -> &[f32] {
        &self.data[self.start + (y * self.maps + map) * self.stride..]
    }

    /// Rows `y - 1 ..= y + 1`, the outermost repeated, from one value before the picture on.
    pub fn around(&self, y: usize) -> [&[f32]; 3] {
        [y.saturating_sub(1), y, (y + 1).min(self.h - 1)].map(|y| &self.row(y, 0)[PAD - 1..])
    }

    /// Bands of `rows` rows with their number.
    pub fn bands(&mut self, rows: usize) -> impl IndexedParallelIterator<Item = (usize, &mut [f32])> {
        let len = self.maps * self.h * self.stride;
        self.data[self.start..][..len].par_chunks_mut(rows * self.maps * self.stride).enumerate()
    }

    /// Repeats the first and the last value of each row of `band` (rows of planes of this width) into its padding.
    pub fn repeat_edges(&self, band: &mut [f32]) {
        for row in band.chunks_exact_mut(self.stride) {
            let (first, last) = (row[PAD], row[PAD + self.w - 1]);
            row[..PAD].fill(first);
            row[PAD + self.w..].fill(last);
        }
    }

    /// The rows of `grids`, one a map.
    pub fn copy_from(&mut self, grids: &[View]) {
        assert_eq!(grids.len(), self.maps);
        for (n, row) in self.data[self.start..].chunks_exact_mut(self.stride).take(self.h * self.maps).enumerate() {
            row[PAD..][..self.w].copy_from_slice(grids[n % self.maps].row(n / self.maps, self.w));
            let (first, last) = (row[PAD], row[PAD + self.w - 1]);
            row[..PAD].fill(first);
            row[PAD + self.w..].fill(last);
        }
    }
}

/// Length of a padded row.
pub(super) fn stride_of(w: usize) -> usize {
    w.next_multiple_of(16) + 2 * PAD
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
