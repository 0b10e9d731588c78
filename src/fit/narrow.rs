//! Narrow pictures: each row of a fit costs time of its own, so pictures of many short rows are fitted with rows and columns
//! exchanged, and the file says so.

use crate::image::{Picture, PixelFormat};

/// A row takes the time of this many pixels besides its own: kernels compute whole vectors, and rows are padded. A fit of
/// 5000 pixels in rows of 1, 2, 4, 8, 16, 32, 64 and 200 took 19, 9.6, 7.1, 4.8, 3.0, 2.1, 1.5 and 1.1 times that of one row.
pub const ROW: f64 = 28.0;

/// Pictures are turned if a fit takes at most this part of the time then.
const WORTH: f64 = 0.75;

fn sum(pictures: &[Picture], side: impl Fn(&Picture) -> usize) -> usize {
    pictures.iter().map(side).sum()
}

/// Whether `pictures` are fitted with rows and columns exchanged.
pub fn are_turned(pictures: &[Picture]) -> bool {
    let cost = |rows: usize| sum(pictures, Picture::pixels) as f64 + ROW * rows as f64;
    cost(sum(pictures, |p| p.width)) <= WORTH * cost(sum(pictures, |p| p.height))
}

/// Rows of all planes that are fitted.
pub fn rows(pictures: &[Picture]) -> usize {
    match are_turned(pictures) {
        true => sum(pictures, |p| p.width),
        false => sum(pictures, |p| p.height),
    }
}

/// The picture with rows and columns exchanged.
pub fn turned(p: &Picture) -> Picture {
    let PixelFormat { channels, .. } = p.format;
    let mut samples = Vec::with_capacity(p.samples.len());
    for x in 0..p.width {
        samples.extend((0..p.height).flat_map(|y| &p.samples[(y * p.width + x) * channels..][..channels]));
    }
    Picture { width: p.height, height: p.width, format: p.format, samples }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_narrow_pictures_are_turned() {
        let picture = |width: usize, height: usize| Picture::from_u8(width, height, 1, &vec![0; width * height]);
        for (width, height, is) in
            [(1, 1, false), (1, 50, true), (64, 96, false), (40, 600, true), (512, 768, false), (600, 40, false)]
        {
            assert_eq!(are_turned(&[picture(width, height)]), is, "{width}x{height}");
        }
        assert!(!are_turned(&[picture(1, 50), picture(50, 1)]));
        assert_eq!((rows(&[picture(2, 50)]), rows(&[picture(50, 2)])), (2, 2));
    }

    #[test]
    fn turned_twice_is_the_same() {
        let p = Picture::from_u8(5, 3, 2, &(0..30).collect::<Vec<u8>>());
        let t = turned(&p);
        assert_eq!((t.width, t.height), (3, 5));
        assert_eq!(t.samples[2..6], [10, 11, 20, 21]);
        assert_eq!(turned(&t), p);
    }
}
