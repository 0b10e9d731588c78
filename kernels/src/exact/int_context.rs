//! The pyramid's context network in integers: lanes are latents, weights are broadcast.
//!
//! Activations are i16 with [`FRACTION`] fraction bits, saturated; weights are i16 with `shift`
//! fraction bits; sums are i32 and wrap. Any weights and any inputs give defined outputs.

use crate::vector::Int16;
use alloc::vec::Vec;

/// Fraction bits of inputs, hidden activations and outputs.
pub const FRACTION: u32 = 6;

/// Most inputs of a network.
pub const MAX_WIDTH: usize = 44;

/// Most lanes of a level: buffers are read and written up to the next multiple.
pub const LANES: usize = 32;

/// Weights of one network of width `D` (the identity of the residual layers is the kernel's business).
#[derive(Clone, Debug)]
pub struct IntContext {
    width: usize,
    shift: i32,
    /// `W1`, `W2`: rows of words of two i16: input `2j` low, `2j + 1` high.
    w: [Vec<i32>; 2],
    b: [Vec<i32>; 2],
    /// Rows `mu`, `s` over the hidden activations, then both over the inputs.
    head: Vec<i32>,
    head_bias: [i32; 2],
}

/// A network's weights as read from a file: integers, `w` in units of `2^-shift`, biases already in
/// units of `2^-(FRACTION + shift)`.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `[D][D]`
    pub w1: &'a [i32],
    pub w2: &'a [i32],
    /// `[2][D]`, rows `mu`, `s`
    pub w3: &'a [i32],
    pub ws: &'a [i32],
    pub b1: &'a [i32],
    pub b2: &'a [i32],
    /// Of both heads together.
    pub b3: [i32; 2],
}

fn word(low: i16, high: i16) -> i32 {
    (i32::from(high) << 16) | i32::from(low as u16)
}

/// Rows of i16 pairs, one row an output, `outputs` rounded up to 4 rows.
fn pack_rows(w: &[i32], outputs: usize, width: usize, identity: i32) -> Vec<i32> {
    let sat = |v: i32| v.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    let at = |o: usize, i: usize| match (o < outputs, i < width) {
        (true, true) => sat(w[o * width + i].saturating_add(if o == i { identity } else { 0 })),
        _ => 0,
    };
    let pairs = width.div_ceil(2);
    (0..outputs.next_multiple_of(4) * pairs)
        .map(|n| word(at(n / pairs, n % pairs * 2), at(n / pairs, n % pairs * 2 + 1)))
        .collect()
}

impl IntContext {
    /// Weights that i16 does not hold saturate.
    ///
    /// # Panics
    /// When a slice does not have the shape of `width`, `width > MAX_WIDTH` or `shift` is not in `1..=15`.
    pub fn new(width: usize, shift: u32, parts: &Parts) -> Self {
        assert!((1..=MAX_WIDTH).contains(&width) && (1..=15).contains(&shift));
        assert!(
            [parts.w1.len(), parts.w2.len()] == [width * width; 2] && [parts.b1.len(), parts.b2.len()] == [width; 2]
        );
        assert_eq!([parts.w3.len(), parts.ws.len()], [2 * width; 2]);
        // Half a unit of the last place, so that the shift rounds.
        let half = 1i32 << (shift - 1);
        let bias = |b: &[i32]| {
            let mut b: Vec<i32> = b.iter().map(|v| v.wrapping_add(half)).collect();
            b.resize(width.next_multiple_of(4), 0);
            b
        };
        let pairs = width.div_ceil(2);
        let head = |w: &[i32], row: usize| pack_rows(&w[row * width..][..width], 1, width, 0)[..pairs].to_vec();
        IntContext {
            width,
            shift: shift as i32,
            w: [pack_rows(parts.w1, width, width, 1 << shift), pack_rows(parts.w2, width, width, 1 << shift)],
            b: [bias(parts.b1), bias(parts.b2)],
            head: [head(parts.w3, 0), head(parts.w3, 1), head(parts.ws, 0), head(parts.ws, 1)].concat(),
            head_bias: parts.b3.map(|v| v.wrapping_add(half)),
        }
    }

    pub fn width(&self) -> usize {
        self.width
    }
}

/// Contexts of `lanes` latents: input `j` of lane `i` is `plane[at[j] + i]` for `j < at.len()`, then
/// `features[k * stride + i]`.
#[derive(Clone, Copy, Debug)]
pub struct Contexts<'a> {
    pub plane: &'a [i16],
    pub at: &'a [usize],
    pub features: &'a [i16],
    pub stride: usize,
    pub lanes: usize,
}

/// `h1 = relu(W1 c + b1 + c)`, `h2 = relu(W2 h1 + b2 + h1)`, `(mu, s) = W3 h2 + b3 + Ws c`.
///
/// # Panics
/// When a buffer does not reach to `lanes` rounded up to [`LANES`]; what is written beyond `lanes` is
/// not defined.
pub fn int_context_scalar(net: &IntContext, x: Contexts, mu: &mut [i16], scale: &mut [i16]) {
    let pairs = net.width.div_ceil(2);
    let dot = |row: &[i32], v: &[i16]| {
        row.iter().enumerate().fold(0i32, |sum, (j, &w)| {
            let low = i32::from(v[2 * j]) * i32::from(w as i16);
            sum.wrapping_add(low.wrapping_add(i32::from(v[2 * j + 1]) * (w >> 16)))
        })
    };
    let narrow = |sum: i32| (sum >> net.shift).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    for i in 0..x.lanes {
        let mut c = [0i16; MAX_WIDTH];
        for (c, &at) in c.iter_mut().zip(x.at) {
            *c = x.plane[at + i];
        }
        for (k, c) in c[x.at.len()..net.width].iter_mut().enumerate() {
            *c = x.features[k * x.stride + i];
        }
        let mut h = c;
        for (w, b) in net.w.iter().zip(&net.b) {
            let from = h;
            for o in 0..net.width {
                h[o] = narrow(b[o].wrapping_add(dot(&w[o * pairs..][..pairs], &from))).max(0);
            }
        }
        let out = |row: usize| {
            let sum = net.head_bias[row].wrapping_add(dot(&net.head[row * pairs..][..pairs], &h));
            narrow(sum.wrapping_add(dot(&net.head[(row + 2) * pairs..][..pairs], &c)))
        };
        mu[i] = out(0);
        scale[i] = out(1);
    }
}

kernel! {
    /// [`int_context_scalar`] at any level.
    pub fn int_context(net: &IntContext, x: Contexts, mu: &mut [i16], scale: &mut [i16]) = int_context_lanes;
}

#[inline(always)]
fn int_context_lanes<S: Int16>(s: S, net: &IntContext, x: Contexts, mu: &mut [i16], scale: &mut [i16]) {
    // The number of pairs as a constant unrolls the sums; these are the published widths 8, 14, 20, 26.
    // A module for browsers is small instead.
    match net.width.div_ceil(2) {
        _ if cfg!(target_arch = "wasm32") => lanes::<S, 0>(s, net, x, mu, scale),
        4 => lanes::<S, 4>(s, net, x, mu, scale),
        7 => lanes::<S, 7>(s, net, x, mu, scale),
        10 => lanes::<S, 10>(s, net, x, mu, scale),
        13 => lanes::<S, 13>(s, net, x, mu, scale),
        _ => lanes::<S, 0>(s, net, x, mu, scale),
    }
}

/// Two inputs of all lanes, interleaved.
type Pair<S> = (<S as Int16>::I16, <S as Int16>::I16);

/// Sums of `N` outputs for all lanes, the shift and the saturation.
///
/// No closure holds vectors here: a closure does not inherit the instructions of its function.
#[inline(always)]
fn rows<S: Int16, const N: usize>(s: S, parts: [(&[i32], &[Pair<S>]); 2], bias: &[i32], shift: i32) -> [S::I16; N] {
    let mut sum = [(s.splat_i32(0), s.splat_i32(0)); N];
    for o in 0..N {
        sum[o] = (s.splat_i32(bias[o]), s.splat_i32(bias[o]));
    }
    for (w, v) in parts {
        let pairs = v.len();
        let w = &w[..N * pairs];
        for j in 0..pairs {
            for o in 0..N {
                let w = s.splat_i32(w[o * pairs + j]);
                sum[o].0 = s.add_i32(sum[o].0, s.dot(v[j].0, w));
                sum[o].1 = s.add_i32(sum[o].1, s.dot(v[j].1, w));
            }
        }
    }
    let mut out = [s.zero_i16(); N];
    for o in 0..N {
        out[o] = s.narrow(s.shift_i32(sum[o].0, shift), s.shift_i32(sum[o].1, shift));
    }
    out
}

#[inline(always)]
fn input<S: Int16>(s: S, net: &IntContext, x: &Contexts, i: usize, j: usize) -> S::I16 {
    if j < x.at.len() {
        s.load_i16(&x.plane[x.at[j] + i..])
    } else if j < net.width {
        s.load_i16(&x.features[(j - x.at.len()) * x.stride + i..])
    } else {
        s.zero_i16()
    }
}

/// `P` pairs; 0: as many as the network has.
#[inline(always)]
fn lanes<S: Int16, const P: usize>(s: S, net: &IntContext, x: Contexts, mu: &mut [i16], scale: &mut [i16]) {
    let pairs = if P > 0 { P } else { net.width.div_ceil(2) };
    let zero = s.zero_i16();
    let mut c = [(zero, zero); MAX_WIDTH / 2];
    let mut h1 = c;
    let mut h2 = c;
    let mut i = 0;
    while i < x.lanes {
        for j in 0..pairs {
            c[j] = s.interleave(input(s, net, &x, i, 2 * j), input(s, net, &x, i, 2 * j + 1));
        }
        hidden::<S>(s, &net.w[0], &net.b[0], &c[..pairs], &mut h1, net.shift);
        hidden::<S>(s, &net.w[1], &net.b[1], &h1[..pairs], &mut h2, net.shift);
        let parts = [(&net.head[..], &h2[..pairs]), (&net.head[2 * pairs..], &c[..pairs])];
        let out = rows::<S, 2>(s, parts, &net.head_bias, net.shift);
        s.store_i16(out[0], &mut mu[i..]);
        s.store_i16(out[1], &mut scale[i..]);
        i += S::I16_LANES;
    }
}

/// A hidden layer: four outputs at a time, two of them a pair of the next layer's inputs.
#[inline(always)]
fn hidden<S: Int16>(s: S, w: &[i32], b: &[i32], from: &[Pair<S>], to: &mut [Pair<S>; MAX_WIDTH / 2], shift: i32) {
    let zero = s.zero_i16();
    for (quad, (w, b)) in w.chunks_exact(4 * from.len()).zip(b.chunks_exact(4)).enumerate() {
        let out = rows::<S, 4>(s, [(w, from), (&[], &[])], b, shift);
        to[2 * quad] = s.interleave(s.max_i16(out[0], zero), s.max_i16(out[1], zero));
        to[2 * quad + 1] = s.interleave(s.max_i16(out[2], zero), s.max_i16(out[3], zero));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;
    use tilefit_testing::Noise;

    #[test]
    fn levels_agree() {
        let mut noise = Noise::new(1);
        for width in (1..=MAX_WIDTH).chain([8, 14, 20, 26]) {
            for (bits, shift) in [(6, 7), (15, 1), (31, 12)] {
                let mut some =
                    |n: usize| (0..n).map(|_| (noise.bits() << 1) as i32 >> (32 - bits)).collect::<Vec<i32>>();
                let [w1, w2] = [some(width * width), some(width * width)];
                let [w3, ws, b1, b2] = [some(2 * width), some(2 * width), some(width), some(width)];
                let b = some(2);
                let parts = Parts { w1: &w1, w2: &w2, w3: &w3, ws: &ws, b1: &b1, b2: &b2, b3: [b[0], b[1]] };
                let net = IntContext::new(width, shift, &parts);
                let spatial = width.min(1 + width * 2 / 3);
                let at: Vec<usize> = (0..spatial).map(|j| j * 13 % 29).collect();
                let limit = if bits == 31 { 1 << 15 } else { 500 };
                let mut some = |n: usize| (0..n).map(|_| (noise.bits() as i32 % limit) as i16).collect::<Vec<i16>>();
                let (plane, features) = (some(29 + 2 * LANES + 40), some(MAX_WIDTH * 100));
                for lanes in [0, 1, 2, 7, 31, 32, 33, 64] {
                    let x = Contexts { plane: &plane, at: &at, features: &features, stride: 99, lanes };
                    let [mut mu, mut scale] = [vec![0; 96], vec![0; 96]];
                    int_context_scalar(&net, x, &mut mu, &mut scale);
                    for level in Level::available() {
                        let [mut mu2, mut scale2] = [vec![0; 96], vec![0; 96]];
                        int_context(level, &net, x, &mut mu2, &mut scale2);
                        assert_eq!(mu2[..lanes], mu[..lanes], "{level:?} width {width} lanes {lanes}");
                        assert_eq!(scale2[..lanes], scale[..lanes], "{level:?} width {width} lanes {lanes}");
                    }
                }
            }
        }
    }
}
