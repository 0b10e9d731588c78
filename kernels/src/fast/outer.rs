//! The inner loop of weight gradients: sums of outer products over pixels, lanes across output channels.
//!
//! `sums[block][tap][lane] += sum_pixel image[pixel + taps[tap]] * columns[block][pixel][lane]`, where channel
//! `CHANNELS * block + lane` is one of `columns`.

use crate::vector::{square, Simd};

/// Channels of a block: a cache line.
const CHANNELS: usize = 16;

/// Taps of a micro-kernel: with two vectors of channels, 12 sums + 2 + 1 fill 15 registers.
const TAPS: usize = 6;

/// Channels with their padding: whole pairs of the widest vectors.
pub(super) fn padded(channels: usize) -> usize {
    channels.next_multiple_of(2 * CHANNELS)
}

/// Transposes `n` pixels of `planes` (`channels` of them, `pitch` apart) to `[block][pixel][lane]`, zero
/// lanes beyond the last channel. `columns` is `padded(channels) * n` long.
pub(super) fn transpose(planes: &[f32], channels: usize, pitch: usize, n: usize, columns: &mut [f32]) {
    for (block, columns) in columns.chunks_exact_mut(n * CHANNELS).enumerate() {
        let there = CHANNELS.min(channels.saturating_sub(block * CHANNELS));
        if there < CHANNELS {
            columns.fill(0.0);
        }
        let (columns, _) = columns.as_chunks_mut::<CHANNELS>();
        let plane = |lane: usize| &planes[(block * CHANNELS + lane) * pitch..][..n];
        let fours = there / 4 * 4;
        for lane in (0..fours).step_by(4) {
            let [(a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] =
                [0, 1, 2, 3].map(|k| plane(lane + k).as_chunks::<4>());
            let (quads, rest) = columns.as_chunks_mut::<4>();
            // Plain loops: closures over arrays would not be inlined here.
            for ((((quad, a), b), c), d) in quads.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                let square = square::transposed(a, b, c, d);
                for k in 0..4 {
                    quad[k].as_chunks_mut::<4>().0[lane / 4] = square[k];
                }
            }
            for (j, column) in rest.iter_mut().enumerate() {
                column.as_chunks_mut::<4>().0[lane / 4] = [a_rest[j], b_rest[j], c_rest[j], d_rest[j]];
            }
        }
        for lane in fours..there {
            for (column, &v) in columns.iter_mut().zip(plane(lane)) {
                column[lane] = v;
            }
        }
    }
}

/// `out[channel][tap] += scale * sums`, the end of a run of [`accumulate`].
pub(super) fn add_to(sums: &[f32], taps: usize, scale: f32, out: &mut [f32]) {
    for (channel, out) in out.chunks_exact_mut(taps).enumerate() {
        let (block, _) = sums[channel / CHANNELS * taps * CHANNELS..].as_chunks::<CHANNELS>();
        for (out, v) in out.iter_mut().zip(block) {
            *out += scale * v[channel % CHANNELS];
        }
    }
}

kernel! {
    /// See the module's head. The pixels are `rows` rows of `width`; rows of the image are `pitch` apart,
    /// those of `columns` follow each other. `sums` is `padded(channels) * taps` long, `columns` fits it.
    pub(super) fn accumulate(
        taps: &[u32],
        image: &[f32],
        rows: usize,
        width: usize,
        pitch: usize,
        columns: &[f32],
        sums: &mut [f32],
    ) = lanes;
}

#[inline(always)]
fn lanes<S: Simd>(
    s: S,
    taps: &[u32],
    image: &[f32],
    rows: usize,
    width: usize,
    pitch: usize,
    columns: &[f32],
    sums: &mut [f32],
) {
    if rows * width == 0 || taps.is_empty() {
        return;
    }
    let farthest = taps.iter().max().map_or(0, |&t| t as usize);
    assert!((rows - 1) * pitch + width + farthest <= image.len());
    let channels = sums.len() / taps.len();
    assert!(channels.is_multiple_of(2 * CHANNELS) && sums.len() == channels * taps.len());
    assert_eq!(columns.len(), channels * rows * width);
    for first in (0..channels).step_by(2 * S::F32_LANES) {
        // Where two vectors of channels lie in arrays of blocks of `n` entries.
        let place = |n: usize| [first, first + S::F32_LANES].map(|c| c / CHANNELS * n * CHANNELS + c % CHANNELS);
        let from = place(rows * width).map(|at| &columns[at..]);
        let to = place(taps.len());
        for (k, taps) in taps.chunks(TAPS).enumerate() {
            let to = to.map(|at| at + k * TAPS * CHANNELS);
            // SAFETY: the asserts above bound the reads of all taps and pixels.
            unsafe {
                match *taps {
                    [a, b, c, d, e, f] => micro(s, [a, b, c, d, e, f], image, rows, width, pitch, from, sums, to),
                    [a, b, c, d, e] => micro(s, [a, b, c, d, e], image, rows, width, pitch, from, sums, to),
                    [a, b, c, d] => micro(s, [a, b, c, d], image, rows, width, pitch, from, sums, to),
                    [a, b, c] => micro(s, [a, b, c], image, rows, width, pitch, from, sums, to),
                    [a, b] => micro(s, [a, b], image, rows, width, pitch, from, sums, to),
                    [a] => micro(s, [a], image, rows, width, pitch, from, sums, to),
                    _ => unreachable!("chunks of 1 to 6"),
                }
            }
        }
    }
}

/// # Safety
/// `image` has all pixels at each tap, each of `columns` a vector at every `CHANNELS` for each pixel.
#[inline(always)]
unsafe fn micro<S: Simd, const T: usize>(
    s: S,
    taps: [u32; T],
    image: &[f32],
    rows: usize,
    width: usize,
    pitch: usize,
    columns: [&[f32]; 2],
    sums: &mut [f32],
    to: [usize; 2],
) {
    let mut acc = [[s.splat(0.0); 2]; T];
    for t in 0..T {
        for v in 0..2 {
            acc[t][v] = s.load(&sums[to[v] + t * CHANNELS..]);
        }
    }
    let (base, mut column) = (image.as_ptr(), columns[0].as_ptr());
    // SAFETY: see above; both columns are parts of one slice.
    unsafe {
        let second = columns[1].as_ptr().offset_from(column);
        for i in 0..rows {
            let row = base.add(i * pitch);
            let at = taps.map(|t| row.add(t as usize));
            for j in 0..width {
                let d = [s.load_at(column), s.load_at(column.offset(second))];
                column = column.wrapping_add(CHANNELS);
                for t in 0..T {
                    let x = s.splat(*at[t].add(j));
                    acc[t][0] = s.mul_add(x, d[0], acc[t][0]);
                    acc[t][1] = s.mul_add(x, d[1], acc[t][1]);
                }
            }
        }
    }
    for t in 0..T {
        for v in 0..2 {
            s.store(acc[t][v], &mut sums[to[v] + t * CHANNELS..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilefit_testing::noise;

    #[test]
    fn transposes_any_size() {
        for channels in [1, 3, 4, 7, 16, 18, 33] {
            for n in 1..20 {
                let pitch = n + channels % 3;
                let planes = noise(channels * pitch, n);
                let mut columns = vec![f32::NAN; padded(channels) * n];
                transpose(&planes, channels, pitch, n, &mut columns);
                for (at, got) in columns.iter().enumerate() {
                    let (block, pixel, lane) = (at / (n * CHANNELS), at / CHANNELS % n, at % CHANNELS);
                    let channel = block * CHANNELS + lane;
                    let want = if channel < channels { planes[channel * pitch + pixel] } else { 0.0 };
                    assert_eq!(got.to_bits(), want.to_bits(), "{channels} {n} {at}");
                }
            }
        }
    }
}
