//! Copies of a window of a picture with zeros around it, in the layout that [`panel`](crate::panel) reads.

use crate::panel::{plane_pitch, SLACK};
use crate::Window;
use alloc::vec::Vec;

/// What to copy: `rows x cols` from row `top` and column `left` of the picture, zero outside it. The
/// columns are split into `stride` phases, so that every stride-th one lies beside the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gather {
    pub channels: usize,
    pub top: isize,
    pub left: isize,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

impl Gather {
    /// Columns of one phase.
    pub fn phase(&self) -> usize {
        self.cols.div_ceil(self.stride)
    }

    pub fn row_pitch(&self) -> usize {
        self.stride * self.phase()
    }

    pub fn plane_pitch(&self) -> usize {
        plane_pitch(self.rows * self.row_pitch())
    }

    /// Where row `i`, column `j` of the copy lies in its channel.
    pub fn offset(&self, i: usize, j: usize) -> usize {
        i * self.row_pitch() + j % self.stride * self.phase() + j / self.stride
    }

    /// The offset of each kernel position of each channel: channel, row, column, the last the fastest.
    pub fn taps(&self, kernel: usize, taps: &mut Vec<u32>) {
        taps.clear();
        for c in 0..self.channels {
            for u in 0..kernel {
                for v in 0..kernel {
                    taps.push((c * self.plane_pitch() + self.offset(u, v)) as u32);
                }
            }
        }
    }

    /// Fills `out` (grown when too short) from `x`, `[channels][window.height][window.width]`.
    pub fn fill(&self, window: &Window, x: &[f32], out: &mut Vec<f32>) {
        let (plane, pitch, phase) = (self.plane_pitch(), self.row_pitch(), self.phase());
        let need = self.channels * plane + SLACK;
        if out.len() < need {
            out.resize(need, 0.0);
        }
        let (h, w) = (window.height, window.width);
        let (top, left) = (self.top - window.y0 as isize, self.left - window.x0 as isize);
        // Columns [first, end) of the copy come from the window.
        let clamp = |v: isize, n: usize| v.clamp(0, n as isize) as usize;
        let (first, end) = (clamp(-left, self.cols), clamp(w as isize - left, self.cols));
        for c in 0..self.channels {
            for i in 0..self.rows {
                let to = &mut out[c * plane + i * pitch..][..pitch];
                let from = top + i as isize;
                if from < 0 || from >= h as isize || first >= end {
                    to.fill(0.0);
                    continue;
                }
                let row = &x[(c * h + from as usize) * w..][..w];
                let row = &row[(first as isize + left) as usize..(end as isize + left) as usize];
                for r in 0..self.stride {
                    let to = &mut to[r * phase..][..phase];
                    // The first and the one past the last copied column of this phase.
                    let a = (first + self.stride - 1 - r) / self.stride;
                    let b = ((end + self.stride - 1 - r) / self.stride).max(a);
                    to[..a].fill(0.0);
                    to[b..].fill(0.0);
                    if a == b {
                        continue;
                    }
                    let source = &row[a * self.stride + r - first..];
                    match self.stride {
                        1 => to[a..b].copy_from_slice(&source[..b - a]),
                        // The usual stride by pairs, which the compiler turns into shuffles.
                        2 => {
                            let pairs = source.chunks_exact(2);
                            if let [last] = pairs.remainder() {
                                if source.len().div_ceil(2) == b - a {
                                    to[b - 1] = *last;
                                }
                            }
                            to[a..b].iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[0]);
                        }
                        n => to[a..b].iter_mut().zip(source.iter().step_by(n)).for_each(|(to, &v)| *to = v),
                    }
                }
            }
        }
    }
}
