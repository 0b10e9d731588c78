//! The second stage: codes are moved directly and the synthesis follows them, both knowing that they will be
//! rounded. Gradients pass the rounding unchanged (straight through).

use super::net::{Net, SYNTHESIS};
use super::patch::{grid_of, Patch};
use super::rate::{Moving, Rate};
use super::workers::{reduce, Worker, Workers, BATCH};
use crate::fit::autograd::Var;
use crate::fit::checkpoint::{read_floats, write_floats};
use crate::fit::loss::Distortion;
use crate::fit::optim::{cosine, Adam};
use crate::fit::rng::Rng;
use crate::fit::Tune;
use crate::image::{Picture, Rect};
use crate::models::transform::weights::{Kind, Quantised};
use crate::models::{Codes, Grid};
use crate::tensor::Shape;

/// Side of a patch in codes.
const SIDE: usize = 32;
/// Parts of a step: all of a small picture.
const PATCHES: usize = 16;
/// What a bit of the weights counts when steps are first chosen: the steps after it win back much of what is lost.
const WEIGHT_BIT: f64 = 3.0;
/// What codes move at the stage's start and at its end.
const CODE_RATES: (f32, f32) = (4e-2, 4e-3);
/// Largest code: far beyond what pays.
const MAX_CODE: f32 = 8000.0;

/// Codes of one picture as they move.
struct Field<F> {
    /// Before rounding, `[n][h][w]`.
    y: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    d: Vec<f32>,
    codes: Vec<i16>,
    rate: F,
    shape: Shape,
}

impl<F> Field<F> {
    fn moving(&self) -> Moving<'_> {
        Moving { values: &self.y, codes: &self.codes, shape: self.shape }
    }
}

/// The state of the stage.
pub struct Refiner<R: Rate> {
    fields: Vec<Field<R::Field>>,
    patches: Vec<Patch>,
    /// The patches of one step.
    which: Vec<usize>,
    /// Times each patch was moved.
    visits: Vec<i32>,
    adam: Adam,
    sum: Vec<f32>,
    /// The sum of one batch.
    partial: Vec<f32>,
    pixels: f64,
}

fn round(y: f32) -> i16 {
    y.clamp(-MAX_CODE, MAX_CODE).round() as i16
}

impl<R: Rate> Refiner<R> {
    pub fn new(net: &Net, rate: &R, pictures: &[Picture], codes: Vec<Vec<f32>>) -> Self {
        let fields = pictures.iter().zip(codes).map(|(p, y)| {
            let n = y.len();
            let codes: Vec<i16> = y.iter().map(|&y| round(y)).collect();
            let (width, height) = grid_of(p);
            let shape = Shape::new(net.spec.n(), height, width);
            Field {
                rate: rate.field(&Moving { values: &y, codes: &codes, shape }),
                codes,
                m: vec![0.0; n],
                v: vec![0.0; n],
                d: vec![0.0; n],
                y,
                shape,
            }
        });
        let patches = Patch::partition(pictures, SIDE, R::ALIGN);
        let moved = net.ends[1];
        Refiner {
            fields: fields.collect(),
            visits: vec![0; patches.len()],
            patches,
            which: Vec::new(),
            adam: Adam::new(moved),
            sum: vec![0.0; moved],
            partial: vec![0.0; moved],
            pixels: pictures.iter().map(|p| p.pixels() as f64).sum(),
        }
    }

    fn update_rates(&mut self, rate: &R) {
        for f in &mut self.fields {
            let moving = Moving { values: &f.y, codes: &f.codes, shape: f.shape };
            rate.refresh(&mut f.rate, &moving);
        }
    }

    /// Steps between two looks at the statistics: often enough, never most of the work.
    pub fn refresh(&self) -> u64 {
        (self.patches.len() / PATCHES).max(1) as u64 * 2
    }

    /// The codes that a file of each picture gets.
    pub fn codes(&self, rate: &R) -> Vec<Codes> {
        let codes = |f: &Field<R::Field>| {
            let mut grid = Grid::new(Rect::whole(f.shape.width, f.shape.height), f.shape.channels);
            grid.codes.copy_from_slice(&f.codes);
            rate.codes(&f.rate, grid)
        };
        self.fields.iter().map(codes).collect()
    }

    /// Codes before rounding, and what else the rate moves.
    pub fn save(&self, rate: &R, out: &mut Vec<u8>) {
        for f in &self.fields {
            write_floats(out, &f.y);
            rate.save(&f.rate, out);
        }
    }

    /// Goes on from what was saved; false when there is less.
    pub fn restore(&mut self, rate: &R, state: &mut &[u8]) -> bool {
        let mut restore = |f: &mut Field<R::Field>| {
            let done = read_floats(state, &mut f.y);
            f.codes.iter_mut().zip(&f.y).for_each(|(q, &y)| *q = round(y));
            let moving = Moving { values: &f.y, codes: &f.codes, shape: f.shape };
            rate.refresh(&mut f.rate, &moving);
            done && rate.restore(&mut f.rate, state)
        };
        self.fields.iter_mut().all(&mut restore)
    }

    /// The first `most` of patches spread over the pictures.
    fn spread(&self, most: usize) -> Vec<usize> {
        let step = self.patches.len().div_ceil(most).max(1);
        (0..self.patches.len()).step_by(step).collect()
    }

    fn forward(&self, worker: &mut Worker<R::Work>, net: &Net, patch: &Patch) -> (Var, Var) {
        let field = &self.fields[patch.picture];
        let (w, h) = (field.shape.width, field.shape.height);
        worker.tape.clear();
        let shape = patch.codes_shape(net.spec.n());
        let input = worker.tape.leaf(shape);
        let values = worker.tape.value_mut(input);
        for c in 0..net.spec.n() {
            for (i, y) in (patch.all.y0..patch.all.y1).enumerate() {
                let from = &field.codes[(c * h + y) * w + patch.all.x0..][..shape.width];
                let to = &mut values[(c * shape.height + i) * shape.width..][..shape.width];
                to.iter_mut().zip(from).for_each(|(to, &q)| *to = f32::from(q));
            }
        }
        (input, worker.run(net, SYNTHESIS, input))
    }

    /// The distortion over some patches, with hard codes and the net's present values.
    pub fn distortion(
        &self,
        net: &Net,
        workers: &mut Workers<R::Work>,
        pictures: &[Picture],
        tune: Tune,
        which: &[usize],
    ) -> Distortion {
        let mut all = Distortion::default();
        for some in which.chunks(BATCH) {
            workers.each(some.len(), |i, worker, sample| {
                let patch = &self.patches[some[i]];
                let (_, out) = self.forward(worker, net, patch);
                worker.measure(sample, pictures, patch, tune, out, 0.0);
            });
            workers.samples[..some.len()].iter().for_each(|sample| all.add(&sample.distortion));
        }
        all
    }

    /// One step of codes and synthesis; `progress` of the stage in [0, 1].
    pub fn step(
        &mut self,
        net: &mut Net,
        rate: &mut R,
        workers: &mut Workers<R::Work>,
        pictures: &[Picture],
        tune: Tune,
        lambda: f64,
        seed: u64,
        step: u64,
        progress: f32,
    ) {
        net.prepare(SYNTHESIS);
        rate.prepare(net.rates_own(), true);
        let n = net.spec.n();
        let mut which = std::mem::take(&mut self.which);
        which.clear();
        which.extend(0..self.patches.len());
        if which.len() > PATCHES {
            let mut rng = Rng::stream(seed, 0x5eed, step);
            for i in 0..PATCHES {
                let j = i + rng.below(which.len() - i);
                which.swap(i, j);
            }
            which.truncate(PATCHES);
            which.sort_unstable();
        }
        let seen: f64 = which.iter().map(|&i| self.patches[i].pixels(pictures).area() as f64).sum();
        self.sum.fill(0.0);
        for some in which.chunks(BATCH) {
            let (this, shared, shared_rate) = (&*self, &*net, &*rate);
            workers.each(some.len(), |i, worker, sample| {
                let patch = &this.patches[some[i]];
                sample.gradient.fill(0.0);
                let (input, out) = this.forward(worker, shared, patch);
                // In bits: cost / (lambda / pixels), a mean over channels.
                let samples = (patch.pixels(pictures).area() * shared.spec.channels) as f64;
                let gain = samples / (lambda * shared.spec.channels as f64);
                worker.measure(sample, pictures, patch, tune, out, gain);
                worker.tape.backward(&shared.layers, None, &mut sample.gradient);
                sample.codes.clear();
                sample.codes.extend_from_slice(worker.tape.gradient(input));
                let field = &this.fields[patch.picture];
                let own = &mut sample.gradient[shared.ends[0]..shared.ends[1]];
                let (work, d) = (&mut worker.rate, &mut sample.rate);
                sample.bits = shared_rate.moving(work, &field.rate, &field.moving(), patch, d, own);
            });
            let used = &workers.samples[..some.len()];
            reduce(used, &mut self.partial);
            self.sum.iter_mut().zip(&self.partial).for_each(|(s, p)| *s += p);
            for (sample, &i) in used.iter().zip(some) {
                let patch = &self.patches[i];
                let field = &mut self.fields[patch.picture];
                let (w, h) = (field.shape.width, field.shape.height);
                let d = &sample.codes;
                for c in 0..n {
                    for (k, y) in (patch.all.y0..patch.all.y1).enumerate() {
                        let to = &mut field.d[(c * h + y) * w + patch.all.x0..][..patch.all.width()];
                        let from = &d[(c * patch.all.height() + k) * patch.all.width()..];
                        to.iter_mut().zip(from).for_each(|(to, d)| *to += d);
                    }
                }
                let (core, mut of_rate) = (patch.core, &sample.rate[..]);
                for (c, y) in (0..n).flat_map(|c| (core.y0..core.y1).map(move |y| (c, y))) {
                    let (row, rest) = of_rate.split_at(core.width());
                    of_rate = rest;
                    let to = &mut field.d[(c * h + y) * w + core.x0..][..core.width()];
                    to.iter_mut().zip(row).for_each(|(to, d)| *to += d);
                }
                let speed = cosine(progress, CODE_RATES.0, CODE_RATES.1);
                rate.advance(&mut field.rate, i, patch, of_rate, sample.bits, speed, self.visits[i] + 1);
            }
        }
        // The weights' bits belong to the whole picture, of which this step saw a patch.
        net.to_parameters(&mut self.sum);
        let seen = (seen / self.pixels) as f32;
        net.add_weights_rate(&mut self.sum, seen);
        let own = &mut self.sum[net.ends[0]..];
        rate.unprepare(net.rates_own(), own);
        rate.add_weights_rate(net.rates_own(), own, seen);
        net.step(&mut self.adam, &self.sum, cosine(progress, 1e-3, 2e-5));
        self.move_codes(n, &which, cosine(progress, CODE_RATES.0, CODE_RATES.1));
        self.which = which;
        if step.is_multiple_of(self.refresh()) {
            self.update_rates(rate);
        }
    }

    /// Adam on the codes in the cores of some patches; the gradients are then used up.
    fn move_codes(&mut self, n: usize, which: &[usize], rate: f32) {
        for &i in which {
            self.visits[i] += 1;
            let patch = self.patches[i];
            let t = self.visits[i];
            let (c1, c2) = (1.0 - 0.9f32.powi(t), 1.0 - 0.99f32.powi(t));
            let field = &mut self.fields[patch.picture];
            let (w, h) = (field.shape.width, field.shape.height);
            for c in 0..n {
                for y in patch.core.y0..patch.core.y1 {
                    let from = (c * h + y) * w;
                    for k in from + patch.core.x0..from + patch.core.x1 {
                        let g = field.d[k];
                        field.m[k] += 0.1 * (g - field.m[k]);
                        field.v[k] += 0.01 * (g * g - field.v[k]);
                        field.y[k] -= rate * (field.m[k] / c1) / ((field.v[k] / c2).sqrt() + 1e-3);
                        field.codes[k] = round(field.y[k]);
                    }
                }
            }
        }
        for f in &mut self.fields {
            f.d.fill(0.0);
        }
    }

    /// Chooses a step for each tensor of the synthesis: from the finest, coarser as long as the loss falls; if steps
    /// were chosen before, those or the next coarser ones.
    pub fn choose_steps(
        &self,
        net: &mut Net,
        workers: &mut Workers<R::Work>,
        pictures: &[Picture],
        tune: Tune,
        lambda: f64,
    ) {
        let which = self.spread(PATCHES);
        let values = net.synthesis_values();
        let tensors = net.tensors.clone();
        let mut exponents: Vec<u32> = tensors.iter().map(|t| Quantised::finest(&values[t.range.clone()])).collect();
        let before = net.exponents.take();
        let (weight_bit, most) = if before.is_none() { (WEIGHT_BIT, usize::MAX) } else { (1.0, 1) };
        for (e, before) in exponents.iter_mut().zip(before.iter().flatten()) {
            *e = (*e).min(*before);
        }
        let mut cost = |net: &mut Net, exponents: &[u32]| {
            net.exponents = Some(exponents.to_vec());
            net.prepare(SYNTHESIS);
            let d = self.distortion(net, workers, pictures, tune, &which);
            let bits = Quantised::new(&net.tensors, &values, exponents.to_vec()).bits(&net.tensors);
            d.cost / d.samples * self.pixels / lambda + weight_bit * bits
        };
        let mut best = cost(net, &exponents);
        // Large tensors first: they decide most bytes.
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(tensors[i].range.len()), i));
        for i in order {
            let start = exponents[i];
            let mut best_here = start;
            for e in (0..start).rev().take(most) {
                exponents[i] = e;
                let now = cost(net, &exponents);
                if now < best {
                    (best, best_here) = (now, e);
                } else if best_here > e + 1 || tensors[i].kind == Kind::Beta {
                    // A coarser step that does not pay may be followed by one that does, two hardly.
                    break;
                }
            }
            exponents[i] = best_here;
        }
        net.exponents = Some(exponents);
    }

    /// Channels of the codes by falling activity; applied to codes and net alike.
    pub fn sort_channels(&mut self, net: &mut Net, rate: &R) {
        let n = net.spec.n();
        let loud = |c: usize| -> i64 {
            let of = |f: &Field<R::Field>| {
                let plane = f.codes.chunks_exact(f.shape.plane()).nth(c);
                plane.map_or(0, |p| p.iter().map(|q| i64::from(q.unsigned_abs())).sum())
            };
            self.fields.iter().map(of).sum()
        };
        let mut order: Vec<usize> = (0..n).collect();
        let key: Vec<i64> = (0..n).map(loud).collect();
        order.sort_by_key(|&c| (std::cmp::Reverse(key[c]), c));
        for f in &mut self.fields {
            let plane = f.shape.plane();
            let (y, codes) = (f.y.clone(), f.codes.clone());
            for (to, &from) in order.iter().enumerate() {
                f.y[to * plane..][..plane].copy_from_slice(&y[from * plane..][..plane]);
                f.codes[to * plane..][..plane].copy_from_slice(&codes[from * plane..][..plane]);
            }
        }
        net.reorder(&order);
        self.update_rates(rate);
    }
}
