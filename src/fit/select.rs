//! Selects the file: fitted, lossless or nearly so, whichever is better.

use super::driver::{self, Candidate, Monitor, Outcome};
use super::prepare::Prepared;
use super::{checkpoint::Checkpoint, Family, Options, Target, Tune};
use crate::error::{Class, Result};
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
        Ok(Candidate::of(&fitted, prepared, metadata, 0.0, Tune::Psnr)?.outcome(0, 0))
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
    let fitted = driver::fit(family, prepared, options, metadata, resume, key, monitor);
    // A quality that no fit reaches may still be coded as residuals.
    let missed = fitted.as_ref().is_err_and(|e| e.class() == Class::Target);
    if !lossless_too || (fitted.is_err() && !missed) {
        return fitted;
    }
    let (lambda, steps, planned) = fitted.as_ref().map_or((0.0, 0, 0), |f| (f.lambda, f.steps, f.planned));
    let mut others: Vec<Outcome> = lossless.into_iter().collect();
    let raw: usize = prepared.pictures.iter().map(|p| p.samples.len() * p.format.sample_bytes()).sum();
    if fitted.as_ref().map_or(true, |f| f.file.bytes.len() as f64 > LARGE * raw as f64) {
        let mut errors = Vec::new();
        // Equal errors of all samples are not what a curve asks for.
        if prepared.curve.is_none() {
            errors.push(equivalent_error(&prepared.pictures[0], options.target, lambda));
        }
        if others.is_empty() {
            errors.push(0);
        }
        errors.dedup();
        for max_error in errors {
            others.push(exact(max_error)?);
        }
    }
    let distortion =
        |o: &Outcome| options.tune.distortion(o.in_domain.mse, o.in_domain.ms_ssim, o.in_domain.ssimulacra2);
    // The cost at a fixed lambda; the bytes of what meets a target.
    let cost = |o: &Outcome| -> f64 {
        let bpp = 8.0 * o.file.bytes.len() as f64 / pixels as f64;
        match options.target {
            Target::Psnr(db) if o.in_domain.psnr() < db => f64::INFINITY,
            Target::Psnr(_) => bpp,
            Target::MsSsim(least) if o.in_domain.ms_ssim.is_none_or(|v| v < least) => f64::INFINITY,
            Target::MsSsim(_) => bpp,
            Target::Ssimulacra2(least) if o.in_domain.ssimulacra2.is_none_or(|v| v < least) => f64::INFINITY,
            Target::Ssimulacra2(_) => bpp,
            Target::Size(_) | Target::Bpp(_) if bpp * pixels as f64 > 8.0 * limit => f64::INFINITY,
            Target::Size(_) | Target::Bpp(_) => distortion(o),
            Target::Quality(_) | Target::Lambda(_) | Target::MaxError(_) => distortion(o) + lambda * bpp,
        }
    };
    let best = others.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
    match (best, fitted) {
        (Some(best), Ok(fitted)) if cost(&best) > cost(&fitted) => Ok(fitted),
        (Some(best), Err(missed)) if cost(&best).is_infinite() => Err(missed),
        (Some(best), _) => Ok(Outcome { steps, planned, ..best }),
        (None, fitted) => fitted,
    }
}

/// The error bound at which coding residuals is about as good as a fit with this target or lambda. Errors of a uniform
/// quantiser with step `s` have the variance `s^2 / 12`. At high rates a step costs `-log2 s` bits a sample, so that
/// `MSE + lambda bpp` is lowest at `s^2 = 6 lambda channels / ln 2`.
fn equivalent_error(picture: &Picture, target: Target, lambda: f64) -> u16 {
    let peak = f64::from(picture.format.peak());
    let step = match target {
        Target::Psnr(db) => (12.0 * 10f64.powf(-db / 10.0)).sqrt(),
        _ => (6.0 * lambda * picture.format.channels as f64 / std::f64::consts::LN_2).sqrt(),
    };
    ((step * peak - 1.0) / 2.0).clamp(0.0, peak / 2.0) as u16
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;

    /// The step of the bound quantises to the quality of the target.
    #[test]
    fn equivalent_errors_have_the_quality_of_the_target() {
        let of = |depth, target| {
            let format = PixelFormat::new(1, depth);
            equivalent_error(&Picture { width: 1, height: 1, format, samples: vec![0] }, target, 0.0)
        };
        for (depth, db) in [(8, 30.0), (8, 45.0), (12, 60.0), (16, 50.0), (16, 90.0)] {
            let step = 2.0 * f64::from(of(depth, Target::Psnr(db))) + 1.0;
            let peak = f64::from(PixelFormat::new(1, depth).peak());
            let psnr = -10.0 * ((step / peak).powi(2) / 12.0).log10();
            assert!(psnr >= db - 1e-9 && psnr < db + 6.0, "{depth} bits: {psnr} for {db}");
        }
        assert_eq!(of(8, Target::Psnr(70.0)), 0);
    }

    #[test]
    fn few_colours_are_found() {
        let picture = |n: usize| Picture::from_u8(64, 64, 3, &vec![7; 3 << 12]).with_depth(16).spread(n);
        assert!(has_few_colours(&[picture(FEW_COLOURS)]));
        assert!(!has_few_colours(&[picture(FEW_COLOURS + 1)]));
    }

    impl Picture {
        /// The picture with its first `n` pixels of different colours, and the others like the first.
        fn spread(mut self, n: usize) -> Picture {
            let pixels = self.samples.chunks_exact_mut(3).enumerate();
            pixels.for_each(|(i, p)| p[0] = if i < n { i as u16 } else { 0 });
            self
        }
    }
}
