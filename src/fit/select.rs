//! Selects the file: fitted, lossless, or the smaller of both.

use super::driver::{self, Candidate, Monitor, Outcome};
use super::prepare::Prepared;
use super::{checkpoint::Checkpoint, Family, Options, Target};
use crate::error::Result;
use crate::image::Picture;
use std::collections::HashSet;

/// Pictures of at most this many samples together, 256x256 in grey, are always tried without loss: it takes a fraction of a
/// second.
const FEW_SAMPLES: usize = 1 << 16;

/// Pictures of at most this many colours are tried without loss: drawings, pixel art and maps. Photographs have far more.
const FEW_COLOURS: usize = 1 << 10;

/// A fitted file of more than this part of the raw samples' bytes is compared with a lossless one. Lossless files of
/// photographs have a third to a half of them.
const LARGE: f64 = 0.25;

/// Makes the file of `prepared` pictures. With `lossless_too` a lossless file may take the place of a fitted one.
///
/// # Errors
/// Those of [`driver::fit`].
pub fn encode<'a>(
    family: &Family,
    lossless_too: bool,
    prepared: &'a Prepared,
    options: &Options,
    metadata: &'a [u8],
    resume: Option<Checkpoint>,
    key: u64,
    monitor: Monitor<'a>,
) -> Result<Outcome> {
    let tile = match options.tile {
        Some(side) => side,
        None if samples(&prepared.pictures) > TILED => TILE,
        None => 0,
    };
    let exact = |max_error| -> Result<Outcome> {
        let fitted = prepared.nearly_exact(max_error, tile)?;
        Ok(Candidate::of(&fitted, &prepared.pictures, metadata, 0.0)?.outcome(0, 0))
    };
    if let Target::MaxError(max_error) = options.target {
        return exact(max_error);
    }
    let cheap = lossless_too && (samples(&prepared.pictures) <= FEW_SAMPLES || has_few_colours(&prepared.pictures));
    let mut lossless = if cheap { Some(exact(0)?) } else { None };
    let pixels: usize = prepared.pictures.iter().map(Picture::pixels).sum();
    let limit = match options.target {
        Target::Size(bytes) => bytes as f64,
        Target::Bpp(bpp) => bpp * pixels as f64 / 8.0,
        _ => 0.0,
    };
    // No fit is better than a lossless file of an allowed size.
    if let Some(outcome) = lossless.take_if(|l| l.file.bytes.len() as f64 <= limit) {
        return Ok(outcome);
    }
    let fitted = driver::fit(family, prepared, options, metadata, resume, key, monitor)?;
    let raw: usize = prepared.pictures.iter().map(|p| p.samples.len() * p.format.sample_bytes()).sum();
    if lossless_too && lossless.is_none() && fitted.file.bytes.len() as f64 > LARGE * raw as f64 {
        lossless = Some(exact(0)?);
    }
    Ok(match lossless {
        Some(lossless) if lossless.file.bytes.len() <= fitted.file.bytes.len() => {
            Outcome { steps: fitted.steps, planned: fitted.planned, ..lossless }
        }
        _ => fitted,
    })
}

/// Lossless pictures of more samples than this are cut into tiles of this side, so that several threads, and a decoder of a
/// region, have parts to work on. A tile of that side costs less than 1 % of the bytes.
const TILED: usize = 1 << 22;
const TILE: usize = 1024;

fn samples(pictures: &[Picture]) -> usize {
    pictures.iter().map(|p| p.samples.len()).sum()
}

/// Whether the pictures together have at most [`FEW_COLOURS`] colours.
fn has_few_colours(pictures: &[Picture]) -> bool {
    let mut seen = HashSet::new();
    let pixels = pictures.iter().flat_map(|p| p.samples.chunks_exact(p.format.channels));
    // A run of one colour is looked up once.
    let mut last: &[u16] = &[];
    for pixel in pixels {
        if pixel != last {
            last = pixel;
            if seen.insert(pixel) && seen.len() > FEW_COLOURS {
                return false;
            }
        }
    }
    true
}
