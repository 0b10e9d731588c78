//! Binary decisions whose probability is mixed from many contexts.

use crate::entropy::adaptive::{BinaryCoder, Logistic};
use alloc::{vec, vec::Vec};

/// What a mixing weight starts with: contexts that agree are together surer than each alone.
const WEIGHT: f32 = 0.4375;
/// The rate at which mixing weights learn: 1/128 of the error, which has 16 fraction bits. Half and double the rate change
/// photographs by 0.1 % at most.
const RATE: f32 = 1.0 / (1 << 23) as f32;
/// Mixing weights stay within this, so that no sequence of decisions overflows.
const MAX_WEIGHT: f32 = 16.0;
/// Nodes of a final correction, one unit of log-odds apart.
const NODES: usize = 25;
/// Counters forget old decisions exponentially after this many; before, they are means.
const MEMORY: u32 = 250;
/// What a counter's past counts for at most in the next plane.
const NEXT_PLANE: u32 = 24;

/// The probability of a decision in one context: 22 bits of probability, stored minus one half so that 0 is a new counter,
/// above 10 bits of count.
#[derive(Clone, Copy, Debug, Default)]
struct Counter(u32);

/// Probability one half.
const HALF: u32 = 1 << 31;

impl Counter {
    #[inline]
    fn p(self) -> u32 {
        (self.0 ^ HALF) >> 10
    }
    #[inline]
    fn n(self) -> u32 {
        self.0 & 1023
    }
    #[inline]
    fn learn(&mut self, bit: bool, rates: &[u16; 256]) {
        let (p, n) = (self.p() as i32, self.n() & 255);
        let target = if bit { (1 << 22) - 1 } else { 0 };
        // No overflow: the largest rate is that of a new counter, whose probability is one half.
        let p = p + ((((target - p) >> 6) * i32::from(rates[n as usize])) >> 10);
        self.0 = ((p as u32) << 10 ^ HALF) | (n + u32::from(n < MEMORY));
    }
}

/// A kind of decision: `K` tables of counters, of which one each is chosen by a context, two groups of sets of mixing weights, and final
/// corrections of the probability. `K` is a multiple of 4.
pub struct Decisions<const K: usize> {
    logistic: Logistic,
    tables: [Vec<Counter>; K],
    weights: [Vec<[f32; K]>; 2],
    corrections: Vec<[u16; NODES]>,
    rates: [u16; 256],
}

impl<const K: usize> Decisions<K> {
    /// Tables of these sizes, as many sets of weights in each group, and as many corrections.
    pub fn new(sizes: [usize; K], sets: [usize; 2], corrections: usize) -> Self {
        let logistic = Logistic::default();
        let mut line = [0; NODES];
        for (i, p) in line.iter_mut().enumerate() {
            *p = logistic.squash((i as i32 - 12) * 256) as u16;
        }
        let mut rates = [0; 256];
        for (n, r) in rates.iter_mut().enumerate() {
            *r = ((1 << 17) / (2 * n as u32 + 3)) as u16;
        }
        Decisions {
            logistic,
            tables: sizes.map(|n| vec![Counter(0); n]),
            weights: sets.map(|n| vec![[WEIGHT; K]; n]),
            corrections: vec![line; corrections],
            rates,
        }
    }

    /// Bytes of tables of these sizes, and so on.
    pub fn memory(sizes: [usize; K], sets: [usize; 2], corrections: usize) -> u64 {
        let sum = |n: &[usize]| n.iter().sum::<usize>();
        (4 * sum(&sizes) + 4 * K * sum(&sets) + 2 * NODES * corrections) as u64
    }

    /// Prepares for the next plane: what was learned counts less.
    pub fn forget(&mut self) {
        for c in self.tables.iter_mut().flatten() {
            c.0 = c.0 & !1023 | c.n().min(NEXT_PLANE);
        }
    }

    /// Codes `bit` with the counters, sets of weights and correction that are chosen, then learns it.
    #[inline]
    pub fn code(
        &mut self,
        coder: &mut impl BinaryCoder,
        contexts: &[usize; K],
        sets: [usize; 2],
        correction: usize,
        bit: bool,
    ) -> bool {
        let l = self.logistic;
        let mut odds = [0.0f32; K];
        for k in 0..K {
            odds[k] = l.stretch(self.tables[k][contexts[k]].p() >> 10) as f32 * (1.0 / 256.0);
        }
        let dot = |w: &[f32; K]| {
            let mut s = [0.0f32; 4];
            for (o, w) in odds.chunks_exact(4).zip(w.chunks_exact(4)) {
                for k in 0..4 {
                    s[k] += o[k] * w[k];
                }
            }
            (((s[0] + s[1]) + (s[2] + s[3])) * 256.0) as i32
        };
        let limit = |x: i32| x.clamp(-Logistic::MAX, Logistic::MAX);
        let x = [limit(dot(&self.weights[0][sets[0]])), limit(dot(&self.weights[1][sets[1]]))];
        let mean = (x[0] + x[1]) >> 1;
        let p = l.squash(mean);
        // Interpolate the correction between two nodes.
        let place = mean + Logistic::MAX;
        let node = (place >> 8).min(23) as usize;
        let part = place - 256 * node as i32;
        let line = &mut self.corrections[correction];
        let q = (i32::from(line[node]) * (256 - part) + i32::from(line[node + 1]) * part) >> 8;
        let last = ((p + q) >> 1).clamp(1, 65535);
        let bit = coder.decide(last as u32, bit);
        let near = &mut line[node + usize::from(part >= 128)];
        let target = if bit { 65535 } else { 0 };
        *near = (i32::from(*near) + ((target - i32::from(*near)) >> 6)) as u16;
        for (group, x) in x.iter().enumerate() {
            let error = (if bit { 65536 } else { 0 } - l.squash(*x)) as f32 * RATE;
            for (w, o) in self.weights[group][sets[group]].iter_mut().zip(&odds) {
                *w = (*w + o * error).clamp(-MAX_WEIGHT, MAX_WEIGHT);
            }
        }
        for k in 0..K {
            self.tables[k][contexts[k]].learn(bit, &self.rates);
        }
        bit
    }
}
