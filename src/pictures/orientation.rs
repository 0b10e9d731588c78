//! The orientation of EXIF, applied to samples.

use super::Picture;
use crate::error::Result;
use crate::limits::try_vec;

/// EXIF's tag of the orientation.
const ORIENTATION: u16 = 0x112;

/// The orientation that an EXIF block gives: 1 to 8, 1 if it gives none.
pub fn orientation(exif: &[u8]) -> u16 {
    parse(exif).filter(|o| (1..=8).contains(o)).unwrap_or(1)
}

fn parse(exif: &[u8]) -> Option<u16> {
    let little = match exif.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let b: [u8; 2] = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) })
    };
    let b: [u8; 4] = exif.get(4..8)?.try_into().ok()?;
    let ifd = if little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) } as usize;
    (0..usize::from(u16_at(ifd)?))
        .map(|i| ifd + 2 + 12 * i)
        .find(|&at| u16_at(at) == Some(ORIENTATION))
        .and_then(|at| u16_at(at + 8))
}

/// Turns and mirrors a picture as its EXIF block says, so that it looks the same without the block.
///
/// # Errors
/// [`Class::MemoryLimit`](crate::Class::MemoryLimit) if there is no memory for the turned picture.
pub fn apply_orientation(picture: &mut Picture, exif: &[u8]) -> Result<()> {
    let o = orientation(exif);
    if o == 1 {
        return Ok(());
    }
    let (w, h, n) = (picture.width, picture.height, picture.format.channels);
    let transposed = o >= 5;
    let (width, height) = if transposed { (h, w) } else { (w, h) };
    let mut samples = try_vec(picture.samples.len())?;
    for (i, out) in samples.chunks_exact_mut(n).enumerate() {
        let (x, y) = (i % width, i / width);
        // The stored pixel that is seen at x, y.
        let (sx, sy) = match o {
            2 => (w - 1 - x, y),
            3 => (w - 1 - x, h - 1 - y),
            4 => (x, h - 1 - y),
            5 => (y, x),
            6 => (y, h - 1 - x),
            7 => (w - 1 - y, h - 1 - x),
            _ => (w - 1 - y, x),
        };
        out.copy_from_slice(&picture.samples[(sy * w + sx) * n..][..n]);
    }
    (picture.width, picture.height, picture.samples) = (width, height, samples);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::PixelFormat;
    use super::*;

    fn exif(o: u8) -> Vec<u8> {
        [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[o, 0, 0, 0, 0, 0, 0, 0]].concat()
    }

    /// The views of the picture `0 1 2 / 3 4 5` that EXIF describes for its eight orientations.
    #[test]
    fn all_orientations() {
        let views: [(usize, [u16; 6]); 8] = [
            (3, [0, 1, 2, 3, 4, 5]),
            (3, [2, 1, 0, 5, 4, 3]),
            (3, [5, 4, 3, 2, 1, 0]),
            (3, [3, 4, 5, 0, 1, 2]),
            (2, [0, 3, 1, 4, 2, 5]),
            (2, [3, 0, 4, 1, 5, 2]),
            (2, [5, 2, 4, 1, 3, 0]),
            (2, [2, 5, 1, 4, 0, 3]),
        ];
        for (i, (width, samples)) in views.into_iter().enumerate() {
            let format = PixelFormat { channels: 1, depth: 8, alpha: false };
            let mut p = Picture { width: 3, height: 2, format, samples: (0..6).collect() };
            apply_orientation(&mut p, &exif(i as u8 + 1)).unwrap();
            assert_eq!((p.width, p.height, &p.samples[..]), (width, 6 / width, &samples[..]), "{}", i + 1);
        }
    }

    #[test]
    fn any_bytes_have_an_orientation() {
        for n in 0..26 {
            assert!((1..=8).contains(&orientation(&exif(6)[..n])));
        }
        assert_eq!(orientation(b"MM\0*\xff\xff\xff\xff"), 1);
        assert_eq!(orientation(&exif(9)), 1);
    }
}
