//! Structural similarity (Wang et al. 2004) and its multi-scale form (Wang et al. 2003), with gradients.
//!
//! Samples in [0, 1]; 11x11 Gaussian window of sigma 1.5, valid positions only; `C1 = 0.01^2`, `C2 = 0.03^2`.
//! MS-SSIM halves by 2x2 means (an odd side gets a zero row or column before its first) and multiplies
//! `max(mean, 0)^weight` over the scales: contrast-structure means, and the full SSIM at the coarsest.
//!
//! Several planes `[planes][height][width]` may be given; results are sums over planes.

use crate::fast::Scratch;
use crate::panel::{self, Pixels, Start, SLACK};
use crate::Level;

const C1: f64 = 1e-4;
const C2: f64 = 9e-4;
const TAPS: usize = 11;
const SCALES: usize = 5;

/// Exponents of the five scales of MS-SSIM.
pub const MS_SSIM_WEIGHTS: [f64; SCALES] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

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

/// Working memory: the pyramids of one plane and the maps of one scale.
#[derive(Default, Debug)]
pub(crate) struct Work {
    a: [Vec<f32>; SCALES],
    b: [Vec<f32>; SCALES],
    gradient: [Vec<f32>; SCALES],
    product: Vec<f32>,
    rows: Vec<f32>,
    maps: [Vec<f32>; 5],
    slopes: [Vec<f32>; 3],
    taps: Vec<u32>,
}

/// `out[height - dy*10][width - dx*10]` = the window's sums along rows (`along_rows`) or columns of `image`,
/// `[height][width]`. `image` has slack behind it, `out` is resized.
fn filter(
    level: Level,
    height: usize,
    width: usize,
    image: &[f32],
    along_rows: bool,
    out: &mut Vec<f32>,
    taps: &mut Vec<u32>,
) {
    let weights = window().map(|g| g as f32);
    let (h, w, step) = if along_rows { (height, width - TAPS + 1, 1) } else { (height - TAPS + 1, width, width) };
    taps.clear();
    taps.extend((0..TAPS).map(|t| (t * step) as u32));
    out.resize(h * w + SLACK, 0.0);
    let pixels = Pixels { height: h, width: w, image_pitch: width, out_pitch: w };
    panel::accumulate_fused(level, &weights, 1, taps, image, &pixels, Start::Bias(&[]), out, 0);
}

/// The mean of SSIM (`full`) or of its contrast-structure factor over one plane; `gradient`, unless
/// absent, becomes the gradient of that mean with respect to `b`.
fn mean_with_gradient(
    level: Level,
    height: usize,
    width: usize,
    full: bool,
    a: &[f32],
    b: &[f32],
    gradient: Option<&mut Vec<f32>>,
    product: &mut Vec<f32>,
    rows: &mut Vec<f32>,
    maps: &mut [Vec<f32>; 5],
    slopes: &mut [Vec<f32>; 3],
    taps: &mut Vec<u32>,
) -> f64 {
    let n = height * width;
    let (oh, ow) = (height - TAPS + 1, width - TAPS + 1);
    for (k, map) in maps.iter_mut().enumerate() {
        let pairs = a[..n].iter().zip(&b[..n]);
        product.clear();
        match k {
            0 => product.extend_from_slice(&a[..n]),
            1 => product.extend_from_slice(&b[..n]),
            2 => product.extend(pairs.map(|(a, _)| a * a)),
            3 => product.extend(pairs.map(|(_, b)| b * b)),
            _ => product.extend(pairs.map(|(a, b)| a * b)),
        }
        product.resize(n + SLACK, 0.0);
        filter(level, height, width, product, true, rows, taps);
        filter(level, height, ow, rows, false, map, taps);
    }
    // The slopes lie in zeros, 10 on each side, so that the adjoint of a filter is the filter.
    let (ph, pw) = (oh + 2 * (TAPS - 1), ow + 2 * (TAPS - 1));
    if gradient.is_some() {
        for slope in slopes.iter_mut() {
            slope.clear();
            slope.resize(ph * pw + SLACK, 0.0);
        }
    }
    let (c1, c2) = (C1 as f32, C2 as f32);
    let mut total = 0.0;
    for i in 0..oh {
        let row = |k: usize| &maps[k][i * ow..][..ow];
        let (ma, mb, aa, bb, ab) = (row(0), row(1), row(2), row(3), row(4));
        let mut sum = 0f64;
        for j in 0..ow {
            let (light, b1) = (2.0 * ma[j] * mb[j] + c1, ma[j] * ma[j] + mb[j] * mb[j] + c1);
            let cross = 2.0 * (ab[j] - ma[j] * mb[j]) + c2;
            let b2 = (aa[j] - ma[j] * ma[j]) + (bb[j] - mb[j] * mb[j]) + c2;
            let (l, cs) = if full { (light / b1, cross / b2) } else { (1.0, cross / b2) };
            sum += (l * cs) as f64;
            if gradient.is_some() {
                let mut by_mean = l * 2.0 * (cs * mb[j] - ma[j]) / b2;
                if full {
                    by_mean += cs * 2.0 * (ma[j] - l * mb[j]) / b1;
                }
                let at = (i + TAPS - 1) * pw + TAPS - 1 + j;
                slopes[0][at] = by_mean;
                slopes[1][at] = -l * cs / b2;
                slopes[2][at] = 2.0 * l / b2;
            }
        }
        total += sum;
    }
    let count = (oh * ow) as f64;
    if let Some(gradient) = gradient {
        let scale = (1.0 / count) as f32;
        gradient.clear();
        gradient.resize(n, 0.0);
        for (k, slope) in slopes.iter().enumerate() {
            filter(level, ph, pw, slope, true, rows, taps);
            filter(level, ph, width, rows, false, product, taps);
            let values = gradient.iter_mut().zip(&*product).zip(a.iter().zip(b));
            match k {
                0 => values.for_each(|((g, s), _)| *g += scale * s),
                1 => values.for_each(|((g, s), (_, b))| *g += scale * 2.0 * b * s),
                _ => values.for_each(|((g, s), (a, _))| *g += scale * a * s),
            }
        }
    }
    total / count
}

/// 2x2 means; an odd side gets a zero row or column before its first.
fn halve(height: usize, width: usize, x: &[f32], out: &mut Vec<f32>) {
    let (h, w) = (height.div_ceil(2), width.div_ceil(2));
    out.clear();
    out.resize(h * w, 0.0);
    for i in 0..height {
        let to = &mut out[(i + height % 2) / 2 * w..][..w];
        for (j, v) in x[i * width..][..width].iter().enumerate() {
            to[(j + width % 2) / 2] += 0.25 * v;
        }
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
    let Work { gradient: [gradient, ..], product, rows, maps, slopes, taps, .. } = &mut scratch.similarity;
    assert!(a.len() == b.len() && (db.is_empty() || db.len() == b.len()));
    let n = height * width;
    let mut sum = 0.0;
    for (k, (a, b)) in a.chunks_exact(n).zip(b.chunks_exact(n)).enumerate() {
        let wanted = (!db.is_empty()).then_some(&mut *gradient);
        sum += mean_with_gradient(level, height, width, true, a, b, wanted, product, rows, maps, slopes, taps);
        if !db.is_empty() {
            db[k * n..][..n].iter_mut().zip(&*gradient).for_each(|(db, g)| *db += scale * g);
        }
    }
    sum
}

/// Sum over planes of the MS-SSIM of `a` (original) and `b` (reconstruction), one scale for each of
/// `weights` ([`MS_SSIM_WEIGHTS`] or its beginning); `db += scale * gradient`, unless `db` is empty.
///
/// # Panics
/// When a side is below [`ms_ssim_min_side`], or there are more than five weights.
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
    assert!((1..=SCALES).contains(&weights.len()), "one to five scales");
    assert!(height.min(width) >= ms_ssim_min_side(weights.len()), "too small for the scales");
    assert!(a.len() == b.len() && (db.is_empty() || db.len() == b.len()));
    let Work { a: pa, b: pb, gradient, product, rows, maps, slopes, taps } = &mut scratch.similarity;
    let n = height * width;
    let last = weights.len() - 1;
    let mut sizes = [(height, width); SCALES];
    for k in 1..SCALES {
        sizes[k] = (sizes[k - 1].0.div_ceil(2), sizes[k - 1].1.div_ceil(2));
    }
    let mut sum = 0.0;
    for (plane, (a, b)) in a.chunks_exact(n).zip(b.chunks_exact(n)).enumerate() {
        pa[0].clear();
        pa[0].extend_from_slice(a);
        pb[0].clear();
        pb[0].extend_from_slice(b);
        let mut means = [1.0; SCALES];
        for k in 0..=last {
            let (h, w) = sizes[k];
            let wanted = (!db.is_empty()).then_some(&mut gradient[k]);
            let (a, b) = (&pa[k], &pb[k]);
            means[k] = mean_with_gradient(level, h, w, k == last, a, b, wanted, product, rows, maps, slopes, taps);
            if k < last {
                for pyramid in [&mut *pa, &mut *pb] {
                    let (fine, coarse) = pyramid.split_at_mut(k + 1);
                    halve(h, w, &fine[k], &mut coarse[0]);
                }
            }
        }
        let value: f64 = means.iter().zip(weights).map(|(m, &w)| m.max(0.0).powf(w)).product();
        sum += value;
        if db.is_empty() || value == 0.0 {
            continue;
        }
        for k in (0..=last).rev() {
            let slope = (weights[k] * value / means[k]) as f32;
            let (fine, coarse) = gradient.split_at_mut(k + 1);
            let ((h, w), g) = (sizes[k], &mut fine[k]);
            g.iter_mut().for_each(|g| *g *= slope);
            if k < last {
                let half = w.div_ceil(2);
                for (i, row) in g.chunks_exact_mut(w).enumerate() {
                    let from = &coarse[0][(i + h % 2) / 2 * half..][..half];
                    for (j, g) in row.iter_mut().enumerate() {
                        *g += 0.25 * from[(j + w % 2) / 2];
                    }
                }
            }
        }
        db[plane * n..][..n].iter_mut().zip(&gradient[0]).for_each(|(db, g)| *db += scale * g);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilefit_testing::noise;

    /// A smooth plane and a disturbed copy.
    fn planes(n: usize, width: usize, seed: usize) -> (Vec<f32>, Vec<f32>) {
        let a: Vec<f32> =
            (0..n).map(|k| 0.5 + 0.4 * ((k % width) as f32 * 0.3).sin() * (k as f32 * 0.01).cos()).collect();
        let b = a.iter().zip(noise(n, seed)).map(|(a, d)| a + 0.1 * d).collect();
        (a, b)
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&v| v as f64).collect()
    }

    #[test]
    fn values_agree_with_the_definition() {
        let mut scratch = Scratch::default();
        for (h, w) in [(11, 11), (12, 17), (23, 41), (45, 37)] {
            let (a, b) = planes(2 * h * w, w, h);
            let split = |x: &[f32]| [wide(&x[..h * w]), wide(&x[h * w..])];
            let ([a0, a1], [b0, b1]) = (split(&a), split(&b));
            let want = ssim_scalar(h, w, &a0, &b0) + ssim_scalar(h, w, &a1, &b1);
            for level in Level::available() {
                let got = ssim(level, h, w, &a, &b, 1.0, &mut [], &mut scratch);
                assert!((got - want).abs() < 1e-5, "{level:?} {h}x{w}: {got} {want}");
            }
            let scales = if h.min(w) >= 41 { 3 } else { 1 + usize::from(h.min(w) >= 21) };
            let weights = &MS_SSIM_WEIGHTS[..scales];
            let want = ms_ssim_scalar(h, w, weights, &a0, &b0) + ms_ssim_scalar(h, w, weights, &a1, &b1);
            for level in Level::available() {
                let got = ms_ssim(level, h, w, weights, &a, &b, 1.0, &mut [], &mut scratch);
                assert!((got - want).abs() < 1e-5, "{level:?} {h}x{w}: {got} {want}");
            }
        }
    }

    /// Against central differences of the definition at some samples, added to what was there.
    #[test]
    fn gradients() {
        let mut scratch = Scratch::default();
        for (h, w, scales) in [(13, 16, 0), (23, 25, 2), (43, 41, 3)] {
            let (a, b) = planes(h * w, w, 5);
            let weights = &MS_SSIM_WEIGHTS[..scales];
            let mut db = noise(h * w, 9);
            let before = db.clone();
            let level = Level::best();
            match scales {
                0 => ssim(level, h, w, &a, &b, 2.0, &mut db, &mut scratch),
                _ => ms_ssim(level, h, w, weights, &a, &b, 2.0, &mut db, &mut scratch),
            };
            let (a, mut b) = (wide(&a), wide(&b));
            let largest = db.iter().zip(&before).map(|(d, b)| (d - b).abs()).fold(0.0, f32::max) as f64;
            for i in (0..h * w).step_by(37).chain([0, w - 1, h * w - 1]) {
                let keep = b[i];
                let mut side = |v: f64| {
                    b[i] = v;
                    if scales == 0 {
                        ssim_scalar(h, w, &a, &b)
                    } else {
                        ms_ssim_scalar(h, w, weights, &a, &b)
                    }
                };
                let slope = 2.0 * (side(keep + 1e-4) - side(keep - 1e-4)) / 2e-4;
                b[i] = keep;
                let got = (db[i] - before[i]) as f64;
                assert!((got - slope).abs() < 1e-3 * largest + 1e-6, "{h}x{w} {i}: {got} {slope}");
            }
        }
    }

    /// Equal pictures are 1, and no change makes them more alike.
    #[test]
    fn equal_planes() {
        let (a, _) = planes(30 * 30, 30, 1);
        let mut db = vec![0.0; a.len()];
        let got = ms_ssim(Level::best(), 30, 30, &[0.5, 0.5], &a, &a, 1.0, &mut db, &mut Scratch::default());
        assert!((got - 1.0).abs() < 1e-6);
        assert!(db.iter().all(|g| g.abs() < 1e-5));
    }
}
