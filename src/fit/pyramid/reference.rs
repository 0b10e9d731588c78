//! Upsampling and synthesis in plain f64 loops, as the definition that tests compare the kernels with.
//!
//! Before its ReLU every layer is linear in its input and in its weights: it is a list of terms `out[t] += weight[k] * in[i]`,
//! and its gradients run over the same list.

use super::plan::Plan;
use super::train::Trainer;
use crate::fit::rng::Rng;
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::pyramid::spec::{Module, PyramidSpec};
use kernels::Level;

/// A plane, `[h][w]`.
#[derive(Clone, Debug)]
pub struct Plane {
    pub w: usize,
    pub h: usize,
    pub v: Vec<f64>,
}

impl Plane {
    pub fn zero(w: usize, h: usize) -> Plane {
        Plane { w, h, v: vec![0.0; w * h] }
    }
}

/// Terms of a 1-D filter: output, input, tap.
type Terms = Vec<(usize, usize, usize)>;

/// Upsampling by 2 of `n` values to the first `m`: the transposed convolution with `a b c d d c b a` over values whose edges
/// are repeated, which is
/// `out[2u] = a x[u-2] + c x[u-1] + d x[u] + b x[u+1]`, `out[2u+1] = b x[u-1] + d x[u] + c x[u+1] + a x[u+2]`.
fn up_terms(n: usize, m: usize) -> Terms {
    let phases = [[(-2, 0), (-1, 2), (0, 3), (1, 1)], [(-1, 1), (0, 3), (1, 2), (2, 0)]];
    (0..m)
        .flat_map(|t| {
            phases[t % 2].map(|(o, k): (isize, usize)| (t, ((t / 2) as isize + o).clamp(0, n as isize - 1) as usize, k))
        })
        .collect()
}

/// The filter `a b c d c b a` with zeros outside.
fn pre_terms(n: usize) -> Terms {
    let reach = |t: usize| {
        (-3isize..=3).filter_map(move |o| {
            let i = t as isize + o;
            (0..n as isize).contains(&i).then_some((t, i as usize, 3 - o.unsigned_abs()))
        })
    };
    (0..n).flat_map(reach).collect()
}

/// Index of value `i` of a line, a column if `vertical`, else a row.
fn at(plane: &Plane, vertical: bool, line: usize, i: usize) -> usize {
    if vertical {
        i * plane.w + line
    } else {
        line * plane.w + i
    }
}

/// Filters the lines of `x`; they have `m` values afterwards.
fn along(x: &Plane, vertical: bool, m: usize, terms: &Terms, taps: &[f64]) -> Plane {
    let mut out = if vertical { Plane::zero(x.w, m) } else { Plane::zero(m, x.h) };
    for line in 0..if vertical { x.w } else { x.h } {
        for &(t, i, k) in terms {
            let to = at(&out, vertical, line, t);
            out.v[to] += taps[k] * x.v[at(x, vertical, line, i)];
        }
    }
    out
}

/// The backward pass of [`along`]: returns the gradient by `x` and adds that by the taps.
fn along_back(x: &Plane, g: &Plane, vertical: bool, terms: &Terms, taps: &[f64], dtaps: &mut [f64]) -> Plane {
    let mut dx = Plane::zero(x.w, x.h);
    for line in 0..if vertical { x.w } else { x.h } {
        for &(t, i, k) in terms {
            let (from, to) = (at(x, vertical, line, i), at(g, vertical, line, t));
            dx.v[from] += taps[k] * g.v[to];
            dtaps[k] += x.v[from] * g.v[to];
        }
    }
    dx
}

/// Upsampling along rows, then along columns, to `w` x `h`.
pub fn up(x: &Plane, w: usize, h: usize, taps: &[f64]) -> Plane {
    along(&along(x, false, w, &up_terms(x.w, w), taps), true, h, &up_terms(x.h, h), taps)
}

/// The backward pass of [`up`].
pub fn up_back(x: &Plane, g: &Plane, taps: &[f64], dtaps: &mut [f64]) -> Plane {
    let rows = up_terms(x.w, g.w);
    let wide = along(x, false, g.w, &rows, taps);
    let dwide = along_back(&wide, g, true, &up_terms(x.h, g.h), taps, dtaps);
    along_back(x, &dwide, false, &rows, taps, dtaps)
}

/// The input plus the filtered input.
pub fn pre(x: &Plane, taps: &[f64]) -> Plane {
    let mut out = along(&along(x, false, x.w, &pre_terms(x.w), taps), true, x.h, &pre_terms(x.h), taps);
    out.v.iter_mut().zip(&x.v).for_each(|(o, x)| *o += x);
    out
}

/// The backward pass of [`pre`].
pub fn pre_back(x: &Plane, g: &Plane, taps: &[f64], dtaps: &mut [f64]) -> Plane {
    let rows = pre_terms(x.w);
    let wide = along(x, false, x.w, &rows, taps);
    let dwide = along_back(&wide, g, true, &pre_terms(x.h), taps, dtaps);
    let mut dx = along_back(x, &dwide, false, &rows, taps, dtaps);
    dx.v.iter_mut().zip(&g.v).for_each(|(d, g)| *d += g);
    dx
}

/// Calls `f(output, input, weight)` for each product of a `k` x `k` convolution over planes whose edges are repeated. Outputs and
/// inputs are channel and index in the plane.
fn each_product(
    w: usize,
    h: usize,
    outputs: usize,
    inputs: usize,
    k: usize,
    mut f: impl FnMut((usize, usize), (usize, usize), usize),
) {
    let r = (k / 2) as isize;
    for y in 0..h {
        for x in 0..w {
            for (o, i, ky, kx) in
                (0..outputs * inputs * k * k).map(|n| (n / (k * k * inputs), n / (k * k) % inputs, n / k % k, n % k))
            {
                let yy = (y as isize + ky as isize - r).clamp(0, h as isize - 1) as usize;
                let xx = (x as isize + kx as isize - r).clamp(0, w as isize - 1) as usize;
                f((o, y * w + x), (i, yy * w + xx), ((o * inputs + i) * k + ky) * k + kx);
            }
        }
    }
}

/// A `k` x `k` convolution.
pub fn conv(x: &[Plane], weights: &[f64], bias: &[f64], k: usize) -> Vec<Plane> {
    let (w, h) = (x[0].w, x[0].h);
    let mut out: Vec<Plane> = bias.iter().map(|&b| Plane { w, h, v: vec![b; w * h] }).collect();
    each_product(w, h, bias.len(), x.len(), k, |(o, t), (i, s), n| out[o].v[t] += weights[n] * x[i].v[s]);
    out
}

/// The backward pass of [`conv`].
pub fn conv_back(x: &[Plane], g: &[Plane], weights: &[f64], dw: &mut [f64], db: &mut [f64], k: usize) -> Vec<Plane> {
    let (w, h) = (x[0].w, x[0].h);
    let mut dx = vec![Plane::zero(w, h); x.len()];
    each_product(w, h, g.len(), x.len(), k, |(o, t), (i, s), n| {
        dx[i].v[s] += weights[n] * g[o].v[t];
        dw[n] += x[i].v[s] * g[o].v[t];
    });
    for (db, g) in db.iter_mut().zip(g) {
        *db += g.v.iter().sum::<f64>();
    }
    dx
}

/// What the backward pass needs of a forward pass.
pub struct Tape {
    /// The maps of each scale, the coarsest first.
    pub steps: Vec<Vec<Plane>>,
    /// The inputs of each layer, then the output before clamping.
    pub layers: Vec<Vec<Plane>>,
}

impl Tape {
    /// The picture, clamped to `[0, 1]`.
    pub fn output(&self) -> Vec<Plane> {
        let mut out = self.layers.last().expect("never empty").clone();
        out.iter_mut().for_each(|m| m.v.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0)));
        out
    }
}

fn add(a: &mut [Plane], b: &[Plane]) {
    for (a, b) in a.iter_mut().zip(b) {
        a.v.iter_mut().zip(&b.v).for_each(|(a, b)| *a += b);
    }
}

/// The range of a tensor in the flat weights.
fn find(spec: &PyramidSpec, name: &str, index: usize) -> std::ops::Range<usize> {
    let t = spec.tensors().into_iter().find(|t| t.name == name && t.index == index && t.module != Module::Context);
    t.expect("a tensor of the spec").range
}

/// The last 1x1 layer, to whose output the stabiliser is added.
fn last_1x1(spec: &PyramidSpec) -> usize {
    spec.trunk.iter().rposition(|l| l.kernel == 1).expect("a trunk starts with a 1x1 layer")
}

/// The forward pass. `grids` are the synthesised grids of scales `finest` to `depth`, in the order of their maps.
pub fn forward(spec: &PyramidSpec, finest: usize, weights: &[f64], grids: &[Plane]) -> Tape {
    let own = |scale: usize| &grids[spec.maps_of(scale as u32, finest as u32)];
    let mut steps = vec![own(spec.depth as usize).to_vec()];
    for scale in (finest..spec.depth as usize).rev() {
        let z = &own(scale)[0];
        let mut maps: Vec<Plane> = own(scale).iter().map(|z| pre(z, &weights[find(spec, "pre", scale)])).collect();
        let taps = &weights[find(spec, "up", scale)];
        maps.extend(steps[steps.len() - 1].iter().map(|m| up(m, z.w, z.h, taps)));
        steps.push(maps);
    }
    // Absent grids: zero maps.
    let mut maps = vec![Plane::zero(grids[0].w, grids[0].h); spec.maps() - spec.maps_at(finest as u32)];
    maps.extend(steps[steps.len() - 1].iter().cloned());
    let mut layers = vec![maps];
    for (n, layer) in spec.trunk.iter().enumerate() {
        let x = &layers[n];
        let mut y = conv(x, &weights[find(spec, "synth_w", n)], &weights[find(spec, "synth_b", n)], layer.kernel);
        if layer.residual {
            add(&mut y, x);
        }
        if layer.relu {
            y.iter_mut().for_each(|m| m.v.iter_mut().for_each(|v| *v = v.max(0.0)));
        }
        if n == last_1x1(spec) {
            let t = spec.trunk.len();
            add(&mut y, &conv(&layers[0], &weights[find(spec, "stab_w", t)], &weights[find(spec, "stab_b", t)], 1));
        }
        layers.push(y);
    }
    Tape { steps, layers }
}

/// The backward pass: returns the gradients of `sum(dout * output)` by the grids and adds those by the weights to `dweights`.
pub fn backward(
    spec: &PyramidSpec,
    finest: usize,
    weights: &[f64],
    grids: &[Plane],
    tape: &Tape,
    dout: &[Plane],
    dweights: &mut [f64],
) -> Vec<Plane> {
    let mut g = dout.to_vec();
    for (g, y) in g.iter_mut().zip(tape.layers.last().expect("never empty")) {
        g.v.iter_mut().zip(&y.v).filter(|(_, y)| **y < 0.0 || **y > 1.0).for_each(|(g, _)| *g = 0.0);
    }
    let mut dmaps = vec![Plane::zero(g[0].w, g[0].h); spec.maps()];
    for (n, layer) in spec.trunk.iter().enumerate().rev() {
        let mut pair = |name: &str, bias: &str, index: usize, x: &[Plane], g: &[Plane], k: usize| {
            let (rw, rb) = (find(spec, name, index), find(spec, bias, index));
            let mut dw = dweights[rw.start..rb.end].to_vec();
            let (w, b) = dw.split_at_mut(rw.len());
            let dx = conv_back(x, g, &weights[rw.clone()], w, b, k);
            dweights[rw.start..rb.end].copy_from_slice(&dw);
            dx
        };
        if n == last_1x1(spec) {
            add(&mut dmaps, &pair("stab_w", "stab_b", spec.trunk.len(), &tape.layers[0], &g, 1));
        }
        if layer.relu {
            for (g, y) in g.iter_mut().zip(&tape.layers[n + 1]) {
                g.v.iter_mut().zip(&y.v).filter(|(_, y)| **y <= 0.0).for_each(|(g, _)| *g = 0.0);
            }
        }
        let mut dx = pair("synth_w", "synth_b", n, &tape.layers[n], &g, layer.kernel);
        if layer.residual {
            add(&mut dx, &g);
        }
        g = dx;
    }
    add(&mut dmaps, &g);
    let mut dcur = dmaps.split_off(spec.maps() - spec.maps_at(finest as u32));
    let mut dgrids = Vec::new();
    for scale in finest..spec.depth as usize {
        let below = &tape.steps[tape.steps.len() - 2 - (scale - finest)];
        let (rp, ru) = (find(spec, "pre", scale), find(spec, "up", scale));
        let own = spec.maps_of(scale as u32, finest as u32);
        for (z, g) in grids[own.clone()].iter().zip(&dcur) {
            dgrids.push(pre_back(z, g, &weights[rp.clone()], &mut dweights[rp.clone()]));
        }
        dcur = below
            .iter()
            .zip(&dcur[own.len()..])
            .map(|(x, g)| up_back(x, g, &weights[ru.clone()], &mut dweights[ru.clone()]))
            .collect();
    }
    dgrids.extend(dcur);
    dgrids
}

/// A trainer after a fit with the last stage of `effort` alone, in this many steps and with the largest networks of the effort.
pub(crate) fn short_fit(pictures: &[Picture], effort: u32, lambda: f64, steps: u32) -> Trainer {
    let (width, height) = (pictures[0].width, pictures[0].height);
    let plan = Plan::new(effort, pictures[0].format.channels, width * height, width.min(height), f64::INFINITY);
    let course = plan.course(plan.stages.len() - 1);
    let mut trainer = Trainer::new(plan.spec.clone(), pictures, 0, Level::best(), 1, Tune::Psnr);
    (0..steps).for_each(|k| trainer.step(lambda, &course(f64::from(k) / f64::from(steps))));
    trainer
}

/// A square colour picture of waves, with noise of this standard deviation.
pub(crate) fn waves(side: usize, noise: f32) -> Picture {
    let mut random = Rng::stream(3, 0, 0);
    let sample = |i: usize| {
        let (x, y) = (i / 3 % side, i / 3 / side);
        let wave = (x as f32 * 0.4).sin() + (y as f32 * 0.23 + x as f32 * 0.1).cos();
        (128.0 + 40.0 * wave + noise * random.normal()) as u8
    };
    Picture::from_u8(side, side, 3, &(0..side * side * 3).map(sample).collect::<Vec<u8>>())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::models::pyramid::spec::SynthLayer;
    use tilefit_testing::Noise;

    /// A small random model, a size and the finest scale.
    pub fn case(noise: &mut Noise) -> (PyramidSpec, usize, usize, u32) {
        let channels = [1, 3][noise.below(2)];
        let mut spec = PyramidSpec::preset(channels, 1, 4, 2, 1 + noise.below(9));
        spec.depth = 1 + noise.below(3) as u32;
        spec.second = noise.below(2 << spec.depth) as u8;
        if noise.below(2) == 0 {
            let extra = SynthLayer { outputs: 1 + noise.below(6), kernel: 1, residual: false, relu: true };
            spec.trunk.insert(0, extra);
        }
        spec.trunk.truncate(spec.trunk.len() - noise.below(3));
        let finest = noise.below(spec.depth as usize) as u32;
        (spec, 1 + noise.below(19), 1 + noise.below(19), finest)
    }

    pub fn random_weights(spec: &PyramidSpec, noise: &mut Noise) -> Vec<f64> {
        let mut weights: Vec<f64> = (0..spec.weights_count()).map(|_| 0.3 * noise.signed()).collect();
        // The picture is around mid-grey: some samples are clamped, most are not.
        for t in spec.tensors().iter().filter(|t| t.name == "stab_b") {
            weights[t.range.clone()].fill(0.5);
        }
        weights
    }

    #[test]
    fn upsampling_is_the_transposed_convolution() {
        // From the definition: pad by 4 with the nearest value, spread with stride 2, cut 11 on each side.
        let mut noise = Noise::new(1);
        let taps = [0.3, -0.2, 0.7, 1.1];
        let kernel: Vec<f64> = taps.iter().chain(taps.iter().rev()).copied().collect();
        for n in 1..9usize {
            let x: Vec<f64> = (0..n).map(|_| noise.signed()).collect();
            let mut spread = vec![0.0; 2 * n + 22];
            for i in 0..n + 8 {
                for k in 0..8 {
                    spread[2 * i + k] += kernel[k] * x[i.saturating_sub(4).min(n - 1)];
                }
            }
            let got = up(&Plane { w: n, h: 1, v: x }, 2 * n, 1, &taps);
            // The plane has one row, so the pass along columns multiplies it by a + b + c + d.
            let gain: f64 = taps.iter().sum();
            for t in 0..2 * n {
                assert!((got.v[t] - gain * spread[t + 11]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        let mut noise = Noise::new(7);
        for round in 0..25 {
            let (spec, width, height, finest) = case(&mut noise);
            let weights = random_weights(&spec, &mut noise);
            let grids: Vec<Plane> = (finest..=spec.depth)
                .flat_map(|s| vec![(width.div_ceil(1 << s), height.div_ceil(1 << s)); spec.synthesised_at(s)])
                .map(|(w, h)| Plane { w, h, v: (0..w * h).map(|_| noise.signed()).collect() })
                .collect();
            let tape = forward(&spec, finest as usize, &weights, &grids);
            let mut dout = tape.output();
            dout.iter_mut().for_each(|m| m.v.iter_mut().for_each(|v| *v = noise.signed()));
            let loss = |weights: &[f64], grids: &[Plane]| -> f64 {
                let out = forward(&spec, finest as usize, weights, grids).output();
                out.iter().zip(&dout).flat_map(|(o, d)| o.v.iter().zip(&d.v)).map(|(o, d)| o * d).sum()
            };
            let mut dw = vec![0.0; weights.len()];
            let dgrids = backward(&spec, finest as usize, &weights, &grids, &tape, &dout, &mut dw);
            let eps = 1e-7;
            let first = spec.tensors().iter().find(|t| t.module == Module::Upsampling).unwrap().range.start;
            for _ in 0..12 {
                let n = first + noise.below(weights.len() - first);
                let side = |e: f64| {
                    let mut moved = weights.clone();
                    moved[n] += e;
                    loss(&moved, &grids)
                };
                let want = (side(eps) - side(-eps)) / (2.0 * eps);
                assert!((dw[n] - want).abs() < 1e-4 * (1.0 + want.abs()), "{round} weight {n}: {} {want}", dw[n]);
            }
            for _ in 0..12 {
                let s = noise.below(grids.len());
                let n = noise.below(grids[s].v.len());
                let side = |e: f64| {
                    let mut moved = grids.clone();
                    moved[s].v[n] += e;
                    loss(&weights, &moved)
                };
                let want = (side(eps) - side(-eps)) / (2.0 * eps);
                let got = dgrids[s].v[n];
                assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{round} grid {s} {n}: {got} {want}");
            }
        }
    }
}
