//! Inverse generalised divisive normalisation (Balle, Laparra, Simoncelli 2016).

use crate::panel::{self, Pixels, Start};
use crate::vector::{Scalar, Simd};
use crate::Level;
use alloc::{vec, vec::Vec};

/// The definition: `n_i = beta_i`, then `gamma_ij * (x_j * x_j)` added for `j` ascending; `y_i = x_i * sqrt(n_i)`.
///
/// `x` and `y` are `[channels][pixels]`, `gamma` is `[channels][channels]`.
pub fn inverse_gdn_scalar(beta: &[f32], gamma: &[f32], pixels: usize, x: &[f32], y: &mut [f32]) {
    let channels = beta.len();
    for i in 0..channels {
        for p in 0..pixels {
            let mut n = beta[i];
            for j in 0..channels {
                let v = x[j * pixels + p];
                n += gamma[i * channels + j] * (v * v);
            }
            y[i * pixels + p] = x[i * pixels + p] * Scalar::token().sqrt(n);
        }
    }
}

/// Parameters in the order that the kernel reads.
#[derive(Clone, Debug)]
pub struct PackedGdn {
    beta: Vec<f32>,
    gamma: Vec<f32>,
}

impl PackedGdn {
    /// `beta` is `[channels]`, `gamma` is `[channels][channels]`.
    pub fn new(beta: &[f32], gamma: &[f32]) -> Self {
        let n = beta.len();
        assert_eq!(gamma.len(), n * n);
        let mut packed = Vec::with_capacity(n * n);
        panel::pack(n, n, &mut packed, |i, j| gamma[i * n + j]);
        PackedGdn { beta: beta.to_vec(), gamma: packed }
    }
}

/// Pixels of a block: squares and norms of a few hundred channels stay in L2.
const BLOCK: usize = 240;

/// [`inverse_gdn_scalar`] at any level.
pub fn inverse_gdn(level: Level, g: &PackedGdn, pixels: usize, x: &[f32], y: &mut [f32]) {
    let channels = g.beta.len();
    assert_eq!((x.len(), y.len()), (channels * pixels, channels * pixels));
    let plane = panel::plane_pitch(BLOCK);
    let mut squares = vec![0.0; channels * plane + panel::SLACK];
    let mut norms = vec![0.0; channels * plane];
    let taps: Vec<u32> = (0..channels).map(|j| (j * plane) as u32).collect();
    for p in (0..pixels).step_by(BLOCK) {
        let n = BLOCK.min(pixels - p);
        for (j, squares) in squares.chunks_exact_mut(plane).enumerate().take(channels) {
            squares.iter_mut().zip(&x[j * pixels + p..][..n]).for_each(|(to, &v)| *to = v * v);
        }
        let block = Pixels { height: 1, width: n, image_pitch: 0, out_pitch: 0 };
        panel::accumulate(level, &g.gamma, channels, &taps, &squares, &block, Start::Bias(&g.beta), &mut norms, plane);
        for (j, norms) in norms.chunks_exact(plane).enumerate() {
            let (x, y) = (&x[j * pixels + p..][..n], &mut y[j * pixels + p..][..n]);
            times_root(level, x, norms, y);
        }
    }
}

kernel! {
    /// `y = x * sqrt(norms)`.
    fn times_root(x: &[f32], norms: &[f32], y: &mut [f32]) = times_root_lanes;
}

#[inline(always)]
fn times_root_lanes<S: Simd>(s: S, x: &[f32], norms: &[f32], y: &mut [f32]) {
    for k in (0..x.len()).step_by(S::F32_LANES) {
        let lanes = S::F32_LANES.min(x.len() - k);
        let v = panel::load_part(s, &x[k..], lanes) * s.sqrt(s.load(&norms[k..]));
        panel::store_part(s, v, &mut y[k..], lanes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::noise;

    #[test]
    fn levels_agree() {
        for channels in [1, 2, 3, 7, 32] {
            for pixels in [0, 1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 67, 240, 251, 500] {
                let x: Vec<f32> = noise(channels * pixels, 1).iter().map(|v| 3.0 * v).collect();
                let beta: Vec<f32> = noise(channels, 2).iter().map(|v| v.abs() + 1e-3).collect();
                let gamma: Vec<f32> = noise(channels * channels, 3).iter().map(|v| v.abs()).collect();
                let mut want = vec![0f32; x.len()];
                inverse_gdn_scalar(&beta, &gamma, pixels, &x, &mut want);
                let packed = PackedGdn::new(&beta, &gamma);
                for level in Level::available() {
                    let mut got = vec![f32::NAN; x.len()];
                    inverse_gdn(level, &packed, pixels, &x, &mut got);
                    let same = got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{level:?} {channels} {pixels}");
                }
            }
        }
    }
}
