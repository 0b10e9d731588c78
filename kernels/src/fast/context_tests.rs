use super::*;
use crate::Level;
use tilefit_testing::Noise;

const NEIGHBOURS: [(i32, i32); 26] = [
    (0, -1),
    (-1, 0),
    (-1, -1),
    (-1, 1),
    (0, -2),
    (-2, 0),
    (-3, 0),
    (0, -3),
    (-1, -2),
    (-2, 1),
    (-2, -1),
    (-1, 2),
    (-2, -2),
    (-1, -3),
    (-2, 2),
    (-3, 1),
    (0, -4),
    (-1, 3),
    (-2, -3),
    (-2, 3),
    (-3, -1),
    (-3, -2),
    (-3, 2),
    (-4, 0),
    (-1, -4),
    (-4, -4),
];

#[derive(Clone)]
struct Case {
    spatial: usize,
    features: usize,
    with_features: bool,
    width: usize,
    height: usize,
    weights: Vec<f64>,
    q: Vec<f64>,
    maps: Vec<f64>,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut r = Noise::new(seed.wrapping_mul(77).wrapping_add(5));
        let mut below = |n: usize| r.below(n);
        let (spatial, features) = (1 + below(26), below(7));
        let (width, height) = (1 + below(if seed.is_multiple_of(3) { 2 } else { 45 }), 1 + below(9));
        let d = spatial + features;
        let f32s = |n: usize, scale: f64, r: &mut Noise| {
            (0..n).map(|_| (r.signed() * scale) as f32 as f64).collect::<Vec<_>>()
        };
        let mut weights = f32s(2 * d * d + 6 * d + 4, 1.5 / (d as f64).sqrt(), &mut r);
        // Spread s around 4 so that scales small and large occur.
        let last = weights.len();
        weights[last - 1] += [4.0, 1.0, 6.0][seed as usize % 3];
        let q = f32s(width * height, 3.0, &mut r);
        let maps = f32s(features * width.div_ceil(2) * height.div_ceil(2), 1.0, &mut r);
        Case { spatial, features, with_features: !seed.is_multiple_of(4), width, height, weights, q, maps }
    }

    fn bits(&self) -> f64 {
        let maps = self.with_features.then_some(&self.maps[..]);
        context_scalar(&NEIGHBOURS[..self.spatial], &self.weights, self.width, &self.q, maps, self.features)
    }

    /// Bits and gradients (weights, q, maps) of the kernel, in bands of `rows`.
    fn run(&self, level: Level, rows: usize, gradients: bool) -> (f64, Vec<f32>, Vec<f32>, Vec<f32>) {
        let (w, h, k) = (self.width, self.height, self.features);
        let stride = w + 2 * PAD;
        let mut net = ContextNet::new(level, self.spatial, k);
        let weights: Vec<f32> = self.weights.iter().map(|w| *w as f32).collect();
        net.set(&weights);
        let mut q = vec![0f32; (h + PAD) * stride + SLACK];
        for i in 0..w * h {
            q[(i / w + PAD) * stride + PAD + i % w] = self.q[i] as f32;
        }
        let (fw, fh, fstride) = (w.div_ceil(2), h.div_ceil(2), feature_stride(w));
        let mut maps = vec![0f32; fh * k * fstride];
        for i in 0..self.maps.len() {
            let (j, y, x) = (i / (fw * fh), i / fw % fh, i % fw);
            maps[(y * k + j) * fstride + 2 * x..][..2].fill(self.maps[i] as f32);
        }
        let (mut bits, mut dweights) = (0.0, vec![0f32; weights.len()]);
        let (mut dq, mut dmaps) = (vec![0f32; w * h], vec![0f32; self.maps.len()]);
        let mut scratch = ContextScratch::default();
        for start in (0..h).step_by(rows) {
            let rows = start..(start + rows).min(h);
            let mut own = vec![0f32; (rows.len() + PAD) * stride + SLACK];
            let mut own_maps = vec![0f32; rows.len().div_ceil(2) * k * fstride];
            let band = ContextBand {
                net: &net,
                neighbours: &NEIGHBOURS,
                q: &q,
                stride,
                width: w,
                rows: rows.clone(),
                features: self.with_features.then_some(&maps[start / 2 * k * fstride..]),
            };
            let mut g = ContextGradients {
                dq: &mut own,
                dfeatures: self.with_features.then_some(&mut own_maps[..]),
                dweights: Some(&mut dweights),
            };
            bits += context(level, &band, gradients.then_some(&mut g), &mut scratch);
            for i in 0..w * h {
                let y = i / w + PAD;
                if (start..rows.end + PAD).contains(&y) {
                    dq[i] += own[(y - start) * stride + PAD + i % w];
                }
            }
            for i in 0..self.maps.len() {
                let (j, y, x) = (i / (fw * fh), i / fw % fh, i % fw);
                if (start / 2..rows.end.div_ceil(2)).contains(&y) {
                    let pair = &own_maps[((y - start / 2) * k + j) * fstride + 2 * x..][..2];
                    dmaps[i] += pair[0] + pair[1];
                }
            }
        }
        (bits, dweights, dq, dmaps)
    }
}

/// The derivative of the definition in one number, and whether it is smooth there.
fn slope(case: &mut Case, pick: impl Fn(&mut Case) -> &mut f64) -> Option<f64> {
    let mut at = |h: f64| {
        let old = *pick(case);
        *pick(case) = old + h;
        let bits = case.bits();
        *pick(case) = old;
        bits
    };
    let (wide, narrow) = ((at(2e-5) - at(-2e-5)) / 4e-5, (at(1e-5) - at(-1e-5)) / 2e-5);
    // A kink of a relu, of the clamp or of the floor lies between: no derivative to compare with.
    ((wide - narrow).abs() <= 1e-4 * (1.0 + narrow.abs())).then_some(narrow)
}

#[test]
fn gradients_are_those_of_the_definition() {
    let mut compared = [0usize; 3];
    for seed in 0..40 {
        let mut case = Case::new(seed);
        let bits = case.bits();
        let runs: Vec<_> = Level::available().into_iter().map(|l| (l, case.run(l, 4, true))).collect();
        for (level, run) in &runs {
            assert!((run.0 - bits).abs() < 1e-4 * (1.0 + bits.abs()), "{level:?} seed {seed}: {} {bits}", run.0);
            let forward = case.run(*level, 6, false);
            assert!((forward.0 - run.0).abs() < 1e-5 * (1.0 + bits.abs()), "{level:?} seed {seed}");
            assert!(forward.1.iter().chain(&forward.2).all(|d| *d == 0.0));
        }
        let sizes = [case.weights.len(), case.q.len(), if case.with_features { case.maps.len() } else { 0 }];
        for (kind, size) in sizes.into_iter().enumerate() {
            let count = size.min(25);
            for i in 0..count {
                let i = (i * size / count + seed as usize * 7) % size;
                let got_slope = match kind {
                    0 => slope(&mut case, |c| &mut c.weights[i]),
                    1 => slope(&mut case, |c| &mut c.q[i]),
                    _ => slope(&mut case, |c| &mut c.maps[i]),
                };
                let Some(want) = got_slope else { continue };
                compared[kind] += 1;
                for (level, run) in &runs {
                    let got = [&run.1, &run.2, &run.3][kind][i] as f64;
                    let tolerance = 2e-3 * want.abs() + 2e-3;
                    assert!(
                        (got - want).abs() <= tolerance,
                        "{level:?} seed {seed} kind {kind} number {i}: {got} for {want}"
                    );
                }
            }
        }
    }
    assert!(compared.iter().all(|c| *c > 300), "{compared:?}");
}

#[test]
fn rate_is_accurate_in_the_tails() {
    // One neighbour, all weights zero: (mu, s) are the last biases.
    for level in Level::available() {
        for s in [-3.0, -1.0, 0.5, 4.0, 8.9, 12.0] {
            for q in [0.0, 0.3, 0.5, -0.7, 1.0, 9.0, -40.0, 63.0] {
                let mut case = Case::new(1);
                case.spatial = 1;
                case.features = 0;
                case.with_features = false;
                (case.width, case.height) = (1, 1);
                case.weights = vec![0.0; 12];
                case.weights[10] = 0.2;
                case.weights[11] = s;
                case.q = vec![q];
                case.maps.clear();
                let want = rate_scalar(q, 0.2f32 as f64, s);
                let got = case.run(level, 2, false).0;
                assert!((got - want).abs() < 2e-5 * (1.0 + want), "{level:?} q {q} s {s}: {got} {want}");
            }
        }
    }
}
