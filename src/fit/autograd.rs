//! Reverse-mode differentiation: a tape records which layer functions were called with which tensors.
//!
//! Values and gradients are in two arenas, which grow to the size of the largest graph and are then reused. A tape has the
//! graph of one sample. A batch has several tapes, whose parameter gradients are summed in a fixed order.

use crate::layers::conv2d::Conv2d;
use crate::layers::conv_transpose2d::ConvTranspose2d;
use crate::layers::gdn::Gdn;
use crate::tensor::Shape;
use kernels::fast::{PackedConv, Scratch};
use kernels::Level;
use std::ops::Range;

/// A layer function.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    /// Convolution.
    Conv2d(Conv2d),
    /// Transposed convolution.
    ConvTranspose2d(ConvTranspose2d),
    /// Normalisation.
    Gdn(Gdn),
}

/// A function and the ranges of its parameters in the flat list.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it computes.
    pub function: Function,
    /// Weights, or gamma.
    pub weights: Range<usize>,
    /// Bias, or beta.
    pub bias: Range<usize>,
}

/// Layers with their parameters of this step, shared by all tapes.
#[derive(Debug)]
pub struct Layers {
    /// The layers, in the order of [`Tape::call`]'s numbers.
    pub list: Vec<Layer>,
    packed: Vec<PackedConv>,
    /// The parameters as the functions take them, flat. After a change call [`pack`](Self::pack).
    pub values: Vec<f32>,
}

impl Layers {
    /// Layers without parameters yet.
    pub fn new(list: Vec<Layer>) -> Self {
        let packed = list.iter().map(|_| PackedConv::default()).collect();
        Layers { list, packed, values: Vec::new() }
    }

    /// Brings the weights in `self.values` of the layers `which` into the order of the kernels.
    pub fn pack(&mut self, which: Range<usize>) {
        for (layer, packed) in self.list[which.clone()].iter().zip(&mut self.packed[which]) {
            let w = &self.values[layer.weights.clone()];
            match layer.function {
                Function::Conv2d(f) => f.pack(w, packed),
                Function::ConvTranspose2d(f) => f.pack(w, packed),
                Function::Gdn(_) => {}
            }
        }
    }
}

/// A tensor on the tape.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    /// Its shape.
    pub shape: Shape,
    /// Where its values start in the arena.
    at: usize,
    /// Its number on the tape.
    index: usize,
}

impl Var {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.shape.len()
    }
}

/// What computed a tensor from another.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Layer number `layer`. What a normalisation keeps for its backward pass starts at `kept` in the arena.
    Layer { layer: usize, kept: usize },
    /// The output is the input plus a constant.
    Shift,
}

/// One operation of the graph, from `x` to `y`.
#[derive(Debug)]
struct Node {
    operation: Operation,
    x: Var,
    y: Var,
}

/// The graph of one sample.
#[derive(Debug)]
pub struct Tape {
    level: Level,
    /// Arena of the values of all tensors.
    values: Vec<f32>,
    /// Arena of their gradients, at the same indices.
    gradients: Vec<f32>,
    /// For each tensor whether its gradient was written; until then the arena has values of an earlier graph there.
    written: Vec<bool>,
    /// In the order of the calls.
    nodes: Vec<Node>,
    /// Used length of the arenas.
    end: usize,
    /// Working memory of the kernels.
    pub scratch: Scratch,
}

impl Tape {
    /// An empty tape whose functions run with the instructions of `level`.
    pub fn new(level: Level) -> Self {
        Tape {
            level,
            values: vec![],
            gradients: vec![],
            written: vec![],
            nodes: vec![],
            end: 0,
            scratch: Scratch::default(),
        }
    }

    /// The instructions that the functions run with.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Removes all tensors and operations; the memory stays allocated.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.written.clear();
        self.end = 0;
    }

    /// Reserves `n` values at the end of the arenas and returns where they start.
    fn reserve(&mut self, n: usize) -> usize {
        let at = self.end;
        self.end += n;
        if self.values.len() < self.end {
            self.values.resize(self.end, 0.0);
            self.gradients.resize(self.end, 0.0);
        }
        at
    }

    /// Adds a tensor without an operation; the caller writes its values with [`value_mut`](Self::value_mut).
    pub fn leaf(&mut self, shape: Shape) -> Var {
        let at = self.reserve(shape.len());
        self.written.push(false);
        Var { shape, at, index: self.written.len() - 1 }
    }

    /// The values of a tensor.
    pub fn value(&self, v: Var) -> &[f32] {
        &self.values[v.range()]
    }

    /// The values of a tensor.
    pub fn value_mut(&mut self, v: Var) -> &mut [f32] {
        &mut self.values[v.range()]
    }

    /// The gradient of a tensor, as losses and [`backward`](Self::backward) left it; zeros if nothing was added to it.
    pub fn gradient(&mut self, v: Var) -> &mut [f32] {
        let gradient = &mut self.gradients[v.range()];
        if !std::mem::replace(&mut self.written[v.index], true) {
            gradient.fill(0.0);
        }
        gradient
    }

    /// Values and gradient of a tensor and the working memory of the kernels at once, for losses.
    pub fn value_and_gradient(&mut self, v: Var) -> (&[f32], &mut [f32], &mut Scratch) {
        self.gradient(v);
        (&self.values[v.range()], &mut self.gradients[v.range()], &mut self.scratch)
    }

    /// A new tensor: a copy of `x` to which `shift` adds constants. The gradient passes through unchanged.
    pub fn shifted(&mut self, x: Var, shift: impl FnOnce(&mut [f32])) -> Var {
        let y = self.leaf(x.shape);
        let (before, after) = self.values.split_at_mut(y.at);
        let y_values = &mut after[..y.shape.len()];
        y_values.copy_from_slice(&before[x.range()]);
        shift(y_values);
        self.nodes.push(Node { operation: Operation::Shift, x, y });
        y
    }

    /// A new tensor: the output of layer `i` for `x`.
    pub fn call(&mut self, layers: &Layers, i: usize, x: Var) -> Var {
        let layer = &layers.list[i];
        let output = match layer.function {
            Function::Conv2d(f) => f.output(x.shape),
            Function::ConvTranspose2d(f) => f.output(x.shape),
            Function::Gdn(_) => x.shape,
        };
        let kept = match layer.function {
            Function::Gdn(_) => self.reserve(output.len()),
            _ => 0,
        };
        let y = self.leaf(output);
        let (before, after) = self.values.split_at_mut(y.at);
        let y_values = &mut after[..output.len()];
        let (w, bias) = (&layers.values[layer.weights.clone()], &layers.values[layer.bias.clone()]);
        let scratch = &mut self.scratch;
        match layer.function {
            Function::Conv2d(f) => {
                f.forward(self.level, x.shape, &before[x.range()], &layers.packed[i], bias, y_values, scratch)
            }
            Function::ConvTranspose2d(f) => {
                f.forward(self.level, x.shape, &before[x.range()], &layers.packed[i], bias, y_values, scratch)
            }
            Function::Gdn(f) => {
                let (before, norm) = before.split_at_mut(kept);
                let x_values = &before[x.range()];
                f.forward(self.level, x.shape.plane(), x_values, bias, w, y_values, norm, scratch)
            }
        }
        self.nodes.push(Node { operation: Operation::Layer { layer: i, kept }, x, y });
        y
    }

    /// Propagates the gradients that losses left from the last operation to the first. Adds the gradients by
    /// `layers.values` to `d`, flat. The gradient of `constant`, a tensor without an operation, is not computed.
    pub fn backward(&mut self, layers: &Layers, constant: Option<Var>, d: &mut [f32]) {
        let scratch = &mut self.scratch;
        for Node { operation, x, y } in self.nodes.iter().rev() {
            // No loss depends on this tensor.
            if !self.written[y.index] {
                continue;
            }
            let wanted = constant.is_none_or(|c| c.at != x.at);
            let add = std::mem::replace(&mut self.written[x.index], wanted);
            let (before, after) = self.gradients.split_at_mut(y.at);
            let (dx, dy) = (&mut before[x.range()], &after[..y.shape.len()]);
            let Operation::Layer { layer: i, kept } = *operation else {
                match add {
                    true => dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy),
                    false => dx.copy_from_slice(dy),
                }
                continue;
            };
            let dx = if wanted { dx } else { &mut [][..] };
            let layer = &layers.list[i];
            let x_values = &self.values[x.range()];
            let (dw, db) = both(d, &layer.weights, &layer.bias);
            match layer.function {
                Function::Conv2d(f) => {
                    f.backward(self.level, x.shape, x_values, &layers.packed[i], dy, add, dx, dw, db, scratch)
                }
                Function::ConvTranspose2d(f) => {
                    f.backward(self.level, x.shape, x_values, &layers.packed[i], dy, add, dx, dw, db, scratch)
                }
                Function::Gdn(f) => {
                    let norm = &self.values[kept..kept + x.shape.len()];
                    let gamma = &layers.values[layer.weights.clone()];
                    f.backward(self.level, x.shape.plane(), x_values, norm, gamma, dy, add, dx, db, dw, scratch)
                }
            }
        }
    }
}

/// The parts `a` and `b` of `d`, which do not overlap.
fn both<'a>(d: &'a mut [f32], a: &Range<usize>, b: &Range<usize>) -> (&'a mut [f32], &'a mut [f32]) {
    if a.start < b.start {
        let (low, high) = d.split_at_mut(b.start);
        (&mut low[a.clone()], &mut high[..b.len()])
    } else {
        let (low, high) = d.split_at_mut(a.start);
        (&mut high[..a.len()], &mut low[b.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::rng::Rng;
    use proptest::prelude::*;

    /// A small analysis and synthesis: checks the gradients of all parameters and of the input along random directions, and
    /// that the arenas do not grow after the first pass.
    fn whole_graph(n: usize, channels: usize, height: usize, width: usize, seed: u64) {
        let mut rng = Rng::stream(seed, 0, 0);
        let mut at = 0;
        let mut part = |len: usize| {
            at += len;
            at - len..at
        };
        let conv = Conv2d { inputs: channels, outputs: n, kernel: 5, stride: 2 };
        let up = ConvTranspose2d { inputs: n, outputs: channels, kernel: 5, stride: 2 };
        let gdn = |inverse| Function::Gdn(Gdn { channels: n, inverse });
        let list = vec![
            Layer { function: Function::Conv2d(conv), weights: part(conv.weights_len()), bias: part(n) },
            Layer { function: gdn(false), bias: part(n), weights: part(n * n) },
            Layer { function: gdn(true), bias: part(n), weights: part(n * n) },
            Layer { function: Function::ConvTranspose2d(up), weights: part(up.weights_len()), bias: part(channels) },
        ];
        let mut layers = Layers::new(list);
        let shape = Shape::new(channels, height, width);
        let values: Vec<f32> = (0..at).map(|_| 0.3 + 0.5 * rng.unit()).collect();
        let x: Vec<f32> = (0..shape.len()).map(|_| rng.unit() - 0.5).collect();
        let target: Vec<f32> = (0..channels * (height + 1) * (width + 1)).map(|_| rng.unit() - 0.5).collect();
        let mut tape = Tape::new(Level::best());
        let mut run = |values: &[f32], x: &[f32], d: &mut [f32]| {
            layers.values = values.to_vec();
            layers.pack(0..4);
            // Gradients of an earlier graph must not be read.
            tape.gradients.fill(f32::NAN);
            tape.clear();
            let input = tape.leaf(shape);
            tape.value_mut(input).copy_from_slice(x);
            let shifted = tape.shifted(input, |y| y.iter_mut().for_each(|y| *y += 0.1));
            let mut v = shifted;
            for i in 0..4 {
                v = tape.call(&layers, i, v);
            }
            let unused = tape.call(&layers, 0, shifted);
            let (y, dy, _) = tape.value_and_gradient(v);
            dy.copy_from_slice(&target[..dy.len()]);
            let mut loss: f64 = y.iter().zip(&target).map(|(y, t)| f64::from(y * t)).sum();
            // A second loss on a tensor in the middle of the graph, as the rate of the codes is.
            let (y, dy, _) = tape.value_and_gradient(shifted);
            dy.iter_mut().zip(&target).for_each(|(d, t)| *d += t);
            loss += y.iter().zip(&target).map(|(y, t)| f64::from(y * t)).sum::<f64>();
            tape.backward(&layers, None, d);
            assert!(tape.gradient(unused).iter().all(|d| *d == 0.0));
            (loss, tape.gradient(input).to_vec(), tape.values.len())
        };
        let mut d = vec![0.0; at];
        let (_, dx, size) = run(&values, &x, &mut d);
        for _ in 0..4 {
            let h = 1e-3;
            let dir: Vec<f32> = (0..at + x.len()).map(|_| rng.unit() - 0.5).collect();
            let mut shifted = |s: f32| {
                let v: Vec<f32> = values.iter().zip(&dir).map(|(v, d)| v + s * d).collect();
                let x: Vec<f32> = x.iter().zip(&dir[at..]).map(|(v, d)| v + s * d).collect();
                let (loss, _, again) = run(&v, &x, &mut vec![0.0; at]);
                assert_eq!(again, size);
                loss
            };
            let numeric = (shifted(h) - shifted(-h)) / (2.0 * f64::from(h));
            let exact: f64 = d.iter().chain(&dx).zip(&dir).map(|(g, d)| f64::from(g * d)).sum();
            let norm = d.iter().chain(&dx).map(|g| f64::from(g * g)).sum::<f64>().sqrt();
            assert!((numeric - exact).abs() < 0.02 * exact.abs() + 4e-3 * norm + 0.05, "{numeric} {exact} {norm}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn whole_graphs_have_their_gradients(
            n in 1usize..5, grey: bool, height in 1usize..9, width in 1usize..9, seed: u64,
        ) {
            whole_graph(n, if grey { 1 } else { 3 }, height, width, seed);
        }
    }
}
