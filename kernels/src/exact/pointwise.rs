//! 1x1 layers over rows of pixels: a small fully connected network, lanes across pixels.

use crate::vector::Simd;
use crate::Level;
use alloc::vec::Vec;

/// One layer, `y = weights x + bias`, then `max(., 0)` with `relu`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    pub relu: bool,
    /// `[outputs][inputs]`
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Layer {
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix::of(&self.weights, self.outputs, self.inputs)
    }

    pub(crate) fn end(&self) -> End {
        if self.relu {
            End::Relu
        } else {
            End::Plain
        }
    }
}

/// Layers in sequence, and a linear bypass from the first input to the last output.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pointwise {
    pub layers: Vec<Layer>,
    /// `[outputs of the last layer][inputs of the first]`; its bias is part of the last layer's.
    pub bypass: Vec<f32>,
}

impl Pointwise {
    /// Panics where shapes do not fit: the kernels rely on them.
    pub(crate) fn check(&self) {
        let last = self.layers.len() - 1;
        for (n, l) in self.layers.iter().enumerate() {
            assert!(l.weights.len() == l.inputs * l.outputs && l.bias.len() == l.outputs);
            assert!(n == 0 || l.inputs == self.layers[n - 1].outputs);
        }
        assert_eq!(self.bypass.len(), self.layers[last].outputs * self.layers[0].inputs);
    }

    /// Outputs of all layers but the last.
    pub fn hidden(&self) -> usize {
        self.layers[..self.layers.len() - 1].iter().map(|l| l.outputs).sum()
    }

    /// The largest [`strip`](Self::strip).
    pub const MAX_STRIP: usize = 288;

    /// Pixels worked on at once: as many as leave what is hidden, and the maps it comes from, in the first cache (32 KB);
    /// a multiple of 48 = 3 vectors of 16.
    pub fn strip(&self) -> usize {
        (6400 / (self.hidden() + self.layers[0].inputs) / 48 * 48).clamp(48, Self::MAX_STRIP)
    }

    /// Length of the scratch that the kernels ask for.
    pub fn scratch(&self) -> usize {
        self.hidden() * self.strip()
    }
}

/// The network over `n` pixels: channel `i` of the input is `x[i * stride ..][.. n]`, of the output
/// `y[o * y_stride ..][.. n]`.
///
/// Each sum starts at the bias and adds products in order of the inputs; the last layer adds the bypass
/// before its own inputs.
pub fn pointwise_scalar(net: &Pointwise, x: &[f32], stride: usize, y: &mut [f32], y_stride: usize, n: usize) {
    let relu = |layer: &Layer, v: f32| if layer.relu && (v <= 0.0 || v.is_nan()) { 0.0 } else { v };
    for p in 0..n {
        let first: Vec<f32> = (0..net.layers[0].inputs).map(|i| x[i * stride + p]).collect();
        let mut values = first.clone();
        for (l, layer) in net.layers.iter().enumerate() {
            let mut next = layer.bias.clone();
            for (o, sum) in next.iter_mut().enumerate() {
                if l + 1 == net.layers.len() {
                    for (i, v) in first.iter().enumerate() {
                        *sum += net.bypass[o * first.len() + i] * v;
                    }
                }
                for (i, v) in values.iter().enumerate() {
                    *sum += layer.weights[o * layer.inputs + i] * v;
                }
                *sum = relu(layer, *sum);
            }
            values = next;
        }
        for (o, v) in values.iter().enumerate() {
            y[o * y_stride + p] = *v;
        }
    }
}

/// [`pointwise_scalar`] at any level; `n` is a multiple of 16, `scratch` of [`Pointwise::scratch`] values.
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

/// [`dense`] or its fused twin.
pub(crate) type Dense = fn(Level, Matrix, Start, &[f32], usize, &mut [f32], usize, usize, End);

pub(crate) fn run(
    level: Level,
    dense: Dense,
    net: &Pointwise,
    x: &[f32],
    stride: usize,
    y: &mut [f32],
    y_stride: usize,
    n: usize,
    scratch: &mut [f32],
) {
    net.check();
    let strip = net.strip();
    let mut at = 0;
    while at < n {
        let count = strip.min(n - at);
        let (x, y) = (&x[at..], &mut y[at..]);
        hidden(level, dense, net, x, stride, count, scratch);
        let last = net.layers.len() - 1;
        let layer = &net.layers[last];
        let (input, input_stride) = input_of(net, last, x, stride, scratch);
        let bypass = Matrix::of(&net.bypass, layer.outputs, net.layers[0].inputs);
        dense(level, bypass, Start::Bias(&layer.bias), x, stride, y, y_stride, count, End::Plain);
        dense(level, layer.matrix(), Start::Add, input, input_stride, y, y_stride, count, layer.end());
        at += count;
    }
}

/// Where layer `l` of a strip finds its input, and at which stride.
pub(crate) fn input_of<'a>(
    net: &Pointwise,
    l: usize,
    x: &'a [f32],
    stride: usize,
    scratch: &'a [f32],
) -> (&'a [f32], usize) {
    if l == 0 {
        return (x, stride);
    }
    let start: usize = net.layers[..l - 1].iter().map(|l| l.outputs).sum();
    (&scratch[start * net.strip()..], net.strip())
}

/// All layers but the last over one strip; outputs go to `scratch`, layer after layer, at stride [`Pointwise::strip`].
pub(crate) fn hidden(
    level: Level,
    dense: Dense,
    net: &Pointwise,
    x: &[f32],
    stride: usize,
    n: usize,
    scratch: &mut [f32],
) {
    let strip = net.strip();
    let mut start = 0;
    for (l, layer) in net.layers[..net.layers.len() - 1].iter().enumerate() {
        let (before, after) = scratch.split_at_mut(start * strip);
        let (input, input_stride) = input_of(net, l, x, stride, before);
        dense(level, layer.matrix(), Start::Bias(&layer.bias), input, input_stride, after, strip, n, layer.end());
        start += layer.outputs;
    }
}

/// Element `(o, i)` is `values[o * row + i * column]`: a matrix or its transpose.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
    outputs: usize,
    inputs: usize,
}

impl<'a> Matrix<'a> {
    pub(crate) fn of(values: &'a [f32], outputs: usize, inputs: usize) -> Self {
        assert!(values.len() == outputs * inputs);
        Matrix { values, row: inputs, column: 1, outputs, inputs }
    }

    #[cfg(feature = "fit")]
    pub(crate) fn transposed(self) -> Self {
        Matrix { row: self.column, column: self.row, outputs: self.inputs, inputs: self.outputs, ..self }
    }
}

/// What a sum starts from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    #[cfg_attr(not(feature = "fit"), allow(dead_code))]
    Zero,
    Bias(&'a [f32]),
    /// What the output holds.
    Add,
}

/// What is done with a sum.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    Plain,
    Relu,
    /// Zero where the output held no positive value.
    #[cfg_attr(not(feature = "fit"), allow(dead_code))]
    Gate,
}

kernel! {
    /// `y = start + m x` over `n` pixels (a multiple of 16).
    pub(crate) fn dense(
        m: Matrix,
        start: Start,
        x: &[f32],
        xs: usize,
        y: &mut [f32],
        ys: usize,
        n: usize,
        end: End,
    ) = dense_lanes::<_, false>;
}

#[inline(always)]
pub(crate) fn dense_lanes<S: Simd, const FUSED: bool>(
    s: S,
    m: Matrix,
    start: Start,
    x: &[f32],
    xs: usize,
    y: &mut [f32],
    ys: usize,
    n: usize,
    end: End,
) {
    if n == 0 || m.outputs == 0 {
        return;
    }
    assert!(n.is_multiple_of(S::F32_LANES));
    assert!(m.inputs == 0 || x.len() >= (m.inputs - 1) * xs + n);
    assert!(y.len() >= (m.outputs - 1) * ys + n);
    let mut o = 0;
    while o < m.outputs {
        let count = (m.outputs - o).min(4);
        // 8 or 9 sums hide the latency of an addition and leave registers for what they read.
        match count {
            4 => outputs::<S, FUSED, 4, 2>(s, m, o, start, x, xs, y, ys, n, end),
            3 => outputs::<S, FUSED, 3, 3>(s, m, o, start, x, xs, y, ys, n, end),
            2 => outputs::<S, FUSED, 2, 3>(s, m, o, start, x, xs, y, ys, n, end),
            _ => outputs::<S, FUSED, 1, 3>(s, m, o, start, x, xs, y, ys, n, end),
        }
        o += count;
    }
}

#[inline(always)]
fn outputs<S: Simd, const FUSED: bool, const O: usize, const P: usize>(
    s: S,
    m: Matrix,
    o: usize,
    start: Start,
    x: &[f32],
    xs: usize,
    y: &mut [f32],
    ys: usize,
    n: usize,
    end: End,
) {
    let mut p = 0;
    while p + P * S::F32_LANES <= n {
        // SAFETY: p + P lanes <= n; `dense` asserted the lengths for n; o + O <= m.outputs.
        unsafe { block::<S, FUSED, O, P>(s, m, o, start, x, xs, y, ys, p, end) };
        p += P * S::F32_LANES;
    }
    while p < n {
        // SAFETY: as above, n being a multiple of the lanes.
        unsafe { block::<S, FUSED, O, 1>(s, m, o, start, x, xs, y, ys, p, end) };
        p += S::F32_LANES;
    }
}

/// `O` outputs from `o` on, `P` vectors of pixels from `at` on.
///
/// # Safety
/// `o + O <= m.outputs`; channels of `x` and `y` hold `at + P lanes` values.
#[inline(always)]
unsafe fn block<S: Simd, const FUSED: bool, const O: usize, const P: usize>(
    s: S,
    m: Matrix,
    o: usize,
    start: Start,
    x: &[f32],
    xs: usize,
    y: &mut [f32],
    ys: usize,
    at: usize,
    end: End,
) {
    let mut sum = [[s.splat(0.0); P]; O];
    match start {
        Start::Zero => {}
        Start::Bias(bias) => {
            for a in 0..O {
                sum[a] = [s.splat(bias[o + a]); P];
            }
        }
        Start::Add => {
            for a in 0..O {
                for p in 0..P {
                    // SAFETY: the caller's promise on y.
                    sum[a][p] = unsafe { s.load_from(y, (o + a) * ys + at + p * S::F32_LANES) };
                }
            }
        }
    }
    for i in 0..m.inputs {
        let mut v = [s.splat(0.0); P];
        for p in 0..P {
            // SAFETY: the caller's promise on x.
            v[p] = unsafe { s.load_from(x, i * xs + at + p * S::F32_LANES) };
        }
        for a in 0..O {
            // SAFETY: (o + a, i) is an element of the matrix, whose length its maker asserted.
            let w = s.splat(unsafe { *m.values.get_unchecked((o + a) * m.row + i * m.column) });
            for p in 0..P {
                sum[a][p] = s.product_sum::<FUSED>(w, v[p], sum[a][p]);
            }
        }
    }
    let zero = s.splat(0.0);
    for a in 0..O {
        for p in 0..P {
            let to = (o + a) * ys + at + p * S::F32_LANES;
            let v = match end {
                End::Plain => sum[a][p],
                End::Relu => s.max(sum[a][p], zero),
                // SAFETY: the caller's promise on y.
                End::Gate => s.select_gt(unsafe { s.load_from(y, to) }, zero, sum[a][p], zero),
            };
            // SAFETY: the caller's promise on y.
            unsafe { s.store_to(v, y, to) };
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn net(widths: &[usize]) -> Pointwise {
        let value = |i: usize, k: usize| ((i * k) % 23) as f32 * 0.05 - 0.55;
        let layers: Vec<Layer> = (1..widths.len())
            .map(|l| Layer {
                inputs: widths[l - 1],
                outputs: widths[l],
                relu: l + 1 < widths.len(),
                weights: (0..widths[l - 1] * widths[l]).map(|i| value(i + l, 7)).collect(),
                bias: (0..widths[l]).map(|i| value(i + l, 5)).collect(),
            })
            .collect();
        let bypass = (0..widths[0] * widths[widths.len() - 1]).map(|i| value(i, 9)).collect();
        Pointwise { layers, bypass }
    }

    #[test]
    fn levels_agree() {
        let x: Vec<f32> = (0..4000).map(|i: i32| (i * i % 37) as f32 * 0.31 - 4.7).collect();
        for widths in [&[7, 16, 3][..], &[5, 3], &[1, 1], &[9, 64, 1], &[6, 13, 6, 3]] {
            let net = net(widths);
            let outputs = widths[widths.len() - 1];
            let mut scratch = vec![0.0; net.scratch()];
            for n in [0, 16, 48, 64, 208, 400] {
                let mut want = vec![9.0; outputs * 410];
                pointwise_scalar(&net, &x, 410, &mut want, 410, n);
                for level in Level::available() {
                    let mut got = vec![9.0; outputs * 410];
                    pointwise(level, &net, &x, 410, &mut got, 410, n, &mut scratch);
                    assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{level:?} {widths:?} {n}");
                }
            }
        }
    }
}
