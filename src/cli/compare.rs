//! `tilefit compare`: candidates beside JPEG, one row each.

use super::args::{usage, Args};
use super::candidate::{Candidate, Score};
use super::output::{self, Output};
use super::page::Page;
use super::report;
use super::{each, eval, limits, png_io, read_limits};
use crate::error::{Class, Error, Result};
use crate::image::Picture;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

pub fn run(args: &Args) -> Result<u8> {
    args.one_of(&["json", "markdown"])?;
    let qualities = qualities(args.text("jpeg").unwrap_or("95,70,50,20"))?;
    let html = args.path("html").map(Output::File);
    if let Some(html) = &html {
        output::check(html, &args.operands, args.has("force"))?;
    }
    let path = &args.operands[0];
    let original = png_io::read_file(path, &read_limits(args))?;
    let mut page = html.as_ref().map(|_| Page::new(&path.display().to_string(), &original));
    let mut rows = vec![eval::header()];
    let mut add = |candidate: Candidate| -> Result<()> {
        let score: Score = candidate.score(&original.picture, original.bytes)?;
        if args.has("json") {
            report::print(&eval::json("name", &candidate, &score));
        } else {
            rows.push(eval::row(&candidate, &score));
        }
        if let Some(page) = &mut page {
            page.add(&candidate, &score)?;
        }
        Ok(())
    };
    for q in qualities {
        add(jpeg(&original.picture, q)?)?;
    }
    let code = each(&args.operands[1..], |_, path| add(Candidate::load(path, limits(args))?))?;
    if !args.has("json") {
        report::print(&report::table(&rows, args.has("markdown")));
    }
    if let (Some(page), Some(html)) = (page, html) {
        output::write_bytes(&html, page.finish().as_bytes())?;
    }
    Ok(code)
}

fn qualities(text: &str) -> Result<Vec<u8>> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let parse = |q: &str| q.trim().parse::<u8>().ok().filter(|q| (1..=100).contains(q));
    text.split(',')
        .map(|q| {
            parse(q).ok_or_else(|| usage(format!("--jpeg {text}: qualities from 1 to 100, or none, are expected")))
        })
        .collect()
}

/// JPEG as most tools write it: baseline, 4:2:0, the standard's Huffman and quantiser tables.
fn jpeg(picture: &Picture, quality: u8) -> Result<Candidate> {
    let failed = |e: String| Error::new(Class::Io, format!("the JPEG row of quality {quality}: {e}"));
    let side = |n: usize| u16::try_from(n).map_err(|_| failed("sides over 65535 do not fit (--jpeg none)".into()));
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    let mut data = Vec::new();
    let mut encoder = Encoder::new(&mut data, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let colour = if picture.channels == 1 { ColorType::Luma } else { ColorType::Rgb };
    encoder.encode(&picture.samples, width, height, colour).map_err(|e| failed(e.to_string()))?;
    let decoded = png_io::read_jpeg(&data, &png_io::ReadLimits { max_pixels: u64::MAX })?;
    Ok(Candidate { name: format!("JPEG q{quality}"), bytes: data.len() as u64, picture: decoded.picture, parts: None })
}
