//! Values of other types as samples of 16 bits.

use super::Item;
use crate::container::metadata::SCALE;
use crate::error::{Error, Result};
use crate::limits::try_vec;

/// Values as samples: `value = zero + scale * sample`.
pub struct Scaled {
    pub samples: Vec<u16>,
    /// Channels of `samples`: one more than there were if some values are undefined.
    pub channels: usize,
    /// Whether the last channel was added: 0 in pixels with an undefined value, the peak elsewhere.
    pub alpha: bool,
    pub scale: f64,
    pub zero: f64,
    /// Whether all values come back exactly.
    pub exact: bool,
}

impl Scaled {
    /// The item of scale and zero; `None` if the samples are the values.
    pub fn item(&self) -> Option<Item> {
        ((self.scale, self.zero) != (1.0, 0.0)).then(|| scale_item(self.scale, self.zero))
    }

    /// The warning for values that do not come back exactly. `what` are the values.
    pub fn warning(&self, what: &str) -> Option<String> {
        (!self.exact).then(|| {
            let last = self.zero + self.scale * 65535.0;
            format!("{what} from {} to {last} become 16 bits in steps of {:.3e}", self.zero, self.scale)
        })
    }
}

/// The item with a scale and a zero.
pub fn scale_item(scale: f64, zero: f64) -> Item {
    Item { kind: SCALE, data: [scale.to_le_bytes(), zero.to_le_bytes()].concat() }
}

/// Scale and zero of an item's data.
pub fn scale_of(data: &[u8]) -> Option<(f64, f64)> {
    let number = |at: usize| Some(f64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?));
    Some((number(0)?, number(8)?)).filter(|(scale, zero)| data.len() == 16 && scale.is_finite() && zero.is_finite())
}

/// Converts `count` values `[pixels][channels]`, of which `value` gives number `i`. Integers whose range fits 16 bits are
/// kept exactly, all others are mapped linearly from their range to 0 to 65535. Undefined values (not finite) make their pixels transparent.
///
/// # Errors
/// An [`Error`] if all values are undefined, or if transparency would be one channel too many.
pub fn from_values(count: usize, channels: usize, value: impl Fn(usize) -> f64) -> Result<Scaled> {
    let (mut low, mut high, mut integers, mut undefined) = (f64::INFINITY, f64::NEG_INFINITY, true, false);
    for v in (0..count).map(&value) {
        if v.is_finite() {
            (low, high) = (low.min(v), high.max(v));
            integers &= v == v.trunc();
        } else {
            undefined = true;
        }
    }
    if low > high {
        return Err(Error::format("no value of the picture is a finite number"));
    }
    // Values below 2^53 are exact in f64, so their differences are.
    let exact = integers && high - low <= 65535.0 && low.abs().max(high.abs()) < 9e15;
    let step = high / 65535.0 - low / 65535.0;
    let (scale, zero) = match exact {
        true if low >= 0.0 && high <= 65535.0 => (1.0, 0.0),
        true => (1.0, low),
        // One value only, or a range that f64 cannot divide.
        false if step < f64::MIN_POSITIVE => (1.0, low),
        false => (step, low),
    };
    let all = channels + usize::from(undefined);
    if all > crate::image::PixelFormat::MAX_CHANNELS {
        return Err(super::unsupported(format!("{channels} bands with undefined values: at most 15 are possible")));
    }
    let mut samples = try_vec(count / channels * all)?;
    for (i, out) in samples.chunks_exact_mut(all).enumerate() {
        let pixel = |c: usize| value(i * channels + c);
        let defined = (0..channels).all(|c| pixel(c).is_finite());
        for (c, o) in out.iter_mut().enumerate().take(channels) {
            // Zero in transparent pixels, where the defined bands have no meaning either.
            // Halves, because the range of all f64 is not a f64.
            let sample = || (pixel(c) / 2.0 - zero / 2.0) / (scale / 2.0);
            *o = if defined { sample().round().clamp(0.0, 65535.0) as u16 } else { 0 };
        }
        if undefined {
            out[channels] = if defined { 65535 } else { 0 };
        }
    }
    Ok(Scaled { samples, channels: all, alpha: undefined, scale, zero, exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(values: &[f64], channels: usize) -> Result<Scaled> {
        from_values(values.len(), channels, |i| values[i])
    }

    #[test]
    fn integers_of_a_small_range_are_exact_wherever_they_are() {
        for (low, zero) in [(0.0, 0.0), (100.0, 0.0), (-32768.0, -32768.0), (4e9, 4e9), (-1e12, -1e12)] {
            let values = [low, low + 65535.0 * f64::from(low != 100.0), low + 7.0];
            let s = from(&values, 1).unwrap();
            assert!(s.exact && s.scale == 1.0 && s.zero == zero, "{low}");
            let back: Vec<f64> = s.samples.iter().map(|&v| s.zero + s.scale * f64::from(v)).collect();
            assert_eq!(back, values);
        }
    }

    #[test]
    fn other_values_come_back_within_half_a_step() {
        for values in [[-1e-3, 0.5, 2.25], [1e300, -8e307, 8e307], [3.5, 3.5, 3.5], [0.0, 1e-310, 5e-310]] {
            let s = from(&values, 1).unwrap();
            assert!(!s.exact);
            for (v, &q) in values.iter().zip(&s.samples) {
                assert!((s.zero + s.scale * f64::from(q) - v).abs() <= 0.51 * s.scale, "{values:?}");
            }
        }
    }

    #[test]
    fn undefined_values_are_transparent() {
        let s = from(&[1.0, 2.0, f64::NAN, 4.0], 2).unwrap();
        assert_eq!((s.channels, &s.samples[..]), (3, &[1, 2, 65535, 0, 0, 0][..]));
        assert!(from(&[f64::NAN], 1).is_err());
        assert!(from(&[f64::INFINITY; 16], 16).is_err());
    }
}
