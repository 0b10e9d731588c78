//! Chooses the domain in which samples are fitted: as they are, or on an asinh curve that gives most of the range to the
//! background and what lies little above it.
//!
//! The curve is `y = asinh((sample - b) / s)` (Lupton, Gunn and Szalay, "A modified magnitude system that produces well-behaved
//! magnitudes, colors, and errors even for low signal-to-noise ratio measurements", 1999): nearly linear around the background
//! `b`, logarithmic far from it. The lowest and the highest sample are its ends, so nothing is cut off.

use super::options::Domain;
use crate::image::Picture;
use crate::models::tone::{Curve, MAX_SEGMENTS};

/// `s` as a multiple of the background's noise.
const SOFTENING: f64 = 8.0;

/// Least noise that is assumed, in levels: the error of rounding is of this order.
const LEAST_NOISE: f64 = 0.5;

/// A picture is of high dynamic range if 90 % of its samples (from the 5th to the 95th percentile) lie within this part of the
/// range from the lowest to the highest sample, and that range has at least this many levels.
const NARROW: f64 = 1.0 / 32.0;
const LEAST_LEVELS: u16 = 1 << 10;

/// How often each value occurs.
struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    fn of(values: impl Iterator<Item = u16>) -> Histogram {
        let mut counts = vec![0; 1 << 16];
        let mut total = 0;
        for v in values {
            counts[usize::from(v)] += 1;
            total += 1;
        }
        Histogram { counts, total }
    }

    /// The lowest value that at least this part of all values do not exceed.
    fn quantile(&self, part: f64) -> u16 {
        let rank = ((part * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.counts.iter().position(|n| {
            seen += n;
            seen >= rank
        });
        at.unwrap_or(0) as u16
    }
}

/// Samples of colours that alpha does not hide.
fn visible(p: &Picture) -> impl Iterator<Item = u16> + '_ {
    let (channels, colours) = (p.format.channels, p.format.colours());
    let pixels = p.samples.chunks_exact(channels).filter(move |v| v[colours..].iter().all(|alpha| *alpha > 0));
    pixels.flat_map(move |v| v[..colours].iter().copied())
}

/// The curve of `pictures` of one format; `None` for linear samples.
pub fn curve(pictures: &[Picture], domain: Domain) -> Option<Curve> {
    if domain == Domain::Linear {
        return None;
    }
    let samples = Histogram::of(pictures.iter().flat_map(visible));
    let (low, high) = (samples.quantile(0.0), samples.quantile(1.0));
    let levels = high - low;
    let most = f64::from(samples.quantile(0.95) - samples.quantile(0.05));
    let high_range = levels >= LEAST_LEVELS && most <= NARROW * f64::from(levels);
    if samples.total == 0 || levels == 0 || (domain == Domain::Automatic && !high_range) {
        return None;
    }
    asinh(low, samples.quantile(0.5), high, noise(pictures), pictures[0].format.peak())
}

/// The standard deviation of the noise: that of a normal distribution with the same median of absolute differences between
/// neighbours in a row, which stars and edges hardly change.
fn noise(pictures: &[Picture]) -> f64 {
    /// Half of a normal distribution lies within this many standard deviations.
    const HALF: f64 = 0.6745;
    let differences = pictures.iter().flat_map(|p| {
        let (channels, colours) = (p.format.channels, p.format.colours());
        let seen = move |v: &[u16]| v[colours..].iter().all(|alpha| *alpha > 0);
        p.samples.chunks_exact(p.width * channels).flat_map(move |row| {
            let pairs = row.chunks_exact(channels).zip(row.chunks_exact(channels).skip(1));
            let pairs = pairs.filter(move |(a, b)| seen(a) && seen(b));
            pairs.flat_map(move |(a, b)| a[..colours].iter().zip(b).map(|(a, b)| a.abs_diff(*b)))
        })
    });
    // A difference has twice the variance.
    f64::from(Histogram::of(differences).quantile(0.5)) / HALF / 2f64.sqrt()
}

/// A curve with the background at `middle`.
fn asinh(low: u16, middle: u16, high: u16, noise: f64, peak: u16) -> Option<Curve> {
    let softening = SOFTENING * noise.max(LEAST_NOISE);
    let [low, middle, high] = [low, middle, high].map(f64::from);
    let ends = [low, high].map(|s| ((s - middle) / softening).asinh());
    let knot = |i: usize| {
        let y = ends[0] + (ends[1] - ends[0]) * i as f64 / MAX_SEGMENTS as f64;
        (middle + softening * y.sinh()).round().clamp(low, high) as u16
    };
    Curve::new((0..=MAX_SEGMENTS).map(knot).collect(), peak).ok()
}

/// The pictures with their colours on the scale of planes.
pub fn stretched(pictures: &[Picture], curve: &Curve) -> Vec<Picture> {
    let planes = curve.planes();
    let stretch = |p: &Picture| {
        let mut out = p.clone();
        let colours = p.format.colours();
        let pixels = out.samples.chunks_exact_mut(p.format.channels);
        pixels.flat_map(|v| &mut v[..colours]).for_each(|s| *s = planes[usize::from(*s)]);
        out
    };
    pictures.iter().map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;

    fn grey(depth: u32, samples: Vec<u16>) -> Picture {
        Picture { width: samples.len(), height: 1, format: PixelFormat::new(1, depth), samples }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let h = Histogram::of([5, 1, 9, 9].into_iter());
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|q| h.quantile(q)), [1, 1, 5, 9, 9]);
    }

    /// Uniform samples stay linear; a background with a few bright pixels does not, unless it has few levels.
    #[test]
    fn automatic_takes_the_curve_for_a_high_dynamic_range() {
        let ramp = grey(16, (0..2000).map(|i| i * 32).collect());
        let stars = |scale: u16| (0..2000).map(move |i| (i % 7 + if i % 100 == 0 { i } else { 0 }) * scale);
        let wide = grey(16, stars(30).collect());
        let low = grey(8, stars(1).map(|s| s.min(255)).collect());
        let curved = |p: &Picture, domain| curve(std::slice::from_ref(p), domain).is_some();
        assert_eq!([&ramp, &wide, &low].map(|p| curved(p, Domain::Automatic)), [false, true, false]);
        assert!(curved(&ramp, Domain::Asinh) && !curved(&wide, Domain::Linear));
        assert!(!curved(&grey(16, vec![7; 9]), Domain::Asinh));
    }

    /// The noise of differences of a known spread, whatever bright pixels there are.
    #[test]
    fn noise_is_that_of_the_background() {
        let mut random = tilefit_testing::Noise::new(3);
        // A sum of 12 uniform numbers has a standard deviation of 1.
        let mut normal = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        let samples: Vec<u16> =
            (0..20_000).map(|i| if i % 50 == 0 { 60_000 } else { (1000.0 + 30.0 * normal()) as u16 }).collect();
        let found = noise(&[grey(16, samples)]);
        assert!((found - 30.0).abs() < 2.0, "{found}");
    }

    /// Alpha stays, and hidden colours do not count.
    #[test]
    fn hidden_colours_do_not_count() {
        let format = PixelFormat::new(2, 16).with_alpha();
        let samples = (0..1000u16).flat_map(|i| if i % 3 == 0 { [65535, 0] } else { [100 + i, 65535] }).collect();
        let p = Picture { width: 1000, height: 1, format, samples };
        let curve = curve(std::slice::from_ref(&p), Domain::Asinh).unwrap();
        assert_eq!((curve.knots()[0], *curve.knots().last().unwrap()), (101, 1098));
        let out = stretched(std::slice::from_ref(&p), &curve);
        assert!(out[0].samples.iter().skip(1).step_by(2).eq(p.samples.iter().skip(1).step_by(2)));
    }
}
