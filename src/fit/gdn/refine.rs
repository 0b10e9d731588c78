//! The second stage: codes are moved directly and the synthesis follows them, both knowing that they will be
//! rounded. Gradients pass the rounding unchanged (straight through).

use super::net::{grid_of, Net, Part, SYNTHESIS};
use super::rate::Rates;
use super::team::{reduce, Desk, Team, LANES};
use crate::fit::autograd::Var;
use crate::fit::loss::Distortion;
use crate::fit::optim::{cosine, Adam};
use crate::fit::rng::Rng;
use crate::fit::Tune;
use crate::image::Picture;
use crate::models::gdn::weights::{Kind, Quantised};

/// Side of a part in codes.
const SIDE: usize = 32;
/// Parts of a step: all of a small picture.
const PARTS: usize = 16;
/// What a bit of the weights counts when steps are first chosen: the steps after it win back much of what is lost.
const WEIGHT_BIT: f64 = 3.0;
/// Largest code: far beyond what pays.
const MAX_CODE: f32 = 8000.0;

/// Codes of one picture as they move.
struct Field {
    /// Before rounding, `[n][h][w]`.
    y: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
    d: Vec<f32>,
    codes: Vec<i16>,
    rates: Rates,
    size: (usize, usize),
}

/// The state of the stage.
pub struct Refiner {
    fields: Vec<Field>,
    parts: Vec<Part>,
    /// The parts of one step.
    which: Vec<usize>,
    /// Times each part was moved.
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

impl Refiner {
    pub fn new(net: &Net, pictures: &[Picture], codes: Vec<Vec<f32>>) -> Self {
        let fields = pictures.iter().zip(codes).map(|(p, y)| {
            let n = y.len();
            Field {
                codes: y.iter().map(|&y| round(y)).collect(),
                m: vec![0.0; n],
                v: vec![0.0; n],
                d: vec![0.0; n],
                y,
                rates: Rates::default(),
                size: grid_of(p),
            }
        });
        let parts = Part::partition(pictures, SIDE);
        let mut refiner = Refiner {
            fields: fields.collect(),
            visits: vec![0; parts.len()],
            parts,
            which: Vec::new(),
            adam: Adam::new(net.ends[0]),
            sum: vec![0.0; net.ends[0]],
            partial: vec![0.0; net.ends[0]],
            pixels: pictures.iter().map(|p| p.pixels() as f64).sum(),
        };
        refiner.update_rates(net.spec.n);
        refiner
    }

    pub fn update_rates(&mut self, n: usize) {
        for f in &mut self.fields {
            f.rates.update(&f.codes, n, f.size.1, f.size.0);
        }
    }

    /// Steps between two looks at the statistics: often enough, never most of the work.
    pub fn refresh(&self) -> u64 {
        (self.parts.len() / PARTS).max(1) as u64 * 2
    }

    /// Bits of all codes, estimated.
    pub fn bits(&self) -> f64 {
        self.fields.iter().map(|f| f.rates.bits).sum()
    }

    pub fn codes(&self) -> impl Iterator<Item = &[i16]> {
        self.fields.iter().map(|f| &f.codes[..])
    }

    /// Codes before rounding, `[n][h][w]` of each picture.
    pub fn values(&self) -> Vec<Vec<f32>> {
        self.fields.iter().map(|f| f.y.clone()).collect()
    }

    /// The first `most` of parts spread over the pictures.
    fn spread(&self, most: usize) -> Vec<usize> {
        let step = self.parts.len().div_ceil(most).max(1);
        (0..self.parts.len()).step_by(step).collect()
    }

    fn forward(&self, desk: &mut Desk, net: &Net, part: &Part) -> (Var, Var) {
        let field = &self.fields[part.picture];
        let (w, h) = field.size;
        desk.tape.clear();
        let shape = part.codes_shape(net.spec.n);
        let input = desk.tape.leaf(shape);
        let values = desk.tape.value_mut(input);
        for c in 0..net.spec.n {
            for (i, y) in (part.all.y0..part.all.y1).enumerate() {
                let from = &field.codes[(c * h + y) * w + part.all.x0..][..shape.width];
                let to = &mut values[(c * shape.height + i) * shape.width..][..shape.width];
                to.iter_mut().zip(from).for_each(|(to, &q)| *to = f32::from(q));
            }
        }
        (input, desk.run(net, SYNTHESIS, input))
    }

    /// The distortion over some parts, with hard codes and the net's present values.
    pub fn distortion(
        &self,
        net: &Net,
        team: &mut Team,
        pictures: &[Picture],
        tune: Tune,
        which: &[usize],
    ) -> Distortion {
        let mut all = Distortion::default();
        for some in which.chunks(LANES) {
            team.each(some.len(), |i, desk, lane| {
                let part = &self.parts[some[i]];
                let (_, out) = self.forward(desk, net, part);
                desk.measure(lane, pictures, part, tune, out, 0.0);
            });
            team.lanes[..some.len()].iter().for_each(|lane| all.add(&lane.distortion));
        }
        all
    }

    /// One step of codes and synthesis; `progress` of the stage in [0, 1]. Returns the distortion seen.
    pub fn step(
        &mut self,
        net: &mut Net,
        team: &mut Team,
        pictures: &[Picture],
        tune: Tune,
        lambda: f64,
        seed: u64,
        step: u64,
        progress: f32,
    ) -> Distortion {
        net.prepare(SYNTHESIS);
        let n = net.spec.n;
        let mut which = std::mem::take(&mut self.which);
        which.clear();
        which.extend(0..self.parts.len());
        if which.len() > PARTS {
            let mut rng = Rng::stream(seed, 0x5eed, step);
            for i in 0..PARTS {
                let j = i + rng.below(which.len() - i);
                which.swap(i, j);
            }
            which.truncate(PARTS);
            which.sort_unstable();
        }
        let seen: f64 = which.iter().map(|&i| self.parts[i].pixels(pictures).area() as f64).sum();
        self.sum.fill(0.0);
        let mut all = Distortion::default();
        for some in which.chunks(LANES) {
            let (this, shared) = (&*self, &*net);
            team.each(some.len(), |i, desk, lane| {
                let part = &this.parts[some[i]];
                lane.gradient.fill(0.0);
                let (input, out) = this.forward(desk, shared, part);
                // In bits: cost / (lambda / pixels), a mean over channels.
                let samples = (part.pixels(pictures).area() * shared.spec.channels) as f64;
                let gain = samples / (lambda * shared.spec.channels as f64);
                desk.measure(lane, pictures, part, tune, out, gain);
                desk.tape.backward(&shared.layers, None, &mut lane.gradient);
                lane.codes.clear();
                lane.codes.extend_from_slice(desk.tape.gradient(input));
            });
            let used = &team.lanes[..some.len()];
            reduce(used, &mut self.partial);
            self.sum.iter_mut().zip(&self.partial).for_each(|(s, p)| *s += p);
            for (lane, &i) in used.iter().zip(some) {
                all.add(&lane.distortion);
                let part = &self.parts[i];
                let field = &mut self.fields[part.picture];
                let (w, h) = field.size;
                let d = &lane.codes;
                for c in 0..n {
                    for (k, y) in (part.all.y0..part.all.y1).enumerate() {
                        let to = &mut field.d[(c * h + y) * w + part.all.x0..][..part.all.width()];
                        let from = &d[(c * part.all.height() + k) * part.all.width()..];
                        to.iter_mut().zip(from).for_each(|(to, d)| *to += d);
                    }
                }
            }
        }
        // The weights' bits belong to the whole picture, of which this step saw a part.
        net.to_parameters(&mut self.sum);
        net.add_weights_rate(&mut self.sum, (seen / self.pixels) as f32);
        net.step(&mut self.adam, &self.sum, cosine(progress, 1e-3, 2e-5));
        self.move_codes(n, &which, cosine(progress, 4e-2, 4e-3));
        self.which = which;
        if step.is_multiple_of(self.refresh()) {
            self.update_rates(n);
        }
        all
    }

    /// Adam on the codes in the cores of some parts; the gradients are then used up.
    fn move_codes(&mut self, n: usize, which: &[usize], rate: f32) {
        for &i in which {
            self.visits[i] += 1;
            let part = self.parts[i];
            let t = self.visits[i];
            let (c1, c2) = (1.0 - 0.9f32.powi(t), 1.0 - 0.99f32.powi(t));
            let field = &mut self.fields[part.picture];
            let (w, h) = field.size;
            for c in 0..n {
                for y in part.core.y0..part.core.y1 {
                    let from = (c * h + y) * w;
                    for k in from + part.core.x0..from + part.core.x1 {
                        let rest = field.y[k] - f32::from(field.rates.guess[k]);
                        let slope = if rest.abs() < 1.0 { field.rates.first[k] } else { field.rates.further[k] };
                        let g = field.d[k] + if rest < 0.0 { -slope } else { slope };
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
    pub fn choose_steps(&self, net: &mut Net, team: &mut Team, pictures: &[Picture], tune: Tune, lambda: f64) {
        let which = self.spread(PARTS);
        let values = net.synthesis_values();
        let tensors = net.spec.tensors();
        let mut exponents: Vec<u32> = tensors.iter().map(|t| Quantised::finest(&values[t.range.clone()])).collect();
        let before = net.exponents.take();
        let (weight_bit, most) = if before.is_none() { (WEIGHT_BIT, usize::MAX) } else { (1.0, 1) };
        for (e, before) in exponents.iter_mut().zip(before.iter().flatten()) {
            *e = (*e).min(*before);
        }
        let mut cost = |net: &mut Net, exponents: &[u32]| {
            net.exponents = Some(exponents.to_vec());
            net.prepare(SYNTHESIS);
            let d = self.distortion(net, team, pictures, tune, &which);
            let bits = Quantised::new(&net.spec, &values, exponents.to_vec()).bits(&net.spec);
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
    pub fn sort_channels(&mut self, net: &mut Net) {
        let n = net.spec.n;
        let loud = |c: usize| -> i64 {
            let of = |f: &Field| {
                f.codes
                    .chunks_exact(f.size.0 * f.size.1)
                    .nth(c)
                    .map_or(0, |p| p.iter().map(|q| i64::from(q.unsigned_abs())).sum())
            };
            self.fields.iter().map(of).sum()
        };
        let mut order: Vec<usize> = (0..n).collect();
        let key: Vec<i64> = (0..n).map(loud).collect();
        order.sort_by_key(|&c| (std::cmp::Reverse(key[c]), c));
        for f in &mut self.fields {
            let plane = f.size.0 * f.size.1;
            let (y, codes) = (f.y.clone(), f.codes.clone());
            for (to, &from) in order.iter().enumerate() {
                f.y[to * plane..][..plane].copy_from_slice(&y[from * plane..][..plane]);
                f.codes[to * plane..][..plane].copy_from_slice(&codes[from * plane..][..plane]);
            }
        }
        net.reorder(&order);
    }
}
