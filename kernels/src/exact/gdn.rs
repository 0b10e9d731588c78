//! Inverse generalised divisive normalisation (Balle, Laparra, Simoncelli 2016).

use super::taps::{add_taps, is_finite, Lists, Tap, STRIP};
use crate::vector::{Scalar, Simd};
use alloc::vec::Vec;

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

/// A list of strips of squares for each norm.
#[derive(Clone, Default, Debug)]
struct Norms {
    taps: Vec<Tap>,
    ends: Vec<usize>,
}

/// Parameters in the order that the kernel reads.
#[derive(Clone, Debug)]
pub struct PackedGdn {
    beta: Vec<f32>,
    /// Products of each norm, without those that are 0 while all squares are finite.
    finite: Norms,
    /// All products.
    any: Norms,
}

impl PackedGdn {
    /// `beta` is `[channels]`, `gamma` is `[channels][channels]`.
    pub fn new(beta: &[f32], gamma: &[f32]) -> Self {
        let n = beta.len();
        assert_eq!(gamma.len(), n * n);
        let norms = |keep_zeros: bool| {
            let mut norms = Norms::default();
            for (i, beta) in beta.iter().enumerate() {
                let taps = (0..n).map(|j| Tap { weight: gamma[i * n + j], offset: (j * STRIP) as u32 });
                // A sum that begins at -0 keeps its products of 0.
                norms.taps.extend(taps.filter(|tap| tap.weight != 0.0 || keep_zeros || is_negative_zero(*beta)));
                norms.ends.push(norms.taps.len());
            }
            norms
        };
        PackedGdn { beta: beta.to_vec(), finite: norms(false), any: norms(true) }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.beta.len()
    }
}

/// Whether `v` is -0, which the sum of -0 and 0 is not.
pub(super) fn is_negative_zero(v: f32) -> bool {
    v == 0.0 && v.is_sign_negative()
}

/// Normalises `V` vectors of each channel's strip in place, from vector `first` on. `x` and `squares` are
/// `[channels][STRIP]`.
#[inline(always)]
pub(super) fn strip<S: Simd, const V: usize>(s: S, g: &PackedGdn, first: usize, x: &mut [f32], squares: &mut [f32]) {
    let first = first * S::F32_LANES;
    assert!(first + V * S::F32_LANES <= STRIP);
    assert!(x.len() >= g.channels() * STRIP && squares.len() >= g.channels() * STRIP);
    // Not finite if a square is not.
    let mut total = s.splat(0.0);
    for channel in 0..g.channels() {
        for v in 0..V {
            let at = channel * STRIP + first + v * S::F32_LANES;
            // SAFETY: `V` vectors from `first` lie in a strip, all strips in `x` and `squares`.
            unsafe {
                let x = s.load_from(x, at);
                s.store_to(x * x, squares, at);
                total = total + x * x;
            }
        }
    }
    let norms = if is_finite(s, total) { &g.finite } else { &g.any };
    let lists = Lists::new(&norms.taps, &norms.ends, 0..g.channels());
    for ((channel, &beta), taps) in g.beta.iter().enumerate().zip(lists.iter()) {
        // SAFETY: offsets are those of strips, which lie in `squares`; as above.
        unsafe {
            let norms = add_taps::<S, V>(s, taps, squares.as_ptr().add(first), [s.splat(beta); V]);
            for v in 0..V {
                let at = channel * STRIP + first + v * S::F32_LANES;
                let y = s.load_from(x, at) * s.sqrt(norms[v]);
                s.store_to(y, x, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::conv_transpose2d::{conv_transpose2d, ConvTranspose, PackedConvTranspose, Scratch};
    use crate::exact::map::{Frame, Map};
    use crate::{Level, Window};
    use tilefit_testing::noise;

    /// Behind a layer that changes nothing, every level has the definition's bits.
    #[test]
    fn levels_agree() {
        for channels in [1, 2, 3, 7, 32] {
            let layer =
                ConvTranspose { in_channels: channels, out_channels: channels, kernel: 1, stride: 1, padding: 0 };
            let identity: Vec<f32> = (0..channels * channels).map(|i| f32::from(i % (channels + 1) == 0)).collect();
            let identity = PackedConvTranspose::new(layer, &identity, &vec![0.0; channels]);
            for pixels in [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 67, 240, 251, 500] {
                let mut x: Vec<f32> = noise(channels * pixels, 1).iter().map(|v| 3.0 * v).collect();
                let mut beta: Vec<f32> = noise(channels, 2).iter().map(|v| v.abs() + 1e-3).collect();
                let mut gamma: Vec<f32> = noise(channels * channels, 3).iter().map(|v| v.abs()).collect();
                // Most gammas of a fitted model are 0. A square may overflow; a sum may begin at -0.
                gamma.iter_mut().skip(1).step_by(3).for_each(|g| *g = 0.0);
                x.iter_mut().skip(40).step_by(97).for_each(|x| *x = 1e25);
                x.iter_mut().skip(30).step_by(11).for_each(|x| *x = 0.0);
                beta[channels / 2] = -0.0;
                let mut want = vec![0f32; x.len()];
                inverse_gdn_scalar(&beta, &gamma, pixels, &x, &mut want);
                let packed = PackedGdn::new(&beta, &gamma);
                let window = Window { y0: 0, x0: 0, height: 1, width: pixels };
                let (mut from, mut to) = (Map::default(), Map::default());
                from.reset(channels, Frame::from(&window), &window);
                to.reset(channels, Frame::from(&window), &window);
                (0..channels).for_each(|c| from.row_mut(c, 0, 0).copy_from_slice(&x[c * pixels..][..pixels]));
                for level in Level::available() {
                    conv_transpose2d(level, &identity, Some(&packed), &from, &window, &mut to, &mut Scratch::default());
                    let got = (0..channels).flat_map(|c| to.row(c, 0, 0));
                    let same = got.zip(&want).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
                    assert!(same, "{level:?} {channels} {pixels}");
                }
            }
        }
    }
}
