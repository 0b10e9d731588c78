//! One step of the upsampling, forward and backward: the maps of a scale are its grids, filtered, and the maps of the next
//! coarser scale, upsampled.
//!
//! `up` upsamples by 2: a transposed convolution with the symmetric kernel `a b c d d c b a` along each axis, with the edges
//! repeated outside. `pre` adds to the grid its values filtered with `a b c d c b a` along each axis, with zeros outside.
//! [`synthesis`](crate::models::pyramid::synthesis) has the formulas.

use super::planes::{repeat_edges, stride_of, with_scratch, zero_edges, Planes, PAD};
use super::strip_rows::PlaneRows;
use super::view::PlaneView;
use kernels::fast::upsample::{pairs_back, phases, split, symmetric7, widen};
use kernels::Level;
use std::ops::Range;

/// Taps `a b c d` of one step.
pub(super) struct Filters {
    pub up: [f32; 4],
    pub pre: [f32; 4],
}

/// Copies row `y` of `grid` into the padded row `out`, with zeros as its padding.
fn padded_row(grid: &PlaneView, y: usize, w: usize, out: &mut [f32]) {
    out[PAD..PAD + w].copy_from_slice(grid.row(y, w));
    zero_edges(out, w);
}

/// The values of a padded row, shifted by -3 to 3.
fn shifted(row: &[f32]) -> [&[f32]; 7] {
    [-3, -2, -1, 0, 1, 2, 3].map(|o: isize| &row[PAD.wrapping_add_signed(o)..])
}

/// Computes `out`, the rows of all maps from the even row `y0` on: first the maps of `grids`, then those of `coarser`. A
/// whole map is `w` x `h`.
pub(super) fn forward(
    level: Level,
    filters: &Filters,
    grids: &[PlaneView],
    coarser: &Planes,
    (w, h): (usize, usize),
    y0: usize,
    out: &mut [f32],
) {
    let (stride, maps) = (stride_of(w), grids.len() + coarser.count);
    let n = w.next_multiple_of(16);
    let coarse_n = coarser.w.next_multiple_of(16);
    let rows = out.len() / (maps * stride);
    with_scratch((rows + 8) * stride + 2 * coarse_n, |scratch| {
        let (zeros, scratch) = scratch.split_at_mut(stride);
        let (codes, scratch) = scratch.split_at_mut(stride);
        zeros.fill(0.0);
        for (map, grid) in grids.iter().enumerate() {
            // Filtered along rows (y0 - 3 .. y0 + rows + 3), then along columns.
            let filtered = &mut scratch[..(rows + 6) * stride];
            for (k, row) in filtered.chunks_exact_mut(stride).enumerate() {
                match (y0 + k).checked_sub(3).filter(|y| *y < h) {
                    Some(y) => {
                        padded_row(grid, y, w, codes);
                        symmetric7(level, filters.pre, shifted(codes), None, row, n);
                    }
                    None => row.fill(0.0),
                }
            }
            for r in 0..rows {
                padded_row(grid, y0 + r, w, codes);
                let around = [0, 1, 2, 3, 4, 5, 6].map(|k| &filtered[(r + k) * stride..]);
                let to = &mut out[(r * maps + map) * stride + PAD..];
                symmetric7(level, filters.pre, around, Some(&codes[PAD..]), to, n);
            }
        }
        // The coarser maps: upsampled along rows (u0 .. u1), then along columns, two rows at a time.
        let u0 = (y0 / 2).saturating_sub(2);
        let u1 = ((y0 + rows).div_ceil(2) + 2).min(coarser.h);
        let (wide, scratch) = scratch.split_at_mut((u1 - u0) * stride);
        let (even_columns, odd_columns) = scratch[..2 * coarse_n].split_at_mut(coarse_n);
        for m in 0..coarser.count {
            for (u, row) in (u0..u1).zip(wide.chunks_exact_mut(stride)) {
                let x = &coarser.row(u, m)[PAD - 2..];
                widen(level, filters.up, x, even_columns, odd_columns, row, coarse_n);
            }
            let row = |u: isize| &wide[(u.clamp(0, coarser.h as isize - 1) as usize - u0) * stride..];
            for r in (0..rows).step_by(2) {
                let u = ((y0 + r) / 2) as isize;
                let around = [row(u - 2), row(u - 1), row(u), row(u + 1), row(u + 2)];
                let (first, second) = out[r * maps * stride..].split_at_mut(maps * stride);
                let even = &mut first[(m + grids.len()) * stride + PAD..];
                // A last odd row outside the strip goes to scratch memory.
                let odd = if r + 1 < rows { &mut second[(m + grids.len()) * stride + PAD..] } else { &mut codes[..] };
                phases(level, filters.up, around, even, odd, n);
            }
        }
    });
    out.chunks_exact_mut(stride).for_each(|row| repeat_edges(row, w));
}

/// The rows of the finer gradient that contribute to row `v` of the coarser one, in pairs by tap `a` to `d`. `row` gives
/// zeros outside.
fn rows_by_tap<'a>(v: isize, row: impl Fn(isize) -> &'a [f32]) -> [[&'a [f32]; 2]; 4] {
    let v = 2 * v;
    [[row(v - 3), row(v + 4)], [row(v - 2), row(v + 3)], [row(v - 1), row(v + 2)], [row(v), row(v + 1)]]
}

/// The backward pass of `pre` for one grid. `g` has gradients towards the maps of this scale (rows that it does not have are
/// zero), of which number `map` is this grid's. Adds the gradient towards `rows` of the grid to `dgrid` and returns the
/// gradient by the taps. The filter is symmetric, so it is its own transpose.
pub(super) fn pre_backward(
    level: Level,
    taps: [f32; 4],
    grid: &PlaneView,
    g: &Planes,
    map: usize,
    rows: Range<usize>,
    dgrid: &mut PlaneRows,
) -> [f32; 4] {
    let (w, stride) = (g.w, g.stride);
    let n = w.next_multiple_of(16);
    let mut sums = [0.0; 4];
    with_scratch(5 * stride, |scratch| {
        scratch.fill(0.0);
        let (zeros, scratch) = scratch.split_at_mut(stride);
        let (codes, scratch) = scratch.split_at_mut(stride);
        let (filtered, scratch) = scratch.split_at_mut(stride);
        let (dfiltered, dcodes) = scratch.split_at_mut(stride);
        for y in rows {
            let row = |o: isize| match y.checked_add_signed(o) {
                Some(y) if g.rows.contains(&y) => &g.row(y, map)[PAD..],
                _ => &zeros[..],
            };
            padded_row(grid, y, w, codes);
            symmetric7(level, taps, shifted(codes), None, filtered, n);
            // Along columns.
            dfiltered.fill(0.0);
            let pairs = [[row(-3), row(3)], [row(-2), row(2)], [row(-1), row(1)], [row(0), zeros]];
            let first = pairs_back(level, taps, pairs, filtered, &mut dfiltered[PAD..], n);
            // Along the row, plus the gradient that passes the filter by.
            let s = shifted(dfiltered);
            let pairs = [[s[0], s[6]], [s[1], s[5]], [s[2], s[4]], [s[3], zeros]];
            dcodes[..n].copy_from_slice(&row(0)[..n]);
            let second = pairs_back(level, taps, pairs, &codes[PAD..], dcodes, n);
            (0..4).for_each(|k| sums[k] += first[k] + second[k]);
            dgrid.row(y)[..w].iter_mut().zip(dcodes.iter()).for_each(|(d, v)| *d += v);
        }
    });
    sums
}

/// The backward pass of `up`. `g` has gradients towards the maps of this scale (rows that it does not have are zero), of which
/// the last ones come from the maps of `coarser`. Adds the gradients towards `rows` of these to `dcoarser` and returns the
/// gradient by the taps.
pub(super) fn up_backward(
    level: Level,
    taps: [f32; 4],
    g: &Planes,
    coarser: &Planes,
    rows: Range<usize>,
    dcoarser: &mut PlaneRows,
) -> [f32; 4] {
    let (w, h, stride) = (coarser.w, coarser.h, coarser.stride);
    let maps = coarser.count;
    let own = g.count - maps;
    let coarse_n = w.next_multiple_of(16);
    let fine = stride_of(2 * coarse_n);
    let mut sums = [0.0; 4];
    with_scratch(3 * fine + 3 * stride + 2 * coarse_n, |scratch| {
        scratch.fill(0.0);
        let (zeros, scratch) = scratch.split_at_mut(fine);
        let (wide, scratch) = scratch.split_at_mut(fine);
        let (dwide, scratch) = scratch.split_at_mut(fine);
        let (even, scratch) = scratch.split_at_mut(stride);
        let (odd, scratch) = scratch.split_at_mut(stride);
        let (dx, phases) = scratch.split_at_mut(stride);
        let (even_columns, odd_columns) = phases.split_at_mut(coarse_n);
        for (v, m) in rows.flat_map(|v| (0..maps).map(move |m| (v, m))) {
            let x = coarser.row(v, m);
            let to = &mut dcoarser.row(v)[m * stride..][..stride];
            let v = v as isize;
            let row = |y: isize| match usize::try_from(y) {
                Ok(y) if g.rows.contains(&y) => &g.row(y, m + own)[PAD..],
                _ => &zeros[..],
            };
            widen(level, taps, &x[PAD - 2..], even_columns, odd_columns, wide, coarse_n);
            // Along columns. Rows outside repeat the first or the last row, so their gradients are added to its own.
            dwide.fill(0.0);
            let last = h as isize - 1;
            let first = if v == 0 { -2 } else { v };
            let end = if v == last { last + 2 } else { v };
            for v in first..=end {
                let d = pairs_back(level, taps, rows_by_tap(v, row), wide, dwide, g.w.next_multiple_of(16));
                (0..4).for_each(|k| sums[k] += d[k]);
            }
            split(level, dwide, &mut even[PAD..], &mut odd[PAD..], coarse_n);
            // Along the row, from column -2 on: columns outside are added to the first and the last one.
            let e = |o: isize| &even[(PAD - 2).wrapping_add_signed(o)..];
            let o = |o: isize| &odd[(PAD - 2).wrapping_add_signed(o)..];
            let pairs = [[o(-2), e(2)], [e(-1), o(1)], [o(-1), e(1)], [e(0), o(0)]];
            dx.fill(0.0);
            let d = pairs_back(level, taps, pairs, &x[PAD - 2..], dx, (w + 4).next_multiple_of(16));
            (0..4).for_each(|k| sums[k] += d[k]);
            dx[2] += dx[0] + dx[1];
            dx[w + 1] += dx[w + 2] + dx[w + 3];
            to[PAD..][..w].iter_mut().zip(&dx[2..]).for_each(|(d, v)| *d += v);
        }
    });
    sums
}
