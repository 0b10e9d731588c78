//! A model for tests in which each mistake of a decoder shows: every sample mixes the codes of two grids and of a
//! neighbour.

use super::*;
use crate::entropy::range_coder::{RangeDecoder, RangeEncoder};

/// Sample = fine(x, y) + fine(x - 1, y) + coarse(x / 4, y / 4), modulo 256; codes are 0 to 255.
#[derive(Clone, Copy)]
pub struct Echo {
    /// Whether the coarse grid is a layer of its own.
    pub split: bool,
}

/// The coarse grid, of which the second channel counts, and the fine one.
pub const GRIDS: [GridSpec; 2] = [GridSpec { shift: 2, channels: 2 }, GridSpec { shift: 0, channels: 1 }];

impl Echo {
    pub fn read(description: &[u8]) -> Echo {
        Echo { split: description == [1] }
    }
}

impl Model for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }
    fn channels(&self) -> usize {
        3
    }
    fn grids(&self) -> &[GridSpec] {
        &GRIDS
    }
    fn layers(&self) -> usize {
        1 + self.split as usize
    }
    fn layer_grids(&self, layer: usize) -> Range<usize> {
        match (self.split, layer) {
            (false, _) => 0..2,
            (true, l) => l..l + 1,
        }
    }
    fn weights_count(&self) -> usize {
        0
    }
    fn macs_per_pixel(&self) -> f64 {
        2.0
    }
    fn memory(&self) -> u64 {
        0
    }
    fn tile_cost(&self, width: usize, height: usize) -> Cost {
        Cost { memory: 0, work: width as u64 * height as u64 }
    }
    fn synthesis_cost(&self, width: usize, height: usize, _: u32) -> Cost {
        Cost { memory: 0, work: width as u64 * height as u64 }
    }
    fn decode_tile(&self, _: Level, layer: usize, segment: &[u8], codes: &mut Codes) -> Result<()> {
        let mut d = RangeDecoder::new(segment);
        for g in self.layer_grids(layer) {
            codes[g].codes.iter_mut().for_each(|c| *c = d.decode_bits(8) as i16);
        }
        d.finish()
    }
    fn support(&self, region: Rect, size: (usize, usize), scale: u32) -> Vec<Rect> {
        assert_eq!(scale, 0);
        let left = Rect { x0: region.x0.saturating_sub(1), ..region };
        vec![left.shrunk(2).intersect(&Rect::whole(size.0.div_ceil(4), size.1.div_ceil(4))), left]
    }
    fn synthesise(
        &self,
        _: Level,
        codes: &[Grid],
        _: (usize, usize),
        region: Rect,
        _: u32,
        _: u16,
        out: &mut [u16],
    ) -> Result<()> {
        let at = |g: &Grid, c: usize, x: usize, y: usize| {
            g.codes[(c * g.rect.height() + y - g.rect.y0) * g.rect.width() + x - g.rect.x0] as u8
        };
        let mut i = 0;
        for y in region.y0..region.y1 {
            for x in region.x0..region.x1 {
                let left = if x > 0 { at(&codes[1], 0, x - 1, y) } else { 0 };
                let sum = at(&codes[1], 0, x, y).wrapping_add(left).wrapping_add(at(&codes[0], 1, x / 4, y / 4));
                out[i..i + 3].fill(u16::from(sum));
                i += 3;
            }
        }
        Ok(())
    }
}

impl Encode for Echo {
    fn family(&self) -> u8 {
        TEST
    }
    fn write_description(&self, out: &mut Vec<u8>) {
        out.push(self.split as u8);
    }
    fn write_weights(&self, _: &mut Vec<u8>) {}
    fn encode_tile(&self, _: Level, layer: usize, codes: &Codes) -> Vec<u8> {
        let mut e = RangeEncoder::default();
        for g in self.layer_grids(layer) {
            codes[g].codes.iter().for_each(|c| e.encode_bits(*c as u32, 8));
        }
        e.finish()
    }
}
