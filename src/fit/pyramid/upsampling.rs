//! One step of the pyramid, forward and backward: the grid of a scale joins the maps of the coarser ones.
//!
//! `up`: x2, the transposed convolution with the symmetric kernel `a b c d d c b a` along each axis over replicated
//! borders. `pre`: the grid plus its filtered self, `a b c d c b a` along each axis over zero borders.

use super::grid::{View, ViewMut};
use super::planes::{stride_of, with_scratch, zero_edges, Planes, PAD};
use super::synth::BAND;
use kernels::fast::upsample::{pairs_back, phases, split, symmetric7, widen};
use kernels::Level;
use rayon::prelude::*;

/// `line` = row `y` of `grid` between zeros.
fn padded_row(grid: &View, y: usize, w: usize, line: &mut [f32]) {
    line[PAD..PAD + w].copy_from_slice(grid.row(y, w));
    zero_edges(line, w);
}

/// Seven copies of a row shifted by -3 ..= 3.
fn shifted(line: &[f32]) -> [&[f32]; 7] {
    [-3, -2, -1, 0, 1, 2, 3].map(|o: isize| &line[PAD.wrapping_add_signed(o)..])
}

/// `out` = the filtered `grid`, then the upsampled maps of `below`. The rows of `out` start at an even one.
pub(super) fn forward(level: Level, up: [f32; 4], pre: [f32; 4], grids: &[View], below: &Planes, out: &mut Planes) {
    let (w, h, stride, maps) = (out.w, out.h, out.stride, out.maps);
    let n = w.next_multiple_of(16);
    let narrow = below.w.next_multiple_of(16);
    out.bands(BAND).for_each(|(y0, band)| {
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
                            symmetric7(level, pre, shifted(line), None, row, n);
                        }
                        None => row.fill(0.0),
                    }
                }
                for r in 0..rows {
                    padded_row(grid, y0 + r, w, line);
                    let near = [0, 1, 2, 3, 4, 5, 6].map(|k| &filtered[(r + k) * stride..]);
                    let to = &mut band[(r * maps + map) * stride + PAD..];
                    symmetric7(level, pre, near, Some(&line[PAD..]), to, n);
                }
            }
            // Coarser maps: rows u0 - 2 .. u1 + 2 widened, then both phases across rows.
            let u0 = (y0 / 2).saturating_sub(2);
            let u1 = ((y0 + rows).div_ceil(2) + 2).min(below.h);
            let (wide, scratch) = scratch.split_at_mut((u1 - u0) * stride);
            let (even, odd) = scratch[..2 * narrow].split_at_mut(narrow);
            for m in 0..below.maps {
                for (u, row) in (u0..u1).zip(wide.chunks_exact_mut(stride)) {
                    widen(level, up, &below.row(u, m)[PAD - 2..], even, odd, row, narrow);
                }
                let row = |u: isize| &wide[(u.clamp(0, below.h as isize - 1) as usize - u0) * stride..];
                for r in (0..rows).step_by(2) {
                    let u = ((y0 + r) / 2) as isize;
                    let near = [row(u - 2), row(u - 1), row(u), row(u + 1), row(u + 2)];
                    let (first, second) = band[r * maps * stride..].split_at_mut(maps * stride);
                    let even = &mut first[(m + grids.len()) * stride + PAD..];
                    let odd =
                        if r + 1 < rows { &mut second[(m + grids.len()) * stride + PAD..] } else { &mut line[..] };
                    phases(level, up, near, even, odd, n);
                }
            }
        });
        for row in band.chunks_exact_mut(stride) {
            let (first, last) = (row[PAD], row[PAD + w - 1]);
            row[..PAD].fill(first);
            row[PAD + w..].fill(last);
        }
    });
}

/// The rows that the gradient of row `v` of the coarser map gathers, in pairs by tap; `row` gives zeros outside.
fn across<'a>(v: isize, row: impl Fn(isize) -> &'a [f32]) -> [[&'a [f32]; 2]; 4] {
    let v = 2 * v;
    [[row(v - 3), row(v + 4)], [row(v - 2), row(v + 3)], [row(v - 1), row(v + 2)], [row(v), row(v + 1)]]
}

fn sum_bands(partials: &[f32], bands: usize) -> [f32; 4] {
    let mut sum = [0.0; 4];
    for p in partials.chunks_exact(4).take(bands) {
        sum.iter_mut().zip(p).for_each(|(s, p)| *s += p);
    }
    sum
}

/// Adds the gradient towards `grid` to `dgrid` and returns the one towards the taps; `g` holds that towards the
/// step's maps (rows that it has not are zero), number `map` of which is this grid's. The filter is its own transpose.
pub(super) fn pre_back(
    level: Level,
    taps: [f32; 4],
    grid: &View,
    g: &Planes,
    map: usize,
    dgrid: &mut ViewMut,
    partials: &mut [f32],
) -> [f32; 4] {
    let (w, h, stride) = (g.w, g.h, g.stride);
    let n = w.next_multiple_of(16);
    let bands = h.div_ceil(BAND);
    let grid_stride = dgrid.stride;
    let chunks = dgrid.data.par_chunks_mut(grid_stride * BAND).take(bands).enumerate();
    chunks.zip(partials.par_chunks_mut(4)).for_each(|((b, band), partial)| {
        partial.fill(0.0);
        with_scratch(5 * stride, |scratch| {
            scratch.fill(0.0);
            let (zeros, scratch) = scratch.split_at_mut(stride);
            let (line, scratch) = scratch.split_at_mut(stride);
            let (filtered, scratch) = scratch.split_at_mut(stride);
            let (gathered, dline) = scratch.split_at_mut(stride);
            let reached = g.rows.start.saturating_sub(3)..(g.rows.end + 3).min(h);
            for y in (b * BAND).max(reached.start)..((b + 1) * BAND).min(reached.end) {
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
                for k in 0..4 {
                    partial[k] += first[k] + second[k];
                }
                let to = &mut band[(y - b * BAND) * grid_stride..][..w];
                to.iter_mut().zip(dline.iter()).for_each(|(d, v)| *d += v);
            }
        });
    });
    sum_bands(partials, bands)
}

/// Adds the gradients towards the maps of `below` to `dbelow` and returns the one towards the taps; `g` holds the
/// gradient towards the step's maps (rows that it has not are zero), those of `below` at the end.
pub(super) fn up_back(
    level: Level,
    taps: [f32; 4],
    g: &Planes,
    below: &Planes,
    dbelow: &mut Planes,
    partials: &mut [f32],
) -> [f32; 4] {
    let (w, h, stride) = (below.w, below.h, below.stride);
    let bands = h.div_ceil(BAND / 2);
    let maps = below.maps;
    let own = g.maps - maps;
    let narrow = w.next_multiple_of(16);
    let fine = stride_of(2 * narrow);
    let reached = (g.rows.start / 2).saturating_sub(2)..g.rows.end.div_ceil(2) + 2;
    dbelow.bands(BAND / 2).zip(partials.par_chunks_mut(4)).for_each(|((v0, band), partial)| {
        partial.fill(0.0);
        with_scratch(3 * fine + 3 * stride + 2 * narrow, |scratch| {
            scratch.fill(0.0);
            let (zeros, scratch) = scratch.split_at_mut(fine);
            let (wide, scratch) = scratch.split_at_mut(fine);
            let (gathered, scratch) = scratch.split_at_mut(fine);
            let (even, scratch) = scratch.split_at_mut(stride);
            let (odd, scratch) = scratch.split_at_mut(stride);
            let (dx, phases) = scratch.split_at_mut(stride);
            let (even_wide, odd_wide) = phases.split_at_mut(narrow);
            for (k, to) in band.chunks_exact_mut(stride).enumerate() {
                let (v, m) = (v0 + k / maps, k % maps);
                if !reached.contains(&v) {
                    continue;
                }
                let line = below.row(v, m);
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
                    (0..4).for_each(|k| partial[k] += d[k]);
                }
                split(level, gathered, &mut even[PAD..], &mut odd[PAD..], narrow);
                // The same along the row, from column -2 on.
                let e = |o: isize| &even[(PAD - 2).wrapping_add_signed(o)..];
                let o = |o: isize| &odd[(PAD - 2).wrapping_add_signed(o)..];
                let pairs = [[o(-2), e(2)], [e(-1), o(1)], [o(-1), e(1)], [e(0), o(0)]];
                dx.fill(0.0);
                let d = pairs_back(level, taps, pairs, &line[PAD - 2..], dx, (w + 4).next_multiple_of(16));
                (0..4).for_each(|k| partial[k] += d[k]);
                dx[2] += dx[0] + dx[1];
                dx[w + 1] += dx[w + 2] + dx[w + 3];
                to[PAD..][..w].iter_mut().zip(&dx[2..]).for_each(|(d, v)| *d += v);
            }
        });
    });
    sum_bands(partials, bands)
}
