//! Layers as plain functions: `run` for the decoder (exact kernels), `forward` and `backward` for the fit (fast kernels).
//! A layer is a small struct with its sizes; inputs, weights and outputs are slices, `[channels][height][width]`. Layers
//! know nothing of the tape that records them or of the models that use them.
//!
//! `backward` adds to the gradients of the weights. It writes the gradient of the input, or adds to it with `add`.

#[cfg(feature = "fit")]
pub mod conv2d;
pub mod conv_transpose2d;
#[cfg(feature = "fit")]
pub mod gdn;

#[cfg(all(test, feature = "fit"))]
mod check {
    use kernels::Level;
    pub use tilefit_testing::noise;

    /// Asserts that `gradient` is the gradient of `f` at `x`: central differences along three random directions.
    pub fn gradient(x: &[f32], gradient: &[f32], seed: usize, mut f: impl FnMut(&[f32]) -> f64) {
        for k in 0..3 {
            let d = noise(x.len(), seed + 100 + k);
            let h = 1e-2;
            let at = |s: f32| x.iter().zip(&d).map(|(x, d)| x + s * d).collect::<Vec<_>>();
            let numeric = (f(&at(h)) - f(&at(-h))) / (2.0 * f64::from(h));
            let exact: f64 = gradient.iter().zip(&d).map(|(g, d)| f64::from(g * d)).sum();
            let norm: f64 = gradient.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
            assert!((numeric - exact).abs() < 4e-3 * norm + 1e-3, "numeric {numeric}, exact {exact}, norm {norm}");
        }
    }

    pub fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    pub fn level() -> Level {
        Level::best()
    }
}
