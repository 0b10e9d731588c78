//! PBM, PGM, PPM, PAM and PFM. Written by hand: the common libraries round other depths than 8 and 16 to those.

use super::bytes::Bytes;
use super::metadata::{self, Item, Text};
use super::{cannot_write, check_size, damaged, samples, source, truncated, unsupported};
use super::{OutFormat, Picture, PixelFormat, ReadOptions, Source};
use crate::error::Result;
use crate::limits::try_vec;
use std::io::Write;

const NAME: &str = "PNM";

/// Reads the first picture of a file.
pub fn read(data: &[u8], options: &ReadOptions) -> Result<Source> {
    let mut b = Bytes::new(data, NAME);
    let mut comments = Vec::new();
    let kind = b.take(2)?[1];
    let mut source = match kind {
        b'7' => pam(&mut b, &mut comments, options),
        b'f' | b'F' => pfm(&mut b, kind, options),
        _ => {
            let width = number(&mut b, &mut comments)?;
            let height = number(&mut b, &mut comments)?;
            let peak = if matches!(kind, b'1' | b'4') { 1 } else { number(&mut b, &mut comments)? };
            let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
            let header = Header { width, height, channels, peak, alpha: false };
            match kind {
                b'1'..=b'3' => ascii(&mut b, &header, kind == b'1', options),
                b'4' => bitmap(&mut b, &header, options),
                _ => binary(&mut b, &header, options),
            }
        }
    }?;
    if b.rest().iter().any(|c| !c.is_ascii_whitespace()) {
        source.warnings.push(format!("{} bytes after the first picture are not kept", b.rest().len()));
    }
    if !comments.is_empty() {
        source.metadata.push(Text::new("Comment", comments.join("\n")).item());
    }
    Ok(source)
}

struct Header {
    width: u64,
    height: u64,
    channels: usize,
    /// The largest sample of the file.
    peak: u64,
    alpha: bool,
}

impl Header {
    /// Checks the header; returns an empty picture, the number of its samples, and the sample that each value stands for.
    fn picture(&self, options: &ReadOptions) -> Result<(Picture, usize)> {
        if self.peak == 0 || self.peak > 65535 || !(self.peak + 1).is_power_of_two() {
            let what = "only 1, 3, 7 ... 255, 1023, 4095, 65535 (2^n - 1) keep their values: rescale it first";
            return Err(unsupported(format!("the largest value of the {NAME} is {}: {what}", self.peak)));
        }
        let n = check_size(self.width, self.height, self.channels, options)?;
        let depth = (self.peak + 1).trailing_zeros().max(8);
        let format = PixelFormat { channels: self.channels, depth, alpha: self.alpha };
        Ok((Picture { width: self.width as usize, height: self.height as usize, format, samples: Vec::new() }, n))
    }

    /// The sample of a value: fewer than 8 bits are scaled to 8, as in PNG.
    fn sample(&self, value: u64) -> Result<u16> {
        match value <= self.peak {
            true if self.peak < 255 => Ok(((value * 255 + self.peak / 2) / self.peak) as u16),
            true => Ok(value as u16),
            false => Err(damaged(NAME, format!("a sample is {value}, the largest is {}", self.peak))),
        }
    }
}

/// The next number of a header. Comments before it are collected. The byte after the number is read too.
fn number(b: &mut Bytes, comments: &mut Vec<String>) -> Result<u64> {
    let mut digits: Option<u64> = None;
    loop {
        match (b.u8()?, digits) {
            (b'#', _) => {
                let n = b.rest().iter().position(|&c| c == b'\n').ok_or_else(|| truncated(NAME))?;
                comments.push(metadata::any_text(b.take(n)?).trim().to_string());
                // The end of the line ends a number.
                b.take(1)?;
                if let Some(v) = digits {
                    return Ok(v);
                }
            }
            (c, _) if c.is_ascii_digit() => {
                let v = digits.unwrap_or(0) * 10 + u64::from(c - b'0');
                if v > u64::from(u32::MAX) {
                    return Err(damaged(NAME, "a number of the header is too large"));
                }
                digits = Some(v);
            }
            (c, None) if c.is_ascii_whitespace() => {}
            (c, Some(v)) if c.is_ascii_whitespace() => return Ok(v),
            _ => return Err(damaged(NAME, "the header is not valid")),
        }
    }
}

fn ascii(b: &mut Bytes, header: &Header, bits: bool, options: &ReadOptions) -> Result<Source> {
    let (mut picture, n) = header.picture(options)?;
    // A sample has at least one digit.
    if n > b.rest().len() {
        return Err(truncated(NAME));
    }
    let mut samples = try_vec(n)?;
    for s in &mut samples {
        let mut value: Option<u64> = None;
        loop {
            match (b.rest().first(), value) {
                // Bits need no spaces between them, and 1 is black.
                (Some(c @ b'0'..=b'1'), None) if bits => {
                    b.take(1)?;
                    value = Some(u64::from(b'1' - c));
                    break;
                }
                (Some(c), v) if c.is_ascii_digit() && !bits => {
                    value = Some((v.unwrap_or(0) * 10 + u64::from(c - b'0')).min(1 << 20));
                    b.take(1)?;
                }
                (Some(b'#'), _) => {
                    let n = b.rest().iter().position(|&c| c == b'\n').ok_or_else(|| truncated(NAME))?;
                    b.take(n)?;
                }
                (Some(c), None) if c.is_ascii_whitespace() => drop(b.take(1)?),
                (None, None) => return Err(truncated(NAME)),
                (None, Some(_)) => break,
                (Some(c), Some(_)) if c.is_ascii_whitespace() => break,
                _ => return Err(damaged(NAME, "a sample is not a number")),
            }
        }
        *s = header.sample(value.unwrap_or(0))?;
    }
    picture.samples = samples;
    Ok(source(picture, Vec::new(), Vec::new()))
}

fn bitmap(b: &mut Bytes, header: &Header, options: &ReadOptions) -> Result<Source> {
    let (mut picture, n) = header.picture(options)?;
    let stride = picture.width.div_ceil(8);
    let raw = b.take(stride.saturating_mul(picture.height))?;
    let mut samples = Vec::new();
    samples.try_reserve_exact(n).map_err(|_| truncated(NAME))?;
    for row in raw.chunks_exact(stride) {
        samples.extend((0..picture.width).map(|x| if row[x / 8] >> (7 - x % 8) & 1 == 1 { 0u16 } else { 255 }));
    }
    picture.samples = samples;
    Ok(source(picture, Vec::new(), Vec::new()))
}

fn binary(b: &mut Bytes, header: &Header, options: &ReadOptions) -> Result<Source> {
    let (mut picture, n) = header.picture(options)?;
    let size = if header.peak < 256 { 1 } else { 2 };
    let raw = b.take(n.checked_mul(size).ok_or_else(|| truncated(NAME))?)?;
    let mut samples: Vec<u16> = try_vec(n)?;
    for (s, v) in samples.iter_mut().zip(raw.chunks_exact(size)) {
        *s = header.sample(v.iter().fold(0, |v, &b| v << 8 | u64::from(b)))?;
    }
    picture.samples = samples;
    Ok(source(picture, Vec::new(), Vec::new()))
}

fn pam(b: &mut Bytes, comments: &mut Vec<String>, options: &ReadOptions) -> Result<Source> {
    let mut fields = [None; 4];
    let mut tuple = String::new();
    loop {
        let end = b.rest().iter().position(|&c| c == b'\n').ok_or_else(|| truncated(NAME))?;
        let line = metadata::any_text(b.take(end)?);
        b.take(1)?;
        let (name, value) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        let field = match name {
            "ENDHDR" => break,
            "" => continue,
            "WIDTH" => 0,
            "HEIGHT" => 1,
            "DEPTH" => 2,
            "MAXVAL" => 3,
            "TUPLTYPE" => {
                tuple = value.trim().to_string();
                continue;
            }
            _ if name.starts_with('#') => {
                comments.push(line.trim().trim_start_matches('#').trim().to_string());
                continue;
            }
            _ => return Err(damaged("PAM", format!("the header has an unknown line {name:?}"))),
        };
        fields[field] = value.trim().parse::<u64>().ok();
    }
    let [Some(width), Some(height), Some(channels), Some(peak)] = fields else {
        return Err(damaged("PAM", "WIDTH, HEIGHT, DEPTH or MAXVAL is missing"));
    };
    let alpha = tuple.ends_with("_ALPHA");
    let colours = match tuple.trim_end_matches("_ALPHA") {
        "BLACKANDWHITE" | "GRAYSCALE" => Some(1),
        "RGB" => Some(3),
        "CMYK" => return Err(unsupported("CMYK is not supported: convert the picture to RGB first")),
        _ => None,
    };
    if colours.is_some_and(|c| c + u64::from(alpha) != channels) || channels <= u64::from(alpha) {
        return Err(damaged("PAM", format!("a {tuple} has not {channels} channels")));
    }
    let channels = usize::try_from(channels).unwrap_or(usize::MAX);
    binary(b, &Header { width, height, channels, peak, alpha }, options)
}

fn pfm(b: &mut Bytes, kind: u8, options: &ReadOptions) -> Result<Source> {
    let mut words = [""; 3];
    for word in &mut words {
        while b.rest().first().is_some_and(u8::is_ascii_whitespace) {
            b.take(1)?;
        }
        let n = b.rest().iter().position(u8::is_ascii_whitespace).ok_or_else(|| truncated("PFM"))?;
        *word = std::str::from_utf8(b.take(n)?).unwrap_or("");
    }
    b.take(1)?;
    let invalid = || damaged("PFM", "the header is not valid");
    let side = |w: &str| w.parse::<u64>().map_err(|_| invalid());
    let (width, height) = (side(words[0])?, side(words[1])?);
    let factor = words[2].parse::<f64>().ok().filter(|f| f.is_finite() && *f != 0.0).ok_or_else(invalid)?;
    let channels = if kind == b'F' { 3 } else { 1 };
    let n = check_size(width, height, channels, options)?;
    let raw = b.take(n.checked_mul(4).ok_or_else(|| truncated("PFM"))?)?;
    let (width, height) = (width as usize, height as usize);
    let stride = width * channels;
    let scaled = samples::from_values(n, channels, |i| {
        // The first row of the file is the lowest of the picture.
        let at = 4 * ((height - 1 - i / stride) * stride + i % stride);
        let v = [raw[at], raw[at + 1], raw[at + 2], raw[at + 3]];
        f64::from(if factor < 0.0 { f32::from_le_bytes(v) } else { f32::from_be_bytes(v) })
    })?;
    let mut warnings: Vec<String> = scaled.warning("floats").into_iter().collect();
    if factor.abs() != 1.0 {
        warnings.push(format!("the scale factor {} of the PFM is not kept", factor.abs()));
    }
    let items = scaled.item().into_iter().collect();
    let format = PixelFormat { channels: scaled.channels, depth: 16, alpha: scaled.alpha };
    Ok(source(Picture { width, height, format, samples: scaled.samples }, items, warnings))
}

/// Writes a PGM, PPM or PAM with the picture's own depth.
pub fn write(format: OutFormat, picture: &Picture, items: &[Item], out: &mut dyn Write) -> Result<Vec<String>> {
    let f = picture.format;
    let header = match (format, f.channels, f.alpha) {
        (OutFormat::Pgm | OutFormat::Pnm, 1, false) => "P5",
        (OutFormat::Ppm | OutFormat::Pnm, 3, false) => "P6",
        (OutFormat::Pam, ..) => "P7",
        (OutFormat::Pgm, ..) => return Err(unsupported("PGM holds grey without alpha only: write .ppm, .pam or .png")),
        (OutFormat::Ppm, ..) => return Err(unsupported("PPM holds RGB without alpha only: write .pgm, .pam or .png")),
        _ => return Err(unsupported("PNM holds grey or RGB without alpha only: write .pam or .png")),
    };
    let (w, h, peak) = (picture.width, picture.height, f.peak());
    let tuple = match f.colours() {
        1 => "GRAYSCALE",
        3 => "RGB",
        _ => "BANDS",
    };
    let alpha = if f.alpha { "_ALPHA" } else { "" };
    let header = match format {
        OutFormat::Pam => {
            format!("P7\nWIDTH {w}\nHEIGHT {h}\nDEPTH {}\nMAXVAL {peak}\nTUPLTYPE {tuple}{alpha}\nENDHDR\n", f.channels)
        }
        _ => format!("{header}\n{w} {h}\n{peak}\n"),
    };
    out.write_all(header.as_bytes()).map_err(cannot_write)?;
    let mut row = Vec::new();
    for samples in picture.samples.chunks_exact(w * f.channels) {
        row.clear();
        match f.depth {
            8 => row.extend(samples.iter().map(|&s| s as u8)),
            _ => row.extend(samples.iter().flat_map(|s| s.to_be_bytes())),
        }
        out.write_all(&row).map_err(cannot_write)?;
    }
    Ok(metadata::not_written(if format == OutFormat::Pam { "PAM" } else { "PNM" }, items.iter()).into_iter().collect())
}
