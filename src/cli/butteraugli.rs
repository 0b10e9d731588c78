//! Butteraugli, of the crate of that name: how different two pictures look, by a model of the eye that no fit descends on.

use crate::image::Picture;
use crate::metrics::composed;
use butteraugli::{butteraugli_linear, ButteraugliParams, Img, RGB};

/// The distances of a picture from its original: 0 for equal pictures; below 1 few people see a difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Butteraugli {
    /// The mean of the map's norms of orders 3, 6 and 12, which is what tools call the 3-norm.
    pub norm3: f64,
    /// The largest of the map.
    pub max: f64,
}

/// Compares grey or RGB pictures of one size and depth, as sRGB. With alpha the worse one of a dark and a light background
/// counts, as in SSIMULACRA2. `None` for bands, and for pictures with a side below 8 pixels.
pub fn butteraugli(original: &Picture, picture: &Picture) -> Option<Butteraugli> {
    if original.format.alpha || picture.format.alpha {
        let peak = f64::from(original.format.peak());
        let on = |part: f64| {
            let background = (part * peak).round() as u16;
            butteraugli(&composed(original, background), &composed(picture, background))
        };
        let (dark, light) = (on(0.1)?, on(0.9)?);
        return Some(if dark.norm3 > light.norm3 { dark } else { light });
    }
    let pixels = |p: &Picture| {
        let linear: Vec<f32> =
            (0..=p.format.peak()).map(|v| to_linear(f32::from(v) / f32::from(p.format.peak()))).collect();
        let of = |v: u16| linear[usize::from(v)];
        let pixel = |s: &[u16]| match *s {
            [r, g, b] => Some(RGB { r: of(r), g: of(g), b: of(b) }),
            [v] => Some(RGB { r: of(v), g: of(v), b: of(v) }),
            _ => None,
        };
        let pixels = p.samples.chunks_exact(p.format.channels).map(pixel).collect::<Option<Vec<_>>>()?;
        Some(Img::new(pixels, p.width, p.height))
    };
    let (a, b) = (pixels(original)?, pixels(picture)?);
    // It refuses pictures that are too small.
    let result = butteraugli_linear(a.as_ref(), b.as_ref(), &ButteraugliParams::default()).ok()?;
    Some(Butteraugli { norm3: result.pnorm_3, max: result.score })
}

/// Linear light of an sRGB sample.
fn to_linear(v: f32) -> f32 {
    if v <= 0.04045 {
        v / 12.92
    } else {
        ((v + 0.055) / 1.055).powf(2.4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;
    use tilefit_testing::Noise;

    fn picture(format: PixelFormat, noise: f64) -> Picture {
        let (width, height, peak) = (40, 32, f64::from(format.peak()));
        let mut random = Noise::new(4);
        let mut sample = |i: usize| {
            let colour = if format.alpha && i % format.channels + 1 == format.channels {
                1.0
            } else {
                0.3 + (i % 97) as f64 / 200.0
            };
            let noise = if colour == 1.0 { 0.0 } else { noise * random.signed() };
            ((colour + noise) * peak).round() as u16
        };
        let samples = (0..width * height * format.channels).map(&mut sample).collect();
        Picture { width, height, format, samples }
    }

    /// More noise is a larger distance, at any depth and with opaque alpha; the largest error is above the norm.
    #[test]
    fn distances_grow_with_errors() {
        for format in
            [PixelFormat::RGB, PixelFormat::GREY, PixelFormat::new(3, 16), PixelFormat::new(4, 8).with_alpha()]
        {
            let original = picture(format, 0.0);
            assert_eq!(butteraugli(&original, &original), Some(Butteraugli { norm3: 0.0, max: 0.0 }));
            let [little, much] = [0.02, 0.1].map(|n| butteraugli(&original, &picture(format, n)).unwrap());
            assert!(0.1 < little.norm3 && 2.0 * little.norm3 < much.norm3, "{format:?}: {little:?} {much:?}");
            assert!(little.norm3 < little.max && much.norm3 < much.max);
        }
        assert_eq!(butteraugli(&picture(PixelFormat::new(5, 8), 0.0), &picture(PixelFormat::new(5, 8), 0.1)), None);
        let small = Picture::from_u8(7, 9, 1, &[5; 63]);
        assert_eq!(butteraugli(&small, &small), None);
    }
}
