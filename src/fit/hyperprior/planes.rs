//! Planes of a block, row by row, and what is done with them: sums of shifted planes, and interpolation of hyper-codes; both
//! with their transposes, for the gradient.

use crate::image::Rect;
use crate::models::hyperprior::cells;

/// Height and width of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

impl Size {
    pub fn area(self) -> usize {
        self.height * self.width
    }

    /// Calls `f` for each row of the positions whose neighbour `(down, right)` is inside: where the positions start, where
    /// the neighbours start, and how many there are.
    fn rows(self, (down, right): (isize, isize), mut f: impl FnMut(usize, usize, usize)) {
        let part = |n: usize, by: isize| -> (usize, usize) {
            let from = (-by).max(0) as usize;
            (from.min(n), n.saturating_sub(by.max(0) as usize).max(from.min(n)))
        };
        let ((y0, y1), (x0, x1)) = (part(self.height, down), part(self.width, right));
        if x0 == x1 {
            return;
        }
        for y in y0..y1 {
            let at = y * self.width + x0;
            let there = at.wrapping_add_signed(down * self.width as isize + right);
            f(at, there, x1 - x0);
        }
    }

    /// `sum[p] += weight * values[p + by]`.
    pub fn add(self, sum: &mut [f32], weight: f32, values: &[f32], by: (isize, isize)) {
        if weight != 0.0 {
            self.rows(by, |at, there, n| {
                sum[at..at + n].iter_mut().zip(&values[there..there + n]).for_each(|(s, v)| *s += weight * v);
            });
        }
    }

    /// `sum[p + by] += weight * values[p]`: the transpose of [`Self::add`].
    pub fn add_back(self, sum: &mut [f32], weight: f32, values: &[f32], (down, right): (isize, isize)) {
        self.add(sum, weight, values, (-down, -right));
    }

    /// The sum of `a[p] * b[p + by]`.
    pub fn dot(self, a: &[f32], b: &[f32], by: (isize, isize)) -> f32 {
        // Sums of their own for eight columns: one alone would wait for itself.
        const LANES: usize = 8;
        let mut sums = [0f32; LANES];
        self.rows(by, |at, there, n| {
            let (a, b) = (&a[at..at + n], &b[there..there + n]);
            let (a8, b8) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            a8.remainder().iter().zip(b8.remainder()).zip(&mut sums).for_each(|((a, b), s)| *s += a * b);
            for (a, b) in a8.zip(b8) {
                (0..LANES).for_each(|k| sums[k] += a[k] * b[k]);
            }
        });
        sums.iter().sum()
    }
}

/// Positions of a block along an axis among hyper-codes.
#[derive(Debug, Default)]
struct Axis {
    /// The two hyper-codes of each position, and the weight of the second.
    pairs: Vec<(usize, usize, f32)>,
    /// The first that is needed, and how many there are.
    first: usize,
    count: usize,
}

impl Axis {
    /// Positions `from .. to`, of which `origin` is the first that a hyper-code covers, among `side` hyper-codes.
    fn set(&mut self, from: usize, to: usize, origin: usize, side: usize) {
        let pair = |at: usize| cells(at.saturating_sub(origin), side);
        self.first = pair(from).0;
        self.count = pair(to - 1).1 + 1 - self.first;
        self.pairs.clear();
        self.pairs.extend((from..to).map(|at| {
            let (a, b, w) = pair(at);
            (a - self.first, b - self.first, w as f32 / 8.0)
        }));
    }
}

/// The hyper-codes around a block, and how they are interpolated for it.
#[derive(Debug, Default)]
pub struct Cells {
    down: Axis,
    across: Axis,
    lines: Vec<f32>,
}

impl Cells {
    /// For the block `all` of codes, where hyper-codes begin at `origin` and are `rows` times `columns`.
    pub fn set(&mut self, all: Rect, origin: (usize, usize), (rows, columns): (usize, usize)) {
        self.down.set(all.y0, all.y1, origin.0, rows);
        self.across.set(all.x0, all.x1, origin.1, columns);
    }

    /// The hyper-codes that are needed, in rows and columns of all.
    pub fn window(&self) -> Rect {
        let (d, a) = (&self.down, &self.across);
        Rect::new(a.first, d.first, a.first + a.count, d.first + d.count)
    }

    /// `sum += ` the interpolated `z` of the window.
    pub fn add(&mut self, sum: &mut [f32], z: &[f32]) {
        let (width, columns) = (self.across.pairs.len(), self.across.count);
        self.lines.clear();
        for row in z.chunks_exact(columns) {
            self.lines.extend(self.across.pairs.iter().map(|&(a, b, w)| row[a] + w * (row[b] - row[a])));
        }
        for (&(a, b, w), sum) in self.down.pairs.iter().zip(sum.chunks_exact_mut(width)) {
            let (top, bottom) = (&self.lines[a * width..][..width], &self.lines[b * width..][..width]);
            sum.iter_mut().zip(top).zip(bottom).for_each(|((s, t), b)| *s += t + w * (b - t));
        }
    }

    /// The transpose of [`Self::add`]: `dz =` from `d`, the gradient of the sum.
    pub fn back(&mut self, d: &[f32], dz: &mut [f32]) {
        let (width, columns) = (self.across.pairs.len(), self.across.count);
        self.lines.clear();
        self.lines.resize(self.down.count * width, 0.0);
        for (&(a, b, w), d) in self.down.pairs.iter().zip(d.chunks_exact(width)) {
            for (to, w) in [(a, 1.0 - w), (b, w)] {
                self.lines[to * width..][..width].iter_mut().zip(d).for_each(|(l, d)| *l += w * d);
            }
        }
        dz.fill(0.0);
        for (line, dz) in self.lines.chunks_exact(width).zip(dz.chunks_exact_mut(columns)) {
            for (&(a, b, w), d) in self.across.pairs.iter().zip(line) {
                dz[a] += (1.0 - w) * d;
                dz[b] += w * d;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::rng::Rng;
    use proptest::prelude::*;

    fn noise(n: usize, rng: &mut Rng) -> Vec<f32> {
        (0..n).map(|_| rng.unit() - 0.5).collect()
    }

    fn inner(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    proptest! {
        /// Shifted sums are what they say, for blocks smaller than the shift too, and have their transposes.
        #[test]
        fn shifts(height in 1usize..12, width in 1usize..24, down in -2isize..=2, right in -2isize..=2, seed: u64) {
            let (size, by, mut rng) = (Size { height, width }, (down, right), Rng::stream(seed, 0, 0));
            let (a, b) = (noise(size.area(), &mut rng), noise(size.area(), &mut rng));
            let mut sum = vec![0.0; size.area()];
            size.add(&mut sum, 3.0, &b, by);
            for p in 0..size.area() {
                let (y, x) = ((p / width).checked_add_signed(down), (p % width).checked_add_signed(right));
                let there = y.zip(x).filter(|&(y, x)| y < height && x < width).map_or(0.0, |(y, x)| b[y * width + x]);
                prop_assert_eq!(sum[p], 3.0 * there);
            }
            let want = inner(&a, &sum);
            let mut back = vec![0.0; size.area()];
            size.add_back(&mut back, 3.0, &a, by);
            prop_assert!((inner(&back, &b) - want).abs() < 1e-4);
            prop_assert!((3.0 * size.dot(&a, &b, by) - want).abs() < 1e-4);
        }

        /// Interpolation keeps constants and has its transpose.
        #[test]
        fn interpolation(y0 in 0usize..20, x0 in 0usize..20, height in 1usize..30, width in 1usize..30, seed: u64) {
            let all = Rect::new(x0, y0, x0 + width, y0 + height);
            let mut cells = Cells::default();
            cells.set(all, (0, 0), (all.y1.div_ceil(4), all.x1.div_ceil(4)));
            let (window, mut rng) = (cells.window(), Rng::stream(seed, 0, 0));
            let mut flat = vec![0.0; height * width];
            cells.add(&mut flat, &vec![2.5; window.area()]);
            prop_assert!(flat.iter().all(|v| (v - 2.5).abs() < 1e-5));
            let (z, d) = (noise(window.area(), &mut rng), noise(height * width, &mut rng));
            let (mut up, mut dz) = (vec![0.0; d.len()], vec![0.0; z.len()]);
            cells.add(&mut up, &z);
            cells.back(&d, &mut dz);
            prop_assert!((inner(&up, &d) - inner(&z, &dz)).abs() < 1e-3);
        }
    }
}
