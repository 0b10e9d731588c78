//! Reverse-mode differentiation: a tape remembers which layer functions were called and with what.
//!
//! Values and gradients live in two arenas that grow to the largest graph seen and are then reused. One tape
//! serves one sample; a batch is several tapes, whose parameter gradients are summed in a fixed order.

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
    Conv2d(Conv2d),
    ConvTranspose2d(ConvTranspose2d),
    Gdn(Gdn),
}

/// A function and where its parameters stand in the flat list: weights and bias, or gamma and beta.
#[derive(Clone, Debug)]
pub struct Layer {
    pub function: Function,
    pub weights: Range<usize>,
    pub bias: Range<usize>,
}

/// Layers with their parameters of this step, ready for all tapes.
#[derive(Debug)]
pub struct Layers {
    pub list: Vec<Layer>,
    packed: Vec<PackedConv>,
    /// Parameters as the functions take them, flat.
    pub values: Vec<f32>,
}

impl Layers {
    pub fn new(list: Vec<Layer>) -> Self {
        let packed = list.iter().map(|_| PackedConv::default()).collect();
        Layers { list, packed, values: Vec::new() }
    }

    /// Packs `self.values` for the layers of `which`.
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
    pub shape: Shape,
    at: usize,
    /// Its number on the tape.
    index: usize,
}

impl Var {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.shape.len()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// `layer`; what a GDN keeps starts at `kept`.
    Layer { layer: usize, kept: usize },
    /// The output is the input plus a constant.
    Shift,
}

#[derive(Debug)]
struct Node {
    step: Step,
    x: Var,
    y: Var,
}

/// Records one sample's graph.
#[derive(Debug)]
pub struct Tape {
    level: Level,
    values: Vec<f32>,
    gradients: Vec<f32>,
    /// Whether anything was added to the gradient of each tensor: until then what stands there is old.
    touched: Vec<bool>,
    nodes: Vec<Node>,
    end: usize,
    pub scratch: Scratch,
}

impl Tape {
    pub fn new(level: Level) -> Self {
        Tape {
            level,
            values: vec![],
            gradients: vec![],
            touched: vec![],
            nodes: vec![],
            end: 0,
            scratch: Scratch::default(),
        }
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// Forgets the graph, keeps the memory.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.touched.clear();
        self.end = 0;
    }

    fn reserve(&mut self, n: usize) -> usize {
        let at = self.end;
        self.end += n;
        if self.values.len() < self.end {
            self.values.resize(self.end, 0.0);
            self.gradients.resize(self.end, 0.0);
        }
        at
    }

    /// A leaf; the caller fills it with [`value_mut`](Self::value_mut).
    pub fn leaf(&mut self, shape: Shape) -> Var {
        let at = self.reserve(shape.len());
        self.touched.push(false);
        Var { shape, at, index: self.touched.len() - 1 }
    }

    pub fn value(&self, v: Var) -> &[f32] {
        &self.values[v.range()]
    }

    pub fn value_mut(&mut self, v: Var) -> &mut [f32] {
        &mut self.values[v.range()]
    }

    /// The gradient that losses and [`backward`](Self::backward) left.
    pub fn gradient(&mut self, v: Var) -> &mut [f32] {
        let gradient = &mut self.gradients[v.range()];
        if !std::mem::replace(&mut self.touched[v.index], true) {
            gradient.fill(0.0);
        }
        gradient
    }

    /// Value, gradient and the kernels' working memory at once, for losses.
    pub fn value_and_gradient(&mut self, v: Var) -> (&[f32], &mut [f32], &mut Scratch) {
        self.gradient(v);
        (&self.values[v.range()], &mut self.gradients[v.range()], &mut self.scratch)
    }

    /// `x` plus what `shift` adds to a copy of it.
    pub fn shifted(&mut self, x: Var, shift: impl FnOnce(&mut [f32])) -> Var {
        let y = self.leaf(x.shape);
        let (before, after) = self.values.split_at_mut(y.at);
        let y_values = &mut after[..y.shape.len()];
        y_values.copy_from_slice(&before[x.range()]);
        shift(y_values);
        self.nodes.push(Node { step: Step::Shift, x, y });
        y
    }

    /// Calls layer `i`.
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
        self.nodes.push(Node { step: Step::Layer { layer: i, kept }, x, y });
        y
    }

    /// Walks the tape back from the gradients that losses left. `d` (flat, of `layers.values`) `+=` gradients.
    /// The gradient of `constant`, a leaf, is not computed.
    pub fn backward(&mut self, layers: &Layers, constant: Option<Var>, d: &mut [f32]) {
        let scratch = &mut self.scratch;
        for Node { step, x, y } in self.nodes.iter().rev() {
            // Nothing depends on it.
            if !self.touched[y.index] {
                continue;
            }
            let wanted = constant.is_none_or(|c| c.at != x.at);
            let add = std::mem::replace(&mut self.touched[x.index], wanted);
            let (before, after) = self.gradients.split_at_mut(y.at);
            let (dx, dy) = (&mut before[x.range()], &after[..y.shape.len()]);
            let Step::Layer { layer: i, kept } = *step else {
                match add {
                    true => dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy),
                    false => dx.copy_from_slice(dy),
                }
                continue;
            };
            let dx = if wanted { dx } else { &mut [][..] };
            let layer = &layers.list[i];
            let x_values = &self.values[x.range()];
            let (dw, db) = two(d, &layer.weights, &layer.bias);
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

/// Two parts of `d` that do not overlap.
fn two<'a>(d: &'a mut [f32], a: &Range<usize>, b: &Range<usize>) -> (&'a mut [f32], &'a mut [f32]) {
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

    /// An analysis and synthesis of any small size: gradients of all parameters and of the input along random
    /// directions, and no growth of the arenas after the first pass.
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
            // What an earlier graph left is not read.
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
            // A second loss on a tensor in the middle, as the rate is one.
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
