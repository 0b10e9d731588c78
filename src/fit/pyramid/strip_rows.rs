//! Parallel work on strips: each strip writes to its own part of shared outputs.

use crate::image::PixelFormat;
use std::ops::Range;

/// Most planes that the strips of one scale write to: the channels of a picture, or the gradients of the grids of a scale.
pub(super) const MAX_PLANES: usize = PixelFormat::MAX_CHANNELS;

/// Consecutive rows of one plane, to write to.
#[derive(Default)]
pub(super) struct PlaneRows<'a> {
    /// Number of the first row.
    first: usize,
    /// Values of a row.
    stride: usize,
    data: &'a mut [f32],
}

impl<'a> PlaneRows<'a> {
    /// All rows of a plane, `stride` values each.
    pub fn new(stride: usize, data: &'a mut [f32]) -> Self {
        PlaneRows { first: 0, stride, data }
    }

    /// Row `y` and everything after it.
    pub fn row(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[(y - self.first) * self.stride..]
    }

    /// The rows before row `y`, and the others.
    fn split(self, y: usize) -> (Self, Self) {
        let (before, after) = self.data.split_at_mut(((y - self.first) * self.stride).min(self.data.len()));
        (PlaneRows { data: before, ..self }, PlaneRows { first: y, stride: self.stride, data: after })
    }
}

/// What a strip, or several, write to. Parts that are not used are empty.
#[derive(Default)]
pub(super) struct StripOutputs<'a> {
    /// Rows of planes at the scale of the strips.
    pub planes: [PlaneRows<'a>; MAX_PLANES],
    /// Rows of all maps of the next coarser scale: row `y` has this row of each map, one after the other.
    pub coarser: PlaneRows<'a>,
    /// Sums of gradients by weights: equally many for each strip, one strip after the other.
    pub sums: &'a mut [f32],
    /// Sums of errors, likewise.
    pub errors: &'a mut [f64],
}

/// Every `step`-th strip from number `first` on, `count` of them. Each has `rows` rows, a multiple of 4, but for the last one
/// of the plane.
#[derive(Clone, Copy)]
pub(super) struct Strips {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    pub rows: usize,
}

impl Strips {
    /// All strips of a plane of `h` rows.
    pub fn all(h: usize, rows: usize) -> Strips {
        Strips { first: 0, step: 1, count: h.div_ceil(rows), rows }
    }

    /// The strips of even number (`odd` 0) or of odd number (`odd` 1). Each of them may also write to half a strip of rows
    /// on each side.
    pub fn every_second(self, odd: usize) -> Strips {
        Strips { first: odd, step: 2, count: (self.count + 1 - odd) / 2, ..self }
    }

    /// Runs `f` on each strip, in parallel, with its rows (those of the last strip may reach beyond the plane) and its part
    /// of `outputs`. Between two strips planes are divided half-way.
    pub fn for_each(self, outputs: StripOutputs, f: &(impl Fn(Range<usize>, StripOutputs) + Sync)) {
        let Strips { first, step, count, rows } = self;
        match count {
            0 => return,
            1 => return f(first * rows..(first + 1) * rows, outputs),
            _ => {}
        }
        let left = Strips { count: count / 2, ..self };
        let right = Strips { first: first + left.count * step, count: count - left.count, ..self };
        let cut = (right.first * rows + (right.first - step + 1) * rows) / 2;
        let StripOutputs { planes, coarser, sums, errors } = outputs;
        let [mut before, mut after] = [(); 2].map(|()| StripOutputs::default());
        for (n, plane) in planes.into_iter().enumerate() {
            (before.planes[n], after.planes[n]) = plane.split(cut);
        }
        (before.coarser, after.coarser) = coarser.split(cut / 2);
        (before.sums, after.sums) = sums.split_at_mut(sums.len() / count * left.count);
        (before.errors, after.errors) = errors.split_at_mut(errors.len() / count * left.count);
        rayon::join(|| left.for_each(before, f), || right.for_each(after, f));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each strip can write to its own rows and to those beside them, and no other strip writes there at the same time.
    #[test]
    fn strips_have_rows_of_their_own() {
        const WIDTH: usize = 3;
        for (h, rows) in [(1, 8), (8, 8), (9, 8), (40, 8), (61, 4), (50, 12)] {
            let (mut plane, mut coarser) = (vec![0f32; h * WIDTH], vec![0f32; h.div_ceil(2)]);
            let all = Strips::all(h, rows);
            let (mut sums, mut errors) = (vec![0f32; 2 * all.count], vec![0f64; all.count]);
            let mut run = |strips: Strips, beside: usize| {
                let mut outputs = StripOutputs { coarser: PlaneRows::new(1, &mut coarser), ..StripOutputs::default() };
                outputs.planes[1] = PlaneRows::new(WIDTH, &mut plane);
                (outputs.sums, outputs.errors) = (&mut sums[..2 * strips.count], &mut errors[..strips.count]);
                strips.for_each(outputs, &|rows, mut outputs| {
                    for y in rows.start.saturating_sub(beside)..(rows.end + beside).min(h) {
                        outputs.planes[1].row(y)[WIDTH - 1] += 1.0;
                    }
                    for y in (rows.start / 2).saturating_sub(beside / 2)..((rows.end + beside) / 2).min(h.div_ceil(2)) {
                        outputs.coarser.row(y)[0] += 1.0;
                    }
                    outputs.sums[1] += rows.start as f32;
                    outputs.errors[0] += 1.0;
                    assert_eq!((outputs.sums.len(), outputs.errors.len()), (2, 1));
                });
                let firsts: Vec<f32> = sums.chunks(2).take(strips.count).map(|s| s[1]).collect();
                let want: Vec<f32> =
                    (0..strips.count).map(|n| ((strips.first + n * strips.step) * rows) as f32).collect();
                assert_eq!(firsts, want);
                sums.fill(0.0);
            };
            run(all, 0);
            run(all.every_second(0), rows / 2);
            run(all.every_second(1), rows / 2);
            // Once by all strips, then once or twice: the even ones also write to half of their neighbours, and the odd ones.
            let counted = |y: usize| plane[y * WIDTH + WIDTH - 1];
            let reaches =
                |y: usize, n: usize| ((n * rows).saturating_sub(rows / 2)..(n + 1) * rows + rows / 2).contains(&y);
            for y in 0..h {
                let want = 1 + (0..all.count).filter(|n| reaches(y, *n)).count();
                assert_eq!(counted(y), want as f32, "row {y} of {h} in strips of {rows}");
            }
            assert!(coarser.iter().all(|v| *v >= 2.0), "{coarser:?}");
            assert_eq!(errors.iter().sum::<f64>(), 2.0 * all.count as f64);
        }
    }
}
