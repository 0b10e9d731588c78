//! 3x3 convolution between the channels of a picture, a row at a time.

use crate::vector::Simd;

/// `out[o][x] = bias[o] + sum over i, ky, kx (in this order) of w[o][i][ky][kx] * rows[ky][i][x + kx]`,
/// then `max(., 0)` with `relu`.
///
/// `rows[ky]` holds the channels of one row at `stride`, each from one value before the first output;
/// `out` has its channels at `out_stride`; as many channels in as out. `n` is a multiple of 16.
pub fn conv3x3_scalar(
    w: &[f32],
    bias: &[f32],
    rows: [&[f32]; 3],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
    n: usize,
    relu: bool,
) {
    let c = bias.len();
    for o in 0..c {
        for x in 0..n {
            let mut sum = bias[o];
            for (i, ky, kx) in (0..9 * c).map(|t| (t / 9, t / 3 % 3, t % 3)) {
                sum += w[((o * c + i) * 3 + ky) * 3 + kx] * rows[ky][i * stride + x + kx];
            }
            out[o * out_stride + x] = if relu && (sum <= 0.0 || sum.is_nan()) { 0.0 } else { sum };
        }
    }
}

kernel! {
    /// [`conv3x3_scalar`] at any level.
    pub fn conv3x3(
        w: &[f32],
        bias: &[f32],
        rows: [&[f32]; 3],
        stride: usize,
        out: &mut [f32],
        out_stride: usize,
        n: usize,
        relu: bool,
    ) = conv3x3_lanes::<_, false>;
}

#[inline(always)]
pub(crate) fn conv3x3_lanes<S: Simd, const FUSED: bool>(
    s: S,
    w: &[f32],
    bias: &[f32],
    rows: [&[f32]; 3],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
    n: usize,
    relu: bool,
) {
    match bias.len() {
        // With the number of channels as a constant, grey and RGB take no loop over them.
        1 => outputs::<S, FUSED, 1>(s, 1, 0, w, bias, rows, stride, out, out_stride, n, relu),
        3 => outputs::<S, FUSED, 3>(s, 3, 0, w, bias, rows, stride, out, out_stride, n, relu),
        c => {
            let whole = c / 3 * 3;
            for o in (0..whole).step_by(3) {
                outputs::<S, FUSED, 3>(s, c, o, w, bias, rows, stride, out, out_stride, n, relu);
            }
            for o in whole..c {
                outputs::<S, FUSED, 1>(s, c, o, w, bias, rows, stride, out, out_stride, n, relu);
            }
        }
    }
}

/// Outputs `o .. o + O` of `c`.
#[inline(always)]
fn outputs<S: Simd, const FUSED: bool, const O: usize>(
    s: S,
    c: usize,
    o: usize,
    w: &[f32],
    bias: &[f32],
    rows: [&[f32]; 3],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
    n: usize,
    relu: bool,
) {
    let n = n.next_multiple_of(S::F32_LANES);
    assert!(w.len() == 9 * c * c && bias.len() == c && o + O <= c);
    assert!(rows[0].len().min(rows[1].len()).min(rows[2].len()) >= (c - 1) * stride + n + 2);
    assert!(out.len() >= (c - 1) * out_stride + n);
    let mut x = 0;
    while x + 3 * S::F32_LANES <= n {
        // SAFETY: x + 3 lanes <= n, and the lengths for n are asserted above.
        unsafe { block::<S, FUSED, O, 3>(s, c, o, w, bias, rows, stride, out, out_stride, x, relu) };
        x += 3 * S::F32_LANES;
    }
    while x < n {
        // SAFETY: as above; n is a multiple of the lanes.
        unsafe { block::<S, FUSED, O, 1>(s, c, o, w, bias, rows, stride, out, out_stride, x, relu) };
        x += S::F32_LANES;
    }
}

/// `P` vectors of pixels from `x`.
///
/// # Safety
/// `o + O <= c`; `w` holds `9 c^2` values, each channel of each row `x + P lanes + 2`, each channel of `out` `x + P lanes`.
#[inline(always)]
unsafe fn block<S: Simd, const FUSED: bool, const O: usize, const P: usize>(
    s: S,
    c: usize,
    first: usize,
    w: &[f32],
    bias: &[f32],
    rows: [&[f32]; 3],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
    x: usize,
    relu: bool,
) {
    let mut sum = [[s.splat(0.0); P]; O];
    for o in 0..O {
        sum[o] = [s.splat(bias[first + o]); P];
    }
    for i in 0..c {
        for ky in 0..3 {
            for kx in 0..3 {
                let mut v = [s.splat(0.0); P];
                for p in 0..P {
                    // SAFETY: the caller's promise on rows.
                    v[p] = unsafe { s.load_from(rows[ky], i * stride + x + kx + p * S::F32_LANES) };
                }
                for o in 0..O {
                    // SAFETY: the index is below 9 c^2.
                    let weight = s.splat(unsafe { *w.get_unchecked(((first + o) * c + i) * 9 + ky * 3 + kx) });
                    for p in 0..P {
                        sum[o][p] = s.product_sum::<FUSED>(weight, v[p], sum[o][p]);
                    }
                }
            }
        }
    }
    for o in 0..O {
        for p in 0..P {
            let v = if relu { s.max(sum[o][p], s.splat(0.0)) } else { sum[o][p] };
            // SAFETY: the caller's promise on out.
            unsafe { s.store_to(v, out, (first + o) * out_stride + x + p * S::F32_LANES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    #[test]
    fn levels_agree() {
        let x: Vec<f32> = (0..900).map(|i: i32| (i * i % 37) as f32 * 0.31 - 4.7).collect();
        for c in [1, 2, 3, 4, 7] {
            let w: Vec<f32> = (0..9 * c * c).map(|i| (i * 7 % 11) as f32 * 0.13 - 0.6).collect();
            for n in [0, 16, 48, 64, 80] {
                let rows = [&x[0..], &x[101..], &x[205..]];
                for relu in [false, true] {
                    let mut want = vec![9.0; c * 90];
                    conv3x3_scalar(&w, &w[..c], rows, 100, &mut want, 90, n, relu);
                    for level in Level::available() {
                        let mut got = vec![9.0; c * 90];
                        conv3x3(level, &w, &w[..c], rows, 100, &mut got, 90, n, relu);
                        let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{level:?} {c} {n} {relu}");
                    }
                }
            }
        }
    }
}
