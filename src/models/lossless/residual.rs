//! The difference of a sample from its prediction as binary decisions.

use super::decisions::Decisions;
use super::exact::hash;
use crate::entropy::adaptive::BinaryCoder;

/// Number of contexts of a residual.
pub const K: usize = 8;
/// Decisions of a residual that have probabilities of their own in each context.
const NODES: usize = 64;
/// The tables of which the contexts are all decisions so far, where steps between samples repeat.
const DEEP: [usize; 2] = [1, 6];

/// The adaptive probabilities of differences.
pub struct Residuals(Decisions<K>);

/// The contexts of one difference, an index below `SIZES` and `SETS` each.
pub struct Contexts {
    /// Of the counters.
    pub tables: [usize; K],
    /// Of the mixing weights.
    pub sets: [usize; 2],
}

/// Number of contexts in each table.
const SIZES: [usize; K] = [1 << 9, 1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10, 1 << 10];
/// Number of contexts of each group of mixing weights.
const SETS: [usize; 2] = [16, 32];

impl Default for Residuals {
    fn default() -> Self {
        Residuals(Decisions::new(SIZES.map(|s| s * NODES), SETS.map(|s| s * NODES), NODES * SETS[0]))
    }
}

impl Residuals {
    /// Bytes that it holds.
    pub fn memory() -> u64 {
        Decisions::memory(SIZES.map(|s| s * NODES), SETS.map(|s| s * NODES), NODES * SETS[0])
    }

    /// Prepares for the next plane.
    pub fn forget(&mut self) {
        self.0.forget();
    }

    /// Codes `value`, `0 ..= top`, predicted as `guess` in the same range, and returns it. With `deep`, a context, the steps
    /// between samples are expected to repeat exactly.
    pub fn code(
        &mut self,
        coder: &mut impl BinaryCoder,
        c: &Contexts,
        guess: i32,
        top: i32,
        deep: Option<i32>,
        value: i32,
    ) -> i32 {
        let mut path = 1i32;
        let mut decide = |node: usize, bit: bool| {
            let mut tables = c.tables;
            tables.iter_mut().for_each(|t| *t = *t * NODES + node);
            if let Some(shift) = deep {
                // Where steps between samples repeat, all their bits count.
                let size = 1024 * NODES as u32;
                tables[DEEP[0]] = (hash(&[path, node as i32]) % size) as usize;
                tables[DEEP[1]] = (hash(&[path, node as i32, shift]) % size) as usize;
            }
            let sets = [c.sets[0] * NODES + node, c.sets[1] * NODES + node];
            let bit = self.0.code(coder, &tables, sets, sets[0], bit);
            path = path.wrapping_mul(6).wrapping_add(bit.into());
            bit
        };
        if top == 0 {
            return 0;
        }
        if decide(0, value == guess) {
            return guess;
        }
        let negative = guess > 0 && (guess == top || decide(1, value < guess));
        let most = if negative { guess } else { top - guess } - 1;
        let size = if negative { guess - value } else { value - guess } - 1;
        // The bucket: 0, 1, 2-3, 4-7, ...
        let last = if most == 0 { 0 } else { most.ilog2() as i32 + 1 };
        let of = if size <= 0 { 0 } else { size.ilog2() as i32 + 1 };
        let mut bucket = 0;
        while bucket < last && decide(2 + bucket as usize, of > bucket) {
            bucket += 1;
        }
        let mut v = i32::from(bucket > 0);
        for i in 1..bucket {
            let shift = bucket - 1 - i;
            let bit = size >> shift & 1 == 1;
            // A value beyond the range is not coded.
            if (2 * v + 1) << shift > most {
                v *= 2;
                continue;
            }
            let bit = match i {
                1 => decide(20 + bucket as usize, bit),
                2 if bucket <= 15 => decide(38 + 2 * (bucket as usize - 3) + (v & 1) as usize, bit),
                _ => decide(63, bit),
            };
            v = 2 * v + i32::from(bit);
        }
        if negative {
            guess - 1 - v
        } else {
            guess + 1 + v
        }
    }
}
