//! Fused twin of [`exact::pointwise`](crate::exact::pointwise) and its backward pass, which computes the hidden
//! layers anew strip by strip instead of storing them.

use crate::exact::pointwise::{dense_lanes, hidden, input_of, run, End, Layer, Matrix, Pointwise, Start};
use crate::vector::Simd;
use crate::Level;

/// [`pointwise_scalar`](crate::exact::pointwise::pointwise_scalar), fused.
pub fn pointwise(
    level: Level,
    net: &Pointwise,
    x: &[f32],
    stride: usize,
    y: &mut [f32],
    y_stride: usize,
    n: usize,
    scratch: &mut [f32],
) {
    run(level, dense, net, x, stride, y, y_stride, n, scratch);
}

kernel! {
    /// [`exact::pointwise::dense`](crate::exact::pointwise), fused.
    fn dense(
        m: Matrix,
        start: Start,
        x: &[f32],
        xs: usize,
        y: &mut [f32],
        ys: usize,
        n: usize,
        end: End,
    ) = dense_lanes::<_, true>;
}

/// Lanes of each sum in [`Sums`]: those of the widest instruction set.
const LANES: usize = 16;

/// Gradients to the weights of a [`Pointwise`], as lane sums: one vector a weight, in the order
/// weights, bias of each layer, then the bypass.
#[derive(Clone, Debug, Default)]
pub struct Sums(Vec<f32>);

impl Sums {
    pub fn new(net: &Pointwise) -> Self {
        let weights: usize = net.layers.iter().map(|l| l.weights.len() + l.bias.len()).sum();
        Sums(vec![0.0; LANES * (weights + net.bypass.len())])
    }

    pub fn clear(&mut self) {
        self.0.fill(0.0);
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.0.len() / LANES
    }

    /// `out[k]` = the gradient of weight `k`.
    pub fn finish(&self, out: &mut [f32]) {
        for (out, lanes) in out.iter_mut().zip(self.0.chunks_exact(LANES)) {
            *out = lanes.iter().sum();
        }
    }
}

/// The plain backward pass of one row: `x` becomes the gradient towards itself; `dw` (order of [`Sums`]) is added to.
pub fn pointwise_back_scalar(
    net: &Pointwise,
    x: &mut [f32],
    stride: usize,
    g: &[f32],
    g_stride: usize,
    n: usize,
    dw: &mut [f64],
) {
    let starts: Vec<usize> = net
        .layers
        .iter()
        .scan(0, |at, l| Some(std::mem::replace(at, *at + l.weights.len() + l.bias.len())))
        .chain([dw.len() - net.bypass.len()])
        .collect();
    let inputs = net.layers[0].inputs;
    for p in 0..n {
        let mut values: Vec<Vec<f32>> = vec![(0..inputs).map(|i| x[i * stride + p]).collect()];
        for l in &net.layers[..net.layers.len() - 1] {
            let before = &values[values.len() - 1];
            let sum = |o: usize| -> f32 {
                l.bias[o] + before.iter().zip(&l.weights[o * l.inputs..]).map(|(v, w)| v * w).sum::<f32>()
            };
            let next = (0..l.outputs).map(|o| if l.relu { sum(o).max(0.0) } else { sum(o) }).collect();
            values.push(next);
        }
        let mut d: Vec<f32> = (0..net.layers[values.len() - 1].outputs).map(|o| g[o * g_stride + p]).collect();
        let mut dx = vec![0.0; inputs];
        for (o, d) in d.iter().enumerate() {
            for i in 0..inputs {
                dx[i] += d * net.bypass[o * inputs + i];
                dw[starts[net.layers.len()] + o * inputs + i] += (d * values[0][i]) as f64;
            }
        }
        for (n, l) in net.layers.iter().enumerate().rev() {
            let mut before = vec![0.0; l.inputs];
            for (o, d) in d.iter().enumerate() {
                dw[starts[n] + l.weights.len() + o] += *d as f64;
                for i in 0..l.inputs {
                    dw[starts[n] + o * l.inputs + i] += (d * values[n][i]) as f64;
                    before[i] += d * l.weights[o * l.inputs + i];
                }
            }
            if n > 0 && net.layers[n - 1].relu {
                before.iter_mut().zip(&values[n]).filter(|(_, v)| **v <= 0.0).for_each(|(d, _)| *d = 0.0);
            }
            d = before;
        }
        for i in 0..inputs {
            x[i * stride + p] = dx[i] + d[i];
        }
    }
}

/// [`pointwise_back_scalar`] at any level. `n` is a multiple of 16; the caller sets `g` to zero on pixels that do
/// not count. The last layer has no relu.
pub fn pointwise_back(
    level: Level,
    net: &Pointwise,
    x: &mut [f32],
    stride: usize,
    g: &[f32],
    g_stride: usize,
    n: usize,
    sums: &mut Sums,
    scratch: &mut [f32],
) {
    net.check();
    let last = net.layers.len() - 1;
    assert!(!net.layers[last].relu, "the last 1x1 layer is linear");
    let strip = net.strip();
    let inputs = net.layers[0].inputs;
    let bypass_at = sums.weights() - net.bypass.len();
    let mut at = 0;
    while at < n {
        let count = strip.min(n - at);
        let x = &mut x[at..];
        let g = &g[at..];
        hidden(level, dense, net, x, stride, count, scratch);
        let outputs = net.layers[last].outputs;
        outer(level, g, g_stride, outputs, x, stride, inputs, count, &mut sums.0[LANES * bypass_at..]);
        // From the last layer down: its weights, then the gradient towards its input in place of that input.
        let mut end = bypass_at;
        let mut top = net.hidden();
        for l in (0..=last).rev() {
            let layer = &net.layers[l];
            end -= layer.weights.len() + layer.bias.len();
            let dw = &mut sums.0[LANES * end..];
            let (below, above) =
                scratch.split_at_mut(if l == last { net.hidden() } else { top - layer.outputs } * strip);
            let (d, d_stride): (&[f32], usize) = if l == last { (g, g_stride) } else { (above, strip) };
            let (input, input_stride) = input_of(net, l, x, stride, below);
            weight_sums(level, layer, d, d_stride, input, input_stride, count, dw);
            let weights = layer.matrix().transposed();
            if l > 0 {
                if l < last {
                    top -= layer.outputs;
                }
                let gate = if net.layers[l - 1].relu { End::Gate } else { End::Plain };
                let to = &mut below[(top - layer.inputs) * strip..];
                dense(level, weights, Start::Zero, d, d_stride, to, strip, count, gate);
            } else {
                let bypass = Matrix::of(&net.bypass, outputs, inputs).transposed();
                dense(level, bypass, Start::Zero, g, g_stride, x, stride, count, End::Plain);
                dense(level, weights, Start::Add, d, d_stride, x, stride, count, End::Plain);
            }
        }
        at += count;
    }
}

/// Sums of one layer: `d x^T`, then `d`.
fn weight_sums(level: Level, layer: &Layer, d: &[f32], ds: usize, x: &[f32], xs: usize, n: usize, sums: &mut [f32]) {
    let (weights, bias) = sums.split_at_mut(LANES * layer.weights.len());
    outer(level, d, ds, layer.outputs, x, xs, layer.inputs, n, weights);
    totals(level, d, ds, layer.outputs, n, bias);
}

kernel! {
    /// `sums[o] += sum over p of a[o][p]`, lane by lane.
    fn totals(a: &[f32], stride: usize, outputs: usize, n: usize, sums: &mut [f32]) = totals_lanes;
}

#[inline(always)]
fn totals_lanes<S: Simd>(s: S, a: &[f32], stride: usize, outputs: usize, n: usize, sums: &mut [f32]) {
    for o in 0..outputs {
        let a = &a[o * stride..][..n];
        // Four sums side by side hide the latency of the addition.
        let mut sum = [s.load(&sums[LANES * o..]), s.splat(0.0), s.splat(0.0), s.splat(0.0)];
        let quads = a.chunks_exact(4 * S::F32_LANES);
        let rest = quads.remainder();
        for quad in quads {
            for k in 0..4 {
                sum[k] = sum[k] + s.load(&quad[k * S::F32_LANES..]);
            }
        }
        for one in rest.chunks_exact(S::F32_LANES) {
            sum[0] = sum[0] + s.load(one);
        }
        s.store((sum[0] + sum[1]) + (sum[2] + sum[3]), &mut sums[LANES * o..]);
    }
}

kernel! {
    /// `sums[o][i] += sum over p of a[o][p] b[i][p]`, lane by lane.
    fn outer(
        a: &[f32],
        a_stride: usize,
        outputs: usize,
        b: &[f32],
        b_stride: usize,
        inputs: usize,
        n: usize,
        sums: &mut [f32],
    ) = outer_lanes;
}

#[inline(always)]
fn outer_lanes<S: Simd>(
    s: S,
    a: &[f32],
    a_stride: usize,
    outputs: usize,
    b: &[f32],
    b_stride: usize,
    inputs: usize,
    n: usize,
    sums: &mut [f32],
) {
    assert!(outputs > 0 && inputs > 0 && n.is_multiple_of(S::F32_LANES));
    assert!(a.len() >= (outputs - 1) * a_stride + n && b.len() >= (inputs - 1) * b_stride + n);
    assert!(sums.len() >= LANES * outputs * inputs);
    let mut o = 0;
    while o < outputs {
        let rows = (outputs - o).min(4);
        let mut i = 0;
        while i < inputs {
            // Four left over are two and two: a single column would wait for its own sums.
            let columns = if inputs - i == 4 { 2 } else { (inputs - i).min(3) };
            let (a, b, to) = (&a[o * a_stride..], &b[i * b_stride..], &mut sums[LANES * (o * inputs + i)..]);
            // SAFETY: rows and columns lie within the matrix, whose lengths are asserted above.
            unsafe {
                match (rows, columns) {
                    (4, 3) => outer_block::<S, 4, 3>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (4, 2) => outer_block::<S, 4, 2>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (4, 1) => outer_block::<S, 4, 1>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (3, 3) => outer_block::<S, 3, 3>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (3, 2) => outer_block::<S, 3, 2>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (3, 1) => outer_block::<S, 3, 1>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (2, 3) => outer_block::<S, 2, 3>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (2, 2) => outer_block::<S, 2, 2>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (2, 1) => outer_block::<S, 2, 1>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (1, 3) => outer_block::<S, 1, 3>(s, a, a_stride, b, b_stride, n, to, inputs),
                    (1, 2) => outer_block::<S, 1, 2>(s, a, a_stride, b, b_stride, n, to, inputs),
                    _ => outer_block::<S, 1, 1>(s, a, a_stride, b, b_stride, n, to, inputs),
                }
            }
            i += columns;
        }
        o += rows;
    }
}

/// # Safety
/// `O` channels of `a` and `I` of `b` hold `n` values, `sums` `O` rows of `row` vectors, `I` in the last.
#[inline(always)]
unsafe fn outer_block<S: Simd, const O: usize, const I: usize>(
    s: S,
    a: &[f32],
    a_stride: usize,
    b: &[f32],
    b_stride: usize,
    n: usize,
    sums: &mut [f32],
    row: usize,
) {
    let mut sum = [[s.splat(0.0); I]; O];
    for o in 0..O {
        for i in 0..I {
            // SAFETY: the caller's promise on sums.
            sum[o][i] = unsafe { s.load_from(sums, LANES * (o * row + i)) };
        }
    }
    for p in (0..n).step_by(S::F32_LANES) {
        let mut v = [s.splat(0.0); I];
        for i in 0..I {
            // SAFETY: the caller's promise on b.
            v[i] = unsafe { s.load_from(b, i * b_stride + p) };
        }
        for o in 0..O {
            // SAFETY: the caller's promise on a.
            let d = unsafe { s.load_from(a, o * a_stride + p) };
            for i in 0..I {
                sum[o][i] = s.mul_add(d, v[i], sum[o][i]);
            }
        }
    }
    for o in 0..O {
        for i in 0..I {
            // SAFETY: the caller's promise on sums.
            unsafe { s.store_to(sum[o][i], sums, LANES * (o * row + i)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::pointwise::{pointwise_scalar, tests::net};
    use crate::fast::testing::near;

    #[test]
    fn levels_agree_with_the_scalar_twins() {
        let x: Vec<f32> = (0..4200).map(|i: i32| (i * i % 37) as f32 * 0.031 - 0.471).collect();
        for widths in [&[7, 16, 3][..], &[5, 3], &[1, 1], &[9, 62, 1], &[6, 13, 6, 3]] {
            let net = net(widths);
            let outputs = widths[widths.len() - 1];
            let mut scratch = vec![0.0; net.scratch()];
            for n in [0, 16, 48, 64, 208, 400] {
                let mut want = vec![9.0; outputs * 410];
                pointwise_scalar(&net, &x, 410, &mut want, 410, n);
                let mut sums = Sums::new(&net);
                let mut dw = vec![0f64; sums.weights()];
                let mut dx = x.clone();
                pointwise_back_scalar(&net, &mut dx, 410, &x[77..], 405, n, &mut dw);
                let dw: Vec<f32> = dw.iter().map(|v| *v as f32).collect();
                for level in Level::available() {
                    let mut got = vec![9.0; outputs * 410];
                    pointwise(level, &net, &x, 410, &mut got, 410, n, &mut scratch);
                    near(&want, &got, 1e-5);
                    let mut dx2 = x.clone();
                    sums.clear();
                    pointwise_back(level, &net, &mut dx2, 410, &x[77..], 405, n, &mut sums, &mut scratch);
                    near(&dx, &dx2, 1e-4);
                    let mut dw2 = vec![0.0; sums.weights()];
                    sums.finish(&mut dw2);
                    near(&dw, &dw2, 1e-4);
                }
            }
        }
    }
}
