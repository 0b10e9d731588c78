//! Samples that equal a neighbour or a sample seen in the same surroundings, as in drawings, text and flat areas.

use super::decisions::Decisions;
use super::planes::bits_up_to;
use crate::entropy::adaptive::BinaryCoder;
use alloc::{vec, vec::Vec};

/// Contexts of the decision whether a candidate is the sample.
const K: usize = 8;
/// Contexts of a bit of a palette index.
const T: usize = 8;
/// Candidates are tried where a neighbour has been the sample with at least this probability, of 2^16. On photographs a third
/// of it costs 1 to 5 %, as a difference does not know which values were ruled out; 0.9 costs drawings 1 to 2 %.
const GATE: u16 = 45000;
/// Sources of candidates.
const SOURCES: usize = 6;

/// The surroundings of a sample.
#[derive(Clone, Copy, Default)]
pub struct Surroundings {
    pub w: i32,
    pub n: i32,
    pub nw: i32,
    pub ne: i32,
    pub ww: i32,
    pub nn: i32,
    pub nne: i32,
    /// The samples of the planes before at this place, or -1.
    pub here: [i32; 2],
    /// Which neighbours (W, N, NW, NE) of the plane before equal its sample at this place; 0 for the first plane.
    pub same: usize,
}

impl Surroundings {
    /// Which neighbours are equal.
    fn pattern(&self) -> usize {
        let e = |a: i32, b: i32| usize::from(a == b);
        e(self.w, self.n)
            | e(self.w, self.nw) << 1
            | e(self.n, self.nw) << 2
            | e(self.n, self.ne) << 3
            | e(self.w, self.ww) << 4
            | e(self.n, self.nn) << 5
            | e(self.w, self.ne) << 6
            | e(self.ne, self.nne) << 7
    }
}

/// A hash of a context.
pub fn hash(values: &[i32]) -> u32 {
    let mut h = 0u32;
    for v in values {
        h = (h ^ *v as u32).wrapping_mul(0x9E37_79B1);
        h ^= h >> 15;
    }
    h
}

/// The last sample seen in a context, and how often it came in a row.
#[derive(Clone, Copy, Default)]
struct Memory {
    value: u16,
    /// 0: nothing seen.
    runs: u8,
}

/// The adaptive probabilities of candidates.
pub struct Exact {
    /// Hashed contexts have this many bits.
    bits: u32,
    candidates: Decisions<K>,
    tree: Decisions<T>,
    memories: [Vec<Memory>; 2],
    /// The contexts of the present sample.
    pending: [u32; 2],
    /// Probability that a neighbour equals the sample.
    gate: Vec<u16>,
}

/// Bits of an index of the tables for tiles of `area` samples.
fn bits_of(area: usize) -> u32 {
    (area.max(1).ilog2() + 3).clamp(8, 18)
}

/// Numbers of contexts in the tables of candidates and of the tree, with hashed tables of `h`.
fn sizes(h: usize) -> ([usize; K], [usize; T]) {
    ([h, h, SOURCES * 8 * 8 * 8, SOURCES << 12, h, 64 * 64 * 16, h, h], [1 << 16, h, h, h, h, h, h, h])
}

/// Sets of mixing weights for candidates and for the tree.
const SETS: ([usize; 2], [usize; 2]) = ([SOURCES * 16, SOURCES * 64], [16, 1]);
/// Entries of the gate.
const GATES: usize = 1 << 12;

impl Exact {
    /// Nothing learned yet, for a tile of `area` samples a plane.
    pub fn new(area: usize) -> Self {
        let bits = bits_of(area);
        let h = 1usize << bits;
        let (candidates, tree) = sizes(h);
        Exact {
            bits,
            candidates: Decisions::new(candidates, SETS.0, SETS.0[0]),
            tree: Decisions::new(tree, SETS.1, SETS.1[0]),
            memories: [vec![Memory::default(); h], vec![Memory::default(); h]],
            pending: [0; 2],
            gate: vec![1 << 15; GATES],
        }
    }

    /// Bytes that it holds for a tile of `area` samples a plane.
    pub fn memory(area: usize) -> u64 {
        let h = 1usize << bits_of(area);
        let (candidates, tree) = sizes(h);
        let memories = 2 * h * core::mem::size_of::<Memory>() + 2 * GATES;
        Decisions::memory(candidates, SETS.0, SETS.0[0]) + Decisions::memory(tree, SETS.1, SETS.1[0]) + memories as u64
    }

    /// Prepares for the next plane.
    pub fn forget(&mut self) {
        self.candidates.forget();
        self.memories.iter_mut().flatten().for_each(|m| *m = Memory::default());
    }

    /// Whether candidates are worth trying in these surroundings.
    pub fn opens(&self, s: &Surroundings) -> bool {
        self.gate[s.same << 8 | s.pattern()] >= GATE
    }

    /// Learns for [`opens`](Self::opens) whether a neighbour had the value.
    pub fn learn(&mut self, s: &Surroundings, value: i32) {
        let p = &mut self.gate[s.same << 8 | s.pattern()];
        let target = if [s.w, s.n, s.ne, s.nw].contains(&value) { 65535 } else { 0 };
        *p = (i32::from(*p) + ((target - i32::from(*p)) >> 5)) as u16;
    }

    /// Codes whether `value` is one of the candidates; `palette` has the largest value of a palette's index, which is then
    /// coded if not. `None`: it is not, and is still to be coded.
    pub fn code(
        &mut self,
        coder: &mut impl BinaryCoder,
        s: &Surroundings,
        palette: Option<i32>,
        value: i32,
    ) -> Option<i32> {
        let pattern = s.pattern();
        let gate = s.same << 8 | pattern;
        let [c, c2] = s.here;
        let h = if c < 0 {
            [hash(&[s.w, s.n, s.nw, s.ne, s.ww, s.nn]), hash(&[s.w, s.n, s.ne])]
        } else {
            [hash(&[c, c2, s.w, s.n]), hash(&[c, c2, -1])]
        };
        let high = hash(&[s.w, s.n, s.nw, s.ne, s.ww, s.nn, s.nne, c, c2]);
        let shift = 32 - self.bits;
        let seen = [self.memories[0][(h[0] >> shift) as usize], self.memories[1][(h[1] >> shift) as usize]];
        let of = |m: &Memory| if m.runs > 0 { i32::from(m.value) } else { -1 };
        let list = [of(&seen[0]), of(&seen[1]), s.w, s.n, s.ne, s.nw];
        let runs = seen.map(|m| usize::from(m.runs).min(7));
        let at = |x: u32| (x >> shift) as usize;
        let mut found = None;
        let mut tried = 0usize;
        for k in 0..SOURCES {
            let v = list[k];
            if v < 0 || list[..k].contains(&v) {
                continue;
            }
            let source = k as i32;
            let mut agree = 0;
            for (j, o) in list.iter().enumerate() {
                agree |= usize::from(*o == v) << j;
            }
            let contexts = [
                at(hash(&[h[0] as i32, source])),
                at(hash(&[h[1] as i32, v, source])),
                ((k * 8 + runs[0]) * 8 + runs[1]) * 8 + tried.min(7),
                k << 12 | gate,
                at(hash(&[s.w, s.n, s.same as i32, source])),
                (agree * 64 + (pattern & 63)) * 16 + s.same,
                at(hash(&[v, c, source + 8 * (agree as i32)])),
                at(hash(&[high as i32, source])),
            ];
            let sets = [k * 16 + s.same, k * 64 + runs[0] * 8 + runs[1]];
            if self.candidates.code(coder, &contexts, sets, sets[0], v == value) {
                found = Some(v);
                break;
            }
            tried += 1;
        }
        if let (None, Some(top)) = (found, palette) {
            let v = bits_up_to(top as u32, value as u32, |node, bit| {
                let set = node.ilog2() as usize;
                let node = node as i32;
                let contexts = [
                    node as usize & 65535,
                    at(hash(&[s.w, node])),
                    at(hash(&[s.n, node, -1])),
                    at(hash(&[s.w, s.n, node])),
                    at(hash(&[s.nw, s.ne, node, -2])),
                    at(hash(&[s.w, s.n, s.nw, s.ne, node])),
                    at(hash(&[s.w, s.ww, node, -3])),
                    at(hash(&[s.n, s.nn, node, -4])),
                ];
                self.tree.code(coder, &contexts, [set, 0], set, bit)
            }) as i32;
            found = Some(v);
        }
        self.pending = h;
        found
    }

    /// Remembers the value of the sample that [`code`](Self::code) saw last.
    pub fn remember(&mut self, value: i32) {
        for (memory, h) in self.memories.iter_mut().zip(self.pending) {
            let m = &mut memory[(h >> (32 - self.bits)) as usize];
            if m.runs > 0 && i32::from(m.value) == value {
                m.runs = (m.runs + 1).min(200);
            } else {
                *m = Memory { value: value as u16, runs: 1 };
            }
        }
    }
}
