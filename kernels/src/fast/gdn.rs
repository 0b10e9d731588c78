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

use crate::fast::Scratch;
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
    let _ = (level, scratch);
    gdn_scalar(g, x, beta, gamma, y, norm);
}

/// `dx`, `dbeta`, `dgamma` `+=` the gradients, from `dy = dL/dy` and the `norm` of [`gdn`].
pub fn gdn_backward(
    level: Level,
    g: &Gdn,
    x: &[f32],
    norm: &[f32],
    gamma: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dbeta: &mut [f32],
    dgamma: &mut [f32],
    scratch: &mut Scratch,
) {
    let _ = (level, scratch);
    gdn_backward_scalar(g, x, norm, gamma, dy, dx, dbeta, dgamma);
}
