//! Adam (Kingma and Ba 2015) over a flat list, with clipping of the gradient's norm, and the rate's schedule.

/// State for one list of parameters.
#[derive(Clone, Debug, Default)]
pub struct Adam {
    m: Vec<f32>,
    v: Vec<f32>,
    steps: i32,
    /// The mean norm of each part's gradients so far.
    norms: Vec<f32>,
}

/// What the families pass as `clip`.
pub const CLIP: f32 = 4.0;
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.99;
const EPSILON: f32 = 1e-8;

impl Adam {
    pub fn new(n: usize) -> Self {
        Adam { m: vec![0.0; n], v: vec![0.0; n], steps: 0, norms: Vec::new() }
    }

    /// A step of the parts of `p`, each `(end, rate)` up to the next. A part's gradient whose norm is over `clip`
    /// times the mean of those before is first cut to that: Adam forgets a spike only after many steps.
    pub fn step(&mut self, p: &mut [f32], d: &[f32], parts: &[(usize, f32)], clip: f32) {
        self.steps += 1;
        let (c1, c2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        self.norms.resize(parts.len(), 0.0);
        let mut start = 0;
        for (&(end, rate), mean) in parts.iter().zip(&mut self.norms) {
            let norm = d[start..end].iter().map(|d| f64::from(d * d)).sum::<f64>().sqrt() as f32;
            let most = if *mean > 0.0 { clip * *mean } else { f32::MAX };
            let gain = if norm > most { most / norm } else { 1.0 };
            let gain = if norm.is_finite() { gain } else { 0.0 };
            if norm.is_finite() {
                *mean += if *mean > 0.0 { 0.02 } else { 1.0 } * (norm.min(most) - *mean);
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

/// From `high` to `low` along half a cosine, after a short linear rise; `progress` in [0, 1].
pub fn cosine(progress: f32, high: f32, low: f32) -> f32 {
    let rise = (progress / 0.02).clamp(0.05, 1.0);
    rise * (low + 0.5 * (high - low) * (1.0 + (std::f32::consts::PI * progress.clamp(0.0, 1.0)).cos()))
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

    /// A spike moves the parameters hardly more than any other gradient, now and later.
    #[test]
    fn spikes_are_cut() {
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
    fn broken_gradients_do_not_spread() {
        let mut p = vec![1.0];
        Adam::new(1).step(&mut p, &[f32::NAN], &[(1, 0.1)], 1.0);
        assert_eq!(p, [1.0]);
    }
}
