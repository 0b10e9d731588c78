//! The inner loop of the synthesis: sums of products, one list of products for each sum, lanes across pixels.
//!
//! Fitted weights are often 0 and their products change nothing (see [`TapLists::push`]), so that a list holds the
//! others only. Without fused multiply-add, multiplications and additions, not loads, bound the speed: a list by itself
//! runs as fast as several that share their loads.

use crate::vector::Simd;
use alloc::vec::Vec;
use std::ops::Range;

/// Vectors of pixels that are summed side by side, at most: enough to hide the latency of an addition, and few enough
/// for 16 registers.
pub(crate) const VECTORS: usize = 8;

/// One product: `weight * image[pixel + offset]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub weight: f32,
    pub offset: i32,
}

/// Lists of taps, each in the order of its sum.
#[derive(Clone, Default, Debug)]
pub(crate) struct TapLists {
    taps: Vec<Tap>,
    ends: Vec<usize>,
}

impl TapLists {
    pub fn clear(&mut self) {
        self.taps.clear();
        self.ends.clear();
    }

    /// Adds a product to the present list. One of weight 0 may be left out (`keep_zeros` false) where all of the image
    /// is finite and the sum does not begin at -0: the product is 0 or -0 then, and the sum is not -0.
    pub fn push(&mut self, weight: f32, offset: i32, keep_zeros: bool) {
        if weight != 0.0 || keep_zeros {
            self.taps.push(Tap { weight, offset });
        }
    }

    /// Ends the present list.
    pub fn end(&mut self) {
        self.ends.push(self.taps.len());
    }

    /// Lists `range`.
    pub fn range(&self, range: Range<usize>) -> Lists<'_> {
        Lists {
            taps: &self.taps,
            start: if range.start == 0 { 0 } else { self.ends[range.start - 1] },
            ends: &self.ends[range],
        }
    }

    /// All lists.
    pub fn all(&self) -> Lists<'_> {
        Lists { taps: &self.taps, start: 0, ends: &self.ends }
    }
}

/// Some lists of a [`TapLists`], one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists<'a> {
    taps: &'a [Tap],
    /// Where the first list begins in `taps`, and where each one ends.
    start: usize,
    ends: &'a [usize],
}

impl<'a> Lists<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a [Tap]> {
        let starts = std::iter::once(self.start).chain(self.ends.iter().copied());
        starts.zip(self.ends).map(move |(start, &end)| &self.taps[start..end])
    }

    /// The least and the largest offset, if there is a tap.
    pub fn reach(self) -> Option<(i32, i32)> {
        let taps = &self.taps[self.start..self.ends.last().copied().unwrap_or(self.start)];
        let offsets = || taps.iter().map(|t| t.offset);
        Some((offsets().min()?, offsets().max()?))
    }
}

/// Adds the products of `taps` to `sums`, each rounded, in their order. Offsets count `unit` floats.
///
/// # Safety
/// `image` has `V` vectors at each tap's offset.
#[inline(always)]
pub(crate) unsafe fn add_taps<S: Simd, const V: usize>(
    s: S,
    taps: &[Tap],
    image: *const f32,
    unit: isize,
    mut sums: [S::F32; V],
) -> [S::F32; V] {
    for tap in taps {
        let weight = s.splat(tap.weight);
        let from = image.wrapping_offset(tap.offset as isize * unit);
        for v in 0..V {
            // SAFETY: the caller's promise.
            let x = unsafe { s.load_at(from.add(v * S::F32_LANES)) };
            sums[v] = sums[v] + weight * x;
        }
    }
    sums
}

kernel! {
    /// Whether no value is infinite or NaN.
    pub(crate) fn all_finite(x: &[f32]) -> bool = all_finite_lanes;
}

#[inline(always)]
fn all_finite_lanes<S: Simd>(s: S, x: &[f32]) -> bool {
    // 0 times anything else is NaN, and stays it.
    let mut sums = [s.splat(0.0); 4];
    let mut chunks = x.chunks_exact(4 * S::F32_LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk.chunks_exact(S::F32_LANES)) {
            *sum = *sum + s.load(x) * s.splat(0.0);
        }
    }
    is_zero(s, sums[0] + sums[1] + (sums[2] + sums[3])) && chunks.remainder().iter().all(|v| v.is_finite())
}

/// Whether all lanes are 0 or -0.
#[inline(always)]
pub(crate) fn is_zero<S: Simd>(s: S, v: S::F32) -> bool {
    let mut lanes = [0f32; 16];
    s.store(v, &mut lanes);
    lanes.iter().all(|&v| v == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn finite_is_what_ieee_says() {
        for n in [0, 1, 7, 15, 64, 67, 200] {
            let x = vec![f32::MAX; n];
            for level in Level::available() {
                assert!(all_finite(level, &x));
                for i in 0..n {
                    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                        let mut x = x.clone();
                        x[i] = bad;
                        assert!(!all_finite(level, &x), "{level:?} {n} {i} {bad}");
                    }
                }
            }
        }
    }
}
