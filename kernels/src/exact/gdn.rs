//! Inverse generalised divisive normalisation (Balle, Laparra, Simoncelli 2016).

use crate::Level;

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
            y[i * pixels + p] = x[i * pixels + p] * n.sqrt();
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
        assert_eq!(gamma.len(), beta.len() * beta.len());
        PackedGdn { beta: beta.to_vec(), gamma: gamma.to_vec() }
    }
}

/// [`inverse_gdn_scalar`] at any level.
pub fn inverse_gdn(level: Level, g: &PackedGdn, pixels: usize, x: &[f32], y: &mut [f32]) {
    let _ = level;
    inverse_gdn_scalar(&g.beta, &g.gamma, pixels, x, y);
}
