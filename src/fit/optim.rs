//! Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015) over a flat list of parameters, with clipping
//! of gradient norms, and the schedule of the learning rate. Used by family `gdn`.

/// State for one list of parameters.
#[derive(Clone, Debug, Default)]
pub struct Adam {
    /// First moments.
    m: Vec<f32>,
    /// Second moments.
    v: Vec<f32>,
    /// Steps made.
    steps: i32,
    /// For each part of the parameters the running mean of its gradient norms.
    norms: Vec<f32>,
}

/// The `clip` of [`Adam::step`] in a fit: norms up to four times the mean are normal in mini-batches, spikes are far above.
/// Any value of this order works.
pub const CLIP: f32 = 4.0;
/// Decay of the first moments; the authors' value.
const BETA1: f32 = 0.9;
/// Decay of the second moments. The authors' 0.999 remembers longer than the few hundred steps of a fit allow.
const BETA2: f32 = 0.99;
/// The authors' value.
const EPSILON: f32 = 1e-8;
/// Weight of a new norm in the running mean of norms: a memory of about 50 steps. Any value of this order works.
const NORM_UPDATE: f32 = 0.02;
/// The part of the schedule in which the learning rate rises, and the part of it that it starts with.
const WARM_UP: f32 = 0.02;
const WARM_UP_START: f32 = 0.05;

impl Adam {
    /// State for `n` parameters.
    pub fn new(n: usize) -> Self {
        Adam { m: vec![0.0; n], v: vec![0.0; n], steps: 0, norms: Vec::new() }
    }

    /// Makes one step of the parameters `p` with gradient `d`. `parts` divides them: each part ends at `.0` and has the
    /// learning rate `.1`. If the norm of a part's gradient is over `clip` times the mean of its earlier norms, the gradient
    /// is scaled down to that: a spike would spoil Adam's moments for many steps. A gradient that is not finite counts as
    /// zero.
    pub fn step(&mut self, p: &mut [f32], d: &[f32], parts: &[(usize, f32)], clip: f32) {
        self.steps += 1;
        let (c1, c2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        self.norms.resize(parts.len(), 0.0);
        let mut start = 0;
        for (&(end, rate), mean) in parts.iter().zip(&mut self.norms) {
            let norm = d[start..end].iter().map(|d| f64::from(d * d)).sum::<f64>().sqrt() as f32;
            let bound = if *mean > 0.0 { clip * *mean } else { f32::MAX };
            let gain = if norm > bound { bound / norm } else { 1.0 };
            let gain = if norm.is_finite() { gain } else { 0.0 };
            if norm.is_finite() {
                *mean += if *mean > 0.0 { NORM_UPDATE } else { 1.0 } * (norm.min(bound) - *mean);
            }
            let (scale, rate) = (1.0 / c2.sqrt(), rate / c1);
            let state = self.m[start..end].iter_mut().zip(&mut self.v[start..end]);
            for ((p, d), (m, v)) in p[start..end].iter_mut().zip(&d[start..end]).zip(state) {
                let g = if gain > 0.0 { gain * d } else { 0.0 };
                *m += (1.0 - BETA1) * (g - *m);
                *v += (1.0 - BETA2) * (g * g - *v);
                *p -= rate * *m / (v.sqrt() * scale + EPSILON);
            }
            start = end;
        }
    }
}

/// The learning rate at `progress` in [0, 1] of a fit: a short linear warm-up, then half a cosine from `high` to `low`
/// (Loshchilov and Hutter, "SGDR", 2017).
pub fn cosine(progress: f32, high: f32, low: f32) -> f32 {
    let warm_up = (progress / WARM_UP).clamp(WARM_UP_START, 1.0);
    warm_up * (low + 0.5 * (high - low) * (1.0 + (std::f32::consts::PI * progress.clamp(0.0, 1.0)).cos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adam_finds_the_minimum() {
        let mut p = vec![3.0, -2.0, 1.0];
        let mut adam = Adam::new(3);
        for k in 0..600 {
            let d: Vec<f32> = p.iter().zip([1.0, 10.0, 0.1]).map(|(p, c)| c * (p - 0.5)).collect();
            adam.step(&mut p, &d, &[(2, cosine(k as f32 / 600.0, 0.05, 1e-4)), (3, 0.02)], 5.0);
        }
        assert!(p.iter().all(|p| (p - 0.5).abs() < 0.02), "{p:?}");
    }

    /// A spike moves the parameters hardly more than any other gradient, at once and later.
    #[test]
    fn spikes_are_clipped() {
        let run = |spike: f32| {
            let (mut p, mut adam) = (vec![0.0], Adam::new(1));
            for k in 0..60 {
                adam.step(&mut p, &[if k == 30 { spike } else { 1.0 }], &[(1, 0.01)], 4.0);
            }
            p[0]
        };
        assert!((run(1e6) - run(4.0)).abs() < 1e-6);
    }

    #[test]
    fn gradients_that_are_not_finite_are_ignored() {
        let mut p = vec![1.0];
        Adam::new(1).step(&mut p, &[f32::NAN], &[(1, 0.1)], 1.0);
        assert_eq!(p, [1.0]);
    }
}
