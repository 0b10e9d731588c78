//! The inner loop of convolutions and GDN: rows of weights times taps of an image, lanes across pixels.
//!
//! `out[row][pixel] = start + sum_tap weights[row][tap] * image[pixel + taps[tap]]`, taps in their order for
//! each output, whatever the blocking: partial sums are stored to `out` in f32 and taken up again. Unfused
//! it is therefore the same at every level.

use crate::vector::Simd;
use alloc::vec::Vec;

/// Weight rows of a micro-kernel, at most; with two vectors of pixels, 12 sums + 2 + 2 fill 16 registers.
const ROWS: usize = 6;
/// Taps of a block: a panel of weights then takes 2.4 KB, which stays in L1 beside the image.
const TAP_BLOCK: usize = 100;
/// Micro-kernel calls that take one panel in turn, while it is in L1.
const GROUP: usize = 4;
/// A module for browsers is to be small: panels have two vectors, whatever their rows.
const WASM: bool = cfg!(target_arch = "wasm32");
/// Floats that `image` must have beyond the last pixel's last tap: a vector may overhang its row.
pub(crate) const SLACK: usize = 16;

/// Floats between planes for `n` used ones: an odd number of cache lines, so that the same pixel of
/// successive planes does not fall into one set of the cache.
pub(crate) fn plane_pitch(n: usize) -> usize {
    (n.div_ceil(16) | 1) * 16
}

/// The panels of `rows`: the fewest, as even as can be, so that none is too narrow to hide the latency
/// of its sums. Yields the first row and the number of rows.
fn panels(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let n = rows.div_ceil(ROWS);
    (0..n).map(move |k| (k * rows / n, (k + 1) * rows / n - k * rows / n))
}

/// Appends `[rows][taps]` weights in the order of [`accumulate`]: `[panel][tap][row]`.
pub(crate) fn pack(rows: usize, taps: usize, out: &mut Vec<f32>, weight: impl Fn(usize, usize) -> f32) {
    for (top, n) in panels(rows) {
        for tap in 0..taps {
            out.extend((top..top + n).map(|row| weight(row, tap)));
        }
    }
}

/// The pixels: `height` rows of `width`, at `image[i*image_pitch + j]` and `out[i*out_pitch + j]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pixels {
    pub height: usize,
    pub width: usize,
    pub image_pitch: usize,
    pub out_pitch: usize,
}

/// What the sums of a row begin at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// What stands in `out`.
    Out,
    /// The row's bias; 0 for rows that have none.
    Bias(&'a [f32]),
}

/// One vector of pixels: where it reads, where it writes, and how many of its lanes count.
#[derive(Clone, Copy)]
struct Slot {
    image: usize,
    out: usize,
    lanes: usize,
}

kernel! {
    /// See the module's head: rounds each product and each sum. `weights` comes from [`pack`]; the planes
    /// of `out` are `out_plane` apart.
    pub(crate) fn accumulate(
        weights: &[f32],
        rows: usize,
        taps: &[u32],
        image: &[f32],
        pixels: &Pixels,
        start: Start,
        out: &mut [f32],
        out_plane: usize,
    ) = checked::<_, false>;
}

#[cfg(feature = "fit")]
kernel! {
    /// [`accumulate`] with fused multiply-adds.
    pub(crate) fn accumulate_fused(
        weights: &[f32],
        rows: usize,
        taps: &[u32],
        image: &[f32],
        pixels: &Pixels,
        start: Start,
        out: &mut [f32],
        out_plane: usize,
    ) = checked::<_, true>;
}

#[inline(always)]
fn checked<S: Simd, const FUSED: bool>(
    s: S,
    weights: &[f32],
    rows: usize,
    taps: &[u32],
    image: &[f32],
    pixels: &Pixels,
    start: Start,
    out: &mut [f32],
    out_plane: usize,
) {
    let Pixels { height, width, image_pitch, out_pitch } = *pixels;
    if rows * height * width == 0 {
        return;
    }
    assert_eq!(weights.len(), rows * taps.len());
    let farthest = taps.iter().max().map_or(0, |&t| t as usize);
    assert!((height - 1) * image_pitch + width + farthest + SLACK <= image.len());
    assert!((rows - 1) * out_plane + (height - 1) * out_pitch + width <= out.len());
    // Few rows need more vectors for as many sums.
    // SAFETY: `weights` holds all panels; the asserts above bound every pixel's reads and writes, vectors
    // overhang by less than SLACK.
    unsafe {
        match rows {
            1..=3 if !WASM => blocks::<S, FUSED, 3>(s, weights, rows, taps, image, pixels, start, out, out_plane),
            _ => blocks::<S, FUSED, 2>(s, weights, rows, taps, image, pixels, start, out, out_plane),
        }
    }
}

/// [`accumulate`], block by block of taps and `V` vectors.
///
/// # Safety
/// What `accumulate` asserts.
#[inline(always)]
unsafe fn blocks<S: Simd, const FUSED: bool, const V: usize>(
    s: S,
    weights: &[f32],
    rows: usize,
    taps: &[u32],
    image: &[f32],
    pixels: &Pixels,
    start: Start,
    out: &mut [f32],
    plane: usize,
) {
    let Pixels { height, width, image_pitch, out_pitch } = *pixels;
    let vectors = width.div_ceil(S::F32_LANES);
    let slot = |k: usize| {
        let (i, j) = (k / vectors, k % vectors * S::F32_LANES);
        Slot { image: i * image_pitch + j, out: i * out_pitch + j, lanes: S::F32_LANES.min(width - j) }
    };
    let count = height * vectors;
    // Without taps there is still the start to write.
    for block in (0..taps.len().max(1)).step_by(TAP_BLOCK) {
        let start = if block == 0 { start } else { Start::Out };
        let block_taps = &taps[block..taps.len().min(block + TAP_BLOCK)];
        for first in (0..count).step_by(V * GROUP) {
            for (top, n) in panels(rows) {
                let w = &weights[top * taps.len() + n * block..];
                let at = top * plane;
                let start = match start {
                    Start::Bias(bias) => Start::Bias(&bias[top.min(bias.len())..]),
                    Start::Out => Start::Out,
                };
                for k in (first..count.min(first + V * GROUP)).step_by(V) {
                    let mut slots = [Slot { lanes: 0, ..slot(k) }; V];
                    for (v, place) in slots.iter_mut().enumerate().take(count - k) {
                        *place = slot(k + v);
                    }
                    // SAFETY: the caller's promise.
                    unsafe {
                        match (V, n) {
                            (3, 1) => micro::<S, FUSED, 1, V>(s, w, block_taps, image, &slots, start, out, at, plane),
                            (3, 2) => micro::<S, FUSED, 2, V>(s, w, block_taps, image, &slots, start, out, at, plane),
                            (2, 1) if WASM => {
                                micro::<S, FUSED, 1, V>(s, w, block_taps, image, &slots, start, out, at, plane)
                            }
                            (2, 2) if WASM => {
                                micro::<S, FUSED, 2, V>(s, w, block_taps, image, &slots, start, out, at, plane)
                            }
                            (_, 3) => micro::<S, FUSED, 3, V>(s, w, block_taps, image, &slots, start, out, at, plane),
                            (2, 4) => micro::<S, FUSED, 4, V>(s, w, block_taps, image, &slots, start, out, at, plane),
                            (2, 5) => micro::<S, FUSED, 5, V>(s, w, block_taps, image, &slots, start, out, at, plane),
                            (2, 6) => micro::<S, FUSED, 6, V>(s, w, block_taps, image, &slots, start, out, at, plane),
                            _ => unreachable!("panels of 3 to 6 rows, or all 1 to 3 rows"),
                        }
                    }
                }
            }
        }
    }
}

/// `R` rows by `V` vectors.
///
/// # Safety
/// `weights` has `R` for each tap; `image` has a whole vector at each slot and tap; `out` has each slot's
/// `lanes` in each of `R` planes from `at`.
#[inline(always)]
unsafe fn micro<S: Simd, const FUSED: bool, const R: usize, const V: usize>(
    s: S,
    weights: &[f32],
    taps: &[u32],
    image: &[f32],
    slots: &[Slot; V],
    start: Start,
    out: &mut [f32],
    at: usize,
    plane: usize,
) {
    debug_assert!(weights.len() >= R * taps.len());
    let mut sums = [[s.splat(0.0); V]; R];
    let full = slots.iter().all(|slot| slot.lanes == S::F32_LANES);
    if let Start::Bias(bias) = start {
        for r in 0..R {
            sums[r] = [s.splat(bias.get(r).copied().unwrap_or(0.0)); V];
        }
    } else if full {
        for r in 0..R {
            for v in 0..V {
                // SAFETY: a full slot lies in `out`.
                sums[r][v] = unsafe { s.load_at(out.as_ptr().add(at + r * plane + slots[v].out)) };
            }
        }
    } else {
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = load_part(s, &out[at + r * plane + slots[v].out..], slots[v].lanes);
            }
        }
    }
    let mut w = weights.as_ptr();
    let image = image.as_ptr();
    // SAFETY: see above.
    unsafe {
        let pixels = slots.map(|slot| image.add(slot.image));
        for &tap in taps {
            let mut x = [s.splat(0.0); V];
            for v in 0..V {
                x[v] = s.load_at(pixels[v].add(tap as usize));
            }
            for r in 0..R {
                let a = s.splat(*w.add(r));
                for v in 0..V {
                    sums[r][v] = s.product_sum::<FUSED>(a, x[v], sums[r][v]);
                }
            }
            w = w.add(R);
        }
    }
    if full {
        for r in 0..R {
            for v in 0..V {
                // SAFETY: a full slot lies in `out`.
                unsafe { s.store_at(sums[r][v], out.as_mut_ptr().add(at + r * plane + slots[v].out)) };
            }
        }
    } else {
        for r in 0..R {
            for v in 0..V {
                store_part(s, sums[r][v], &mut out[at + r * plane + slots[v].out..], slots[v].lanes);
            }
        }
    }
}

#[inline(always)]
pub(crate) fn load_part<S: Simd>(s: S, x: &[f32], n: usize) -> S::F32 {
    if n == S::F32_LANES {
        return s.load(x);
    }
    let mut buffer = [0f32; 16];
    buffer[..n].copy_from_slice(&x[..n]);
    s.load(&buffer)
}

#[inline(always)]
pub(crate) fn store_part<S: Simd>(s: S, v: S::F32, out: &mut [f32], n: usize) {
    if n == S::F32_LANES {
        return s.store(v, out);
    }
    let mut buffer = [0f32; 16];
    s.store(v, &mut buffer);
    out[..n].copy_from_slice(&buffer[..n]);
}
