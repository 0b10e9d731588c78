//! Speed of training the `gdn` family: `cargo bench --bench train`.
//!
//! A step is forward, backward and Adam of analysis, entropy model and synthesis on 16 crops of 128x128, as in the first stage
//! of the fit. Multiplications of layers count three times (forward and both gradients); divisions, entropy model and distortion
//! are not counted. The peak speed of the machine is measured in the same run.

mod common;

use common::{best, Table};
use kernels::{Level, Window};
use rayon::prelude::*;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tilefit::entropy::bottleneck;
use tilefit::fit::autograd::{Function, Layer, Layers, Tape};
use tilefit::fit::loss::{distortion, Work};
use tilefit::fit::optim::Adam;
use tilefit::fit::rng::Rng;
use tilefit::fit::Tune;
use tilefit::layers::conv2d::Conv2d;
use tilefit::layers::conv_transpose2d::ConvTranspose2d;
use tilefit::layers::gdn::Gdn;
use tilefit::tensor::Shape;

const SIDE: usize = 128;
const BATCH: usize = 16;
/// Each lane sums the gradients of its samples in order, so that the order of sums does not depend on the threads.
const LANES: usize = 8;

/// The working memory of a thread.
struct Workspace {
    tape: Tape,
    work: Work,
}

struct Model {
    n: usize,
    tune: Tune,
    layers: Layers,
    /// Parameters of the layers, then of the entropy model.
    parameters: Vec<f32>,
    prepared: Vec<f32>,
    layers_end: usize,
    workspaces: Vec<Mutex<Workspace>>,
    /// The gradient of each lane.
    lanes: Vec<Vec<f32>>,
    sum: Vec<f32>,
    adam: Adam,
    /// Multiply-accumulates of one sample's forward pass.
    macs: usize,
    pictures: Vec<Vec<f32>>,
}

impl Model {
    fn new(threads: usize, n: usize, first: usize, tune: Tune) -> Self {
        let mut rng = Rng::stream(1, 2, 3);
        let mut at = 0;
        let mut part = |len: usize| {
            at += len;
            at - len..at
        };
        let (mut list, mut macs) = (Vec::new(), 0);
        for (i, (inputs, kernel)) in [(3, first), (n, 5), (n, 5)].into_iter().enumerate() {
            let f = Conv2d { inputs, outputs: n, kernel, stride: 2 };
            let plane = (SIDE >> (i + 1)) * (SIDE >> (i + 1));
            macs += plane * f.weights_len();
            list.push(Layer { function: Function::Conv2d(f), weights: part(f.weights_len()), bias: part(n) });
            if i < 2 {
                macs += plane * n * n;
                let f = Gdn { channels: n, inverse: false };
                list.push(Layer { function: Function::Gdn(f), bias: part(n), weights: part(n * n) });
            }
        }
        for (i, outputs) in [n, n, 3].into_iter().enumerate() {
            let f = ConvTranspose2d { inputs: n, outputs, kernel: 5, stride: 2 };
            let plane = (SIDE >> (3 - i)) * (SIDE >> (3 - i));
            macs += plane * f.weights_len();
            let (weights, bias) = (part(f.weights_len()), part(outputs));
            list.push(Layer { function: Function::ConvTranspose2d(f), weights, bias });
            if i < 2 {
                macs += 4 * plane * n * n;
                let f = Gdn { channels: n, inverse: true };
                list.push(Layer { function: Function::Gdn(f), bias: part(n), weights: part(n * n) });
            }
        }
        let layers_end = at;
        let total = at + n * bottleneck::PARAMETERS;
        let mut parameters = vec![0f32; total];
        for layer in &list {
            let (scale, bias) = match layer.function {
                Function::Conv2d(f) => ((3.0 / (f.inputs * f.kernel * f.kernel) as f32).sqrt(), 0.0),
                Function::ConvTranspose2d(f) => ((12.0 / (f.inputs * 25) as f32).sqrt(), 0.0),
                Function::Gdn(_) => (0.01, 1.0),
            };
            let positive = matches!(layer.function, Function::Gdn(_));
            for w in &mut parameters[layer.weights.clone()] {
                let u = 2.0 * rng.unit() - 1.0;
                *w = scale * if positive { u.abs() } else { u };
            }
            parameters[layer.bias.clone()].fill(bias);
        }
        bottleneck::start(n, 10.0, || rng.unit(), &mut parameters[layers_end..]);
        let workspace = |_| Mutex::new(Workspace { tape: Tape::new(Level::best()), work: Work::default() });
        Model {
            n,
            tune,
            layers: Layers::new(list),
            prepared: vec![0.0; total - layers_end],
            parameters,
            layers_end,
            workspaces: (0..threads).map(workspace).collect(),
            lanes: vec![vec![0.0; total]; LANES],
            sum: vec![0.0; total],
            adam: Adam::new(total),
            macs,
            pictures: (0..BATCH).map(|_| (0..3 * SIDE * SIDE).map(|_| rng.unit()).collect()).collect(),
        }
    }

    fn step(&mut self) {
        self.layers.values.clear();
        self.layers.values.extend_from_slice(&self.parameters[..self.layers_end]);
        let all = 0..self.layers.list.len();
        self.layers.pack(all);
        bottleneck::prepare(&self.parameters[self.layers_end..], &mut self.prepared);
        let Model { layers, prepared, pictures, n, tune, layers_end, lanes, workspaces, .. } = self;
        let samples = BATCH / LANES;
        let run = |(i, gradient): (usize, &mut Vec<f32>)| {
            gradient.fill(0.0);
            let own = rayon::current_thread_index().expect("a thread of the pool");
            let Workspace { tape, work } = &mut *workspaces[own].lock().expect("no thread has panicked");
            for (k, picture) in pictures[i * samples..][..samples].iter().enumerate() {
                tape.clear();
                let input = tape.leaf(Shape::new(3, SIDE, SIDE));
                tape.value_mut(input).copy_from_slice(picture);
                let y = (0..5).fold(input, |x, l| tape.call(layers, l, x));
                let mut rng = Rng::stream(1, i as u64, k as u64);
                let noisy = tape.shifted(y, |y| y.iter_mut().for_each(|y| *y += rng.unit() - 0.5));
                let out = (5..10).fold(noisy, |x, l| tape.call(layers, l, x));
                let level = tape.level();
                let window = Window { y0: 0, x0: 0, height: SIDE, width: SIDE };
                let (planes, d, scratch) = tape.value_and_gradient(out);
                distortion(level, *tune, out.shape, planes, &window, picture, 1e-5, d, work, scratch);
                let (values, d, _) = tape.value_and_gradient(noisy);
                let (before, density) = gradient.split_at_mut(*layers_end);
                let plane = noisy.shape.plane();
                for c in 0..*n {
                    let (v, d) = (&values[c * plane..][..plane], &mut d[c * plane..][..plane]);
                    let p = c * bottleneck::PARAMETERS..(c + 1) * bottleneck::PARAMETERS;
                    bottleneck::bits(level, &prepared[p.clone()], v, d, &mut density[p]);
                }
                tape.backward(layers, Some(input), before);
            }
        };
        lanes.par_iter_mut().enumerate().for_each(run);
        self.sum.fill(0.0);
        for lane in &self.lanes {
            self.sum.iter_mut().zip(lane).for_each(|(s, g)| *s += g);
        }
        let (low, high) = (self.layers_end, self.parameters.len());
        bottleneck::unprepare(&self.parameters[low..], &mut self.sum[low..]);
        self.adam.step(&mut self.parameters, &self.sum, &[(low, 1e-6), (high, 1e-6)], 1.0);
    }
}

/// Wall time in seconds of the shortest of `runs` steps. CPU time of one thread would not show the gain of two.
fn shortest(runs: usize, mut run: impl FnMut()) -> f64 {
    run();
    let one = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(one).fold(f64::MAX, f64::min)
}

/// Multiply-accumulates and seconds of a step on `threads` threads.
fn step_time(threads: usize, n: usize, first: usize, tune: Tune) -> (usize, f64) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build();
    let mut model = Model::new(threads, n, first, tune);
    let time = pool.expect("a pool of threads").install(|| match threads {
        1 => best(Duration::from_secs(3), || model.step()),
        _ => shortest(1280 / n, || model.step()),
    });
    (3 * BATCH * model.macs, time)
}

fn main() {
    let table = Table::new();
    for (name, n, first, tune) in [("32/k5/mse", 32, 5, Tune::Psnr), ("128/k17/ssim", 128, 17, Tune::Ssim)] {
        if !table.wants(name) {
            continue;
        }
        let mut times = Vec::new();
        for threads in [1, 2] {
            // A new thread for each pool: a thread cannot leave the pool that it is part of.
            let (macs, time) = std::thread::scope(|scope| {
                scope.spawn(|| step_time(threads, n, first, tune)).join().expect("a measured step")
            });
            table.print(&format!("step/{name}/{threads} threads"), macs, time);
            times.push(time);
        }
        println!("    two threads: {:.2} times the speed of one", times[0] / times[1]);
    }
}
