//! Tone curves: a map from the planes of a model to the samples of the picture, for pictures of high dynamic range.
//!
//! A curve is linear between knots at equal distances on the scale of planes, computed in integers, so that every decoder gives
//! the same samples. It never falls. The encoder takes samples to planes by [`Curve::planes`], so that a sample comes back
//! exactly where the curve reaches it, else within half a step of the curve.

#[cfg(feature = "fit")]
use crate::container::reader::write_varint;
use crate::container::reader::Reader;
use crate::error::{Error, Result};
use alloc::vec::Vec;

/// Most segments between knots. With 32, neighbouring slopes of an asinh over 16 bits differ by a factor of about 1.4.
pub const MAX_SEGMENTS: usize = 32;

/// A map from planes in `0 ..= peak` to samples in `0 ..= peak`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Curve {
    peak: u16,
    /// Samples at the knots: two or more, none lower than the one before it.
    knots: Vec<u16>,
}

impl Curve {
    /// # Errors
    /// Less than two knots or more than 33, knots that fall, and knots over `peak`.
    pub fn new(knots: Vec<u16>, peak: u16) -> Result<Self> {
        let rises = knots.windows(2).all(|k| k[0] <= k[1]) && knots.last().is_some_and(|last| *last <= peak);
        if !(2..=MAX_SEGMENTS + 1).contains(&knots.len()) || !rises {
            return Err(Error::format("the knots of a tone curve do not rise to the peak: the file is damaged"));
        }
        Ok(Curve { peak, knots })
    }

    /// Reads the number of segments, the first knot, and the differences of the others.
    ///
    /// # Errors
    /// What [`Self::new`] refuses.
    pub fn read(r: &mut Reader, peak: u16) -> Result<Self> {
        let segments = usize::from(r.u8("the segments of a tone curve")?);
        let (mut knots, mut left) = (Vec::new(), u64::from(peak));
        for _ in 0..=segments.min(MAX_SEGMENTS + 1) {
            left -= r.varint(left, "a knot of a tone curve")?;
            knots.push(peak - left as u16);
        }
        Self::new(knots, peak)
    }

    /// The inverse of [`Self::read`].
    #[cfg(feature = "fit")]
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.knots.len() as u8 - 1);
        let before = std::iter::once(&0).chain(&self.knots);
        before.zip(&self.knots).for_each(|(a, b)| write_varint(out, u64::from(b - a)));
    }

    /// The samples at the knots.
    pub fn knots(&self) -> &[u16] {
        &self.knots
    }

    /// The sample of a plane.
    pub fn sample(&self, plane: u16) -> u16 {
        let (peak, segments) = (u32::from(self.peak), self.knots.len() - 1);
        let at = u32::from(plane.min(self.peak)) * segments as u32;
        // The peak itself is the end of the last segment.
        let segment = (at / peak).min(segments as u32 - 1);
        let (start, end) = (self.knots[segment as usize], self.knots[segment as usize + 1]);
        // At most 65535^2 + 32767, which fits.
        start + ((u32::from(end - start) * (at - segment * peak) + peak / 2) / peak) as u16
    }

    /// For each sample in `0 ..= peak` the plane whose sample is nearest; the middle one if there are several.
    #[cfg(feature = "fit")]
    pub fn planes(&self) -> Vec<u16> {
        let reached: Vec<u16> = (0..=self.peak).map(|p| self.sample(p)).collect();
        let middle = |sample: u16| {
            let first = reached.partition_point(|s| *s < sample);
            let after = reached.partition_point(|s| *s <= sample);
            (first + after.saturating_sub(1).max(first)) / 2
        };
        let nearest = |sample: u16| {
            let above = reached.partition_point(|s| *s < sample).min(reached.len() - 1);
            let (low, high) = (reached[above.saturating_sub(1)], reached[above]);
            if sample.abs_diff(low) < sample.abs_diff(high) {
                low
            } else {
                high
            }
        };
        (0..=self.peak).map(|sample| middle(nearest(sample)) as u16).collect()
    }

    /// The largest difference between samples of neighbouring planes. A sample between the first and the last knot comes back
    /// within half of it.
    pub fn step(&self) -> u16 {
        let steps = (1..=self.peak).map(|p| self.sample(p) - self.sample(p - 1));
        steps.max().unwrap_or(0)
    }
}

#[cfg(all(test, feature = "fit"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Curves of any number of knots for pictures of any depth.
    fn curves() -> impl Strategy<Value = Curve> {
        let peak = prop::sample::select(vec![255u16, 1023, 4095, 65535]);
        (peak, prop::collection::vec(any::<u16>(), 2..=MAX_SEGMENTS + 1)).prop_map(|(peak, mut knots)| {
            knots.iter_mut().for_each(|k| *k &= peak);
            knots.sort_unstable();
            Curve::new(knots, peak).unwrap()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// A curve never falls and passes its first and last knot; the map of samples to planes never falls either.
        #[test]
        fn curves_rise(curve in curves()) {
            prop_assert!((1..=curve.peak).all(|p| curve.sample(p - 1) <= curve.sample(p)));
            prop_assert_eq!(curve.sample(0), curve.knots[0]);
            prop_assert_eq!(curve.sample(curve.peak), *curve.knots.last().unwrap());
            prop_assert!(curve.planes().windows(2).all(|p| p[0] <= p[1]));
        }

        /// Samples that the curve reaches come back, those between the knots within half a step.
        #[test]
        fn samples_come_back(curve in curves()) {
            let (planes, step) = (curve.planes(), curve.step());
            for p in 0..=curve.peak {
                let sample = curve.sample(p);
                prop_assert_eq!(curve.sample(planes[usize::from(sample)]), sample);
            }
            for sample in curve.knots[0]..=*curve.knots.last().unwrap() {
                let back = curve.sample(planes[usize::from(sample)]);
                prop_assert!(2 * u32::from(back.abs_diff(sample)) <= u32::from(step), "{} {}", sample, back);
            }
        }

        #[test]
        fn curves_round_trip(curve in curves()) {
            let mut out = Vec::new();
            curve.write(&mut out);
            let mut r = Reader::new(&out);
            prop_assert_eq!(Curve::read(&mut r, curve.peak).unwrap(), curve.clone());
            prop_assert_eq!(r.position(), out.len());
            prop_assert!(Curve::read(&mut Reader::new(&out[..out.len() - 1]), curve.peak).is_err());
        }

        #[test]
        fn any_bytes_are_a_curve_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(curve) = Curve::read(&mut Reader::new(&bytes), 1023) {
                prop_assert!((0..=1023).all(|p| curve.sample(p) <= 1023));
            }
        }
    }
}
