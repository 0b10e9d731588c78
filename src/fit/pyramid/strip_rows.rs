//! Work on strips of rows side by side: each gets its part of what all write to.

use std::ops::Range;

/// Planes at most that strips of one scale write to: a picture's channels, or the gradients of a scale's grids.
pub(super) const PLANES: usize = 4;

/// Rows of a plane from `first` on, `len` values each.
#[derive(Default)]
pub(super) struct Rows<'a> {
    first: usize,
    len: usize,
    data: &'a mut [f32],
}

impl<'a> Rows<'a> {
    pub fn new(len: usize, data: &'a mut [f32]) -> Self {
        Rows { first: 0, len, data }
    }

    pub fn row(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[(y - self.first) * self.len..]
    }

    /// Those before row `y`, and the others.
    fn split(self, y: usize) -> (Self, Self) {
        let (before, after) = self.data.split_at_mut(((y - self.first) * self.len).min(self.data.len()));
        (Rows { data: before, ..self }, Rows { first: y, len: self.len, data: after })
    }
}

/// What a strip, or several, write to.
#[derive(Default)]
pub(super) struct Share<'a> {
    /// Planes with the strips' rows.
    pub planes: [Rows<'a>; PLANES],
    /// The same of the next coarser scale.
    pub below: Rows<'a>,
    /// Sums of each strip, one strip after the other.
    pub sums: &'a mut [f32],
    pub errors: &'a mut [f64],
}

/// Every `step`-th strip from number `first` on, `count` of them, `rows` rows each (a multiple of 4) but for the last of all.
#[derive(Clone, Copy)]
pub(super) struct Strips {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    pub rows: usize,
}

impl Strips {
    /// Next to each other over `h` rows.
    pub fn all(h: usize, rows: usize) -> Strips {
        Strips { first: 0, step: 1, count: h.div_ceil(rows), rows }
    }

    /// The even or the odd ones: these have room of half a strip on each side.
    pub fn every_second(self, odd: usize) -> Strips {
        Strips { first: odd, step: 2, count: (self.count + 1 - odd) / 2, ..self }
    }

    /// Runs `f` on each strip, given its rows (the last may reach beyond the picture), with its share of `share`: planes are
    /// cut half-way between two strips.
    pub fn each(self, share: Share, f: &(impl Fn(Range<usize>, Share) + Sync)) {
        let Strips { first, step, count, rows } = self;
        match count {
            0 => return,
            1 => return f(first * rows..(first + 1) * rows, share),
            _ => {}
        }
        let left = Strips { count: count / 2, ..self };
        let right = Strips { first: first + left.count * step, count: count - left.count, ..self };
        let cut = (right.first * rows + (right.first - step + 1) * rows) / 2;
        let Share { planes, below, sums, errors } = share;
        let [mut before, mut after] = [(); 2].map(|()| Share::default());
        for (n, plane) in planes.into_iter().enumerate() {
            (before.planes[n], after.planes[n]) = plane.split(cut);
        }
        (before.below, after.below) = below.split(cut / 2);
        (before.sums, after.sums) = sums.split_at_mut(sums.len() / count * left.count);
        (before.errors, after.errors) = errors.split_at_mut(errors.len() / count * left.count);
        rayon::join(|| left.each(before, f), || right.each(after, f));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each strip finds its own rows and room beside them, and nobody else writes there.
    #[test]
    fn strips_do_not_touch() {
        const WIDTH: usize = 3;
        for (h, rows) in [(1, 8), (8, 8), (9, 8), (40, 8), (61, 4), (50, 12)] {
            let (mut plane, mut below) = (vec![0f32; h * WIDTH], vec![0f32; h.div_ceil(2)]);
            let all = Strips::all(h, rows);
            let (mut sums, mut errors) = (vec![0f32; 2 * all.count], vec![0f64; all.count]);
            let mut run = |strips: Strips, room: usize| {
                let mut share = Share { below: Rows::new(1, &mut below), ..Share::default() };
                share.planes[1] = Rows::new(WIDTH, &mut plane);
                (share.sums, share.errors) = (&mut sums[..2 * strips.count], &mut errors[..strips.count]);
                strips.each(share, &|own, mut share| {
                    for y in own.start.saturating_sub(room)..(own.end + room).min(h) {
                        share.planes[1].row(y)[WIDTH - 1] += 1.0;
                    }
                    for y in (own.start / 2).saturating_sub(room / 2)..((own.end + room) / 2).min(h.div_ceil(2)) {
                        share.below.row(y)[0] += 1.0;
                    }
                    share.sums[1] += own.start as f32;
                    share.errors[0] += 1.0;
                    assert_eq!((share.sums.len(), share.errors.len()), (2, 1));
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
            // Once from the strips side by side, then once or twice: the even ones reach half into the odd ones, and back.
            let counted = |y: usize| plane[y * WIDTH + WIDTH - 1];
            let reaches =
                |y: usize, n: usize| ((n * rows).saturating_sub(rows / 2)..(n + 1) * rows + rows / 2).contains(&y);
            for y in 0..h {
                let want = 1 + (0..all.count).filter(|n| reaches(y, *n)).count();
                assert_eq!(counted(y), want as f32, "row {y} of {h} in strips of {rows}");
            }
            assert!(below.iter().all(|v| *v >= 2.0), "{below:?}");
            assert_eq!(errors.iter().sum::<f64>(), 2.0 * all.count as f64);
        }
    }
}
