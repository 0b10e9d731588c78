//! One step of the pyramid, forward and backward: the grid of a scale joins the maps of the coarser ones.
//!
//! `up`: x2, the transposed convolution with the symmetric kernel `a b c d d c b a` along each axis over replicated
//! borders. `pre`: the grid plus its filtered self, `a b c d c b a` along each axis over zero borders.

use super::planes::{repeat_edges, stride_of, with_scratch, zero_edges, Planes, PAD};
use super::strip_rows::Rows;
use super::view::View;
use kernels::fast::upsample::{pairs_back, phases, split, symmetric7, widen};
use kernels::Level;
use std::ops::Range;

/// Taps `a b c d` of one step.
pub(super) struct Filters {
    pub up: [f32; 4],
    pub pre: [f32; 4],
}

/// `line` = row `y` of `grid` between zeros.
fn padded_row(grid: &View, y: usize, w: usize, line: &mut [f32]) {
    line[PAD..PAD + w].copy_from_slice(grid.row(y, w));
    zero_edges(line, w);
}

/// Seven copies of a row shifted by -3 ..= 3.
fn shifted(line: &[f32]) -> [&[f32]; 7] {
    [-3, -2, -1, 0, 1, 2, 3].map(|o: isize| &line[PAD.wrapping_add_signed(o)..])
}

/// `band`, rows of all maps from the even row `y0` on, = the filtered `grids`, then the upsampled maps of `below`; the
/// whole is `w` x `h`.
pub(super) fn forward(
    level: Level,
    filters: &Filters,
    grids: &[View],
    below: &Planes,
    (w, h): (usize, usize),
    y0: usize,
    band: &mut [f32],
) {
    let (stride, maps) = (stride_of(w), grids.len() + below.maps);
    let n = w.next_multiple_of(16);
    let narrow = below.w.next_multiple_of(16);
    let rows = band.len() / (maps * stride);
    with_scratch((rows + 8) * stride + 2 * narrow, |scratch| {
        let (zeros, scratch) = scratch.split_at_mut(stride);
        let (line, scratch) = scratch.split_at_mut(stride);
        zeros.fill(0.0);
        for (map, grid) in grids.iter().enumerate() {
            // Filtered along rows: rows y0 - 3 .. y0 + rows + 3.
            let filtered = &mut scratch[..(rows + 6) * stride];
            for (k, row) in filtered.chunks_exact_mut(stride).enumerate() {
                match (y0 + k).checked_sub(3).filter(|y| *y < h) {
                    Some(y) => {
                        padded_row(grid, y, w, line);
                        symmetric7(level, filters.pre, shifted(line), None, row, n);
                    }
                    None => row.fill(0.0),
                }
            }
            for r in 0..rows {
                padded_row(grid, y0 + r, w, line);
                let near = [0, 1, 2, 3, 4, 5, 6].map(|k| &filtered[(r + k) * stride..]);
                let to = &mut band[(r * maps + map) * stride + PAD..];
                symmetric7(level, filters.pre, near, Some(&line[PAD..]), to, n);
            }
        }
        // Coarser maps: rows u0 - 2 .. u1 + 2 widened, then both phases across rows.
        let u0 = (y0 / 2).saturating_sub(2);
        let u1 = ((y0 + rows).div_ceil(2) + 2).min(below.h);
        let (wide, scratch) = scratch.split_at_mut((u1 - u0) * stride);
        let (even, odd) = scratch[..2 * narrow].split_at_mut(narrow);
        for m in 0..below.maps {
            for (u, row) in (u0..u1).zip(wide.chunks_exact_mut(stride)) {
                widen(level, filters.up, &below.row(u, m)[PAD - 2..], even, odd, row, narrow);
            }
            let row = |u: isize| &wide[(u.clamp(0, below.h as isize - 1) as usize - u0) * stride..];
            for r in (0..rows).step_by(2) {
                let u = ((y0 + r) / 2) as isize;
                let near = [row(u - 2), row(u - 1), row(u), row(u + 1), row(u + 2)];
                let (first, second) = band[r * maps * stride..].split_at_mut(maps * stride);
                let even = &mut first[(m + grids.len()) * stride + PAD..];
                let odd = if r + 1 < rows { &mut second[(m + grids.len()) * stride + PAD..] } else { &mut line[..] };
                phases(level, filters.up, near, even, odd, n);
            }
        }
    });
    band.chunks_exact_mut(stride).for_each(|row| repeat_edges(row, w));
}

/// The rows that the gradient of row `v` of the coarser map gathers, in pairs by tap; `row` gives zeros outside.
fn across<'a>(v: isize, row: impl Fn(isize) -> &'a [f32]) -> [[&'a [f32]; 2]; 4] {
    let v = 2 * v;
    [[row(v - 3), row(v + 4)], [row(v - 2), row(v + 3)], [row(v - 1), row(v + 2)], [row(v), row(v + 1)]]
}

/// Adds to the rows `reached` of the gradient towards `grid`, which `dgrid` has, and returns the gradient towards the taps;
/// `g` holds that towards the step's maps (rows that it has not are zero), number `map` of which is this grid's. The filter
/// is its own transpose.
pub(super) fn pre_back(
    level: Level,
    taps: [f32; 4],
    grid: &View,
    g: &Planes,
    map: usize,
    reached: Range<usize>,
    dgrid: &mut Rows,
) -> [f32; 4] {
    let (w, stride) = (g.w, g.stride);
    let n = w.next_multiple_of(16);
    let mut sums = [0.0; 4];
    with_scratch(5 * stride, |scratch| {
        scratch.fill(0.0);
        let (zeros, scratch) = scratch.split_at_mut(stride);
        let (line, scratch) = scratch.split_at_mut(stride);
        let (filtered, scratch) = scratch.split_at_mut(stride);
        let (gathered, dline) = scratch.split_at_mut(stride);
        for y in reached {
            let row = |o: isize| match y.checked_add_signed(o) {
                Some(y) if g.rows.contains(&y) => &g.row(y, map)[PAD..],
                _ => &zeros[..],
            };
            padded_row(grid, y, w, line);
            symmetric7(level, taps, shifted(line), None, filtered, n);
            gathered.fill(0.0);
            let pairs = [[row(-3), row(3)], [row(-2), row(2)], [row(-1), row(1)], [row(0), zeros]];
            let first = pairs_back(level, taps, pairs, filtered, &mut gathered[PAD..], n);
            let s = shifted(gathered);
            let pairs = [[s[0], s[6]], [s[1], s[5]], [s[2], s[4]], [s[3], zeros]];
            dline[..n].copy_from_slice(&row(0)[..n]);
            let second = pairs_back(level, taps, pairs, &line[PAD..], dline, n);
            (0..4).for_each(|k| sums[k] += first[k] + second[k]);
            dgrid.row(y)[..w].iter_mut().zip(dline.iter()).for_each(|(d, v)| *d += v);
        }
    });
    sums
}

/// Adds to the rows `reached` of the gradients towards the maps of `below`, which `dbelow` has, and returns the gradient
/// towards the taps; `g` holds that towards the step's maps (rows that it has not are zero), those of `below` at the end.
pub(super) fn up_back(
    level: Level,
    taps: [f32; 4],
    g: &Planes,
    below: &Planes,
    reached: Range<usize>,
    dbelow: &mut Rows,
) -> [f32; 4] {
    let (w, h, stride) = (below.w, below.h, below.stride);
    let maps = below.maps;
    let own = g.maps - maps;
    let narrow = w.next_multiple_of(16);
    let fine = stride_of(2 * narrow);
    let mut sums = [0.0; 4];
    with_scratch(3 * fine + 3 * stride + 2 * narrow, |scratch| {
        scratch.fill(0.0);
        let (zeros, scratch) = scratch.split_at_mut(fine);
        let (wide, scratch) = scratch.split_at_mut(fine);
        let (gathered, scratch) = scratch.split_at_mut(fine);
        let (even, scratch) = scratch.split_at_mut(stride);
        let (odd, scratch) = scratch.split_at_mut(stride);
        let (dx, phases) = scratch.split_at_mut(stride);
        let (even_wide, odd_wide) = phases.split_at_mut(narrow);
        for (v, m) in reached.flat_map(|v| (0..maps).map(move |m| (v, m))) {
            let line = below.row(v, m);
            let to = &mut dbelow.row(v)[m * stride..][..stride];
            let v = v as isize;
            let row = |y: isize| match usize::try_from(y) {
                Ok(y) if g.rows.contains(&y) => &g.row(y, m + own)[PAD..],
                _ => &zeros[..],
            };
            widen(level, taps, &line[PAD - 2..], even_wide, odd_wide, wide, narrow);
            gathered.fill(0.0);
            // Rows outside stand for the border row that they repeat.
            let last = h as isize - 1;
            let first = if v == 0 { -2 } else { v };
            let end = if v == last { last + 2 } else { v };
            for v in first..=end {
                let d = pairs_back(level, taps, across(v, row), wide, gathered, g.w.next_multiple_of(16));
                (0..4).for_each(|k| sums[k] += d[k]);
            }
            split(level, gathered, &mut even[PAD..], &mut odd[PAD..], narrow);
            // The same along the row, from column -2 on.
            let e = |o: isize| &even[(PAD - 2).wrapping_add_signed(o)..];
            let o = |o: isize| &odd[(PAD - 2).wrapping_add_signed(o)..];
            let pairs = [[o(-2), e(2)], [e(-1), o(1)], [o(-1), e(1)], [e(0), o(0)]];
            dx.fill(0.0);
            let d = pairs_back(level, taps, pairs, &line[PAD - 2..], dx, (w + 4).next_multiple_of(16));
            (0..4).for_each(|k| sums[k] += d[k]);
            dx[2] += dx[0] + dx[1];
            dx[w + 1] += dx[w + 2] + dx[w + 3];
            to[PAD..][..w].iter_mut().zip(&dx[2..]).for_each(|(d, v)| *d += v);
        }
    });
    sums
}
