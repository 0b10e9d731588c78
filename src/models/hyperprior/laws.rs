//! Where the Laplace distribution of each code lies and how wide it is: the hyper-synthesis and the context model, exact in
//! integers.
//!
//! All quantities with a unit have [`FRACTION`] fraction bits: locations and errors in codes, scales in nats, logarithms in
//! octaves. A weight is `w * 2^-exponent` with `|w| <= 2048`.
//!
//! For a channel `c`, the *error* of a code that is decoded already is `|q - mu|`, its distance from where it was expected.
//! With hyper-codes at their own resolution weighted first and then interpolated:
//!
//! ```text
//! mu = b + sum w q (neighbours, leading channels around, earlier channels) + up(sum w z)
//! s  = b + w lg(near errors) + w lg(far errors) + sum w lg(errors of earlier channels) + up(sum w z)
//! ```
//!
//! Widths: codes count as at most 511, so a product is below 2^20. The location adds at most
//! `12 + 3 * 8 + 254 + 1 < 2^9` of them: below 2^29. Hyper-codes: at most 16 products, below 2^24, and interpolation
//! multiplies by 64: below 2^30. Logarithms of earlier channels are below 9 octaves above their offset, `9 * 2^6 < 2^10` with
//! their fraction: a product is below 2^21, and the scale adds at most `2 * 254 < 2^9` of them: below 2^30. The logarithms of
//! the channel's own errors are below 2^11. What is summed of these is summed in 64 bits.

use super::{HyperSpec, AROUND, CELL, FAR, NEAR, NEIGHBOURS, SCALE_HYPER};
use crate::entropy::laplace::FRACTION;
use crate::limits::try_vec;
use crate::models::transform::weights::Quantised;
use crate::Result;
use alloc::vec::Vec;

/// Codes count as at most this in locations, as in family `pyramid`.
const MAX_CODE: i32 = 511;
/// Errors count as at most this: 512 codes.
const MAX_ERROR: i32 = (1 << 15) - 1;
/// Errors of earlier channels count as at most this, so that one large code does not hide others: 31 codes.
pub const EARLIER_CAP: i32 = 31 << FRACTION;
/// What is added to errors before their logarithm is taken: a quarter of a code. Below it errors do not differ for the
/// purpose; measured on codes of family `gdn`, any value of this order works.
pub const LOG_OFFSET: i32 = 1 << (FRACTION - 2);

/// Padding around planes: neighbours reach two codes up, left and right.
const PAD: usize = 2;

/// `log2 v` with [`FRACTION`] fraction bits, linear between powers of two; `1 <= v < 2^25`.
#[inline(always)]
pub fn linear_log2(v: i32) -> i32 {
    let k = v.ilog2();
    ((k as i32) << FRACTION) + (((v << FRACTION) >> k) - (1 << FRACTION))
}

/// The two hyper-codes next to position `at` along an axis of `side` hyper-codes, and the weight of the second, of 8.
#[inline(always)]
pub fn cells(at: usize, side: usize) -> (usize, usize, i32) {
    // Centres lie at `CELL i + (CELL - 1) / 2`: position `at` is at `(2 at + 1 - CELL) / (2 CELL)`.
    let eighths = 2 * at + 1 + CELL;
    let second = (eighths / (2 * CELL)).min(side - 1);
    ((eighths / (2 * CELL)).saturating_sub(1).min(side - 1), second, (eighths % (2 * CELL)) as i32)
}

/// The weights of locations and scales.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Laws {
    spec: HyperSpec,
    weights: Quantised,
}

impl Laws {
    /// `weights` are of the spec's tensors.
    pub fn new(spec: HyperSpec, weights: Quantised) -> Self {
        Laws { spec, weights }
    }

    /// The weights as the file has them.
    pub fn weights(&self) -> &Quantised {
        &self.weights
    }

    /// Rows of channel `c` of both matrices.
    fn rows(&self, c: usize) -> (&[i16], &[i16]) {
        let (mean, scale) = (self.spec.mean_columns().end, self.spec.scale_columns().end);
        let scales = &self.weights.values[self.spec.n() * mean..];
        (&self.weights.values[c * mean..][..mean], &scales[c * scale..][..scale])
    }

    /// Goes through the codes `y`, `[channels][height][width]`, in coding order. `symbol` is given location and scale of
    /// each, and the code as it stands, and returns the code. `z` has the hyper-codes, `[channels][rows][columns]`.
    ///
    /// # Errors
    /// Memory that cannot be allocated.
    pub fn each(
        &self,
        (height, width): (usize, usize),
        z: &[i16],
        y: &mut [i16],
        mut symbol: impl FnMut(i16, i16, i16) -> i16,
    ) -> Result<()> {
        if y.is_empty() {
            return Ok(());
        }
        let mut state = State::new(&self.spec, height, width)?;
        for c in 0..self.spec.n() {
            let (before, now) = y.split_at_mut(c * height * width);
            let (mean, scale) = self.rows(c);
            state.weigh(&self.spec, mean, scale, z);
            let channel = Channel { spec: &self.spec, mean, scale, exponents: &self.weights.exponents, c };
            for at in 0..height {
                let row = &mut now[at * width..][..width];
                state.row(&channel, before, at, row, &mut symbol);
            }
            state.remember(c);
        }
        Ok(())
    }
}

/// Bytes of the working memory for a tile of `height x width` codes.
pub fn state_memory(spec: &HyperSpec, height: usize, width: usize) -> u64 {
    let product = |a: usize, b: usize| a as u64 * b as u64;
    let planes =
        2 * product(width + 2 * PAD, height + 2 * PAD) + 2 * product(width.div_ceil(CELL), height.div_ceil(CELL));
    let rows = 5 * width as u64;
    4 * (planes + rows) + 2 * product(height, width) * (spec.n() as u64 - 1)
}

/// A channel that is being coded.
struct Channel<'a> {
    spec: &'a HyperSpec,
    mean: &'a [i16],
    scale: &'a [i16],
    exponents: &'a [u32],
    c: usize,
}

/// What is known of a tile while it is coded.
struct State {
    height: usize,
    width: usize,
    /// Values in a padded row.
    stride: usize,
    /// Rows and columns of hyper-codes.
    cells: (usize, usize),
    /// Weighted hyper-codes of the present channel: of locations, of scales.
    hyper: [Vec<i32>; 2],
    /// Codes of the present channel, at most [`MAX_CODE`]; padded.
    codes: Vec<i32>,
    /// Their errors; padded.
    errors: Vec<i32>,
    /// Logarithms of the errors of earlier channels, in units of `2^-4` octaves above [`LOG_OFFSET`]: at the position, at
    /// the four next to it. `[channels][2][height][width]`
    logarithms: Vec<u8>,
    /// Working memory of a row: sums of location and scale, of the hyper-codes' part of both, and hyper-codes between two
    /// rows.
    mu: Vec<i32>,
    s: Vec<i32>,
    hyper_row: [Vec<i32>; 2],
    line: Vec<i32>,
}

/// Bits of a logarithm that [`State::logarithms`] does not keep.
const LOG_SHIFT: u32 = FRACTION - 4;

/// The logarithm of errors as [`State::logarithms`] keeps it. Four errors of at most [`EARLIER_CAP`] are below `2^9` times
/// the offset: the result is below `9 * 2^4`.
fn stored_log2(errors: i32) -> u8 {
    ((linear_log2(errors + LOG_OFFSET) - linear_log2(LOG_OFFSET)) >> LOG_SHIFT) as u8
}

/// `sum += weight * value`, row by row.
fn add<T: Copy + Into<i32>>(sum: &mut [i32], weight: i16, values: &[T]) {
    let weight = i32::from(weight);
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += weight * (*v).into());
}

/// `sum += weight * code`.
fn add_codes(sum: &mut [i32], weight: i16, codes: &[i16]) {
    let weight = i32::from(weight);
    sum.iter_mut().zip(codes).for_each(|(s, q)| *s += weight * clamped(*q));
}

fn clamped(q: i16) -> i32 {
    i32::from(q).clamp(-MAX_CODE, MAX_CODE)
}

/// `sum >> exponent`, rounded, as 16 bits.
#[inline(always)]
fn rounded(sum: i64, exponent: u32) -> i16 {
    ((sum + (1 << exponent >> 1)) >> exponent).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// Hyper-codes interpolated at row `y` of the codes, times 64, to `row`. `rows` and `columns` are theirs.
fn interpolate(hyper: &[i32], (rows, columns): (usize, usize), y: usize, line: &mut [i32], row: &mut [i32]) {
    let (top, bottom, w) = cells(y, rows);
    let (top, bottom) = (&hyper[top * columns..][..columns], &hyper[bottom * columns..][..columns]);
    line.iter_mut().zip(top).zip(bottom).for_each(|((l, a), b)| *l = (8 - w) * a + w * b);
    for (x, v) in row.iter_mut().enumerate() {
        let (left, right, w) = cells(x, columns);
        *v = (8 - w) * line[left] + w * line[right];
    }
}

impl State {
    fn new(spec: &HyperSpec, height: usize, width: usize) -> Result<Self> {
        let stride = width + 2 * PAD;
        let padded = stride * (height + 2 * PAD);
        let cells = (height.div_ceil(CELL), width.div_ceil(CELL));
        Ok(State {
            height,
            width,
            stride,
            cells,
            hyper: [try_vec(cells.0 * cells.1)?, try_vec(cells.0 * cells.1)?],
            codes: try_vec(padded)?,
            errors: try_vec(padded)?,
            logarithms: try_vec(2 * height * width * (spec.n() - 1))?,
            mu: try_vec(width)?,
            s: try_vec(width)?,
            hyper_row: [try_vec(width)?, try_vec(width)?],
            line: try_vec(cells.1)?,
        })
    }

    /// The hyper-codes as the present channel sees them.
    fn weigh(&mut self, spec: &HyperSpec, mean: &[i16], scale: &[i16], z: &[i16]) {
        let plane = self.cells.0 * self.cells.1;
        let columns = [&mean[spec.mean_columns().hyper..], &scale[SCALE_HYPER..]];
        for (sum, weights) in self.hyper.iter_mut().zip(columns) {
            sum.fill(0);
            for (z, &w) in z.chunks_exact(plane).zip(weights).take(spec.hyper) {
                add_codes(sum, w, z);
            }
        }
    }

    /// Codes row `y` of a channel; `before` has the channels before it.
    fn row(
        &mut self,
        ch: &Channel,
        before: &[i16],
        y: usize,
        row: &mut [i16],
        symbol: &mut impl FnMut(i16, i16, i16) -> i16,
    ) {
        let (width, plane) = (self.width, self.height * self.width);
        let columns = ch.spec.mean_columns();
        // What does not depend on this channel's codes, for all of the row.
        let mu = &mut self.mu[..];
        mu.fill(i32::from(ch.mean[0]));
        for l in 0..ch.spec.leading().min(ch.c) {
            for (k, &(down, right)) in AROUND.iter().enumerate() {
                let weight = ch.mean[columns.leading + l * AROUND.len() + k];
                let Some(there) = y.checked_add_signed(down).filter(|&t| t < self.height && weight != 0) else {
                    continue;
                };
                let from = &before[l * plane + there * width..][..width];
                match right {
                    -1 => add_codes(&mut mu[1..], weight, from),
                    0 => add_codes(mu, weight, from),
                    _ => add_codes(mu, weight, &from[1..]),
                }
            }
        }
        for (e, &weight) in ch.mean[columns.earlier..].iter().enumerate().take(ch.c).filter(|(_, w)| **w != 0) {
            add_codes(mu, weight, &before[e * plane + y * width..][..width]);
        }
        let scales = ch.spec.scale_columns();
        let s = &mut self.s[..];
        s.fill(0);
        for (e, two) in self.logarithms.chunks_exact(2 * plane).enumerate().take(ch.c) {
            for (k, column) in [scales.here, scales.direct].into_iter().enumerate() {
                let weight = ch.scale[column + e];
                if weight != 0 {
                    add(s, weight, &two[k * plane + y * width..][..width]);
                }
            }
        }
        // Their unit is `2^-4` octaves.
        s.iter_mut().for_each(|s| *s <<= LOG_SHIFT);
        for (hyper, row) in self.hyper.iter().zip(&mut self.hyper_row) {
            interpolate(hyper, self.cells, y, &mut self.line, row);
        }
        let [hyper_mu, hyper_s] = &self.hyper_row;
        let constant = i32::from(ch.scale[0]) << FRACTION;
        let (near, far) = (i32::from(ch.scale[NEAR]), i32::from(ch.scale[FAR]));
        let mut weights = [0; NEIGHBOURS.len()];
        weights.iter_mut().zip(&ch.mean[1..]).for_each(|(to, w)| *to = i32::from(*w));
        let mut back = [0; NEIGHBOURS.len()];
        for (b, (down, right)) in back.iter_mut().zip(NEIGHBOURS) {
            *b = (-down) as usize * self.stride;
            *b = b.wrapping_sub(right as usize);
        }
        let start = (y + PAD) * self.stride + PAD;
        for x in 0..width {
            let at = start + x;
            let mut sum = self.mu[x];
            for (w, b) in weights.iter().zip(back) {
                sum += w * self.codes[at.wrapping_sub(b)];
            }
            let mu = rounded((i64::from(sum) << FRACTION) + i64::from(hyper_mu[x]), ch.exponents[0]);
            let e = |k: usize| self.errors[at.wrapping_sub(back[k])];
            let sum = i64::from(self.s[x] + constant)
                + i64::from(near * linear_log2(2 * (e(0) + e(1)) + e(2) + e(3) + LOG_OFFSET))
                + i64::from(far * linear_log2(e(4) + e(5) + LOG_OFFSET))
                + i64::from(hyper_s[x]);
            let s = rounded(sum, ch.exponents[1]);
            let q = symbol(mu, s, row[x]);
            row[x] = q;
            self.codes[at] = clamped(q);
            self.errors[at] = ((i32::from(q) << FRACTION) - i32::from(mu)).abs().min(MAX_ERROR);
        }
    }

    /// Makes channel `c`, which is complete, one of the earlier ones.
    fn remember(&mut self, c: usize) {
        let (width, plane) = (self.width, self.height * self.width);
        // Nothing comes after the last channel.
        if let Some(two) = self.logarithms.chunks_exact_mut(2 * plane).nth(c) {
            let (here, direct) = two.split_at_mut(plane);
            for (y, (here, direct)) in here.chunks_exact_mut(width).zip(direct.chunks_exact_mut(width)).enumerate() {
                let start = (y + PAD) * self.stride + PAD;
                for (x, (here, direct)) in here.iter_mut().zip(direct).enumerate() {
                    let at = start + x;
                    let e = |at: usize| self.errors[at].min(EARLIER_CAP);
                    *here = stored_log2(4 * e(at));
                    *direct = stored_log2(e(at - 1) + e(at + 1) + e(at - self.stride) + e(at + self.stride));
                }
            }
        }
        self.codes.fill(0);
        self.errors.fill(0);
    }
}
