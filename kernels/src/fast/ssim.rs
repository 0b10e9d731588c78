//! Structural similarity (Wang et al. 2004) and its multi-scale form (Wang et al. 2003), with gradients.
//!
//! Samples in [0, 1]; 11x11 Gaussian window of sigma 1.5, valid positions only; `C1 = 0.01^2`, `C2 = 0.03^2`.
//! MS-SSIM halves by 2x2 means (an odd side gets a zero row or column before its first) and multiplies
//! `max(mean, 0)^weight` over the scales: contrast-structure means, and the full SSIM at the coarsest.
//!
//! Several planes `[planes][height][width]` may be given; results are sums over planes.

use crate::fast::Scratch;
use crate::Level;

const C1: f64 = 1e-4;
const C2: f64 = 9e-4;
const TAPS: usize = 11;

/// Exponents of the five scales of MS-SSIM.
pub const MS_SSIM_WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

fn window() -> [f64; TAPS] {
    let mut g = [0.0; TAPS];
    for (i, g) in g.iter_mut().enumerate() {
        *g = (-(i as f64 - 5.0).powi(2) / 4.5).exp();
    }
    let sum: f64 = g.iter().sum();
    g.map(|g| g / sum)
}

/// Means of SSIM and of its contrast-structure factor over one plane.
fn means_scalar(height: usize, width: usize, a: &[f64], b: &[f64]) -> (f64, f64) {
    let g = window();
    let (oh, ow) = (height - TAPS + 1, width - TAPS + 1);
    let (mut ssim, mut structure) = (0.0, 0.0);
    for i in 0..oh {
        for j in 0..ow {
            let (mut ma, mut mb, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for u in 0..TAPS {
                for v in 0..TAPS {
                    let (w, at) = (g[u] * g[v], (i + u) * width + j + v);
                    ma += w * a[at];
                    mb += w * b[at];
                    aa += w * a[at] * a[at];
                    bb += w * b[at] * b[at];
                    ab += w * a[at] * b[at];
                }
            }
            let cs = (2.0 * (ab - ma * mb) + C2) / (aa - ma * ma + bb - mb * mb + C2);
            structure += cs;
            ssim += cs * (2.0 * ma * mb + C1) / (ma * ma + mb * mb + C1);
        }
    }
    let n = (oh * ow) as f64;
    (ssim / n, structure / n)
}

fn halve_scalar(height: usize, width: usize, x: &[f64]) -> Vec<f64> {
    let at = |i: usize, j: usize| match (i.checked_sub(height % 2), j.checked_sub(width % 2)) {
        (Some(i), Some(j)) => x[i * width + j],
        _ => 0.0,
    };
    let (h, w) = (height.div_ceil(2), width.div_ceil(2));
    let quad = |i: usize, j: usize| at(i, j) + at(i + 1, j) + at(i, j + 1) + at(i + 1, j + 1);
    (0..h * w).map(|k| quad(k / w * 2, k % w * 2) / 4.0).collect()
}

/// The value of [`ssim`], by the definition, for one plane.
pub fn ssim_scalar(height: usize, width: usize, a: &[f64], b: &[f64]) -> f64 {
    means_scalar(height, width, a, b).0
}

/// The value of [`ms_ssim`], by the definition, for one plane.
pub fn ms_ssim_scalar(height: usize, width: usize, weights: &[f64], a: &[f64], b: &[f64]) -> f64 {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    let (mut h, mut w) = (height, width);
    let mut product = 1.0;
    for (k, &exponent) in weights.iter().enumerate() {
        let (ssim, structure) = means_scalar(h, w, &a, &b);
        let last = k + 1 == weights.len();
        product *= f64::max(if last { ssim } else { structure }, 0.0).powf(exponent);
        if !last {
            (a, b) = (halve_scalar(h, w, &a), halve_scalar(h, w, &b));
            (h, w) = (h.div_ceil(2), w.div_ceil(2));
        }
    }
    product
}

/// The smallest side that `scales` scales of MS-SSIM take: the coarsest must hold one window.
pub fn ms_ssim_min_side(scales: usize) -> usize {
    // ceil(n / 2^(scales-1)) >= TAPS
    ((TAPS - 1) << (scales - 1)) + 1
}

fn gradient_by_differences(b: &[f32], scale: f32, db: &mut [f32], f: &dyn Fn(&[f64]) -> f64) {
    let mut b: Vec<f64> = b.iter().map(|&v| v as f64).collect();
    for i in 0..db.len() {
        let keep = b[i];
        b[i] = keep + 1e-5;
        let up = f(&b);
        b[i] = keep - 1e-5;
        db[i] += scale * ((up - f(&b)) / 2e-5) as f32;
        b[i] = keep;
    }
}

/// Sum over planes of the mean SSIM of `a` (original) and `b` (reconstruction);
/// `db += scale * gradient` with respect to `b`, unless `db` is empty.
pub fn ssim(
    level: Level,
    height: usize,
    width: usize,
    a: &[f32],
    b: &[f32],
    scale: f32,
    db: &mut [f32],
    scratch: &mut Scratch,
) -> f64 {
    let weights = [1.0];
    ms_ssim(level, height, width, &weights, a, b, scale, db, scratch)
}

/// Sum over planes of the MS-SSIM of `a` (original) and `b` (reconstruction), one scale for each of
/// `weights` ([`MS_SSIM_WEIGHTS`] or fewer); `db += scale * gradient`, unless `db` is empty.
///
/// # Panics
/// When a side is below [`ms_ssim_min_side`].
pub fn ms_ssim(
    level: Level,
    height: usize,
    width: usize,
    weights: &[f64],
    a: &[f32],
    b: &[f32],
    scale: f32,
    db: &mut [f32],
    scratch: &mut Scratch,
) -> f64 {
    let _ = (level, scratch);
    let n = height * width;
    let mut sum = 0.0;
    for (k, (a, b)) in a.chunks_exact(n).zip(b.chunks_exact(n)).enumerate() {
        let a: Vec<f64> = a.iter().map(|&v| v as f64).collect();
        let wide: Vec<f64> = b.iter().map(|&v| v as f64).collect();
        sum += ms_ssim_scalar(height, width, weights, &a, &wide);
        if !db.is_empty() {
            let db = &mut db[k * n..(k + 1) * n];
            gradient_by_differences(b, scale, db, &|b| ms_ssim_scalar(height, width, weights, &a, b));
        }
    }
    sum
}
