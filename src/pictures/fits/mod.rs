//! FITS images (standard 4.0) of two dimensions, or of three with at most 16 planes, which become channels. Written by hand:
//! the libraries for it bind a C library or read no header cards.

mod window;

pub use window::moved;

use super::bytes::Bytes;
use super::metadata::{self, Item, MAX_INFLATED};
use super::samples::{self, scale_item};
use super::{
    cannot_write, check_size, damaged, source, truncated, unsupported, Picture, PixelFormat, ReadOptions, Source,
};
use crate::container::metadata::{FITS, SCALE};
use crate::error::Result;
use crate::limits::try_vec;
use std::io::Write;

const NAME: &str = "FITS";
/// Headers and data are padded to this many bytes.
const BLOCK: usize = 2880;
const CARD: usize = 80;
/// Headers of more cards are refused.
const MAX_CARDS: usize = 1 << 16;

/// Keywords that describe the stored samples. The writer makes its own.
const STRUCTURE: [&str; 15] = [
    "", "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "BSCALE", "BZERO", "BLANK",
    "END", "CHECKSUM", "DATASUM",
];

/// A header.
struct Header<'a> {
    cards: Vec<&'a [u8]>,
}

impl<'a> Header<'a> {
    fn read(b: &mut Bytes<'a>) -> Result<Self> {
        let mut cards = Vec::new();
        loop {
            for card in b.take(BLOCK)?.chunks_exact(CARD) {
                if !card.iter().all(|c| (32..127).contains(c)) {
                    return Err(damaged(NAME, "a header card is not text"));
                }
                if keyword(card) == "END" {
                    return Ok(Header { cards });
                }
                cards.push(card);
            }
            if cards.len() > MAX_CARDS {
                return Err(damaged(NAME, "the header has no end"));
            }
        }
    }

    /// The value of a keyword without quotes and comment.
    fn value(&self, name: &str) -> Option<&'a str> {
        let card = self.cards.iter().find(|c| keyword(c) == name && c.get(8..10) == Some(b"= "))?;
        let text = std::str::from_utf8(&card[10..]).ok()?.trim();
        Some(match text.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next().unwrap_or("").trim_end(),
            None => text.split('/').next().unwrap_or("").trim(),
        })
    }

    fn integer(&self, name: &str) -> Result<Option<i64>> {
        let parse = |v: &str| v.parse().map_err(|_| damaged(NAME, format!("{name} is not a whole number")));
        self.value(name).map(parse).transpose()
    }

    fn number(&self, name: &str, default: f64) -> Result<f64> {
        let Some(text) = self.value(name) else { return Ok(default) };
        // Fortran writes exponents of double precision with D.
        let number = text.replace(['D', 'd'], "E").parse::<f64>().ok().filter(|v| v.is_finite());
        number.ok_or_else(|| damaged(NAME, format!("{name} is not a number")))
    }

    fn sides(&self) -> Result<Vec<u64>> {
        let n = self.integer("NAXIS")?.filter(|n| (0..=999).contains(n));
        let n = n.ok_or_else(|| damaged(NAME, "NAXIS is missing"))?;
        let side = |i| {
            let name = format!("NAXIS{i}");
            let side = self.integer(&name)?.and_then(|s| u64::try_from(s).ok());
            side.ok_or_else(|| damaged(NAME, format!("{name} is missing")))
        };
        (1..=n).map(side).collect()
    }

    /// Bytes of the data after this header without their padding.
    fn data_size(&self, sides: &[u64]) -> Result<usize> {
        let positive = |v: Option<i64>, default: u64| v.map_or(Some(default), |v| u64::try_from(v).ok());
        let size = || {
            let bytes = self.integer("BITPIX").ok()??.unsigned_abs() / 8;
            let groups = positive(self.integer("GCOUNT").ok()?, 1)?;
            let more = positive(self.integer("PCOUNT").ok()?, 0)?;
            let n = if sides.is_empty() { 0 } else { sides.iter().try_fold(1u64, |n, &s| n.checked_mul(s))? };
            usize::try_from(n.checked_add(more)?.checked_mul(groups)?.checked_mul(bytes)?).ok()
        };
        size().ok_or_else(|| damaged(NAME, "the header gives no valid size of the data"))
    }
}

fn keyword(card: &[u8]) -> &str {
    std::str::from_utf8(card.get(..8).unwrap_or_default()).unwrap_or("").trim_end()
}

/// Whether a card is kept as metadata.
fn kept(card: &[u8]) -> bool {
    let name = keyword(card);
    let axis = name.strip_prefix("NAXIS").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    !axis && !STRUCTURE.contains(&name)
}

/// Reads the first image of a file. Its first row is the lowest of the picture, as viewers show it.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut b = Bytes::new(data, NAME);
    let mut primary: Vec<&[u8]> = Vec::new();
    let mut first = true;
    let (header, sides) = loop {
        let header = Header::read(&mut b)?;
        let sides = header.sides()?;
        let image = first || header.value("XTENSION") == Some("IMAGE");
        if image && !sides.is_empty() && !sides.contains(&0) {
            break (header, sides);
        }
        if header.value("ZIMAGE") == Some("T") {
            return Err(unsupported("the image is tile-compressed: unpack it with funpack first"));
        }
        let size = header.data_size(&sides)?.next_multiple_of(BLOCK);
        if first {
            primary = header.cards;
        }
        first = false;
        if b.rest().len() <= size {
            return Err(unsupported("the FITS file has no image"));
        }
        b.take(size)?;
    };
    let mut source = image(&mut b, &header, &sides, options)?;
    let inherited = primary.into_iter().filter(|p| {
        matches!(keyword(p), "COMMENT" | "HISTORY") || !header.cards.iter().any(|c| keyword(c) == keyword(p))
    });
    let cards: Vec<u8> = inherited.chain(header.cards.iter().copied()).filter(|c| kept(c)).flatten().copied().collect();
    if !cards.is_empty() {
        source.metadata.push(Item { kind: FITS, data: metadata::deflated(&cards) });
    }
    let padding = b.position().next_multiple_of(BLOCK) - b.position();
    if b.rest().len() > padding {
        source
            .warnings
            .push(format!("{} bytes after the first image of the FITS are not kept", b.rest().len() - padding));
    }
    Ok(source)
}

fn image(b: &mut Bytes, header: &Header, sides: &[u64], options: &ReadOptions) -> Result<Source> {
    // Axes of one element have no meaning for the picture.
    let used = sides.iter().rposition(|&s| s != 1).map_or(1, |i| i + 1).max(2);
    let side = |i: usize| sides.get(i).copied().unwrap_or(1);
    if used > 3 {
        return Err(unsupported(format!("a FITS image of {used} dimensions: 2, or 3 with at most 16 planes are read")));
    }
    if side(2) > 16 {
        return Err(unsupported(format!("the FITS image has {} planes: at most 16 are read as channels", side(2))));
    }
    let channels = side(2) as usize;
    let n = check_size(side(0), side(1), channels, options)?;
    let bits = header.integer("BITPIX")?.unwrap_or(0);
    if !matches!(bits, 8 | 16 | 32 | 64 | -32 | -64) {
        return Err(damaged(NAME, format!("BITPIX is {bits}")));
    }
    let size = bits.unsigned_abs() as usize / 8;
    let raw = b.take(n.checked_mul(size).ok_or_else(|| truncated(NAME))?)?;
    let (width, height) = (side(0) as usize, side(1) as usize);
    let (scale, zero) = (header.number("BSCALE", 1.0)?, header.number("BZERO", 0.0)?);
    let blank = if bits > 0 { header.integer("BLANK")? } else { None };
    // Place of sample i of [height][width][channels] in the file, which is [channels][height from the bottom][width].
    let place = |i: usize| {
        let (pixel, c) = (i / channels, i % channels);
        size * ((c * height + height - 1 - pixel / width) * width + pixel % width)
    };
    if bits == 8 && blank.is_none() {
        let mut samples = try_vec(n)?;
        samples.iter_mut().enumerate().for_each(|(i, s)| *s = u16::from(raw[place(i)]));
        let format = PixelFormat { channels, depth: 8, alpha: false };
        let item = ((scale, zero) != (1.0, 0.0)).then(|| scale_item(scale, zero));
        return Ok(source(Picture { width, height, format, samples }, item.into_iter().collect(), Vec::new()));
    }
    // Whole offsets, as of unsigned integers, keep values whole.
    let whole = bits > 0 && scale == 1.0 && zero == zero.trunc() && zero.abs() < 9e15;
    let offset = if whole { zero } else { 0.0 };
    let value = |i: usize| {
        let v = &raw[place(i)..][..size];
        let integer = || {
            let sign = if v[0] >= 128 && bits != 8 { -1 } else { 0 };
            v.iter().fold(sign, |n: i64, &b| n << 8 | i64::from(b))
        };
        match v {
            [a, b, c, d] if bits < 0 => f64::from(f32::from_be_bytes([*a, *b, *c, *d])),
            [a, b, c, d, e, f, g, h] if bits < 0 => f64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            _ => match integer() {
                n if Some(n) == blank => f64::NAN,
                n => n as f64 + offset,
            },
        }
    };
    let mut scaled = samples::from_values(n, channels, value)?;
    if !whole {
        (scaled.scale, scaled.zero) = (scale * scaled.scale, zero + scale * scaled.zero);
    }
    let mut warnings: Vec<String> = scaled.warning("the values").into_iter().collect();
    if scaled.alpha && bits < 0 {
        warnings.push("values that are not numbers become transparent".into());
    }
    let items = scaled.item().into_iter().collect();
    let format = PixelFormat { channels: scaled.channels, depth: 16, alpha: scaled.alpha };
    Ok(source(Picture { width, height, format, samples: scaled.samples }, items, warnings))
}

/// Writes integers of 8 or 16 bits with BSCALE and BZERO; with transparent pixels, of 32 bits with BLANK.
pub fn write(picture: &Picture, items: &[Item], out: &mut dyn Write) -> Result<Vec<String>> {
    let f = picture.format;
    let alpha = |pixel: &[u16]| if f.alpha { pixel[f.channels - 1] } else { f.peak() };
    if !picture.samples.chunks_exact(f.channels).all(|p| alpha(p) == 0 || alpha(p) == f.peak()) {
        return Err(unsupported("FITS has no partly transparent pixels: write .png, .tif or .pam"));
    }
    let (scale, zero) = metadata::find(items, SCALE).and_then(samples::scale_of).unwrap_or((1.0, 0.0));
    let bits = match (f.alpha, f.depth) {
        (true, _) => 32,
        (false, 8) => 8,
        _ => 16,
    };
    // Integers of 16 bits are signed.
    let offset = if bits == 16 && f.depth == 16 { 32768 } else { 0 };
    let zero = zero + scale * f64::from(offset);
    let mut header = Vec::new();
    let mut card =
        |name: &str, value: String| header.extend(format!("{:<80}", format!("{name:<8}= {value:>20}")).into_bytes());
    card("SIMPLE", "T".into());
    card("BITPIX", bits.to_string());
    card("NAXIS", if f.colours() > 1 { "3" } else { "2" }.into());
    card("NAXIS1", picture.width.to_string());
    card("NAXIS2", picture.height.to_string());
    if f.colours() > 1 {
        card("NAXIS3", f.colours().to_string());
    }
    if (scale, zero) != (1.0, 0.0) {
        card("BSCALE", number(scale));
        card("BZERO", number(zero));
    }
    if f.alpha {
        card("BLANK", i32::MIN.to_string());
    }
    let mut left: Vec<&Item> = Vec::new();
    for item in items {
        match item.kind {
            SCALE => {}
            FITS => match metadata::inflated(&item.data, MAX_INFLATED) {
                Ok(cards) => header.extend(cards.chunks_exact(CARD).filter(|c| kept(c)).flatten()),
                Err(_) => left.push(item),
            },
            _ => left.push(item),
        }
    }
    header.extend(format!("{:<80}", "END").into_bytes());
    header.resize(header.len().next_multiple_of(BLOCK), b' ');
    out.write_all(&header).map_err(cannot_write)?;
    let mut written = 0;
    let mut row: Vec<u8> = Vec::new();
    let stride = picture.width * f.channels;
    for c in 0..f.colours() {
        for line in picture.samples.chunks_exact(stride).rev() {
            row.clear();
            for pixel in line.chunks_exact(f.channels) {
                let sample = i32::from(pixel[c]);
                match bits {
                    8 => row.push(sample as u8),
                    16 => row.extend(((sample - offset) as i16).to_be_bytes()),
                    _ => row.extend(if alpha(pixel) == 0 { i32::MIN } else { sample }.to_be_bytes()),
                }
            }
            out.write_all(&row).map_err(cannot_write)?;
            written += row.len();
        }
    }
    let padding = written.next_multiple_of(BLOCK) - written;
    out.write_all(&[0; BLOCK][..padding]).map_err(cannot_write)?;
    Ok(metadata::not_written(NAME, left.into_iter()).into_iter().collect())
}

/// A number that reads back as the same f64.
fn number(v: f64) -> String {
    match v == v.trunc() && v.abs() < 1e15 {
        true => format!("{v}"),
        false => format!("{v:E}"),
    }
}
