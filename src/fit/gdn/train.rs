//! The first stage: analysis, synthesis and density are learned together on random parts of the pictures.

use super::net::{Net, Part, ANALYSIS, SYNTHESIS};
use crate::entropy::bottleneck;
use crate::fit::autograd::{Tape, Var};
use crate::fit::loss::{self, Distortion};
use crate::fit::optim::{cosine, Adam};
use crate::fit::rng::Rng;
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::gdn::SHIFT;
use crate::tensor::Shape;
use kernels::{Level, Window};
use rayon::prelude::*;

/// Samples of a batch, each on a tape of its own: the order of sums does not depend on threads.
pub const LANES: usize = 8;
/// What the file's coder, which knows a code's neighbours, takes of the density's bits: measured on the nebula.
pub const CODED: f64 = 0.6;
/// Side of a training part in codes.
const SIDE: usize = 16;

/// What works on one sample.
#[derive(Debug)]
pub struct Lane {
    pub tape: Tape,
    pub gradient: Vec<f32>,
    pub target: Vec<f32>,
    pub work: loss::Work,
    row: Vec<f32>,
    d_row: Vec<f32>,
    pub distortion: Distortion,
    pub bits: f64,
    pub pixels: f64,
}

impl Lane {
    pub fn new(parameters: usize) -> Self {
        Lane {
            tape: Tape::new(Level::best()),
            gradient: vec![0.0; parameters],
            target: Vec::new(),
            work: loss::Work::default(),
            row: Vec::new(),
            d_row: Vec::new(),
            distortion: Distortion::default(),
            bits: 0.0,
            pixels: 0.0,
        }
    }

    /// Layers `which` one after another.
    pub fn run(&mut self, net: &Net, which: std::ops::Range<usize>, x: Var) -> Var {
        which.fold(x, |x, i| self.tape.call(&net.layers, i, x))
    }

    /// The distortion of `part`'s core, with its gradient times `gain / samples`.
    pub fn measure(&mut self, pictures: &[Picture], part: &Part, tune: Tune, out: Var, gain: f64) {
        let (inner, pixels) = (part.inner(SHIFT), part.pixels(pictures));
        let window = Window { y0: inner.y0, x0: inner.x0, height: pixels.height(), width: pixels.width() };
        part.fill_target(pictures, &mut self.target);
        let gain = (gain / self.target.len() as f64) as f32;
        let level = self.tape.level();
        let (planes, d, scratch) = self.tape.value_and_gradient(out);
        let target = &self.target;
        self.distortion =
            loss::distortion(level, tune, out.shape, planes, &window, target, gain, d, &mut self.work, scratch);
        self.pixels = pixels.area() as f64;
    }

    fn step(
        &mut self,
        net: &Net,
        prepared: &[f32],
        pictures: &[Picture],
        part: &Part,
        tune: Tune,
        lambda: f64,
        rng: &mut Rng,
    ) {
        self.gradient.fill(0.0);
        self.tape.clear();
        let codes = part.codes_shape(net.spec.n);
        let shape = Shape::new(net.spec.channels, codes.height << SHIFT, codes.width << SHIFT);
        let input = self.tape.leaf(shape);
        part.fill_input(pictures, self.tape.value_mut(input));
        let y = self.run(net, ANALYSIS, input);
        let noisy = self.tape.shifted(y, |y| y.iter_mut().for_each(|y| *y += rng.unit() - 0.5));
        let out = self.run(net, SYNTHESIS, noisy);
        // loss = cost / (lambda CODED) + bits / pixels
        self.measure(pictures, part, tune, out, 1.0 / (CODED * lambda));
        let inner = part.inner(0);
        let (values, d, _) = self.tape.value_and_gradient(noisy);
        let gain = (1.0 / self.pixels) as f32;
        self.bits = 0.0;
        let level = Level::best();
        let (before, d_prepared) = self.gradient.split_at_mut(net.ends[1]);
        for c in 0..net.spec.n {
            let rows = (inner.y0..inner.y1).map(|y| (c * codes.height + y) * codes.width);
            self.row.clear();
            rows.clone().for_each(|at| self.row.extend_from_slice(&values[at + inner.x0..at + inner.x1]));
            self.d_row.clear();
            self.d_row.resize(self.row.len(), 0.0);
            let p = c * bottleneck::PARAMETERS..(c + 1) * bottleneck::PARAMETERS;
            self.bits += bottleneck::bits(level, &prepared[p.clone()], &self.row, &mut self.d_row, &mut d_prepared[p]);
            for (at, d_row) in rows.zip(self.d_row.chunks_exact(inner.width())) {
                d[at + inner.x0..at + inner.x1].iter_mut().zip(d_row).for_each(|(d, r)| *d += gain * r);
            }
        }
        d_prepared.iter_mut().for_each(|d| *d *= gain);
        self.tape.backward(&net.layers, Some(input), before);
    }
}

/// Sums the lanes' gradients in their order.
pub fn reduce(lanes: &[Lane], sum: &mut [f32]) {
    let part = 1 << 14;
    sum.par_chunks_mut(part).enumerate().for_each(|(i, sum)| {
        sum.fill(0.0);
        for lane in lanes {
            let n = sum.len();
            sum.iter_mut().zip(&lane.gradient[i * part..][..n]).for_each(|(s, g)| *s += g);
        }
    });
}

/// The state of the stage.
pub struct Trainer {
    pub lanes: Vec<Lane>,
    prepared: Vec<f32>,
    sum: Vec<f32>,
    adam: Adam,
}

/// What a step measured: mean squared error and bits a pixel, with noise for rounding.
#[derive(Clone, Copy, Debug)]
pub struct Noisy {
    pub mse: f64,
    pub bpp: f64,
}

impl Trainer {
    pub fn new(net: &Net) -> Self {
        let n = net.parameters.len();
        Trainer {
            lanes: (0..LANES).map(|_| Lane::new(n)).collect(),
            prepared: vec![0.0; n - net.ends[1]],
            sum: vec![0.0; n],
            adam: Adam::new(n),
        }
    }

    /// One step; `progress` of the stage in [0, 1].
    pub fn step(
        &mut self,
        net: &mut Net,
        pictures: &[Picture],
        tune: Tune,
        lambda: f64,
        seed: u64,
        step: u64,
        progress: f32,
    ) -> Noisy {
        net.prepare(0..10);
        bottleneck::prepare(&net.parameters[net.ends[1]..], &mut self.prepared);
        let (shared, prepared) = (&*net, &self.prepared);
        self.lanes.par_iter_mut().enumerate().for_each(|(i, lane)| {
            let mut rng = Rng::stream(seed, 2 + step, i as u64);
            let part = Part::random(pictures, SIDE, &mut rng);
            lane.step(shared, prepared, pictures, &part, tune, lambda, &mut rng);
        });
        reduce(&self.lanes, &mut self.sum);
        net.to_parameters(&mut self.sum);
        let density = net.ends[1];
        bottleneck::unprepare(&net.parameters[density..], &mut self.sum[density..]);
        net.step(&mut self.adam, &self.sum, cosine(progress, 1e-3, 5e-5));
        let mut all = Distortion::default();
        let (mut bits, mut pixels) = (0.0, 0.0);
        for lane in &self.lanes {
            all.add(&lane.distortion);
            bits += lane.bits;
            pixels += lane.pixels;
        }
        Noisy { mse: all.mse(), bpp: CODED * bits / pixels }
    }
}

/// Codes of all pictures before rounding, `[channels][height][width]` each: one pass over their parts.
pub fn analyse(net: &mut Net, lanes: &mut [Lane], pictures: &[Picture]) -> Vec<Vec<f32>> {
    net.prepare(ANALYSIS);
    let n = net.spec.n;
    let grids: Vec<_> = pictures.iter().map(super::net::grid_of).collect();
    let mut codes: Vec<Vec<f32>> = grids.iter().map(|(w, h)| vec![0.0; n * w * h]).collect();
    let net = &*net;
    for parts in Part::partition(pictures, 32).chunks(lanes.len()) {
        let done: Vec<Var> = lanes
            .par_iter_mut()
            .zip(parts)
            .map(|(lane, part)| {
                lane.tape.clear();
                let shape = part.codes_shape(n);
                let input = lane.tape.leaf(Shape::new(net.spec.channels, shape.height << SHIFT, shape.width << SHIFT));
                part.fill_input(pictures, lane.tape.value_mut(input));
                lane.run(net, ANALYSIS, input)
            })
            .collect();
        for ((y, part), lane) in done.into_iter().zip(parts).zip(&*lanes) {
            let (inner, (w, h)) = (part.inner(0), grids[part.picture]);
            let values = lane.tape.value(y);
            for c in 0..n {
                for (i, row) in (inner.y0..inner.y1).enumerate() {
                    let from = (c * y.shape.height + row) * y.shape.width;
                    let to = (c * h + part.core.y0 + i) * w + part.core.x0;
                    codes[part.picture][to..to + inner.width()]
                        .copy_from_slice(&values[from + inner.x0..from + inner.x1]);
                }
            }
        }
    }
    codes
}
