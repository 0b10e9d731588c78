//! BMP of Windows and OS/2. Written by hand: the crate `image` drops profiles, resolutions and alpha masks.

use super::bytes::Bytes;
use super::metadata::{self, Item};
use super::{blank, check_size, damaged, source, truncated, unsupported, Picture, PixelFormat, ReadOptions, Source};
use crate::container::metadata::SRGB;
use crate::error::Result;

const NAME: &str = "BMP";

/// How pixels are stored.
#[derive(Clone, Copy, PartialEq)]
enum Coding {
    Plain,
    /// Runs of 4- or 8-bit indices.
    Runs,
}

/// Reads a picture. Palettes become RGB.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut b = Bytes::new(data, NAME);
    b.take(10)?;
    let start = b.u32_le()? as usize;
    let size = b.u32_le()? as usize;
    let header = b.take(size.checked_sub(4).ok_or_else(|| damaged(NAME, "the header is too short"))?)?;
    let mut h = Bytes::new(header, NAME);
    let old = size == 12;
    let (width, height, top_down) = if old {
        (u32::from(h.u16_le()?), u32::from(h.u16_le()?), false)
    } else {
        let (w, high) = (h.u32_le()? as i32, h.u32_le()? as i32);
        (u32::try_from(w).map_err(|_| damaged(NAME, "the width is negative"))?, high.unsigned_abs(), high < 0)
    };
    let _planes = h.u16_le()?;
    let bits = u32::from(h.u16_le()?);
    let mut items = Vec::new();
    let mut warnings = Vec::new();
    let (mut compression, mut colours) = (0, 0);
    if !old {
        compression = h.u32_le()?;
        h.u32_le()?;
        let (x, y) = (h.u32_le()?, h.u32_le()?);
        items.extend(metadata::resolution_item(f64::from(x), f64::from(y), 1.0));
        colours = h.u32_le()? as usize;
        h.u32_le()?;
    }
    // Masks are part of the larger headers, and follow the others.
    let mut masks = match bits {
        16 => [0x7c00, 0x3e0, 0x1f, 0],
        _ => [0xff0000, 0xff00, 0xff, 0],
    };
    let coding = match (compression, bits) {
        (0, 1 | 2 | 4 | 8 | 16 | 24 | 32) => Coding::Plain,
        (1, 8) | (2, 4) => Coding::Runs,
        (3 | 6, 16 | 32) => {
            let inside = !h.rest().is_empty();
            let place = if inside { &mut h } else { &mut b };
            for m in &mut masks[..3] {
                *m = place.u32_le()?;
            }
            // The header of 52 bytes has no mask for alpha, all larger ones have.
            if compression == 6 || (inside && !place.rest().is_empty()) {
                masks[3] = place.u32_le()?;
            }
            Coding::Plain
        }
        (4 | 5, _) => {
            return Err(unsupported("a BMP with a JPEG or PNG in it is not read: take the picture out first"))
        }
        _ => return Err(unsupported(format!("a BMP of {bits} bits and compression {compression} is not read"))),
    };
    let n_palette = match (bits, colours) {
        (9.., _) => 0,
        (_, 0) => 1 << bits,
        (_, n) => n.min(1 << bits),
    };
    let entry = if old { 3 } else { 4 };
    // OS/2 files may have fewer entries than bits allow: the pixels start before.
    let room = start.saturating_sub(b.position()) / entry;
    let palette: Vec<[u16; 3]> =
        b.take(n_palette.min(room) * entry)?.chunks_exact(entry).map(|e| [e[2], e[1], e[0]].map(u16::from)).collect();
    if !old && size >= 108 {
        colour_space(data, header, &mut items, &mut warnings);
    }
    let layout = Layout::new(bits, masks)?;
    check_size(width.into(), height.into(), layout.format.channels, options)?;
    let pixels = data.get(start..).ok_or_else(|| truncated(NAME))?;
    let (w, h) = (width as usize, height as usize);
    if coding == Coding::Plain {
        let stride = (w * bits as usize).div_ceil(32) * 4;
        if pixels.len() < stride.saturating_mul(h) {
            return Err(truncated(NAME));
        }
    }
    let mut picture = blank(w, h, layout.format)?;
    match coding {
        Coding::Runs => runs(pixels, bits, &palette, &mut picture)?,
        Coding::Plain => plain(pixels, bits, &layout, &palette, &mut picture, &mut warnings)?,
    }
    // Rows are stored from the bottom up.
    if !top_down {
        let row = w * layout.format.channels;
        for y in 0..h / 2 {
            let (above, below) = picture.samples.split_at_mut((h - 1 - y) * row);
            above[y * row..][..row].swap_with_slice(&mut below[..row]);
        }
    }
    Ok(source(picture, items, warnings))
}

/// The format of the samples, and where they are in the bits of a pixel.
struct Layout {
    format: PixelFormat,
    /// Shift and bits of red, green, blue and alpha.
    fields: [(u32, u32); 4],
}

impl Layout {
    fn new(bits: u32, masks: [u32; 4]) -> Result<Layout> {
        let mut fields = [(0, 0); 4];
        for (f, m) in fields.iter_mut().zip(masks) {
            let shift = m.trailing_zeros() % 32;
            *f = (shift, m.count_ones());
            if u64::from(m) >> shift != (1u64 << f.1) - 1 || f.1 > 16 || (f.1 == 0 && m != masks[3]) {
                return Err(damaged(NAME, "the masks of the colours are not valid"));
            }
        }
        if bits <= 8 {
            return Ok(Layout { format: PixelFormat { channels: 3, depth: 8, alpha: false }, fields });
        }
        let alpha = fields[3].1 > 0;
        let depth = fields.iter().map(|f| f.1).max().unwrap_or(8).max(8);
        Ok(Layout { format: PixelFormat { channels: 3 + usize::from(alpha), depth, alpha }, fields })
    }

    fn sample(&self, pixel: u32, c: usize) -> u16 {
        let (shift, bits) = self.fields[c];
        let (v, peak) = (u64::from(pixel) >> shift & ((1 << bits) - 1), (1u64 << bits) - 1);
        ((v * u64::from(self.format.peak()) + peak / 2) / peak.max(1)) as u16
    }
}

fn plain(
    pixels: &[u8],
    bits: u32,
    layout: &Layout,
    palette: &[[u16; 3]],
    picture: &mut Picture,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let (w, n) = (picture.width, layout.format.channels);
    let stride = (w * bits as usize).div_ceil(32) * 4;
    let mut unused = (u8::MAX, 0);
    for (out, row) in picture.samples.chunks_exact_mut(w * n).zip(pixels.chunks_exact(stride)) {
        for (x, o) in out.chunks_exact_mut(n).enumerate() {
            if bits <= 8 {
                let per_byte = 8 / bits as usize;
                let shift = 8 - bits as usize * (x % per_byte + 1);
                let index = usize::from(row[x / per_byte] >> shift) & ((1 << bits) - 1);
                o.copy_from_slice(palette.get(index).ok_or_else(|| damaged(NAME, "a colour is not in the palette"))?);
                continue;
            }
            let size = bits as usize / 8;
            let bytes = &row[x * size..][..size];
            let pixel = bytes.iter().rev().fold(0u32, |v, &b| v << 8 | u32::from(b));
            if size == 4 && !layout.format.alpha {
                unused = (unused.0.min(bytes[3]), unused.1.max(bytes[3]));
            }
            for (c, o) in o.iter_mut().enumerate() {
                *o = layout.sample(pixel, c);
            }
        }
    }
    if unused.0 < unused.1 && layout.fields.iter().all(|f| f.0 < 24) {
        warnings.push("the fourth byte of the pixels, which BMP says is unused, is not kept".into());
    }
    Ok(())
}

fn runs(pixels: &[u8], bits: u32, palette: &[[u16; 3]], picture: &mut Picture) -> Result<()> {
    let mut b = Bytes::new(pixels, NAME);
    let (w, h) = (picture.width, picture.height);
    let (mut x, mut y) = (0, 0);
    // Pixels that are skipped have the first colour.
    let first = palette.first().copied().unwrap_or_default();
    picture.samples.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&first));
    let mut put = |x: &mut usize, y: usize, index: u8| {
        let colour = palette.get(usize::from(index)).ok_or_else(|| damaged(NAME, "a colour is not in the palette"))?;
        if *x >= w || y >= h {
            return Err(damaged(NAME, "a run ends outside the picture"));
        }
        picture.samples[(y * w + *x) * 3..][..3].copy_from_slice(colour);
        *x += 1;
        Ok(())
    };
    let nibble = |byte: u8, i: usize| if bits == 8 { byte } else { byte >> (4 * (1 - i % 2)) & 15 };
    loop {
        match (b.u8()?, b.u8()?) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => return Ok(()),
            (0, 2) => (x, y) = (x + usize::from(b.u8()?), y + usize::from(b.u8()?)),
            (0, n) => {
                let size = (usize::from(n) * bits as usize).div_ceil(8);
                let bytes = b.take(size + size % 2)?;
                for i in 0..usize::from(n) {
                    put(&mut x, y, nibble(bytes[i * bits as usize / 8], i))?;
                }
            }
            (n, byte) => (0..usize::from(n)).try_for_each(|i| put(&mut x, y, nibble(byte, i)))?,
        }
    }
}

/// The colour space of the headers of 108 and 124 bytes. `header` starts after the header's size.
fn colour_space(data: &[u8], header: &[u8], items: &mut Vec<Item>, warnings: &mut Vec<String>) {
    let field = |at: usize| header.get(at - 4..at).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    match &field(56).to_be_bytes() {
        b"sRGB" => items.push(Item { kind: SRGB, data: vec![0] }),
        b"MBED" => {
            let (at, size) = (field(112) as usize, field(116) as usize);
            let profile = (14usize).checked_add(at).and_then(|at| data.get(at..at.checked_add(size)?));
            match metadata::icc_item(profile.unwrap_or_default()) {
                Ok(item) => items.push(item),
                Err(warning) => warnings.push(warning),
            }
        }
        b"Win " => {}
        b"\0\0\0\0" if header.get(56..104).is_some_and(|b| b.iter().all(|&b| b == 0)) => {}
        _ => warnings.push("the colour space of the BMP is not kept".into()),
    }
}
