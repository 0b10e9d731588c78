//! A compressed version of an original picture, to be measured against it: a `.tfit` file or a picture.

use super::butteraugli::{butteraugli, Butteraugli};
use super::failure::{Code, Failure, Result};
use super::files;
use crate::container::header::MAGIC;
use crate::decoder::Decoder;
use crate::image::Picture;
use crate::limits::Limits;
use crate::metrics;
use crate::pictures::ReadOptions;
use std::borrow::Cow;
use std::path::Path;

pub struct Candidate {
    pub name: String,
    pub bytes: u64,
    pub picture: Picture,
    /// Bytes of weights and of codes of a `.tfit` file; `None` for other formats.
    pub parts: Option<(u64, u64)>,
}

/// Rate and quality of a candidate.
pub struct Score {
    pub bytes: u64,
    pub bpp: f64,
    /// Bytes divided by the bytes of the original PNG.
    pub factor: f64,
    pub psnr: f64,
    pub ms_ssim: Option<f64>,
    pub ssimulacra2: Option<f64>,
    pub butteraugli: Option<Butteraugli>,
}

impl Candidate {
    pub fn load(path: &Path, limits: Limits) -> Result<Candidate> {
        let load = || {
            let data = files::read_bytes(path)?;
            let name = path.display().to_string();
            let bytes = data.len() as u64;
            if data.starts_with(&MAGIC) {
                let decoder = Decoder::new(&data, limits)?;
                if decoder.pictures().len() > 1 {
                    return Err(Failure::new(
                        Code::Usage,
                        format!(
                            "the file is a group of {} pictures: decode it, then compare each picture on its own",
                            decoder.pictures().len()
                        ),
                    ));
                }
                let info = decoder.info();
                let parts = Some((info.weights_bytes as u64, info.codes_bytes as u64));
                return Ok(Candidate { name, bytes, picture: decoder.decode(0)?, parts });
            }
            let source = files::parse_picture(&data, &ReadOptions { max_pixels: limits.max_pixels, frame: None })?;
            Ok(Candidate { name, bytes, picture: source.picture, parts: None })
        };
        load().map_err(|e: Failure| e.at(path.display()))
    }

    pub fn score(&self, original: &Picture, original_bytes: u64) -> Result<Score> {
        let picture = comparable(original, &self.picture).map_err(|e| e.at(&self.name))?;
        Ok(Score {
            bytes: self.bytes,
            bpp: metrics::bpp(self.bytes, original.pixels()),
            factor: self.bytes as f64 / original_bytes as f64,
            psnr: metrics::psnr(original, &picture),
            ms_ssim: metrics::ms_ssim(original, &picture),
            ssimulacra2: metrics::ssimulacra2(original, &picture),
            butteraugli: butteraugli(original, &picture),
        })
    }
}

/// `other` at the depth of `original`, if the two can be compared: they have one size, and the same colours or grey.
pub fn comparable<'a>(original: &Picture, other: &'a Picture) -> Result<Cow<'a, Picture>> {
    let refuse = |message: String| Err(Failure::new(Code::Input, message));
    if (original.width, original.height) != (other.width, other.height) {
        let (w, h) = (original.width, original.height);
        return refuse(format!("the picture has {}x{} pixels, the original has {w}x{h}", other.width, other.height));
    }
    let (a, b) = (original.format, other.format);
    if a.colours() != b.colours() && ![a.colours(), b.colours()].contains(&1) {
        return refuse(format!("{} cannot be compared with the original, {}", b.name(), a.name()));
    }
    Ok(match a.depth == b.depth {
        true => Cow::Borrowed(other),
        false => Cow::Owned(other.clone().with_depth(a.depth)),
    })
}
