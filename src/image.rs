//! Pictures: what their samples are, the samples, and rectangles of pixels.

use crate::crc::crc32_of;
use crate::error::{Error, Result};
use alloc::{format, string::String, vec, vec::Vec};
use std::ops::Range;

/// What the samples of a pixel are. Everything that depends on the number or the size of samples asks this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PixelFormat {
    /// Samples of a pixel, alpha included: 1 to [`Self::MAX_CHANNELS`]. Without alpha 1 is grey, 3 is red, green and blue; any
    /// other number are bands without a meaning to the codec.
    pub channels: usize,
    /// Bits of a sample: 8 to 16.
    pub depth: u32,
    /// Whether the last channel is alpha, not multiplied into the others (0 is transparent).
    pub alpha: bool,
}

impl PixelFormat {
    /// Most channels of a pixel.
    pub const MAX_CHANNELS: usize = 16;
    /// Grey of 8 bits.
    pub const GREY: Self = PixelFormat::new(1, 8);
    /// Red, green and blue of 8 bits.
    pub const RGB: Self = PixelFormat::new(3, 8);

    /// `channels` samples of `depth` bits, none of them alpha.
    pub const fn new(channels: usize, depth: u32) -> Self {
        PixelFormat { channels, depth, alpha: false }
    }

    /// The same with the last channel as alpha.
    pub const fn with_alpha(self) -> Self {
        PixelFormat { alpha: true, ..self }
    }

    /// The largest sample, `2^depth - 1`. Alpha is opaque there.
    pub fn peak(self) -> u16 {
        ((1u32 << self.depth.min(16)) - 1) as u16
    }

    /// What the picture is called: "RGB", "grey with alpha", "4 bands".
    pub fn name(self) -> String {
        let colours = match self.colours() {
            1 => "grey".into(),
            3 => "RGB".into(),
            n => format!("{n} bands"),
        };
        colours + if self.alpha { " with alpha" } else { "" }
    }

    /// A sample scaled to another `peak`, rounded: the peak becomes the peak.
    pub fn scaled(self, sample: u16, peak: u16) -> u16 {
        let from = u32::from(self.peak());
        ((u32::from(sample) * u32::from(peak) + from / 2) / from) as u16
    }

    /// Channels other than alpha.
    pub fn colours(self) -> usize {
        self.channels - usize::from(self.alpha)
    }

    /// Bytes of a sample in [`Picture::to_bytes`]: 1 up to 8 bits, 2 above.
    pub fn sample_bytes(self) -> usize {
        if self.depth > 8 {
            2
        } else {
            1
        }
    }

    /// Refuses numbers that the format of files does not have.
    ///
    /// # Errors
    /// [`Class::Argument`](crate::Class::Argument).
    pub fn check(self) -> Result<()> {
        let refuse = |message: String| Err(Error::of_argument("format", message));
        if !(1..=Self::MAX_CHANNELS).contains(&self.channels) {
            return refuse(format!("{} channels: 1 to {} are possible", self.channels, Self::MAX_CHANNELS));
        }
        if !(8..=16).contains(&self.depth) {
            return refuse(format!("samples of {} bits: 8 to 16 are possible", self.depth));
        }
        if self.alpha && self.channels == 1 {
            return refuse("a picture with nothing but alpha".into());
        }
        Ok(())
    }
}

/// A picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What the samples of a pixel are.
    pub format: PixelFormat,
    /// `[height][width][channels]`: row by row, the samples of a pixel together; each at most the format's
    /// [peak](PixelFormat::peak).
    pub samples: Vec<u16>,
}

impl Picture {
    /// A picture of 8-bit samples without alpha, `[height][width][channels]`.
    ///
    /// # Panics
    /// Unless there are `width * height * channels` samples.
    pub fn from_u8(width: usize, height: usize, channels: usize, samples: &[u8]) -> Self {
        assert_eq!(samples.len(), width * height * channels, "samples of {width}x{height} pixels");
        let samples = samples.iter().map(|s| u16::from(*s)).collect();
        Picture { width, height, format: PixelFormat::new(channels, 8), samples }
    }

    /// The samples as bytes: one for each up to 8 bits, otherwise two, the lower first.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.format.sample_bytes() {
            1 => self.samples.iter().map(|s| *s as u8).collect(),
            _ => self.samples.iter().flat_map(|s| s.to_le_bytes()).collect(),
        }
    }

    /// The picture with samples scaled to `depth` bits, from 8 to 16: the peak becomes the peak.
    pub fn with_depth(mut self, depth: u32) -> Self {
        let before = self.format;
        self.format.depth = depth;
        if self.format != before {
            let peak = self.format.peak();
            self.samples.iter_mut().for_each(|s| *s = before.scaled(*s, peak));
        }
        self
    }

    /// The samples as f32 in `[0, 1]`, channel after channel: `[channels][height][width]`.
    pub fn to_planes(&self) -> Vec<f32> {
        let (n, channels) = (self.pixels(), self.format.channels);
        let peak = f32::from(self.format.peak());
        let mut planes = vec![0f32; n * channels];
        for c in 0..channels {
            for (p, s) in planes[c * n..][..n].iter_mut().zip(self.samples[c..].iter().step_by(channels)) {
                *p = f32::from(*s) / peak;
            }
        }
        planes
    }

    /// One picture of the channels of several, in their order: aligned planes that share a model.
    ///
    /// # Errors
    /// [`Class::Argument`](crate::Class::Argument) for no pictures, different sizes or depths, alpha, and too many channels.
    pub fn joined(pictures: &[Picture]) -> Result<Picture> {
        let refuse = |message: String| Err(Error::of_argument("pictures", message));
        let Some(first) = pictures.first() else { return refuse("expected at least one picture".into()) };
        let channels = pictures.iter().map(|p| p.format.channels).sum();
        for p in pictures {
            let (a, b) = ((first.width, first.height, first.format.depth), (p.width, p.height, p.format.depth));
            if a != b {
                let kind = |(w, h, d): (usize, usize, u32)| format!("{w}x{h} of {d} bits");
                return refuse(format!("bands have one size and depth, not {} and {}", kind(a), kind(b)));
            }
            if p.format.alpha {
                return refuse("bands have no alpha".into());
            }
        }
        let format = PixelFormat::new(channels, first.format.depth);
        format.check().map_err(|e| Error::of_argument("pictures", e.message()))?;
        let mut samples = Vec::with_capacity(first.pixels() * channels);
        for i in 0..first.pixels() {
            for p in pictures {
                samples.extend_from_slice(&p.samples[i * p.format.channels..][..p.format.channels]);
            }
        }
        Ok(Picture { width: first.width, height: first.height, format, samples })
    }

    /// A picture of the channels `range` of this one, none of them alpha.
    ///
    /// # Panics
    /// If there are no such channels.
    pub fn channels(&self, range: Range<usize>) -> Picture {
        let pixels = self.samples.chunks_exact(self.format.channels);
        let samples = pixels.flat_map(|pixel| &pixel[range.clone()]).copied().collect();
        let format = PixelFormat::new(range.len(), self.format.depth);
        Picture { width: self.width, height: self.height, format, samples }
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// CRC-32 of [`Self::to_bytes`], the digest of the header.
    pub fn digest(&self) -> u32 {
        match self.format.sample_bytes() {
            1 => crc32_of(self.samples.iter().map(|s| *s as u8)),
            _ => crc32_of(self.samples.iter().flat_map(|s| s.to_le_bytes())),
        }
    }
}

/// A rectangle of pixels (or of codes of a grid), counted from the top left: `x0 <= x < x1`, `y0 <= y < y1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rect {
    /// First column.
    pub x0: usize,
    /// First row.
    pub y0: usize,
    /// Column after the last.
    pub x1: usize,
    /// Row after the last.
    pub y1: usize,
}

impl Rect {
    /// Columns `x0 .. x1` and rows `y0 .. y1`.
    pub fn new(x0: usize, y0: usize, x1: usize, y1: usize) -> Self {
        Rect { x0, y0, x1, y1 }
    }
    /// All of a picture of this size.
    pub fn whole(width: usize, height: usize) -> Self {
        Rect::new(0, 0, width, height)
    }
    /// Number of columns. The rectangle is not reversed (`x0 <= x1`).
    pub fn width(&self) -> usize {
        self.x1 - self.x0
    }
    /// Number of rows. The rectangle is not reversed (`y0 <= y1`).
    pub fn height(&self) -> usize {
        self.y1 - self.y0
    }
    /// Columns times rows.
    pub fn area(&self) -> usize {
        self.width() * self.height()
    }
    /// Whether it has no pixels; true for a reversed rectangle.
    pub fn is_empty(&self) -> bool {
        self.x0 >= self.x1 || self.y0 >= self.y1
    }
    /// The rectangle with `n` more on each side, clamped to a picture of `width` x `height`.
    pub fn grown(&self, n: usize, width: usize, height: usize) -> Self {
        Rect {
            x0: self.x0.saturating_sub(n),
            y0: self.y0.saturating_sub(n),
            x1: (self.x1 + n).min(width),
            y1: (self.y1 + n).min(height),
        }
    }
    /// The rectangle with rows and columns exchanged.
    pub fn turned(&self) -> Self {
        Rect { x0: self.y0, y0: self.x0, x1: self.y1, y1: self.x1 }
    }
    /// The smallest rectangle of a grid at `1/2^shift` whose codes cover this rectangle of pixels.
    pub fn shrunk(&self, shift: u32) -> Self {
        let up = |v: usize| v.div_ceil(1 << shift);
        Rect { x0: self.x0 >> shift, y0: self.y0 >> shift, x1: up(self.x1), y1: up(self.y1) }
    }
    /// The overlap with another rectangle; without one it [is empty](Self::is_empty), and may be reversed.
    pub fn intersect(&self, o: &Rect) -> Self {
        Rect { x0: self.x0.max(o.x0), y0: self.y0.max(o.y0), x1: self.x1.min(o.x1), y1: self.y1.min(o.y1) }
    }
}
