//! The inner loop of weight gradients: sums of outer products over pixels, lanes across output channels.
//!
//! `sums[block][tap][lane] += sum_pixel image[pixel + taps[tap]] * columns[block][pixel][lane]`

use crate::vector::Simd;

/// Output channels of a block: two vectors.
#[inline(always)]
pub(super) fn block_channels<S: Simd>() -> usize {
    2 * S::F32_LANES
}

/// Taps of a micro-kernel: 12 sums + 2 + 1 fill 15 registers.
const TAPS: usize = 6;

/// Transposes `n` pixels of `planes` (`channels` of them, `pitch` apart) to `[block][pixel][lane]`, zero
/// lanes beyond the last channel.
#[inline(always)]
pub(super) fn transpose<S: Simd>(planes: &[f32], channels: usize, pitch: usize, n: usize, columns: &mut [f32]) {
    let b = block_channels::<S>();
    for (block, columns) in columns[..channels.div_ceil(b) * n * b].chunks_exact_mut(n * b).enumerate() {
        let there = b.min(channels - block * b);
        if there < b {
            columns.fill(0.0);
        }
        for lane in 0..there {
            let plane = &planes[(block * b + lane) * pitch..][..n];
            for (column, &v) in columns.chunks_exact_mut(b).zip(plane) {
                column[lane] = v;
            }
        }
    }
}

/// See the module's head. The pixels are `rows` rows of `width`; rows of the image are `pitch` apart, those
/// of `columns` follow each other.
#[inline(always)]
pub(super) fn accumulate<S: Simd>(
    s: S,
    taps: &[u32],
    image: &[f32],
    rows: usize,
    width: usize,
    pitch: usize,
    columns: &[f32],
    channels: usize,
    sums: &mut [f32],
) {
    let b = block_channels::<S>();
    let blocks = channels.div_ceil(b);
    if rows * width == 0 || taps.is_empty() {
        return;
    }
    let farthest = taps.iter().max().map_or(0, |&t| t as usize);
    assert!((rows - 1) * pitch + width + farthest <= image.len());
    let columns = &columns[..blocks * rows * width * b];
    let sums = &mut sums[..blocks * taps.len() * b];
    for (columns, sums) in columns.chunks_exact(rows * width * b).zip(sums.chunks_exact_mut(taps.len() * b)) {
        for (taps, sums) in taps.chunks(TAPS).zip(sums.chunks_mut(TAPS * b)) {
            // SAFETY: the assert above bounds the reads of all taps; `columns` has every pixel.
            unsafe {
                match *taps {
                    [a, b, c, d, e, f] => micro(s, [a, b, c, d, e, f], image, rows, width, pitch, columns, sums),
                    [a, b, c, d, e] => micro(s, [a, b, c, d, e], image, rows, width, pitch, columns, sums),
                    [a, b, c, d] => micro(s, [a, b, c, d], image, rows, width, pitch, columns, sums),
                    [a, b, c] => micro(s, [a, b, c], image, rows, width, pitch, columns, sums),
                    [a, b] => micro(s, [a, b], image, rows, width, pitch, columns, sums),
                    [a] => micro(s, [a], image, rows, width, pitch, columns, sums),
                    _ => unreachable!("chunks of 1 to 6"),
                }
            }
        }
    }
}

/// # Safety
/// `image` has all pixels at each tap, `columns` two vectors for each pixel.
#[inline(always)]
unsafe fn micro<S: Simd, const T: usize>(
    s: S,
    taps: [u32; T],
    image: &[f32],
    rows: usize,
    width: usize,
    pitch: usize,
    columns: &[f32],
    sums: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let mut acc = [[s.splat(0.0); 2]; T];
    for t in 0..T {
        acc[t] = [s.load(&sums[2 * t * lanes..]), s.load(&sums[(2 * t + 1) * lanes..])];
    }
    let mut column = columns.as_ptr();
    let mut at = taps.map(|t| image[t as usize..].as_ptr());
    // SAFETY: see above.
    unsafe {
        for i in 0..rows {
            for j in 0..width {
                let d = [s.load_at(column), s.load_at(column.add(lanes))];
                column = column.add(2 * lanes);
                for t in 0..T {
                    let x = s.splat(*at[t].add(j));
                    acc[t][0] = s.mul_add(x, d[0], acc[t][0]);
                    acc[t][1] = s.mul_add(x, d[1], acc[t][1]);
                }
            }
            if i + 1 < rows {
                for t in 0..T {
                    at[t] = at[t].add(pitch);
                }
            }
        }
    }
    for t in 0..T {
        s.store(acc[t][0], &mut sums[2 * t * lanes..]);
        s.store(acc[t][1], &mut sums[(2 * t + 1) * lanes..]);
    }
}

/// `out[channel][tap] += scale * sums`, the end of a run of [`accumulate`].
#[inline(always)]
pub(super) fn add_to<S: Simd>(sums: &[f32], channels: usize, taps: usize, scale: f32, out: &mut [f32]) {
    let b = block_channels::<S>();
    for (channel, out) in out.chunks_exact_mut(taps).enumerate().take(channels) {
        let lane = &sums[channel / b * taps * b + channel % b..];
        for (out, v) in out.iter_mut().zip(lane.iter().step_by(b)) {
            *out += scale * v;
        }
    }
}
