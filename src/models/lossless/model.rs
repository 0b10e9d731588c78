//! A `lossless` model as the decoder has it: segments to codes, codes to samples.

use super::planes::{self, Layout, Mode};
use super::values::Values;
use crate::entropy::range_coder::RangeDecoder;
use crate::error::{Class, Error, Result};
use crate::image::Rect;
use crate::limits::try_vec;
use crate::models::{Codes, Cost, Grid, GridSpec, Model};
use alloc::{format, vec, vec::Vec};
use kernels::Level;

/// Flag of the description: the second channel is coded first.
const SECOND_FIRST: u8 = 4;

/// What the codes of a picture stand for. Codes are samples divided by the step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LosslessModel {
    depth: u32,
    /// Largest difference of a decoded sample: the step is `2 max_error + 1`.
    max_error: u16,
    second_first: bool,
    values: Values,
    grids: [GridSpec; 1],
}

impl LosslessModel {
    /// `depth` is 1 to 16 bits; `values` has codes up to [`largest`](Self::largest).
    pub fn new(channels: usize, depth: u32, max_error: u16, values: Values) -> Self {
        let grids = [GridSpec { shift: 0, channels }];
        // Green says most about red and blue.
        LosslessModel { depth, max_error, second_first: channels >= 3, values, grids }
    }

    /// Reads a model of a picture of `channels` channels of `depth` bits from the header's description (two bytes or three: flags,
    /// largest error) and the weights section.
    ///
    /// # Errors
    /// [`Class::Unsupported`] for unknown flags, [`Class::Format`] for anything else that breaks the format.
    pub fn read(channels: usize, depth: u32, description: &[u8], section: &[u8]) -> Result<Self> {
        let (flags, max_error) = match *description {
            [flags, low] => (flags, u16::from(low)),
            [flags, low, high] if high > 0 => (flags, u16::from_le_bytes([low, high])),
            _ => return Err(Error::format("a lossless description has 2 or 3 bytes: the file is damaged")),
        };
        if flags > 7 {
            let what = format!("unknown lossless flags {flags:#04x}: a newer program is needed");
            return Err(Error::new(Class::Unsupported, what));
        }
        let second_first = flags & SECOND_FIRST != 0;
        if channels == 0 || !(1..=16).contains(&depth) || (second_first && channels < 2) {
            return Err(Error::format("a lossless model of a picture that cannot be: the file is damaged"));
        }
        let values = Values::read(flags & 3, channels, largest(depth, max_error), section)?;
        Ok(LosslessModel { second_first, ..Self::new(channels, depth, max_error, values) })
    }

    /// The largest code.
    pub fn largest(&self) -> u16 {
        largest(self.depth, self.max_error)
    }

    /// How the tiles' planes are coded.
    fn layout(&self) -> Layout {
        let tops = self.values.tops(self.channels(), self.largest());
        let mut order: Vec<usize> = (0..tops.len()).collect();
        if self.second_first && order.len() > 1 {
            order.swap(0, 1);
        }
        Layout { tops, order, palette: self.values.kind() == 2 }
    }

    /// About the bits of a tile.
    #[cfg(feature = "fit")]
    pub fn price(&self, grid: &Grid) -> f64 {
        let places = self.values.places_of(&grid.codes, self.channels());
        planes::best_mode(&places, &self.layout(), grid.rect.width(), grid.rect.height()).0
    }

    /// The sample that a code stands for.
    fn sample(&self, code: i16) -> u16 {
        let peak = (1u32 << self.depth) - 1;
        (u32::from(code as u16) * (2 * u32::from(self.max_error) + 1)).min(peak) as u16
    }

    /// Computes samples as [`Model::synthesise`] does.
    pub fn samples(&self, grid: &Grid, size: (usize, usize), region: Rect, scale: u32, out: &mut [u16]) {
        let (channels, side) = (self.channels(), 1usize << scale);
        let rect = grid.rect;
        let code =
            |c: usize, y: usize, x: usize| grid.codes[(c * rect.height() + y - rect.y0) * rect.width() + x - rect.x0];
        let places = (region.y0..region.y1).flat_map(|y| (region.x0..region.x1).map(move |x| (y, x)));
        for ((y, x), pixel) in places.zip(out.chunks_exact_mut(channels)) {
            let (y, x) = (y << scale, x << scale);
            let (rows, columns) = (y..(y + side).min(size.1), x..(x + side).min(size.0));
            let count = (rows.len() * columns.len()) as u64;
            for (c, out) in pixel.iter_mut().enumerate() {
                let mut sum = count / 2;
                for y in rows.clone() {
                    sum += columns.clone().map(|x| u64::from(self.sample(code(c, y, x)))).sum::<u64>();
                }
                *out = (sum / count) as u16;
            }
        }
    }
}

/// The largest code of samples of `depth` bits: the peak divided by the step, rounded.
fn largest(depth: u32, max_error: u16) -> u16 {
    quantised((1u32 << depth) - 1, max_error)
}

/// A sample divided by the step, rounded: the code of the sample.
pub fn quantised(sample: u32, max_error: u16) -> u16 {
    let n = u32::from(max_error);
    ((sample + n) / (2 * n + 1)) as u16
}

impl Model for LosslessModel {
    fn name(&self) -> &'static str {
        "lossless"
    }

    fn channels(&self) -> usize {
        self.grids[0].channels
    }

    fn grids(&self) -> &[GridSpec] {
        &self.grids
    }

    fn weights_count(&self) -> usize {
        match &self.values {
            Values::All => 0,
            Values::Lists(lists) => lists.iter().map(Vec::len).sum(),
            Values::Palette(colours) => colours.len(),
        }
    }

    fn macs_per_pixel(&self) -> f64 {
        self.channels() as f64 * planes::MACS
    }

    fn memory(&self) -> u64 {
        4 * self.weights_count() as u64
    }

    fn tile_cost(&self, width: usize, height: usize) -> Cost {
        let planes = if self.values.kind() == 2 { 1 } else { self.channels() };
        let samples = (width as u64 * height as u64).saturating_mul(planes as u64);
        Cost { memory: 2 * samples + planes::memory(planes, width, height), work: samples.saturating_mul(planes::WORK) }
    }

    fn synthesis_cost(&self, width: usize, height: usize, scale: u32) -> Cost {
        let samples = (width as u64 * height as u64).saturating_mul(self.channels() as u64) << (2 * scale);
        Cost { memory: 0, work: samples }
    }

    fn decode_tile(&self, _: Level, _: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let [grid] = &mut codes[..] else {
            return Err(Error::format("a lossless tile has one grid"));
        };
        let (height, width) = (grid.rect.height(), grid.rect.width());
        if grid.codes.len() != self.channels() * height * width {
            return Err(Error::format("a tile's codes do not have the shape of the model's grid"));
        }
        let layout = self.layout();
        let mut places = try_vec(layout.order.len() * height * width)?;
        let mut decoder = RangeDecoder::new(segment);
        planes::code(&mut decoder, &mut places, &layout, width, height, Mode::Plain)?;
        decoder.finish()?;
        self.values.values_of(&places, self.channels(), &mut grid.codes);
        Ok(())
    }

    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        let (x1, y1) = ((region.x1 << scale).min(size.0), (region.y1 << scale).min(size.1));
        vec![Rect { x0: region.x0 << scale, y0: region.y0 << scale, x1, y1 }]
    }

    fn synthesise(
        &self,
        _: Level,
        codes: &[Grid],
        size: (usize, usize),
        region: Rect,
        scale: u32,
        _: u16,
        out: &mut [u16],
    ) -> Result<()> {
        self.samples(&codes[0], size, region, scale, out);
        Ok(())
    }
}

#[cfg(feature = "fit")]
impl crate::models::Encode for LosslessModel {
    fn family(&self) -> u8 {
        crate::models::LOSSLESS
    }

    fn write_description(&self, out: &mut Vec<u8>) {
        out.push(self.values.kind() | if self.second_first { SECOND_FIRST } else { 0 });
        let [low, high] = self.max_error.to_le_bytes();
        out.push(low);
        if high > 0 {
            out.push(high);
        }
    }

    fn write_weights(&self, out: &mut Vec<u8>) {
        out.extend(self.values.write(self.channels(), self.largest()));
    }

    fn encode_tile(&self, _: Level, _: usize, codes: &Codes) -> Vec<u8> {
        let grid = &codes[0];
        let places = self.values.places_of(&grid.codes, self.channels());
        planes::encode(&places, &self.layout(), grid.rect.width(), grid.rect.height())
    }
}
