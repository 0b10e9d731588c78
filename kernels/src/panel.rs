//! The inner loop of convolutions and GDN: rows of weights times taps of an image, lanes across pixels.
//!
//! `out[row][pixel] += sum_tap weights[row][tap] * image[pixel + taps[tap]]`, taps in their order for each
//! output, whatever the blocking: partial sums are stored to `out` in f32 and taken up again. Unfused
//! it is therefore the same at every level.

use crate::vector::Simd;

/// Weight rows of a micro-kernel; with [`SLOTS`] vectors of pixels, 12 sums + 3 + 1 fill 16 registers.
pub(crate) const ROWS: usize = 4;
const SLOTS: usize = 3;
/// Taps of a block: a panel of weights then takes 6 KiB, which stays in L1 beside the image.
const TAP_BLOCK: usize = 400;
/// Floats that `image` must have beyond the last pixel's last tap: a vector may overhang its row.
pub(crate) const SLACK: usize = 16;

/// Floats between planes for `n` used ones: an odd number of cache lines, so that the same pixel of
/// successive planes does not fall into one set of the cache.
pub(crate) fn plane_pitch(n: usize) -> usize {
    (n.div_ceil(16) | 1) * 16
}

/// Appends `[rows][taps]` weights in the order of [`accumulate`]: `[panel of ROWS rows][tap][row]`.
pub(crate) fn pack(rows: usize, taps: usize, out: &mut Vec<f32>, weight: impl Fn(usize, usize) -> f32) {
    for top in (0..rows).step_by(ROWS) {
        for tap in 0..taps {
            out.extend((top..rows.min(top + ROWS)).map(|row| weight(row, tap)));
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

/// One vector of pixels: where it reads, where it writes, and how many of its lanes count.
#[derive(Clone, Copy)]
struct Slot {
    image: usize,
    out: usize,
    lanes: usize,
}

/// See the module's head. `weights` comes from [`pack`]; the planes of `out` are `out_plane` apart.
#[inline(always)]
pub(crate) fn accumulate<S: Simd, const FUSED: bool>(
    s: S,
    weights: &[f32],
    rows: usize,
    taps: &[u32],
    image: &[f32],
    pixels: &Pixels,
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
    let vectors = width.div_ceil(S::F32_LANES);
    let slot = |k: usize| {
        let (i, j) = (k / vectors, k % vectors * S::F32_LANES);
        Slot { image: i * image_pitch + j, out: i * out_pitch + j, lanes: S::F32_LANES.min(width - j) }
    };
    for block in (0..taps.len()).step_by(TAP_BLOCK) {
        let block_taps = &taps[block..taps.len().min(block + TAP_BLOCK)];
        for k in (0..height * vectors).step_by(SLOTS) {
            let mut slots = [Slot { lanes: 0, ..slot(k) }; SLOTS];
            for (v, place) in slots.iter_mut().enumerate().take(height * vectors - k) {
                *place = slot(k + v);
            }
            for top in (0..rows).step_by(ROWS) {
                let panel = &weights[top * taps.len()..];
                // SAFETY: `weights` holds all panels; the asserts above bound every pixel's reads and
                // writes, vectors overhang by less than SLACK.
                unsafe {
                    match rows - top {
                        1 => micro::<S, FUSED, 1>(
                            s,
                            &panel[block..],
                            block_taps,
                            image,
                            &slots,
                            out,
                            top * out_plane,
                            out_plane,
                        ),
                        2 => micro::<S, FUSED, 2>(
                            s,
                            &panel[2 * block..],
                            block_taps,
                            image,
                            &slots,
                            out,
                            top * out_plane,
                            out_plane,
                        ),
                        3 => micro::<S, FUSED, 3>(
                            s,
                            &panel[3 * block..],
                            block_taps,
                            image,
                            &slots,
                            out,
                            top * out_plane,
                            out_plane,
                        ),
                        _ => micro::<S, FUSED, 4>(
                            s,
                            &panel[4 * block..],
                            block_taps,
                            image,
                            &slots,
                            out,
                            top * out_plane,
                            out_plane,
                        ),
                    }
                }
            }
        }
    }
}

/// `R` rows by `SLOTS` vectors.
///
/// # Safety
/// `weights` has `R` for each tap; `image` has a whole vector at each slot and tap; `out` has each slot's
/// `lanes` in each of `R` planes from `at`.
#[inline(always)]
unsafe fn micro<S: Simd, const FUSED: bool, const R: usize>(
    s: S,
    weights: &[f32],
    taps: &[u32],
    image: &[f32],
    slots: &[Slot; SLOTS],
    out: &mut [f32],
    at: usize,
    plane: usize,
) {
    debug_assert!(weights.len() >= R * taps.len());
    let mut sums = [[s.splat(0.0); SLOTS]; R];
    for r in 0..R {
        for v in 0..SLOTS {
            let from = &out[at + r * plane + slots[v].out..];
            sums[r][v] = load_part(s, from, slots[v].lanes);
        }
    }
    let mut w = weights.as_ptr();
    let image = image.as_ptr();
    // SAFETY: see above.
    unsafe {
        let pixels = [image.add(slots[0].image), image.add(slots[1].image), image.add(slots[2].image)];
        for &tap in taps {
            let mut x = [s.splat(0.0); SLOTS];
            for v in 0..SLOTS {
                x[v] = s.load_at(pixels[v].add(tap as usize));
            }
            for r in 0..R {
                let a = s.splat(*w.add(r));
                for v in 0..SLOTS {
                    sums[r][v] = if FUSED { s.mul_add(a, x[v], sums[r][v]) } else { sums[r][v] + a * x[v] };
                }
            }
            w = w.add(R);
        }
    }
    for r in 0..R {
        for v in 0..SLOTS {
            let to = &mut out[at + r * plane + slots[v].out..];
            store_part(s, sums[r][v], to, slots[v].lanes);
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
