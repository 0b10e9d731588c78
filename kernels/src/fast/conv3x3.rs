//! Fused twin of [`exact::conv3x3`](crate::exact::conv3x3) and the gradient towards its weights.
//!
//! The gradient towards the input is the same convolution with the weights turned by 180 degrees and
//! transposed, over a zero border.

use crate::exact::conv3x3::conv3x3_lanes;
use crate::vector::Simd;

kernel! {
    /// [`conv3x3_scalar`](crate::exact::conv3x3::conv3x3_scalar), fused.
    pub fn conv3x3(
        w: &[f32],
        bias: &[f32],
        rows: [&[f32]; 3],
        stride: usize,
        out: &mut [f32],
        out_stride: usize,
        n: usize,
        relu: bool,
    ) = conv3x3_lanes::<_, true>;
}

/// `dw[o][i][ky][kx] += sum over x of g[o][x] rows[ky][i][x + kx]`, `db[o] += sum g[o]`; layout as for the
/// forward pass, `g` at `g_stride`.
pub fn conv3x3_weights_scalar(
    g: &[f32],
    g_stride: usize,
    rows: [&[f32]; 3],
    stride: usize,
    dw: &mut [f32],
    db: &mut [f32],
    n: usize,
) {
    let c = db.len();
    for o in 0..c {
        let g = &g[o * g_stride..][..n];
        db[o] += g.iter().sum::<f32>();
        for (i, ky, kx) in (0..9 * c).map(|t| (t / 9, t / 3 % 3, t % 3)) {
            let x = &rows[ky][i * stride + kx..][..n];
            dw[((o * c + i) * 3 + ky) * 3 + kx] += g.iter().zip(x).map(|(g, x)| g * x).sum::<f32>();
        }
    }
}

kernel! {
    /// [`conv3x3_weights_scalar`] at any level; `n` is a multiple of 16.
    pub fn conv3x3_weights(
        g: &[f32],
        g_stride: usize,
        rows: [&[f32]; 3],
        stride: usize,
        dw: &mut [f32],
        db: &mut [f32],
        n: usize,
    ) = weights_lanes;
}

#[inline(always)]
fn weights_lanes<S: Simd>(
    s: S,
    g: &[f32],
    g_stride: usize,
    rows: [&[f32]; 3],
    stride: usize,
    dw: &mut [f32],
    db: &mut [f32],
    n: usize,
) {
    match db.len() {
        1 => outputs::<S, 1>(s, 1, 0, g, g_stride, rows, stride, dw, db, n),
        3 => outputs::<S, 3>(s, 3, 0, g, g_stride, rows, stride, dw, db, n),
        c => {
            let whole = c / 3 * 3;
            for o in (0..whole).step_by(3) {
                outputs::<S, 3>(s, c, o, g, g_stride, rows, stride, dw, db, n);
            }
            for o in whole..c {
                outputs::<S, 1>(s, c, o, g, g_stride, rows, stride, dw, db, n);
            }
        }
    }
}

/// The gradients of the weights of outputs `first .. first + O` of `c`.
#[inline(always)]
fn outputs<S: Simd, const O: usize>(
    s: S,
    c: usize,
    first: usize,
    g: &[f32],
    g_stride: usize,
    rows: [&[f32]; 3],
    stride: usize,
    dw: &mut [f32],
    db: &mut [f32],
    n: usize,
) {
    let n = n.next_multiple_of(S::F32_LANES);
    assert!(dw.len() == 9 * c * c && db.len() == c && first + O <= c);
    assert!(rows[0].len().min(rows[1].len()).min(rows[2].len()) >= (c - 1) * stride + n + 2);
    assert!(g.len() >= (c - 1) * g_stride + n);
    for i in 0..c {
        for ky in 0..3 {
            let row = &rows[ky][i * stride..];
            let mut sum = [[s.splat(0.0); 3]; O];
            for x in (0..n).step_by(S::F32_LANES) {
                let mut v = [s.splat(0.0); 3];
                for kx in 0..3 {
                    // SAFETY: x + lanes <= n, and a channel has n + 2 values, asserted above.
                    v[kx] = unsafe { s.load_from(row, x + kx) };
                }
                for o in 0..O {
                    // SAFETY: as above.
                    let g = unsafe { s.load_from(g, (first + o) * g_stride + x) };
                    for kx in 0..3 {
                        sum[o][kx] = s.mul_add(g, v[kx], sum[o][kx]);
                    }
                }
            }
            for o in 0..O {
                for kx in 0..3 {
                    dw[((first + o) * c + i) * 9 + ky * 3 + kx] += s.sum(sum[o][kx]);
                }
            }
        }
    }
    for o in first..first + O {
        let mut sum = s.splat(0.0);
        for x in (0..n).step_by(S::F32_LANES) {
            // SAFETY: as above.
            sum = sum + unsafe { s.load_from(g, o * g_stride + x) };
        }
        db[o] += s.sum(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::conv3x3::conv3x3_scalar;
    use crate::fast::testing::near;
    use crate::Level;

    #[test]
    fn levels_agree_with_the_scalar_twins() {
        let x: Vec<f32> = (0..900).map(|i: i32| (i * i % 37) as f32 * 0.031 - 0.47).collect();
        for c in [1, 2, 3, 4, 7] {
            let w: Vec<f32> = (0..9 * c * c).map(|i| (i * 7 % 11) as f32 * 0.13 - 0.6).collect();
            for n in [0, 16, 48, 64, 80] {
                let rows = [&x[0..], &x[101..], &x[205..]];
                let mut want = vec![9.0; c * 90];
                let (mut dw, mut db) = (vec![0.5; 9 * c * c], vec![0.5; c]);
                conv3x3_scalar(&w, &w[..c], rows, 100, &mut want, 90, n, true);
                conv3x3_weights_scalar(&x[7..], 95, rows, 100, &mut dw, &mut db, n);
                for level in Level::available() {
                    let mut got = vec![9.0; c * 90];
                    conv3x3(level, &w, &w[..c], rows, 100, &mut got, 90, n, true);
                    near(&want, &got, 1e-5);
                    let (mut dw2, mut db2) = (vec![0.5; 9 * c * c], vec![0.5; c]);
                    conv3x3_weights(level, &x[7..], 95, rows, 100, &mut dw2, &mut db2, n);
                    near(&dw, &dw2, 1e-4);
                    near(&db, &db2, 1e-4);
                }
            }
        }
    }
}
