//! Codes planes of samples, one after the other; each is predicted from itself and from the two planes before.

use super::exact::{Exact, Surroundings};
use super::least_squares::{LeastSquares, BLOCK};
use super::residual::{Contexts, Residuals};
use crate::entropy::adaptive::{level, BinaryCoder};
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::Result;
use crate::limits::{try_filled, try_vec};
use alloc::vec::Vec;

const PAD: usize = 4;

/// A plane with its surroundings.
struct Plane {
    width: usize,
    height: usize,
    stride: usize,
    v: Vec<i32>,
    /// Residuals, in sixteenths.
    e: Vec<i32>,
}

impl Plane {
    fn new(width: usize, height: usize, start: i32) -> Result<Self> {
        let stride = width + 2 * PAD;
        let n = stride * (height + PAD + 2);
        Ok(Plane { width, height, stride, v: try_filled(n, start)?, e: try_filled(n, 0)? })
    }
    fn at(&self, y: usize, x: usize) -> usize {
        (y + PAD) * self.stride + PAD + x
    }
    fn set(&mut self, y: usize, x: usize, v: i32, e: i32) {
        let at = self.at(y, x);
        self.v[at] = v;
        self.e[at] = e;
        if y == 0 {
            for r in 0..PAD {
                for c in x..=x + PAD {
                    self.v[r * self.stride + PAD + c] = v;
                }
            }
        }
        if x + 1 == self.width {
            for c in 1..=PAD {
                self.v[at + c] = v;
                self.e[at + c] = e;
            }
            // The left surroundings of the next row.
            let first = self.v[self.at(y, 0)];
            let next = self.at(y + 1, 0);
            self.v[next - PAD..next].fill(first);
        }
    }
    fn finish(&mut self) {
        let first = self.v[self.at(0, 0)];
        for r in 0..=PAD {
            self.v[r * self.stride..r * self.stride + PAD].fill(first);
        }
        let last = self.at(self.height - 1, 0) - PAD;
        for r in 1..3 {
            let to = last + r * self.stride;
            if to + self.stride <= self.v.len() {
                self.v.copy_within(last..last + self.stride, to);
                self.e.copy_within(last..last + self.stride, to);
            }
        }
    }
}

fn signed(v: i32, limits: &[i32]) -> usize {
    let m = v.abs();
    let k = limits.iter().take_while(|l| m >= **l).count();
    if v < 0 {
        limits.len() - k
    } else {
        limits.len() + k
    }
}
fn steps(v: i32, limits: &[i32]) -> usize {
    limits.iter().take_while(|l| v >= **l).count()
}

fn gradient(w: i32, n: i32, nw: i32) -> i32 {
    (w + n - nw).clamp(w.min(n), w.max(n))
}

/// The planes of a picture.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The largest value of each plane.
    pub tops: Vec<i32>,
    /// The order of coding.
    pub order: Vec<usize>,
    /// The values are indices of a palette.
    pub palette: bool,
}

/// How the samples of a tile are coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// As bits of equal probability.
    Plain,
    /// As differences from a prediction.
    Smooth,
    /// As equal to a candidate where neighbours are often equal, else as a difference.
    Mixed,
    /// As equal to a candidate, or if not as a difference.
    Exact,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Plain, Mode::Smooth, Mode::Mixed, Mode::Exact];
}

/// Probability one half, of `2^16`.
const HALF: u32 = 1 << 15;

/// Bytes of the working memory for a tile of `width x height` samples in `planes` planes.
pub fn memory(planes: usize, width: usize, height: usize) -> u64 {
    let stride = (width + 2 * PAD) as u64;
    // Three planes with their residuals: the present one and the two before.
    let states = 8 * stride * (height + PAD + 2) as u64 * planes.min(3) as u64;
    let errors = 4 * 3 * 3 * stride;
    states
        + errors
        + LeastSquares::<6>::memory(width)
        + Residuals::memory()
        + Exact::memory(width.saturating_mul(height))
}

/// Codes a tile, or, if `coder` reads, decodes it into `samples`, planes of `width * height` values. A decoder ignores
/// `mode`.
///
/// # Errors
/// A decoder whose bytes end before the samples do, and an allocation that fails.
pub fn code(
    coder: &mut impl BinaryCoder,
    samples: &mut [u16],
    layout: &Layout,
    width: usize,
    height: usize,
    mode: Mode,
) -> Result<()> {
    let area = width * height;
    if area == 0 || layout.tops.iter().all(|t| *t == 0) {
        samples.fill(0);
        return Ok(());
    }
    let high = coder.decide(HALF, mode as usize & 2 != 0);
    let low = coder.decide(HALF, mode as usize & 1 != 0);
    let mode = Mode::ALL[2 * usize::from(high) + usize::from(low)];
    if mode == Mode::Plain {
        for (plane, top) in samples.chunks_exact_mut(area).zip(&layout.tops) {
            plane
                .iter_mut()
                .for_each(|v| *v = bits_up_to(*top as u32, u32::from(*v), |_, bit| coder.decide(HALF, bit)) as u16);
            coder.check()?;
        }
        return Ok(());
    }
    let mut residuals = Residuals::default();
    let mut exact = Exact::new(area);
    // The planes before: the last one and the one before it.
    let mut done: Vec<Plane> = Vec::new();
    for &c in &layout.order {
        if !done.is_empty() {
            residuals.forget();
            exact.forget();
        }
        let top = layout.tops[c];
        let plane = &mut samples[c * area..][..area];
        let start = done.first().map_or((top + 1) >> 1, |p| p.v[p.at(0, 0)].min(top));
        let state = Plane::new(width, height, start)?;
        let refs: Vec<&Plane> = done.iter().collect();
        let code = match refs.len() {
            // One instance for any number of inputs makes the module that browsers load smaller. Zeros are added to its sums.
            _ if cfg!(target_family = "wasm") => code_plane::<6>,
            0 => code_plane::<3>,
            1 => code_plane::<5>,
            _ => code_plane::<6>,
        };
        let p = code(coder, plane, &refs, state, top, layout.palette, mode, &mut residuals, &mut exact)?;
        done.insert(0, p);
        done.truncate(2);
    }
    Ok(())
}

/// Codes `value`, at most `top`, bit by bit from the highest on, with `decide(node, bit)`; bits that would make it larger
/// than `top` are 0 and not coded. `node` has a leading one and the bits before.
pub fn bits_up_to(top: u32, value: u32, mut decide: impl FnMut(u32, bool) -> bool) -> u32 {
    let count = u32::BITS - top.leading_zeros();
    let mut v = 0;
    for i in (0..count).rev() {
        let fits = (2 * v + 1) << i <= top;
        let bit = fits && decide(1 << (count - 1 - i) | v, value >> i & 1 == 1);
        v = 2 * v + u32::from(bit);
    }
    v
}

/// Encodes a tile in the mode that makes it smallest. Large tiles are judged by parts of them.
#[cfg(feature = "fit")]
pub fn encode(samples: &[u16], layout: &Layout, width: usize, height: usize) -> Vec<u8> {
    let mode = best_mode(samples, layout, width, height).1;
    let mut encoder = RangeEncoder::default();
    let done = code(&mut encoder, &mut samples.to_vec(), layout, width, height, mode);
    done.expect("memory for samples that are in memory");
    encoder.finish()
}

/// Side of the parts by which a tile is judged. Smaller ones would judge before the probabilities are learned.
#[cfg(feature = "fit")]
const PART: usize = 128;

/// About the bits of a tile in the best mode, and this mode.
#[cfg(feature = "fit")]
pub fn best_mode(samples: &[u16], layout: &Layout, width: usize, height: usize) -> (f64, Mode) {
    use crate::entropy::adaptive::Price;
    // Parts along a diagonal, or the whole if it is hardly larger.
    let count = if width * height <= 2 * PART * PART { 1 } else { 3 };
    let (w, h) = if count == 1 { (width, height) } else { (width.min(PART), height.min(PART)) };
    let parts: Vec<Vec<u16>> = (0..count)
        .map(|i| {
            let at = |size: usize, part: usize| (size - part) * (2 * i + 1) / (2 * count);
            let (x0, y0) = (at(width, w), at(height, h));
            let rows = (0..layout.order.len()).flat_map(|c| (y0..y0 + h).map(move |y| (c * height + y) * width + x0));
            rows.flat_map(|from| samples[from..from + w].iter().copied()).collect()
        })
        .collect();
    let price = |mode: Mode| {
        let mut price = Price::default();
        for p in &parts {
            code(&mut price, &mut p.clone(), layout, w, h, mode).expect("memory for a part of what is in memory");
        }
        price.0 * (width * height) as f64 / (count * w * h) as f64
    };
    let modes = if layout.palette { &[Mode::Plain, Mode::Exact][..] } else { &Mode::ALL };
    modes.iter().map(|m| (price(*m), *m)).min_by(|a, b| a.0.total_cmp(&b.0)).expect("modes")
}

/// What a sample counts as, in multiplications that take as long.
pub const WORK: u64 = 4096;

/// Multiplications of a sample, about: two predictions, the sums that they are learned from, a part of their solution, and
/// six decisions.
pub const MACS: f64 = 800.0;

fn code_plane<const C: usize>(
    coder: &mut impl BinaryCoder,
    out: &mut [u16],
    refs: &[&Plane],
    mut p: Plane,
    top: i32,
    palette: bool,
    mode: Mode,
    residuals: &mut Residuals,
    exact: &mut Exact,
) -> Result<Plane> {
    let (width, height) = (p.width, p.height);
    let depth = if top == 0 { 1 } else { top.ilog2() + 1 };
    let s = p.stride as isize;
    // Offsets of the neighbours.
    let own: [isize; 11] = [-1, -s, -s - 1, -s + 1, -2, -2 * s, -2 * s + 1, -2 * s - 1, -s - 2, -s + 2, -3 * s];
    let first: [isize; 8] = [0, 1, s, -1, -s, -s - 1, -s + 1, s + 1];
    let second: [isize; 4] = [0, 1, s, -1];
    let mut prior = [0.0f32; 23];
    prior[..3].copy_from_slice(&[0.3125, 0.3125, -0.1875]);
    prior[11] = 0.625;
    prior[19] = 0.1875;
    let n = [11, 19, 23][refs.len()];
    let mut squares = LeastSquares::<C>::new(width, &prior[..n])?;
    const P: usize = 3;
    let mut rows = [[0.0f32; 4]; C];
    // Errors of each predictor, in sixteenths, as planes of two rows would do.
    let mut errors: Vec<[i32; P]> = try_vec(3 * p.stride)?;
    for y in 0..height {
        coder.check()?;
        let rows_at = [y % 3, (y + 2) % 3, (y + 1) % 3].map(|r| r * p.stride + PAD);
        for x in 0..width {
            let at = p.at(y, x);
            let get = |v: &[i32], o: isize| v[(at as isize + o) as usize];
            let mut around = Surroundings {
                w: get(&p.v, -1),
                n: get(&p.v, -s),
                nw: get(&p.v, -s - 1),
                ne: get(&p.v, -s + 1),
                ww: get(&p.v, -2),
                nn: get(&p.v, -2 * s),
                nne: get(&p.v, -2 * s + 1),
                here: [-1; 2],
                same: 0,
            };
            for (r, here) in refs.iter().zip(&mut around.here) {
                *here = r.v[at];
            }
            if let Some(r) = refs.first() {
                for (k, o) in [-1, -s, -s - 1, -s + 1].into_iter().enumerate() {
                    around.same |= usize::from(get(&r.v, o) == r.v[at]) << k;
                }
            }
            if palette {
                let v = exact.code(coder, &around, Some(top), i32::from(out[y * width + x])).unwrap_or(0);
                exact.remember(v);
                out[y * width + x] = v as u16;
                p.set(y, x, v, 0);
                continue;
            }
            if x % BLOCK == 0 {
                squares.enter();
            }
            let value = i32::from(out[y * width + x]);
            let tries = mode == Mode::Exact || (mode == Mode::Mixed && exact.opens(&around));
            if tries {
                if let Some(v) = exact.code(coder, &around, None, value) {
                    exact.remember(v);
                    exact.learn(&around, v);
                    out[y * width + x] = v as u16;
                    errors[rows_at[0] + x] = [0; P];
                    p.set(y, x, v, 0);
                    if x % BLOCK == BLOCK - 1 || x + 1 == width {
                        squares.leave(x / BLOCK);
                    }
                    continue;
                }
            }
            squares.solve(x / BLOCK);
            let (w, nn, nw, ne) = (get(&p.v, -1), get(&p.v, -s), get(&p.v, -s - 1), get(&p.v, -s + 1));
            let (ww, n2) = (get(&p.v, -2), get(&p.v, -2 * s));
            let mean = (3 * w + 3 * nn + nw + ne) >> 3;
            let d = rows.as_flattened_mut();
            for (d, o) in d.iter_mut().zip(own) {
                *d = (get(&p.v, o) - mean) as f32;
            }
            let mut ref_guess = 0;
            let mut k = own.len();
            for (r, offsets) in refs.iter().zip([&first[..], &second[..]]) {
                let m = (3 * get(&r.v, -1) + 3 * get(&r.v, -s) + get(&r.v, -s - 1) + get(&r.v, -s + 1)) >> 3;
                for o in offsets {
                    d[k] = (get(&r.v, *o) - m) as f32;
                    k += 1;
                }
            }
            if let Some(r) = refs.first() {
                let g = |o: isize| get(&p.v, o) - get(&r.v, o);
                ref_guess = get(&r.v, 0) + gradient(g(-1), g(-s), g(-s - 1));
            }
            // Predictions in sixteenths.
            let fixed = |v: f32| {
                let v = (v + mean as f32) * 16.0 + 0.5;
                if v > 0.0 {
                    if v < (top * 16) as f32 {
                        v as i32
                    } else {
                        top * 16
                    }
                } else {
                    0
                }
            };
            let predictions: [i32; P] = [
                fixed(squares.predict(0, &rows)),
                fixed(squares.predict(1, &rows)),
                16 * if refs.is_empty() { gradient(w, nn, nw) } else { ref_guess.clamp(0, top) },
            ];
            let mut sum = [0.0f32; 2];
            let mut spread = 0;
            for k in 0..P {
                let e = |back: usize, o: usize| errors[rows_at[back] + x + o - 2][k];
                let e = 2 * e(0, 1) + 2 * e(1, 2) + e(1, 1) + e(1, 3) + e(0, 0) + e(2, 2);
                let e = e as f32 + 16.0;
                let weight = 1.0 / (e * e);
                sum[0] += weight;
                sum[1] += weight * predictions[k] as f32;
            }
            let guess16 = ((sum[1] / sum[0] + 0.5) as i32).clamp(0, 16 * top);
            for p in predictions {
                spread += (p - guess16).abs();
            }
            let mut guess = (guess16 + 8) >> 4;
            if mode == Mode::Exact {
                let nearest = [w, nn, nw, ne, ww, n2].into_iter().min_by_key(|v| (16 * v - guess16).abs());
                guess = nearest.unwrap_or(guess);
            }
            let shift = guess16 - 16 * guess;
            let err = |o: isize| get(&p.e, o);
            let (ew, en, enw, ene) = (err(-1), err(-s), err(-s - 1), err(-s + 1));
            let own_energy = 2 * (ew.abs() + en.abs()) + enw.abs() + ene.abs() + err(-2).abs() + err(-2 * s).abs();
            let (mut rc, mut rc2, mut r_energy) = (0, 0, 0);
            if let Some(r) = refs.first() {
                rc = get(&r.e, 0);
                r_energy =
                    2 * rc.abs() + get(&r.e, 1).abs() + get(&r.e, s).abs() + get(&r.e, -1).abs() + get(&r.e, -s).abs();
            }
            if let Some(r) = refs.get(1) {
                rc2 = get(&r.e, 0);
            }
            let energy = if refs.is_empty() {
                own_energy + (spread >> 1)
            } else {
                (3 * own_energy + 2 * r_energy + spread) >> 2
            };
            let fine = level(energy as u32 >> 2, 31);
            let fraction = (shift + 8).clamp(0, 15) as usize;
            let near = |v: i32| signed(v / 4, &[1, 2, 4, 8, 16, 32, 64]); // 15
            let q = |v: i32| signed(v / 8, &[1, 3, 7, 15, 31, 63]); // 13
            let coarse = (fine / 3).min(9);
            let pattern = {
                let g = |v: i32| usize::from(16 * v > guess16);
                g(w) | g(nn) << 1
                    | g(nw) << 2
                    | g(ne) << 3
                    | g(2 * w - ww) << 4
                    | g(2 * nn - n2) << 5
                    | g(ww) << 6
                    | g(n2) << 7
            };
            let tables = [
                fine * 16 + fraction,
                q(rc) * 10 + coarse + 160 * (fraction / 4),
                near(predictions[0] - guess16) * 15 + near(predictions[2] - guess16) + 225 * (coarse / 3),
                q(ew) * 13 + q(en) + 169 * (coarse / 2),
                pattern * 4 + (fine / 4).min(3).max(coarse.min(3)),
                ((guess as u32 * 64) >> depth) as usize * 10 + coarse,
                q(rc) * 13 + q(rc2) + 169 * (coarse / 2),
                level(spread as u32, 31) * 32 + fine,
            ];
            let contexts = Contexts {
                tables,
                sets: [coarse, steps(r_energy, &[8, 16, 32, 64, 128, 256, 512]) * 4 + fraction / 4],
            };
            let deep = (mode == Mode::Exact).then(|| near(shift >> 1) as i32 * 64 + coarse as i32);
            let v = residuals.code(coder, &contexts, guess, top, deep, value);
            if tries {
                exact.remember(v);
            }
            exact.learn(&around, v);
            out[y * width + x] = v as u16;
            let e = 16 * v - guess16;
            errors[rows_at[0] + x] = predictions.map(|p| (16 * v - p).abs());
            p.set(y, x, v, e);
            rows.as_flattened_mut()[n] = (v - mean) as f32;
            let weight = 1.0 / (energy as f32 + 32.0);
            squares.learn(&rows, weight);
            if x % BLOCK == BLOCK - 1 || x + 1 == width {
                squares.leave(x / BLOCK);
            }
            rows.as_flattened_mut()[n] = 0.0;
        }
    }
    p.finish();
    Ok(p)
}
