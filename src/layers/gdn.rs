//! Generalised divisive normalisation and its inverse (Balle, Laparra, Simoncelli, "Density modeling of images using a
//! generalized normalization transformation", 2016): `y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)` at each pixel; the
//! inverse multiplies by the root. The decoder runs it behind a transposed convolution, see
//! [`kernels::exact::conv_transpose2d`].
//!
//! `beta > 0` and `gamma >= 0` must hold. The fit moves unconstrained parameters `p`; the layer uses
//! `v = max(p, sqrt(least + o^2))^2 - o^2`, with `o = 2^-18` and `least` 1e-6 for beta, 0 for gamma, as the authors do.

use kernels::fast::{self, Scratch};
use kernels::Level;

/// The size and direction of a normalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gdn {
    /// Channels of input and output.
    pub channels: usize,
    /// Multiplies by the root instead of dividing by it.
    pub inverse: bool,
}

/// `o^2` in the formula above.
const PEDESTAL: f32 = 1.0 / (1u64 << 36) as f32;
/// The smallest beta that the fit uses.
pub const LEAST_BETA: f32 = 1e-6;

/// The parameter `p` of a value `v`.
pub fn parameter_of(v: f32) -> f32 {
    (v.max(0.0) + PEDESTAL).sqrt()
}

/// The value `v` of a parameter `p`, at least `least`.
pub fn value_of(p: f32, least: f32) -> f32 {
    let p = p.max((least + PEDESTAL).sqrt());
    p * p - PEDESTAL
}

/// The gradient by `p` from that by `v`. Below the bound it is zero, unless descent would move `p` up.
pub fn parameter_gradient(p: f32, least: f32, dv: f32) -> f32 {
    let bound = (least + PEDESTAL).sqrt();
    let d = 2.0 * p.max(bound) * dv;
    if p >= bound || d < 0.0 {
        d
    } else {
        0.0
    }
}

impl Gdn {
    fn sized(&self, pixels: usize) -> fast::gdn::Gdn {
        fast::gdn::Gdn { channels: self.channels, pixels, inverse: self.inverse }
    }

    /// `y =` the output for input `x`, both `[channels][pixels]`. `norm`, of the same size, keeps what
    /// [`backward`](Self::backward) needs. `gamma` is `[channels][channels]`, a row an output.
    pub fn forward(
        &self,
        level: Level,
        pixels: usize,
        x: &[f32],
        beta: &[f32],
        gamma: &[f32],
        y: &mut [f32],
        norm: &mut [f32],
        scratch: &mut Scratch,
    ) {
        fast::gdn::gdn(level, &self.sized(pixels), x, beta, gamma, y, norm, scratch);
    }

    /// Gradients from `dy`, the gradient by the output: `dx =` (`+=` with `add`) that by the input, `dbeta +=` and
    /// `dgamma +=` those by the parameters.
    pub fn backward(
        &self,
        level: Level,
        pixels: usize,
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
        fast::gdn::gdn_backward(level, &self.sized(pixels), x, norm, gamma, dy, add, dx, dbeta, dgamma, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::check;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn backward_is_the_gradient_and_the_decoder_runs_forward(channels in 1usize..9, pixels in 1usize..40, inverse: bool, seed in 0usize..1000) {
            let layer = Gdn { channels, inverse };
            let x = check::noise(channels * pixels, seed);
            let p_beta: Vec<f32> = check::noise(channels, seed + 1).iter().map(|v| 1.0 + 0.5 * v).collect();
            let p_gamma: Vec<f32> = check::noise(channels * channels, seed + 2).iter().map(|v| 0.4 + 0.3 * v).collect();
            let dy = check::noise(x.len(), seed + 3);
            let (mut y, mut norm) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            let mut scratch = Scratch::default();
            let values = |p: &[f32], least| p.iter().map(|&p| value_of(p, least)).collect::<Vec<f32>>();
            let mut f = |x: &[f32], b: &[f32], g: &[f32]| {
                layer.forward(check::level(), pixels, x, &values(b, LEAST_BETA), &values(g, 0.0), &mut y, &mut norm, &mut scratch);
                check::dot(&y, &dy)
            };
            f(&x, &p_beta, &p_gamma);
            let (beta, gamma) = (values(&p_beta, LEAST_BETA), values(&p_gamma, 0.0));
            let (mut y, mut norm) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            layer.forward(check::level(), pixels, &x, &beta, &gamma, &mut y, &mut norm, &mut Scratch::default());
            let (mut dx, mut db, mut dg) = (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; gamma.len()]);
            layer.backward(check::level(), pixels, &x, &norm, &gamma, &dy, false, &mut dx, &mut db, &mut dg, &mut Scratch::default());
            db.iter_mut().zip(&p_beta).for_each(|(d, &p)| *d = parameter_gradient(p, LEAST_BETA, *d));
            dg.iter_mut().zip(&p_gamma).for_each(|(d, &p)| *d = parameter_gradient(p, 0.0, *d));
            check::gradient(&x, &dx, seed, |x| f(x, &p_beta, &p_gamma));
            check::gradient(&p_beta, &db, seed, |b| f(&x, b, &p_gamma));
            check::gradient(&p_gamma, &dg, seed, |g| f(&x, &p_beta, g));
            if inverse {
                let mut run = vec![0.0; x.len()];
                kernels::exact::gdn::inverse_gdn_scalar(&beta, &gamma, pixels, &x, &mut run);
                prop_assert!(run.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs())));
            }
        }
    }

    #[test]
    fn parameters_below_the_bound_can_only_rise() {
        assert_eq!(parameter_gradient(-1.0, 0.0, 1.0), 0.0);
        assert!(parameter_gradient(-1.0, LEAST_BETA, -1.0) < 0.0);
        assert!(value_of(-3.0, LEAST_BETA) > 0.0 && value_of(-3.0, 0.0) >= 0.0);
        assert!((value_of(parameter_of(0.1), 0.0) - 0.1).abs() < 1e-6);
    }
}
