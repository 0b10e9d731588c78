//! Bits of a code by a Laplace distribution, with gradients: the float shadow of
//! [`entropy::laplace`](crate::entropy::laplace).

use std::f32::consts::LOG2_E;

/// `ln b` for a log-scale of 0, and the range of `ln b`.
const OFFSET: f32 = 4.0;
const RANGE: f32 = 5.0;

/// Bits of a value, and their derivatives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bits {
    pub bits: f32,
    /// By the value; by the location it is the negative.
    pub d: f32,
    /// By the log-scale.
    pub ds: f32,
}

/// The bits of a value `d` away from the location, at log-scale `s`: `-log2(P + least)`, with `P` the probability of
/// `d - 1/2 .. d + 1/2`.
#[inline]
pub fn bits(d: f32, s: f32, least: f32) -> Bits {
    let ln_b = (s - OFFSET).clamp(-RANGE, RANGE);
    let r = (-ln_b).exp();
    let a = d.abs();
    // Probability, and its derivatives by `a` and `r`.
    let (p, da, dr) = if a >= 0.5 {
        let tail = 0.5 * (-(a - 0.5) * r).exp();
        let end = (-r).exp();
        let p = tail * (1.0 - end);
        (p, -r * p, tail * end - (a - 0.5) * p)
    } else {
        let (right, left) = (0.5 * (-(0.5 - a) * r).exp(), 0.5 * (-(0.5 + a) * r).exp());
        (1.0 - right - left, r * (left - right), (0.5 - a) * right + (0.5 + a) * left)
    };
    let gain = -LOG2_E / (p + least);
    let inside = ln_b == s - OFFSET;
    Bits { bits: -(p + least).log2(), d: gain * da * d.signum(), ds: if inside { -gain * dr * r } else { 0.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::laplace::{costs, Laplace};

    #[test]
    fn derivatives_are_those_of_the_bits() {
        for least in [1e-9, 1.0 / 65536.0] {
            for i in 0..400 {
                let (d, s) = ((i % 20) as f32 * 0.37 - 3.6, (i / 20) as f32 * 0.3 + 0.5);
                let h = 1e-3;
                let slope = |f: &dyn Fn(f32) -> f32| (f(h) - f(-h)) / (2.0 * h);
                let got = bits(d, s, least);
                let by_d = slope(&|h| bits(d + h, s, least).bits);
                let by_s = slope(&|h| bits(d, s + h, least).bits);
                assert!((got.d - by_d).abs() < 0.02 * (1.0 + by_d.abs()), "{d} {s}: {} {by_d}", got.d);
                assert!((got.ds - by_s).abs() < 0.02 * (1.0 + by_s.abs()), "{d} {s}: {} {by_s}", got.ds);
            }
        }
    }

    /// The coder charges what the fit counts.
    #[test]
    fn it_is_what_the_coder_charges() {
        for mu in [-70i16, -32, 0, 5, 31, 200] {
            for s in [64i16, 128, 200, 256, 330, 400] {
                for q in -9i16..9 {
                    let real = Laplace::new(mu, s).bits(costs(), q);
                    let got = bits(f32::from(q) - f32::from(mu) / 64.0, f32::from(s) / 64.0, 1.0 / 65536.0).bits;
                    // Beyond the window an escape follows.
                    if real < 14.0 {
                        assert!((real - got).abs() < 0.06 + 0.03 * real, "{mu} {s} {q}: {real} {got}");
                    }
                }
            }
        }
    }
}
