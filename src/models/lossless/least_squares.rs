//! Linear predictors whose coefficients are least-squares solutions over the samples coded before in the neighbourhood.

use crate::error::Result;
use crate::limits::try_filled;
use alloc::{vec, vec::Vec};

/// Samples of a row that share a solution.
pub const BLOCK: usize = 16;

/// Predictors: one of a small neighbourhood and one of a large one.
pub const PREDICTORS: usize = 2;
/// For each predictor, how many blocks to the left and to the right count.
const REACH: [usize; PREDICTORS] = [1, 2];
/// For each predictor, what a row counts relative to the next.
const DECAY: [f32; PREDICTORS] = [0.75, 0.96875];
/// For each predictor, the share of the diagonal that draws the coefficients to their start.
const RIDGE: [f32; PREDICTORS] = [1.0 / 128.0, 1.0 / 512.0];

/// A row of sums, in groups of four columns.
type Row<const C: usize> = [[f32; 4]; C];

/// Sums of products over a neighbourhood, for each block of columns. There are `n < 4 C` inputs; column `n` is the target.
pub struct LeastSquares<const C: usize> {
    n: usize,
    blocks: usize,
    /// Whether the coefficients are those of the present block.
    solved: bool,
    /// For each predictor and each block the upper triangle of a matrix of `n` rows.
    sums: [Vec<Row<C>>; 2],
    /// The sums of the present block of the present row.
    row: Vec<Row<C>>,
    work: Vec<Row<C>>,
    weights: [Row<C>; 2],
    /// Coefficients without any experience.
    prior: Row<C>,
}

impl<const C: usize> LeastSquares<C> {
    /// Bytes that it holds for planes of this width.
    pub fn memory(width: usize) -> u64 {
        let n = 4 * C as u64 - 1;
        (2 * width.div_ceil(BLOCK) as u64 + 2) * n * core::mem::size_of::<Row<C>>() as u64
    }

    /// # Errors
    /// An allocation that fails.
    pub fn new(width: usize, prior: &[f32]) -> Result<Self> {
        let n = prior.len();
        let blocks = width.div_ceil(BLOCK);
        let mut row = [[0.0; 4]; C];
        row.as_flattened_mut()[..n].copy_from_slice(prior);
        let zeros = vec![[[0.0; 4]; C]; n];
        let sums = || try_filled(blocks * n, [[0.0; 4]; C]);
        Ok(LeastSquares {
            n,
            blocks,
            solved: false,
            sums: [sums()?, sums()?],
            row: zeros.clone(),
            work: zeros,
            weights: [row; 2],
            prior: row,
        })
    }

    /// Begins a block.
    pub fn enter(&mut self) {
        self.solved = false;
        self.row.fill([[0.0; 4]; C]);
    }

    /// Finds the coefficients of a block, once.
    #[inline]
    pub fn solve(&mut self, block: usize) {
        if !self.solved {
            self.solved = true;
            self.find(block);
        }
    }

    fn find(&mut self, block: usize) {
        let n = self.n;
        for which in 0..2 {
            let reach = REACH[which];
            let from = block.saturating_sub(reach);
            let to = (block + reach + 1).min(self.blocks);
            self.work.copy_from_slice(&self.sums[which][from * n..][..n]);
            for b in from + 1..to {
                let sums = &self.sums[which][b * n..][..n];
                for (i, (w, s)) in self.work.iter_mut().zip(sums).enumerate() {
                    for c in i / 4..C {
                        for k in 0..4 {
                            w[c][k] += s[c][k];
                        }
                    }
                }
            }
            for i in 0..n {
                let w = self.work[i].as_flattened_mut();
                let ridge = RIDGE[which] * w[i] + 0.5;
                w[i] += ridge;
                w[n] += ridge * self.prior.as_flattened()[i];
            }
            solve(&mut self.work, &mut self.weights[which]);
        }
    }

    #[inline]
    pub fn predict(&self, which: usize, d: &Row<C>) -> f32 {
        let mut s = [0f32; 4];
        for c in 0..C {
            for k in 0..4 {
                s[k] += d[c][k] * self.weights[which][c][k];
            }
        }
        (s[0] + s[1]) + (s[2] + s[3])
    }

    /// Learns that the inputs `d[..n]` had the target `d[n]`.
    #[inline]
    pub fn learn(&mut self, d: &Row<C>, weight: f32) {
        for (i, row) in self.row.iter_mut().enumerate() {
            let f = d[i / 4][i % 4] * weight;
            for c in i / 4..C {
                for k in 0..4 {
                    row[c][k] += f * d[c][k];
                }
            }
        }
    }

    /// Ends a block: its sums count, those of the rows above less.
    pub fn leave(&mut self, block: usize) {
        for which in 0..2 {
            let decay = DECAY[which];
            let sums = &mut self.sums[which][block * self.n..][..self.n];
            for (i, (s, r)) in sums.iter_mut().zip(&self.row).enumerate() {
                for c in i / 4..C {
                    for k in 0..4 {
                        s[c][k] = decay * s[c][k] + r[c][k];
                    }
                }
            }
        }
    }
}

/// Gaussian elimination of the upper triangle `a`, whose column `n` is the right side, into `w`.
fn solve<const C: usize>(a: &mut [Row<C>], w: &mut Row<C>) {
    let n = a.len();
    for k in 0..n {
        let (upper, lower) = a.split_at_mut(k + 1);
        let pivot = &upper[k];
        let inverse = 1.0 / pivot[k / 4][k % 4].max(0.01);
        for (j, row) in lower.iter_mut().enumerate() {
            let i = k + 1 + j;
            let f = pivot[i / 4][i % 4] * inverse;
            for c in i / 4..C {
                for k in 0..4 {
                    row[c][k] -= f * pivot[c][k];
                }
            }
        }
    }
    for k in (0..n).rev() {
        let v = a[k][n / 4][n % 4] / a[k][k / 4][k % 4].max(0.01);
        w[k / 4][k % 4] = v;
        for row in &mut a[..k] {
            row[n / 4][n % 4] -= row[k / 4][k % 4] * v;
        }
    }
}
