//! The inner loop of the synthesis: sums of products, one list of products for each sum, lanes across pixels.
//!
//! Fitted weights are often 0, and their products change no sum of finite values that did not begin at -0, so that a
//! list leaves them out. Without fused multiply-add, multiplications and additions, not loads, bound the speed: a list by itself
//! runs as fast as several that share their loads.

use crate::vector::Simd;
use std::ops::Range;

/// Pixels that are worked on together: those of 24 channels and 3 rows take 19 KB of L1, which has 32 KB or more.
pub(crate) const STRIP: usize = 64;

/// Vectors that are summed side by side: eight were the fastest with AVX2, and four hide the latency of an addition.
/// All levels have at least four in a strip.
pub(crate) const WIDE: usize = 8;
pub(crate) const NARROW: usize = 4;

/// One product: `weight * image[pixel + offset]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub weight: f32,
    pub offset: u32,
}

/// Lists of taps, each in the order of its sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists<'a> {
    taps: &'a [Tap],
    /// Where each list ends, counted from `start`.
    ends: &'a [usize],
    start: usize,
}

impl<'a> Lists<'a> {
    /// The lists `range` of those that end in `taps` at `ends`.
    pub fn new(taps: &'a [Tap], ends: &'a [usize], range: Range<usize>) -> Self {
        let start = if range.start == 0 { 0 } else { ends[range.start - 1] };
        let ends = &ends[range];
        Lists { taps: &taps[start..ends.last().copied().unwrap_or(start)], ends, start }
    }

    #[inline(always)]
    pub fn iter(self) -> impl Iterator<Item = &'a [Tap]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let list = &self.taps[from..end - self.start];
            from = end - self.start;
            list
        })
    }

    /// The largest offset of a tap.
    pub fn farthest(self) -> usize {
        self.taps.iter().map(|tap| tap.offset).max().unwrap_or(0) as usize
    }
}

/// Adds the products of `taps` to `sums`, each rounded, in their order.
///
/// # Safety
/// `image` has `V` vectors at each tap's offset.
#[inline(always)]
pub(crate) unsafe fn add_taps<S: Simd, const V: usize>(
    s: S,
    taps: &[Tap],
    image: *const f32,
    mut sums: [S::F32; V],
) -> [S::F32; V] {
    for tap in taps {
        let weight = s.splat(tap.weight);
        // SAFETY: the caller's promise.
        unsafe {
            let from = image.add(tap.offset as usize);
            for v in 0..V {
                sums[v] = sums[v] + weight * s.load_at(from.add(v * S::F32_LANES));
            }
        }
    }
    sums
}

kernel! {
    /// True only when all values are finite; sums that overflow make it false.
    pub(crate) fn surely_finite(x: &[f32]) -> bool = surely_finite_lanes;
}

#[inline(always)]
fn surely_finite_lanes<S: Simd>(s: S, x: &[f32]) -> bool {
    let mut sums = [s.splat(0.0); 4];
    let mut chunks = x.chunks_exact(4 * S::F32_LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk.chunks_exact(S::F32_LANES)) {
            *sum = *sum + s.load(x);
        }
    }
    sums.iter().all(|&sum| is_finite(s, sum)) && chunks.remainder().iter().all(|v| v.is_finite())
}

/// Whether all lanes are finite.
#[inline(always)]
pub(crate) fn is_finite<S: Simd>(s: S, v: S::F32) -> bool {
    let mut lanes = [0f32; 16];
    s.store(v, &mut lanes);
    lanes.iter().all(|v| v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn what_is_not_finite_is_seen() {
        for n in [0, 1, 7, 15, 64, 67, 200] {
            let x = vec![-1e30; n];
            for level in Level::available() {
                assert!(surely_finite(level, &x));
                for i in 0..n {
                    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                        let mut x = x.clone();
                        x[i] = bad;
                        assert!(!surely_finite(level, &x), "{level:?} {n} {i} {bad}");
                        // Infinities of both signs are no way out.
                        x[n / 2] = f32::INFINITY;
                        assert!(!surely_finite(level, &x), "{level:?} {n} {i} {bad}");
                    }
                }
            }
        }
    }
}
