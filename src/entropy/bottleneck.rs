//! The fully factorised density of Balle et al. 2018 (appendix 6.1): what the fit knows of the rate.
//!
//! Each channel has a monotone function `c(x)` whose logistic is the distribution function of a code plus
//! uniform noise: five affine layers of widths 1, 3, 3, 3, 3, 1 with positive matrices `softplus(H)`, and
//! `u + tanh(a) tanh(u)` behind all but the last. A value `y` costs
//! `-log2 max(logistic(c(y + 1/2)) - logistic(c(y - 1/2)), 1e-9)` bits.

/// Hidden width.
const WIDTH: usize = 3;
/// Parameters of a channel: 9 of the first layer, 15 of each of three, 4 of the last.
pub const PARAMETERS: usize = 58;
/// The lower bound of a likelihood.
const LEAST: f32 = 1e-9;
/// Values that pass the layers side by side.
const BLOCK: usize = 16;

type Lanes = [f32; BLOCK];

/// Inputs of each layer, and where its matrix, bias and (but for the last) `a` start.
const LAYERS: [(usize, usize, usize, usize); 4] = [(1, 0, 3, 6), (3, 9, 18, 21), (3, 24, 33, 36), (3, 39, 48, 51)];
const LAST: (usize, usize) = (54, 57);

/// tanh to about 1e-4; what matters is that `1 - t^2` is taken as its slope where it is not clamped.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let x = x.clamp(-4.9, 4.9);
    let s = x * x;
    x * (135_135.0 + s * (17_325.0 + s * (378.0 + s))) / (135_135.0 + s * (62_370.0 + s * (3_150.0 + s * 28.0)))
}

fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Writes starting parameters of `channels` channels whose values spread over about `scale`; `unit` gives
/// numbers in [0, 1).
pub fn start(channels: usize, scale: f32, mut unit: impl FnMut() -> f32, parameters: &mut [f32]) {
    let gain = scale.powf(1.0 / 5.0);
    for p in parameters.chunks_exact_mut(PARAMETERS).take(channels) {
        for (inputs, matrix, bias, a) in LAYERS {
            let h = (1.0 / gain / WIDTH as f32).exp_m1().ln();
            p[matrix..matrix + inputs * WIDTH].fill(h);
            p[bias..bias + WIDTH].iter_mut().for_each(|b| *b = unit() - 0.5);
            p[a..a + WIDTH].fill(0.0);
        }
        p[LAST.0..LAST.0 + WIDTH].fill((1.0 / gain).exp_m1().ln());
        p[LAST.1] = unit() - 0.5;
    }
}

/// `softplus` of the matrices and `tanh` of the `a`s, once a step.
pub fn prepare(parameters: &[f32], prepared: &mut [f32]) {
    prepared.copy_from_slice(parameters);
    for p in prepared.chunks_exact_mut(PARAMETERS) {
        for (inputs, matrix, _, a) in LAYERS {
            p[matrix..matrix + inputs * WIDTH].iter_mut().for_each(|h| *h = softplus(*h));
            p[a..a + WIDTH].iter_mut().for_each(|a| *a = a.tanh());
        }
        p[LAST.0..LAST.0 + WIDTH].iter_mut().for_each(|h| *h = softplus(*h));
    }
}

/// Gradients of the prepared values become, in place, those of the parameters.
pub fn unprepare(parameters: &[f32], gradients: &mut [f32]) {
    for (p, d) in parameters.chunks_exact(PARAMETERS).zip(gradients.chunks_exact_mut(PARAMETERS)) {
        for (inputs, matrix, _, a) in LAYERS {
            (matrix..matrix + inputs * WIDTH).for_each(|i| d[i] *= logistic(p[i]));
            (a..a + WIDTH).for_each(|i| d[i] *= 1.0 - p[i].tanh().powi(2));
        }
        (LAST.0..LAST.0 + WIDTH).for_each(|i| d[i] *= logistic(p[i]));
    }
}

/// What the backward pass reads again: inputs and tanhs of each hidden layer.
struct Kept {
    inputs: [[Lanes; WIDTH]; 5],
    tanhs: [[Lanes; WIDTH]; 4],
}

fn forward(p: &[f32], x: &Lanes, kept: &mut Kept) -> Lanes {
    kept.inputs[0][0] = *x;
    for (k, (inputs, matrix, bias, a)) in LAYERS.into_iter().enumerate() {
        for i in 0..WIDTH {
            let mut v = [p[bias + i]; BLOCK];
            for j in 0..inputs {
                let h = p[matrix + i * inputs + j];
                for l in 0..BLOCK {
                    v[l] += h * kept.inputs[k][j][l];
                }
            }
            for l in 0..BLOCK {
                let t = tanh(v[l]);
                kept.tanhs[k][i][l] = t;
                kept.inputs[k + 1][i][l] = v[l] + p[a + i] * t;
            }
        }
    }
    let mut c = [p[LAST.1]; BLOCK];
    for j in 0..WIDTH {
        for l in 0..BLOCK {
            c[l] += p[LAST.0 + j] * kept.inputs[4][j][l];
        }
    }
    c
}

/// `dp += ` the gradients; returns `dx`.
fn backward(p: &[f32], kept: &Kept, dc: &Lanes, dp: &mut [f32]) -> Lanes {
    let sum = |a: &Lanes, b: &Lanes| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut du = [[0f32; BLOCK]; WIDTH];
    dp[LAST.1] += dc.iter().sum::<f32>();
    for j in 0..WIDTH {
        dp[LAST.0 + j] += sum(dc, &kept.inputs[4][j]);
        for l in 0..BLOCK {
            du[j][l] = dc[l] * p[LAST.0 + j];
        }
    }
    for (k, (inputs, matrix, bias, a)) in LAYERS.into_iter().enumerate().rev() {
        let mut before = [[0f32; BLOCK]; WIDTH];
        for i in 0..WIDTH {
            let t = &kept.tanhs[k][i];
            dp[a + i] += sum(&du[i], t);
            let mut dv = [0f32; BLOCK];
            for l in 0..BLOCK {
                dv[l] = du[i][l] * (1.0 + p[a + i] * (1.0 - t[l] * t[l]));
            }
            dp[bias + i] += dv.iter().sum::<f32>();
            for j in 0..inputs {
                dp[matrix + i * inputs + j] += sum(&dv, &kept.inputs[k][j]);
                for l in 0..BLOCK {
                    before[j][l] += dv[l] * p[matrix + i * inputs + j];
                }
            }
        }
        du = before;
    }
    du[0]
}

/// The bits of `values` of one channel; `dy += ` and `dp += ` the gradients (of the prepared parameters `p`).
pub fn bits(p: &[f32], values: &[f32], dy: &mut [f32], dp: &mut [f32]) -> f64 {
    let mut kept = [0; 2].map(|_| Kept { inputs: [[[0.0; BLOCK]; WIDTH]; 5], tanhs: [[[0.0; BLOCK]; WIDTH]; 4] });
    let mut total = 0f64;
    for (y, dy) in values.chunks(BLOCK).zip(dy.chunks_mut(BLOCK)) {
        let mut ends = [[0f32; BLOCK]; 2];
        for l in 0..y.len() {
            ends[0][l] = y[l] + 0.5;
            ends[1][l] = y[l] - 0.5;
        }
        let high = forward(p, &ends[0], &mut kept[0]);
        let low = forward(p, &ends[1], &mut kept[1]);
        let (mut dhigh, mut dlow) = ([0f32; BLOCK], [0f32; BLOCK]);
        for l in 0..y.len() {
            // On the side where the logistics are small, their difference is exact.
            let side = if high[l] + low[l] > 0.0 { -1.0 } else { 1.0 };
            let (a, b) = (logistic(side * high[l]), logistic(side * low[l]));
            let likelihood = (side * (a - b)).max(LEAST);
            total -= f64::from(likelihood).log2();
            let slope = -std::f32::consts::LOG2_E / likelihood;
            dhigh[l] = slope * a * (1.0 - a);
            dlow[l] = -slope * b * (1.0 - b);
        }
        let (up, down) = (backward(p, &kept[0], &dhigh, dp), backward(p, &kept[1], &dlow, dp));
        for (l, d) in dy.iter_mut().enumerate() {
            *d += up[l] + down[l];
        }
    }
    total
}

/// Where the distribution function of one channel is one half.
pub fn median(p: &[f32]) -> f32 {
    let mut kept = Kept { inputs: [[[0.0; BLOCK]; WIDTH]; 5], tanhs: [[[0.0; BLOCK]; WIDTH]; 4] };
    let (mut low, mut high) = (-1e4f32, 1e4f32);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if forward(p, &[middle; BLOCK], &mut kept)[0] > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Noise(u64);
    impl Noise {
        fn unit(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1 << 24) as f32
        }
    }

    fn random_channel(seed: u64) -> Vec<f32> {
        let mut noise = Noise(seed);
        let mut p = vec![0.0; PARAMETERS];
        start(1, 4.0, || noise.unit(), &mut p);
        p.iter_mut().for_each(|p| *p += noise.unit() - 0.5);
        p
    }

    fn cost(p: &[f32], y: &[f32]) -> f64 {
        let mut prepared = p.to_vec();
        prepare(p, &mut prepared);
        bits(&prepared, y, &mut vec![0.0; y.len()], &mut vec![0.0; PARAMETERS])
    }

    #[test]
    fn backward_is_the_gradient() {
        for seed in 0..20 {
            let p = random_channel(seed);
            let mut noise = Noise(seed + 77);
            let y: Vec<f32> = (0..1 + seed * 3).map(|_| 8.0 * noise.unit() - 4.0).collect();
            let mut prepared = p.clone();
            prepare(&p, &mut prepared);
            let (mut dy, mut dp) = (vec![0.0; y.len()], vec![0.0; PARAMETERS]);
            bits(&prepared, &y, &mut dy, &mut dp);
            unprepare(&p, &mut dp);
            let h = 2e-2;
            for (x, d, is_y) in [(&y, &dy, true), (&p, &dp, false)] {
                let norm = d.iter().map(|v| v * v).sum::<f32>().sqrt();
                for i in 0..x.len() {
                    let at = |s: f32| {
                        let mut x = x.clone();
                        x[i] += s;
                        if is_y {
                            cost(&p, &x)
                        } else {
                            cost(&x, &y)
                        }
                    };
                    let numeric = ((at(h) - at(-h)) / (2.0 * f64::from(h))) as f32;
                    assert!((numeric - d[i]).abs() < 0.01 * norm + 0.02, "{seed} {i} {is_y}: {numeric} {}", d[i]);
                }
            }
        }
    }

    /// Probabilities of all integers sum to one, and half of the mass is below the median.
    #[test]
    fn it_is_a_distribution() {
        for seed in 0..10 {
            let p = random_channel(seed);
            let mut prepared = p.clone();
            prepare(&p, &mut prepared);
            let m = median(&prepared);
            let mass = |y: f32| (-cost(&p, &[y]) * std::f64::consts::LN_2).exp();
            let all: f64 = (-200..200).map(|k| mass(k as f32)).sum();
            let below: f64 = (0..300).map(|k| mass(m - 0.5 - k as f32)).sum();
            assert!((all - 1.0).abs() < 1e-3, "{all}");
            assert!((below - 0.5).abs() < 1e-2, "{below}");
        }
    }
}
