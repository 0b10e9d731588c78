//! Metadata of a part of a picture, or of a smaller version: positions and sizes in pixels follow the new pixels.

use super::metadata::{self, Item};
use super::{fits, tiff};
use crate::container::metadata::{CHUNK, FITS, PHYS, TIFF};
use crate::image::Rect;

/// Chunks of PNG that give the place or the size of the picture.
const PLACES: [&[u8; 4]; 2] = [b"oFFs", b"sCAL"];

/// A part of a picture at `1/2^scale`. Its pixels cover squares of `2^scale` pixels of the full-size picture.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Rows of the full-size picture.
    pub height: usize,
    /// The part, in pixels at the scale.
    pub region: Rect,
    /// The scale.
    pub scale: u32,
}

/// An axis of the full-size picture, on which the window lies.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Where the window begins. Pixel `i` of the full-size picture lies from `i` to `i + 1`.
    pub start: f64,
    /// Pixels of the full-size picture that one of the window covers.
    pub pixel: f64,
}

impl Axis {
    /// A coordinate of the full-size picture in the window. `first` is the coordinate of the centre of the first pixel, in either
    /// picture: 0.5 where pixel `i` lies from `i` to `i + 1`, 1 in FITS.
    pub fn moved(self, at: f64, first: f64) -> f64 {
        let edge = first - 0.5;
        (at - edge - self.start) / self.pixel + edge
    }
}

impl Window {
    /// Columns, from the left.
    pub fn columns(&self) -> Axis {
        let pixel = f64::from(1 << self.scale);
        Axis { start: self.region.x0 as f64 * pixel, pixel }
    }

    /// Rows, from the top.
    pub fn rows(&self) -> Axis {
        let pixel = f64::from(1 << self.scale);
        Axis { start: self.region.y0 as f64 * pixel, pixel }
    }

    /// Rows, from the bottom, as FITS counts them. At a scale the lowest row of the window may begin below the picture.
    pub fn rows_upwards(&self) -> Axis {
        let pixel = f64::from(1 << self.scale);
        Axis { start: self.height as f64 - self.region.y1 as f64 * pixel, pixel }
    }

    /// Changes the items of a picture to those of this part of it. Returns what had to be left out, one line each.
    pub fn apply(&self, items: &mut Vec<Item>) -> Vec<String> {
        let mut left_out = Vec::new();
        items.retain_mut(|item| {
            let moved = match item.kind {
                PHYS => resolution(&item.data, self.scale),
                FITS => fits::moved(&item.data, self, &mut left_out),
                TIFF => tiff::moved(&item.data, self, &mut left_out),
                CHUNK if PLACES.iter().any(|name| item.data.starts_with(*name)) => None,
                _ => return true,
            };
            match moved {
                Some(data) => item.data = data,
                None => {
                    left_out.push(metadata::name(item));
                    return false;
                }
            }
            true
        });
        match left_out.is_empty() {
            true => Vec::new(),
            false => vec![format!("not kept, as it is about other pixels: {}", left_out.join(", "))],
        }
    }
}

/// The body of a pHYs chunk of a picture at `1/2^scale`; `None` if a number becomes 0. The shape of a pixel stays.
fn resolution(body: &[u8], scale: u32) -> Option<Vec<u8>> {
    let [x0, x1, x2, x3, y0, y1, y2, y3, unit] = *body else { return None };
    if unit != 1 {
        return Some(body.to_vec());
    }
    // Rounded to the nearest.
    let scaled = |v: [u8; 4]| {
        let v = ((u64::from(u32::from_be_bytes(v)) << 1 >> scale) + 1) >> 1;
        (v > 0).then_some((v as u32).to_be_bytes())
    };
    let (x, y) = (scaled([x0, x1, x2, x3])?, scaled([y0, y1, y2, y3])?);
    Some([&x[..], &y, &[1]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_follow_the_scale() {
        let body = |x: u32, y: u32, unit| [&x.to_be_bytes()[..], &y.to_be_bytes(), &[unit]].concat();
        assert_eq!(resolution(&body(3780, 1001, 1), 2), Some(body(945, 250, 1)));
        assert_eq!(resolution(&body(3, 1001, 1), 0), Some(body(3, 1001, 1)));
        assert_eq!(resolution(&body(3, 2, 0), 3), Some(body(3, 2, 0)));
        assert_eq!(resolution(&body(1, 9000, 1), 3), None);
        assert_eq!(resolution(&[1, 2], 1), None);
    }

    /// The corners of pixels of the window are corners of pixels of the picture.
    #[test]
    fn coordinates_follow_the_pixels() {
        let w = Window { height: 101, region: Rect::new(3, 2, 8, 26), scale: 2 };
        assert_eq!([12.0, 16.0].map(|x| w.columns().moved(x, 0.5)), [0.0, 1.0]);
        assert_eq!([8.0, 10.0].map(|y| w.rows().moved(y, 0.5)), [0.0, 0.5]);
        // The last of 26 rows has one row of the picture, and would have three more below it.
        assert_eq!([-3.0, 1.0].map(|y| w.rows_upwards().moved(y, 0.5)), [0.0, 1.0]);
        // The centre of the first pixel of a region is the coordinate of a first pixel.
        let w = Window { height: 101, region: Rect::new(3, 2, 8, 101), scale: 0 };
        assert_eq!((w.columns().moved(4.0, 1.0), w.rows_upwards().moved(1.0, 1.0)), (1.0, 1.0));
    }

    #[test]
    fn what_cannot_follow_is_named() {
        let chunk = |name: &[u8; 4]| Item { kind: CHUNK, data: name.to_vec() };
        let mut items =
            vec![chunk(b"oFFs"), chunk(b"teSt"), Item { kind: PHYS, data: vec![0, 0, 0, 9, 0, 0, 0, 9, 1] }];
        let warnings = Window { height: 9, region: Rect::new(1, 1, 2, 2), scale: 0 }.apply(&mut items);
        assert_eq!(items.len(), 2);
        assert!(warnings.len() == 1 && warnings[0].contains("oFFs"), "{warnings:?}");
    }
}
