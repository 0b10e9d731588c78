//! The context network over a strip of pixels: layers and their gradients as blocked matrix products.
//!
//! A strip is a list of *pairs*: two vectors of pixels, for which all activations stand together, one row
//! of two vectors a channel, so that a pair's forward and backward pass stay in L1. Outputs are blocked in
//! registers, weights are broadcast. The gradients of the weights are outer products over the whole strip,
//! blocked likewise, kept as vectors until the band ends.

use crate::level::{Kind, Level};
use crate::vector::Simd;

/// Rows of a pair, `[h2 | c | h1 | d2 | d1 | (mu, s) | dc]`: `[h2 | c]` are the inputs of the last layer,
/// `[d1 | (dmu, ds)]` those of the gradient of c.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub d: usize,
}

impl Rows {
    pub const H2: usize = 0;
    pub fn c(self) -> usize {
        self.d
    }
    pub fn h1(self) -> usize {
        2 * self.d
    }
    pub fn d2(self) -> usize {
        3 * self.d
    }
    pub fn d1(self) -> usize {
        4 * self.d
    }
    pub fn out(self) -> usize {
        5 * self.d
    }
    pub fn dc(self) -> usize {
        5 * self.d + 2
    }
    pub fn count(self) -> usize {
        6 * self.d + 2
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Linear,
    Relu,
    /// Zero where this row (plus the output's number) is not positive: the gradient of a relu.
    Mask(usize),
}

/// `rows[out + o] = act(bias[o] + sum_i w[o][i] rows[input + i])`.
#[derive(Clone, Debug)]
struct Layer {
    input: usize,
    inputs: usize,
    out: usize,
    outputs: usize,
    act: Act,
    /// Blocks of outputs, each its biases, then for each input its weights.
    weights: Vec<f32>,
}

/// Weights of the context network, laid out for one level.
#[derive(Clone, Debug)]
pub struct ContextNet {
    pub(super) spatial: usize,
    pub(super) features: usize,
    max_block: usize,
    forward: [Layer; 3],
    backward: [Layer; 3],
}

impl ContextNet {
    /// A network of `spatial + features` inputs, its weights not set.
    pub fn new(level: Level, spatial: usize, features: usize) -> Self {
        let d = spatial + features;
        let rows = Rows { d };
        let layer = |input, inputs, out, outputs, act| Layer {
            input,
            inputs,
            out,
            outputs,
            act,
            weights: vec![0.0; outputs * (1 + inputs)],
        };
        ContextNet {
            spatial,
            features,
            // Outputs x 2 vectors of sums, two of inputs, one weight: 19 of 32 registers, or 15 of 16.
            max_block: if matches!(level.0, Kind::Avx512 | Kind::Neon) { 8 } else { 6 },
            forward: [
                layer(rows.c(), d, rows.h1(), d, Act::Relu),
                layer(rows.h1(), d, Rows::H2, d, Act::Relu),
                layer(Rows::H2, 2 * d, rows.out(), 2, Act::Linear),
            ],
            backward: [
                layer(rows.out(), 2, rows.d2(), d, Act::Mask(Rows::H2)),
                layer(rows.d2(), d, rows.d1(), d, Act::Mask(rows.h1())),
                layer(rows.d1(), d + 2, rows.dc(), d, Act::Linear),
            ],
        }
    }

    /// Width of the layers.
    pub fn width(&self) -> usize {
        self.spatial + self.features
    }

    /// How many weights the network has: `w1, b1, w2, b2, w3, b3, ws, bs`.
    pub fn weights_count(&self) -> usize {
        let d = self.width();
        2 * d * d + 6 * d + 4
    }

    /// Takes `w1, b1, w2, b2, w3, b3, ws, bs`, flat; the identity of the residual layers goes into w1, w2.
    pub fn set(&mut self, weights: &[f32]) {
        let d = self.width();
        assert_eq!(weights.len(), self.weights_count());
        let (w1, rest) = weights.split_at(d * d);
        let (b1, rest) = rest.split_at(d);
        let (w2, rest) = rest.split_at(d * d);
        let (b2, rest) = rest.split_at(d);
        let (w3, rest) = rest.split_at(2 * d);
        let (b3, rest) = rest.split_at(2);
        let (ws, bs) = rest.split_at(2 * d);
        let one = |o, i| if o == i { 1.0 } else { 0.0 };
        let max = self.max_block;
        let [f1, f2, f3] = &mut self.forward;
        f1.set(max, |o| b1[o], |o, i| w1[o * d + i] + one(o, i));
        f2.set(max, |o| b2[o], |o, i| w2[o * d + i] + one(o, i));
        f3.set(max, |o| b3[o] + bs[o], |o, i| if i < d { w3[o * d + i] } else { ws[o * d + i - d] });
        let [g3, g2, g1] = &mut self.backward;
        g3.set(max, |_| 0.0, |i, o| w3[o * d + i]);
        g2.set(max, |_| 0.0, |i, o| w2[o * d + i] + one(o, i));
        g1.set(max, |_| 0.0, |i, o| if o < d { w1[o * d + i] + one(o, i) } else { ws[(o - d) * d + i] });
    }
}

impl Layer {
    fn set(&mut self, max_block: usize, bias: impl Fn(usize) -> f32, w: impl Fn(usize, usize) -> f32) {
        let mut at = 0;
        let mut put = |v| {
            self.weights[at] = v;
            at += 1;
        };
        for (o, n) in blocks(self.outputs, max_block) {
            (o..o + n).for_each(|o| put(bias(o)));
            for i in 0..self.inputs {
                (o..o + n).for_each(|o| put(w(o, i)));
            }
        }
    }
}

/// `n` in pieces of at most `max`, as equal as can be: `(start, size)`.
#[inline(always)]
fn blocks(n: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = n.div_ceil(max);
    (0..parts).map(move |p| {
        let (size, larger) = (n / parts, n % parts);
        (p * size + p.min(larger), size + usize::from(p < larger))
    })
}

/// c to (mu, s) for a strip.
#[inline(always)]
pub(super) fn forward<S: Simd>(s: S, net: &ContextNet, strip: &mut [f32]) {
    run(s, net, &net.forward, strip);
}

/// (dmu, ds) to dc for a strip.
#[inline(always)]
pub(super) fn backward<S: Simd>(s: S, net: &ContextNet, strip: &mut [f32]) {
    run(s, net, &net.backward, strip);
}

#[inline(always)]
fn run<S: Simd>(s: S, net: &ContextNet, layers: &[Layer], strip: &mut [f32]) {
    let (max_block, pair_len) = (net.max_block, Rows { d: net.width() }.count() * 2 * S::F32_LANES);
    for layer in layers {
        let mut w = &layer.weights[..];
        for (o, n) in blocks(layer.outputs, max_block) {
            let (these, rest) = w.split_at(n * (1 + layer.inputs));
            w = rest;
            match n {
                1 => block::<S, 1>(s, layer, these, o, strip, pair_len),
                2 => block::<S, 2>(s, layer, these, o, strip, pair_len),
                3 => block::<S, 3>(s, layer, these, o, strip, pair_len),
                4 => block::<S, 4>(s, layer, these, o, strip, pair_len),
                5 => block::<S, 5>(s, layer, these, o, strip, pair_len),
                6 => block::<S, 6>(s, layer, these, o, strip, pair_len),
                7 => block::<S, 7>(s, layer, these, o, strip, pair_len),
                _ => block::<S, 8>(s, layer, these, o, strip, pair_len),
            }
        }
    }
}

/// `R` outputs, from `o`, of one layer, pair by pair.
#[inline(always)]
fn block<S: Simd, const R: usize>(s: S, layer: &Layer, w: &[f32], o: usize, strip: &mut [f32], pair_len: usize) {
    let lanes = S::F32_LANES;
    let zero = s.splat(0.0);
    let (bias, w) = w.split_at(R);
    for pair in strip.chunks_exact_mut(pair_len) {
        let mut acc = [[zero; 2]; R];
        for r in 0..R {
            acc[r] = [s.splat(bias[r]); 2];
        }
        let x = &pair[layer.input * 2 * lanes..][..layer.inputs * 2 * lanes];
        for (x, w) in x.chunks_exact(2 * lanes).zip(w.chunks_exact(R)) {
            let (x0, x1) = (s.load(x), s.load(&x[lanes..]));
            for r in 0..R {
                let wr = s.splat(w[r]);
                acc[r][0] = s.mul_add(wr, x0, acc[r][0]);
                acc[r][1] = s.mul_add(wr, x1, acc[r][1]);
            }
        }
        match layer.act {
            Act::Linear => {}
            Act::Relu => {
                for r in 0..R {
                    acc[r] = [s.max(acc[r][0], zero), s.max(acc[r][1], zero)];
                }
            }
            Act::Mask(at) => {
                let m = &pair[(at + o) * 2 * lanes..][..R * 2 * lanes];
                for r in 0..R {
                    acc[r][0] = s.select_gt(s.load(&m[2 * r * lanes..]), zero, acc[r][0], zero);
                    acc[r][1] = s.select_gt(s.load(&m[(2 * r + 1) * lanes..]), zero, acc[r][1], zero);
                }
            }
        }
        let out = &mut pair[(layer.out + o) * 2 * lanes..][..R * 2 * lanes];
        for r in 0..R {
            s.store(acc[r][0], &mut out[2 * r * lanes..]);
            s.store(acc[r][1], &mut out[(2 * r + 1) * lanes..]);
        }
    }
}

/// Vectors of sums for [`weight_gradients`].
pub(super) fn sums_count(d: usize) -> usize {
    2 * d * d + 4 * d + 2 * d + 2
}

/// Adds a strip's products of deltas and inputs to `sums`: for w1, w2 and `[w3 | ws]`, then the biases.
#[inline(always)]
pub(super) fn weight_gradients<S: Simd>(s: S, d: usize, strip: &[f32], sums: &mut [f32]) {
    let lanes = S::F32_LANES;
    let rows = Rows { d };
    let tall = if lanes == 16 { 4 } else { 3 };
    let products = [
        (rows.d1(), d, rows.c(), d, 0),
        (rows.d2(), d, rows.h1(), d, d * d),
        (rows.out(), 2, Rows::H2, 2 * d, 2 * d * d),
    ];
    for (delta, outputs, input, inputs, at) in products {
        for (o, n) in blocks(outputs, tall) {
            let sums = &mut sums[(at + o * inputs) * lanes..][..n * inputs * lanes];
            match n {
                1 => outer_rows::<S, 1>(s, rows, strip, delta + o, input, inputs, sums),
                2 => outer_rows::<S, 2>(s, rows, strip, delta + o, input, inputs, sums),
                3 => outer_rows::<S, 3>(s, rows, strip, delta + o, input, inputs, sums),
                _ => outer_rows::<S, 4>(s, rows, strip, delta + o, input, inputs, sums),
            }
        }
    }
    // d2, d1 and (dmu, ds) follow each other.
    let sums = &mut sums[(2 * d * d + 4 * d) * lanes..][..(2 * d + 2) * lanes];
    for (r, sum) in sums.chunks_exact_mut(lanes).enumerate() {
        let mut acc = s.load(sum);
        for pair in strip.chunks_exact(rows.count() * 2 * lanes) {
            let x = &pair[(rows.d2() + r) * 2 * lanes..][..2 * lanes];
            acc = acc + s.load(x) + s.load(&x[lanes..]);
        }
        s.store(acc, sum);
    }
}

#[inline(always)]
fn outer_rows<S: Simd, const O: usize>(
    s: S,
    rows: Rows,
    strip: &[f32],
    delta: usize,
    input: usize,
    inputs: usize,
    sums: &mut [f32],
) {
    for (i, n) in blocks(inputs, 4) {
        match n {
            1 => outer::<S, O, 1>(s, rows, strip, delta, input, inputs, i, sums),
            2 => outer::<S, O, 2>(s, rows, strip, delta, input, inputs, i, sums),
            3 => outer::<S, O, 3>(s, rows, strip, delta, input, inputs, i, sums),
            _ => outer::<S, O, 4>(s, rows, strip, delta, input, inputs, i, sums),
        }
    }
}

/// `sums[o][i0 + i] += sum over pixels of rows[delta + o] * rows[input + i0 + i]`.
#[inline(always)]
fn outer<S: Simd, const O: usize, const I: usize>(
    s: S,
    rows: Rows,
    strip: &[f32],
    delta: usize,
    input: usize,
    inputs: usize,
    i0: usize,
    sums: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let mut acc = [[s.splat(0.0); I]; O];
    for o in 0..O {
        let from = &sums[(o * inputs + i0) * lanes..][..I * lanes];
        for i in 0..I {
            acc[o][i] = s.load(&from[i * lanes..]);
        }
    }
    for pair in strip.chunks_exact(rows.count() * 2 * lanes) {
        let d = &pair[delta * 2 * lanes..][..O * 2 * lanes];
        let x = &pair[(input + i0) * 2 * lanes..][..I * 2 * lanes];
        for half in 0..2 {
            // 12 sums, 3 deltas and one input are the 16 registers of AVX2.
            let mut ds = [s.splat(0.0); O];
            for o in 0..O {
                ds[o] = s.load(&d[(2 * o + half) * lanes..]);
            }
            for i in 0..I {
                let x = s.load(&x[(2 * i + half) * lanes..]);
                for o in 0..O {
                    acc[o][i] = s.mul_add(ds[o], x, acc[o][i]);
                }
            }
        }
    }
    for o in 0..O {
        let to = &mut sums[(o * inputs + i0) * lanes..][..I * lanes];
        for i in 0..I {
            s.store(acc[o][i], &mut to[i * lanes..]);
        }
    }
}

/// Adds the lanes of `sums` to the gradients `w1, b1, w2, b2, w3, b3, ws, bs`.
pub(super) fn reduce(d: usize, lanes: usize, sums: &[f32], dweights: &mut [f32]) {
    let sum = |at: usize| sums[at * lanes..][..lanes].iter().sum::<f32>();
    let (dd, bias) = (d * d, 2 * d * d + 4 * d);
    let mut out = dweights.iter_mut();
    let mut add = |at: usize| *out.next().expect("all weights") += sum(at);
    (0..dd).for_each(&mut add);
    (bias + d..bias + 2 * d).for_each(&mut add);
    (dd..2 * dd).for_each(&mut add);
    (bias..bias + d).for_each(&mut add);
    for (column, _) in [(0, "w3, b3"), (d, "ws, bs")] {
        for o in 0..2 {
            (0..d).for_each(|i| add(2 * dd + o * 2 * d + column + i));
        }
        (bias + 2 * d..bias + 2 * d + 2).for_each(&mut add);
    }
}
