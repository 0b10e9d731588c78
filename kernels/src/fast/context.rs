//! Rate of a grid of latents under the context network, with all gradients, in one fused pass.
//!
//! For each latent q, with c its causal neighbours (zero outside the grid) followed by features of
//! coarser grids:
//!
//! ```text
//! h1 = relu(W1 c + b1 + c)      h2 = relu(W2 h1 + b2 + h1)      (mu, s) = W3 h2 + b3 + Ws c + bs
//! b = exp(clamp(s - 4, -5, 5))      P = F((q + 1/2 - mu) / b) - F((q - 1/2 - mu) / b)
//! bits = -log2 max(P, 2^-16)        F the Laplace distribution
//! ```
//!
//! Contexts are read from the zero-padded grid and never stored as a matrix.

pub use super::context_net::ContextNet;
use super::context_net::{backward, forward, reduce, sums_count, weight_gradients, Rows};
use super::lines::lines;
use super::math::{exp, log2};
use crate::vector::Bits;
use std::ops::Range;

/// Zeros around a grid: columns at the left and right, rows at the top.
pub const PAD: usize = 4;
/// Elements that a padded grid has after its last row, because whole vectors are read.
pub const SLACK: usize = 32;

/// Pairs of a strip at most.
const MOST_PAIRS: usize = 64;

const FLOOR: f32 = 1.0 / 65536.0;

/// Rows of one grid with what its latents are conditioned on.
#[derive(Clone, Debug)]
pub struct ContextBand<'a> {
    pub net: &'a ContextNet,
    /// Causal neighbours `(dy, dx)`, the first `spatial` of which are used; at most [`PAD`] away.
    pub neighbours: &'a [(i32, i32)],
    /// The whole grid, rows of `stride`, [`PAD`] zero rows first, [`PAD`] zeros before and after the `width`
    /// latents of each row, [`SLACK`] elements at the end.
    pub q: &'a [f32],
    pub stride: usize,
    pub width: usize,
    /// The rows to run. An even start where there are features.
    pub rows: Range<usize>,
    /// Maps of each pair of the band's rows: `[ceil(rows / 2)][features][feature_stride(width)]`. `None`: zeros.
    pub features: Option<&'a [f32]>,
}

/// Where a band adds its gradients.
#[derive(Debug)]
pub struct ContextGradients<'a> {
    /// Padded like the grid, but holds rows `rows.start - PAD .. rows.end` only, and then [`SLACK`].
    pub dq: &'a mut [f32],
    /// As [`ContextBand::features`].
    pub dfeatures: Option<&'a mut [f32]>,
    /// `w1, b1, w2, b2, w3, b3, ws, bs`, flat.
    pub dweights: Option<&'a mut [f32]>,
}

/// Length of a row of a feature map for a grid of `width`.
pub fn feature_stride(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// Working memory of one thread; allocated at the first use.
#[derive(Default, Debug)]
pub struct ContextScratch {
    strip: Vec<f32>,
    sums: Vec<f32>,
}

/// Bits of one latent given (mu, s), in f64: the definition.
pub fn rate_scalar(q: f64, mu: f64, s: f64) -> f64 {
    let b = (s - 4.0).clamp(-5.0, 5.0).exp();
    let a = (q - mu).abs();
    let (u, l) = ((a + 0.5) / b, (a - 0.5) / b);
    let p = if l >= 0.0 { -0.5 * (-l).exp() * (-1.0 / b).exp_m1() } else { -0.5 * ((-u).exp_m1() + l.exp_m1()) };
    -p.max(FLOOR as f64).log2()
}

/// Bits of a whole grid, in f64: the definition. `q` is `[height][width]` without padding, `features` are
/// `[features][ceil(height / 2)][ceil(width / 2)]`, `weights` as in [`ContextNet::set`].
pub fn context_scalar(
    neighbours: &[(i32, i32)],
    weights: &[f64],
    width: usize,
    q: &[f64],
    features: Option<&[f64]>,
    features_count: usize,
) -> f64 {
    let height = q.len() / width;
    let d = neighbours.len() + features_count;
    let (w1, rest) = weights.split_at(d * d);
    let (b1, rest) = rest.split_at(d);
    let (w2, rest) = rest.split_at(d * d);
    let (b2, rest) = rest.split_at(d);
    let (w3, rest) = rest.split_at(2 * d);
    let (b3, rest) = rest.split_at(2);
    let (ws, bs) = rest.split_at(2 * d);
    let dot = |w: &[f64], o: usize, x: &[f64]| w[o * d..][..d].iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    let (fw, fh) = (width.div_ceil(2), height.div_ceil(2));
    let mut bits = 0.0;
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let neighbour = |&(dy, dx): &(i32, i32)| {
            let (y, x) = (y as i32 + dy, x as i32 + dx);
            let inside = y >= 0 && x >= 0 && x < width as i32;
            if inside {
                q[y as usize * width + x as usize]
            } else {
                0.0
            }
        };
        let feature = |k: usize| features.map_or(0.0, |f| f[(k * fh + y / 2) * fw + x / 2]);
        let c: Vec<f64> = neighbours.iter().map(neighbour).chain((0..features_count).map(feature)).collect();
        let h1: Vec<f64> = (0..d).map(|o| (dot(w1, o, &c) + b1[o] + c[o]).max(0.0)).collect();
        let h2: Vec<f64> = (0..d).map(|o| (dot(w2, o, &h1) + b2[o] + h1[o]).max(0.0)).collect();
        let out = |o: usize| dot(w3, o, &h2) + b3[o] + dot(ws, o, &c) + bs[o];
        bits += rate_scalar(q[y * width + x], out(0), out(1));
    }
    bits
}

kernel! {
    /// [`context_scalar`] of a band of rows; adds the gradients of the bits if asked to.
    pub fn context(band: &ContextBand, gradients: Option<&mut ContextGradients>, scratch: &mut ContextScratch) -> f64
        = context_lanes;
}

/// One vector of pixels: where its first latent stands in the grid, and how many are inside it.
#[derive(Clone, Copy, Default)]
struct Place {
    y: usize,
    x: usize,
    at: usize,
    valid: usize,
}

#[inline(always)]
fn context_lanes<S: Bits>(
    s: S,
    band: &ContextBand,
    mut gradients: Option<&mut ContextGradients>,
    scratch: &mut ContextScratch,
) -> f64 {
    let lanes = S::F32_LANES;
    let net = band.net;
    let d = net.width();
    let rows = Rows { d };
    assert!(band.features.is_none() || band.rows.start.is_multiple_of(2), "bands with features start at even rows");
    let pair_len = rows.count() * 2 * lanes;
    // Deltas and inputs of one product fit L1 together.
    let pairs = (3072 / (d * 2 * lanes)).clamp(2, MOST_PAIRS);
    let mut at = [[Place::default(); 2]; MOST_PAIRS];
    let own = lines(&mut scratch.strip, pairs * pair_len);
    let sums = lines(&mut scratch.sums, sums_count(d) * lanes);
    sums.fill(0.0);
    let mut back = [0usize; 64];
    for (b, (dy, dx)) in back.iter_mut().zip(&band.neighbours[..net.spatial]) {
        *b = (-dy as isize * band.stride as isize - *dx as isize) as usize;
    }
    let back = &back[..net.spatial];
    // From a place in the grid to the same place in the band's gradient.
    let shift = band.rows.start * band.stride;

    let mut places = band.rows.clone().flat_map(|y| {
        let at = (y + PAD) * band.stride + PAD;
        (0..band.width).step_by(lanes).map(move |x| Place { y, x, at: at + x, valid: lanes.min(band.width - x) })
    });
    // What a last pair has too much is read and weighs nothing.
    let none = Place { y: band.rows.start, x: 0, at: (band.rows.start + PAD) * band.stride + PAD, valid: 0 };
    let mut bits = 0f64;
    loop {
        let mut filled = 0;
        for pair in &mut at[..pairs] {
            let Some(first) = places.next() else { break };
            *pair = [first, places.next().unwrap_or(none)];
            filled += 1;
        }
        if filled == 0 {
            break;
        }
        let (at, strip) = (&at[..filled], &mut own[..filled * pair_len]);
        for (pair, places) in strip.chunks_exact_mut(pair_len).zip(at) {
            gather(s, band, back, places, pair);
        }
        forward(s, net, strip);
        let mut strip_bits = s.splat(0.0);
        for (pair, places) in strip.chunks_exact_mut(pair_len).zip(at) {
            for (half, place) in places.iter().enumerate() {
                let own = rate(s, band.q, place, half, rows, pair, &mut strip_bits);
                if let Some(g) = &mut gradients {
                    let dq = &mut g.dq[place.at - shift..];
                    s.store(s.load(dq) + own, dq);
                }
            }
        }
        bits += f64::from(s.sum(strip_bits));
        let Some(g) = &mut gradients else { continue };
        backward(s, net, strip);
        for (pair, places) in strip.chunks_exact(pair_len).zip(at) {
            scatter(s, band, back, shift, places, pair, g);
        }
        if g.dweights.is_some() {
            weight_gradients(s, d, strip, sums);
        }
    }
    if let Some(dweights) = gradients.and_then(|g| g.dweights.as_deref_mut()) {
        reduce(d, lanes, sums, dweights);
    }
    bits
}

/// The contexts of a pair.
#[inline(always)]
fn gather<S: Bits>(s: S, band: &ContextBand, back: &[usize], places: &[Place; 2], pair: &mut [f32]) {
    let lanes = S::F32_LANES;
    let rows = Rows { d: band.net.width() };
    let c = &mut pair[rows.c() * 2 * lanes..][..rows.d * 2 * lanes];
    let (spatial, features) = c.split_at_mut(back.len() * 2 * lanes);
    for (c, back) in spatial.chunks_exact_mut(2 * lanes).zip(back) {
        for (half, place) in places.iter().enumerate() {
            s.store(s.load(&band.q[place.at - back..]), &mut c[half * lanes..]);
        }
    }
    let Some(maps) = band.features else {
        features.fill(0.0);
        return;
    };
    let stride = feature_stride(band.width);
    for (k, c) in features.chunks_exact_mut(2 * lanes).enumerate() {
        for (half, place) in places.iter().enumerate() {
            let row = (place.y - band.rows.start) / 2 * band.net.features + k;
            let from = &maps[row * stride + place.x..];
            s.store(s.load(from), &mut c[half * lanes..]);
        }
    }
}

/// Adds the gradients of a pair's contexts to where they were gathered.
#[inline(always)]
fn scatter<S: Bits>(
    s: S,
    band: &ContextBand,
    back: &[usize],
    shift: usize,
    places: &[Place; 2],
    pair: &[f32],
    g: &mut ContextGradients,
) {
    let lanes = S::F32_LANES;
    let rows = Rows { d: band.net.width() };
    let dc = &pair[rows.dc() * 2 * lanes..][..rows.d * 2 * lanes];
    let (spatial, features) = dc.split_at(back.len() * 2 * lanes);
    for (dc, back) in spatial.chunks_exact(2 * lanes).zip(back) {
        for (half, place) in places.iter().enumerate() {
            let dq = &mut g.dq[place.at - shift - back..];
            s.store(s.load(dq) + s.load(&dc[half * lanes..]), dq);
        }
    }
    let Some(maps) = &mut g.dfeatures else { return };
    let stride = feature_stride(band.width);
    for (k, dc) in features.chunks_exact(2 * lanes).enumerate() {
        for (half, place) in places.iter().enumerate() {
            let row = (place.y - band.rows.start) / 2 * band.net.features + k;
            let to = &mut maps[row * stride + place.x..];
            s.store(s.load(to) + s.load(&dc[half * lanes..]), to);
        }
    }
}

/// Adds the bits of one vector of latents, turns (mu, s) into (dmu, ds), and gives dq of the latents themselves.
///
/// With `a = |q - mu|`, `u = (a + 1/2) / b`, `l = (a - 1/2) / b`, `w = 1 / b`: both ends are on one side of mu
/// if `l >= 0`, and then `P = e^-l (1 - e^-w) / 2`, else `P = (1 - e^-u) / 2 + (1 - e^l) / 2`; no difference of
/// near-equal numbers in either. With `diff = e^-u - e^-|l|`: `dP/da = diff w / 2`,
/// `dP/d(log b) = -(l diff + w e^-u) / 2`.
#[inline(always)]
fn rate<S: Bits>(
    s: S,
    q: &[f32],
    place: &Place,
    half: usize,
    rows: Rows,
    pair: &mut [f32],
    bits: &mut S::F32,
) -> S::F32 {
    const INDEX: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
    let lanes = S::F32_LANES;
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let out = &mut pair[rows.out() * 2 * lanes..][..4 * lanes];
    let q = s.load(&q[place.at..]);
    let mu = s.load(&out[half * lanes..]);
    let log_b = s.load(&out[(2 + half) * lanes..]) - s.splat(4.0);

    let clamped = s.min(s.max(log_b, s.splat(-5.0)), s.splat(5.0));
    let (w, _) = exp(s, zero - clamped);
    let x = q - mu;
    let a = s.max(x, zero - x);
    let l = (a - s.splat(0.5)) * w;
    let u = (a + s.splat(0.5)) * w;
    let (eu, eu1) = exp(s, zero - u);
    let (el, el1) = exp(s, s.min(l, zero - l));
    let (_, ew1) = exp(s, zero - w);

    let far = el * ew1;
    let diff = s.select_gt(zero, l, eu1 - el1, far);
    let p2 = zero - s.select_gt(zero, l, eu1 + el1, far);
    let floor2 = s.splat(2.0 * FLOOR);
    let inside = s.select_gt(s.splat(place.valid as f32), s.load(&INDEX), one, zero);
    *bits = s.mul_add(inside, one - log2(s, s.max(p2, floor2)), *bits);

    // d bits / d (2 P); none below the floor.
    let slope = s.select_gt(p2, floor2, s.splat(-std::f32::consts::LOG2_E) / s.max(p2, floor2), zero) * inside;
    let da = slope * diff * w;
    let dq = s.select_gt(x, zero, da, zero - da);
    let db = zero - slope * s.mul_add(l, diff, w * eu);
    let db = s.select_gt(s.splat(5.0), s.max(log_b, zero - log_b), db, zero);
    s.store(zero - dq, &mut out[half * lanes..]);
    s.store(db, &mut out[(2 + half) * lanes..]);
    dq
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
