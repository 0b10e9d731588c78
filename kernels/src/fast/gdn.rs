//! Generalised divisive normalisation and its inverse (Balle, Laparra, Simoncelli 2016), with gradients:
//!
//! `n_i = beta_i + sum_j gamma_ij x_j^2`, `y_i = x_i / sqrt(n_i)`, inverse `y_i = x_i * sqrt(n_i)`.
//!
//! `x`, `y`, `n` are `[channels][pixels]` for each sample, samples one after another; `gamma` is
//! `[channels][channels]`, row `i` belongs to output `i`. `beta > 0` and `gamma >= 0` are the caller's care.
//!
//! With `g_i = dL/dy_i`, `t_i = g_i x_i n_i^(-3/2)` (inverse: `-g_i x_i n_i^(-1/2)`):
//! `dL/dx_j = g_j dy_j/dx_j|n - x_j sum_i gamma_ij t_i`, `dL/dgamma_ij = -1/2 sum t_i x_j^2`,
//! `dL/dbeta_i = -1/2 sum t_i`.

use crate::fast::scratch::grown;
use crate::fast::{outer, Scratch};
use crate::panel::{self, load_part, store_part, Pixels, Start};
use crate::phases::Buffers;
use crate::vector::Simd;
use crate::Level;

/// Sizes of one sample, and the direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gdn {
    pub channels: usize,
    pub pixels: usize,
    pub inverse: bool,
}

/// [`gdn`], by the definition.
pub fn gdn_scalar(g: &Gdn, x: &[f32], beta: &[f32], gamma: &[f32], y: &mut [f32], norm: &mut [f32]) {
    let (c, p) = (g.channels, g.pixels);
    for s in (0..x.len()).step_by(c * p) {
        for i in 0..c {
            for q in 0..p {
                let mut n = beta[i];
                for j in 0..c {
                    n += gamma[i * c + j] * x[s + j * p + q] * x[s + j * p + q];
                }
                let at = s + i * p + q;
                norm[at] = n;
                y[at] = if g.inverse { x[at] * n.sqrt() } else { x[at] / n.sqrt() };
            }
        }
    }
}

/// [`gdn_backward`], by the definition.
pub fn gdn_backward_scalar(
    g: &Gdn,
    x: &[f32],
    norm: &[f32],
    gamma: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dbeta: &mut [f32],
    dgamma: &mut [f32],
) {
    let (c, p) = (g.channels, g.pixels);
    for s in (0..x.len()).step_by(c * p) {
        for q in 0..p {
            for i in 0..c {
                let at = s + i * p + q;
                let root = norm[at].sqrt();
                let t = if g.inverse { -dy[at] * x[at] / root } else { dy[at] * x[at] / (root * norm[at]) };
                dx[at] += if g.inverse { dy[at] * root } else { dy[at] / root };
                dbeta[i] -= 0.5 * t;
                for j in 0..c {
                    let xj = x[s + j * p + q];
                    dgamma[i * c + j] -= 0.5 * t * xj * xj;
                    dx[s + j * p + q] -= xj * gamma[i * c + j] * t;
                }
            }
        }
    }
}

/// Pixels of a block: whole vectors for all levels, and planes of a few hundred channels stay in L2.
const BLOCK: usize = 240;

/// Squares of `n` pixels from `from`, planes `plane` apart.
fn square(g: &Gdn, x: &[f32], from: usize, n: usize, plane: usize, image: &mut [f32]) {
    for (j, to) in image.chunks_exact_mut(plane).enumerate().take(g.channels) {
        to.iter_mut().zip(&x[j * g.pixels + from..][..n]).for_each(|(to, &v)| *to = v * v);
    }
}

/// `y = gdn(x)` for each sample in `x`; `norm` (as large as `y`) keeps `n` for [`gdn_backward`].
pub fn gdn(
    level: Level,
    g: &Gdn,
    x: &[f32],
    beta: &[f32],
    gamma: &[f32],
    y: &mut [f32],
    norm: &mut [f32],
    scratch: &mut Scratch,
) {
    let Gdn { channels, pixels, inverse } = *g;
    let sample = channels * pixels;
    assert!(x.len() == y.len() && x.len() == norm.len() && x.len().is_multiple_of(sample.max(1)));
    assert!(beta.len() == channels && gamma.len() == channels * channels);
    let Scratch { buffers: Buffers { image, phase, taps }, weights, .. } = scratch;
    let plane = panel::plane_pitch(BLOCK);
    let image = grown(image, channels * plane + panel::SLACK);
    let norms = grown(phase, channels * plane);
    taps.clear();
    taps.extend((0..channels).map(|j| (j * plane) as u32));
    weights.clear();
    panel::pack(channels, channels, weights, |i, j| gamma[i * channels + j]);
    for ((x, y), norm) in x.chunks_exact(sample).zip(y.chunks_exact_mut(sample)).zip(norm.chunks_exact_mut(sample)) {
        for p in (0..pixels).step_by(BLOCK) {
            let n = BLOCK.min(pixels - p);
            square(g, x, p, n, plane, image);
            let block = Pixels { height: 1, width: n, image_pitch: 0, out_pitch: 0 };
            panel::accumulate_fused(level, weights, channels, taps, image, &block, Start::Bias(beta), norms, plane);
            for i in 0..channels {
                let at = i * pixels + p;
                let norms = &norms[i * plane..][..n];
                norm[at..][..n].copy_from_slice(norms);
                normalise(level, inverse, &x[at..][..n], norms, &mut y[at..][..n]);
            }
        }
    }
}

kernel! {
    /// One row of pixels: `y` from `x` and its norm.
    fn normalise(inverse: bool, x: &[f32], norm: &[f32], y: &mut [f32]) = normalise_lanes;
}

#[inline(always)]
fn normalise_lanes<S: Simd>(s: S, inverse: bool, x: &[f32], norm: &[f32], y: &mut [f32]) {
    for k in (0..x.len()).step_by(S::F32_LANES) {
        let lanes = S::F32_LANES.min(x.len() - k);
        let (x, norm) = (load_part(s, &x[k..], lanes), load_part(s, &norm[k..], lanes));
        let r = s.rsqrt(norm);
        store_part(s, if inverse { x * norm * r } else { x * r }, &mut y[k..], lanes);
    }
}

/// `dx = ` (`+=` when `add`), `dbeta`, `dgamma` `+=` the gradients, from `dy = dL/dy` and the `norm` of [`gdn`]; those
/// of the parameters are summed over the samples in their order.
pub fn gdn_backward(
    level: Level,
    g: &Gdn,
    x: &[f32],
    norm: &[f32],
    gamma: &[f32],
    dy: &[f32],
    add: bool,
    dx: &mut [f32],
    dbeta: &mut [f32],
    dgamma: &mut [f32],
    scratch: &mut Scratch,
) {
    let Gdn { channels, pixels, .. } = *g;
    let sample = channels * pixels;
    assert!(
        x.len() == dy.len() && x.len() == norm.len() && x.len() == dx.len() && x.len().is_multiple_of(sample.max(1))
    );
    assert!(dbeta.len() == channels && gamma.len() == channels * channels && dgamma.len() == gamma.len());
    let Scratch { buffers: Buffers { image, phase, taps }, columns, sums, planes, weights, .. } = scratch;
    let plane = panel::plane_pitch(BLOCK);
    let squares = grown(image, channels * plane + panel::SLACK);
    let ts = grown(planes, channels * plane + panel::SLACK);
    let mixed = grown(phase, channels * plane);
    let sums = grown(sums, outer::padded(channels) * channels);
    sums.fill(0.0);
    taps.clear();
    taps.extend((0..channels).map(|j| (j * plane) as u32));
    weights.clear();
    panel::pack(channels, channels, weights, |j, i| gamma[i * channels + j]);
    for at in (0..x.len()).step_by(sample) {
        let (x, norm) = (&x[at..][..sample], &norm[at..][..sample]);
        let (dy, dx) = (&dy[at..][..sample], &mut dx[at..][..sample]);
        for p in (0..pixels).step_by(BLOCK) {
            let n = BLOCK.min(pixels - p);
            square(g, x, p, n, plane, squares);
            for i in 0..channels {
                let at = i * pixels + p;
                let row = [&x[at..][..n], &norm[at..][..n], &dy[at..][..n]];
                dbeta[i] -= 0.5 * direct(level, g.inverse, add, row, &mut dx[at..][..n], &mut ts[i * plane..][..n]);
            }
            let block = Pixels { height: 1, width: n, image_pitch: 0, out_pitch: 0 };
            panel::accumulate_fused(level, weights, channels, taps, ts, &block, Start::Bias(&[]), mixed, plane);
            for j in 0..channels {
                let at = j * pixels + p;
                let pairs = x[at..][..n].iter().zip(&mixed[j * plane..]);
                dx[at..][..n].iter_mut().zip(pairs).for_each(|(dx, (x, mixed))| *dx -= x * mixed);
            }
            let columns = grown(columns, outer::padded(channels) * n);
            outer::transpose(ts, channels, plane, n, columns);
            outer::accumulate(level, taps, squares, 1, n, n, columns, sums);
        }
    }
    outer::add_to(sums, channels, -0.5, dgamma);
}

kernel! {
    /// One row of pixels: `dx = dy * dy/dx` at fixed norm (`+=` when `add`), `ts = t`; returns the sum of `t`.
    fn direct(inverse: bool, add: bool, row: [&[f32]; 3], dx: &mut [f32], ts: &mut [f32]) -> f32 = direct_lanes;
}

#[inline(always)]
fn direct_lanes<S: Simd>(
    s: S,
    inverse: bool,
    add: bool,
    [x, norm, dy]: [&[f32]; 3],
    dx: &mut [f32],
    ts: &mut [f32],
) -> f32 {
    let mut total = s.splat(0.0);
    for k in (0..x.len()).step_by(S::F32_LANES) {
        let lanes = S::F32_LANES.min(x.len() - k);
        let (xk, nk) = (load_part(s, &x[k..], lanes), load_part(s, &norm[k..], lanes));
        let dk = load_part(s, &dy[k..], lanes);
        // A norm of 0 stands only in lanes beyond the row, where x is 0.
        let r = s.rsqrt(s.max(nk, s.splat(f32::MIN_POSITIVE)));
        let (slope, t) = if inverse { (nk * r, s.splat(0.0) - dk * xk * r) } else { (r, dk * xk * r * r * r) };
        let before = if add { load_part(s, &dx[k..], lanes) } else { s.splat(0.0) };
        store_part(s, s.mul_add(dk, slope, before), &mut dx[k..], lanes);
        store_part(s, t, &mut ts[k..], lanes);
        total = total + t;
    }
    let mut buffer = [0f32; 16];
    s.store(total, &mut buffer);
    buffer.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::conv2d::tests::distance;
    use super::*;
    use tilefit_testing::noise;

    /// `x`, `dy`, `beta`, `gamma` of two samples.
    fn values(g: &Gdn) -> [Vec<f32>; 4] {
        let n = 2 * g.channels * g.pixels;
        let beta = noise(g.channels, 3).iter().map(|v| v.abs() + 0.1).collect();
        let gamma = noise(g.channels * g.channels, 4).iter().map(|v| 0.3 * v.abs()).collect();
        [noise(n, 1).iter().map(|v| 2.0 * v).collect(), noise(n, 2), beta, gamma]
    }

    #[test]
    fn levels_agree() {
        let mut scratch = Scratch::default();
        for (channels, inverse) in [(1, false), (3, true), (7, false), (32, true), (33, false)] {
            for pixels in [1, 2, 7, 8, 15, 16, 17, 33, 67, 240, 241, 500] {
                let g = Gdn { channels, pixels, inverse };
                let [x, dy, beta, gamma] = values(&g);
                let (mut y, mut norm) = (x.clone(), x.clone());
                gdn_scalar(&g, &x, &beta, &gamma, &mut y, &mut norm);
                let (mut dx, mut dbeta, mut dgamma) = (x.clone(), beta.clone(), gamma.clone());
                gdn_backward_scalar(&g, &x, &norm, &gamma, &dy, &mut dx, &mut dbeta, &mut dgamma);
                for level in Level::available() {
                    let (mut got, mut got_norm) = (vec![f32::NAN; y.len()], vec![f32::NAN; y.len()]);
                    gdn(level, &g, &x, &beta, &gamma, &mut got, &mut got_norm, &mut scratch);
                    assert!(distance(&got, &y) < 2e-6, "{level:?} {g:?}");
                    assert!(distance(&got_norm, &norm) < 2e-6, "{level:?} {g:?}");
                    let (mut got, mut got_beta, mut got_gamma) = (x.clone(), beta.clone(), gamma.clone());
                    let args = (&mut got, &mut got_beta, &mut got_gamma);
                    gdn_backward(level, &g, &x, &norm, &gamma, &dy, true, args.0, args.1, args.2, &mut scratch);
                    assert!(distance(&got, &dx) < 4e-6, "{level:?} {g:?}");
                    // Written anew, it is the same less what was there: `x`.
                    let (mut anew, mut b, mut c) = (vec![f32::NAN; x.len()], beta.clone(), gamma.clone());
                    gdn_backward(level, &g, &x, &norm, &gamma, &dy, false, &mut anew, &mut b, &mut c, &mut scratch);
                    anew.iter_mut().zip(&x).for_each(|(a, x)| *a += x);
                    assert!(distance(&anew, &dx) < 4e-6, "{level:?} {g:?}");
                    // Sums over all pixels, whose terms may cancel.
                    assert!(distance(&got_beta, &dbeta) < 2e-5, "{level:?} {g:?}");
                    assert!(distance(&got_gamma, &dgamma) < 2e-5, "{level:?} {g:?}");
                }
            }
        }
    }

    /// `<dy, gdn(x)>` of all samples in f64.
    fn value(g: &Gdn, x: &[f64], beta: &[f64], gamma: &[f64], dy: &[f32]) -> f64 {
        let (c, p) = (g.channels, g.pixels);
        let mut sum = 0.0;
        for (at, dy) in dy.iter().enumerate() {
            let (s, i, q) = (at / (c * p) * c * p, at / p % c, at % p);
            let n = beta[i] + (0..c).map(|j| gamma[i * c + j] * x[s + j * p + q].powi(2)).sum::<f64>();
            sum += *dy as f64 * x[at] * if g.inverse { n.sqrt() } else { 1.0 / n.sqrt() };
        }
        sum
    }

    #[test]
    fn gradients() {
        let mut scratch = Scratch::default();
        for (channels, pixels, inverse) in [(4, 5, false), (3, 7, true)] {
            let g = Gdn { channels, pixels, inverse };
            let [x, dy, beta, gamma] = values(&g);
            let (mut y, mut norm) = (x.clone(), x.clone());
            gdn(Level::best(), &g, &x, &beta, &gamma, &mut y, &mut norm, &mut scratch);
            let mut grads = [vec![0f32; x.len()], vec![0f32; beta.len()], vec![0f32; gamma.len()]];
            let [dx, dbeta, dgamma] = &mut grads;
            gdn_backward(Level::best(), &g, &x, &norm, &gamma, &dy, true, dx, dbeta, dgamma, &mut scratch);
            let wide = |v: &[f32]| v.iter().map(|&v| v as f64).collect::<Vec<f64>>();
            let mut at = [wide(&x), wide(&beta), wide(&gamma)];
            for which in 0..3 {
                for i in 0..at[which].len() {
                    let keep = at[which][i];
                    let mut side = |v: f64| {
                        at[which][i] = v;
                        value(&g, &at[0], &at[1], &at[2], &dy)
                    };
                    let slope = (side(keep + 1e-4) - side(keep - 1e-4)) / 2e-4;
                    at[which][i] = keep;
                    let got = grads[which][i] as f64;
                    assert!((slope - got).abs() < 1e-4 * slope.abs().max(1.0), "{which} {i}: {got} {slope}");
                }
            }
        }
    }
}
