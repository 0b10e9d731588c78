//! `tilefit compare`: measures candidates and JPEG at several qualities, one row each.

use super::args::{usage, Args};
use super::candidate::{Candidate, Score};
use super::failure::{Code, Failure, Result};
use super::output::{self, Output};
use super::page::Page;
use super::report;
use super::{each, eval, files, limits, read_options};
use crate::image::Picture;
use crate::pictures::ReadOptions;
use jpeg_encoder::{rgb_to_ycbcr, ChromaSubsamplingMethod, Encoder, ImageBuffer, JpegColorType, SamplingFactor};
use std::path::Path;

pub fn run(args: &Args) -> Result<u8> {
    args.one_of(&["json", "markdown"])?;
    let qualities = qualities(args.text("jpeg").unwrap_or("95,70,50,20"))?;
    let html = args.path("html").map(Output::File);
    if let Some(html) = &html {
        if args.operands[1..].iter().any(|path| path == Path::new("-")) {
            return Err(usage("--html reads each candidate twice: give a file instead of -"));
        }
        output::check(html, &args.operands, args.has("force"))?;
    }
    let path = &args.operands[0];
    let original = files::read_picture(path, &read_options(args))?;
    let format = original.picture.format;
    let has_jpeg = !format.alpha && matches!(format.channels, 1 | 3);
    if !has_jpeg && args.has("jpeg") && !qualities.is_empty() {
        return Err(usage(format!("--jpeg: a JPEG cannot hold {}", format.name())));
    }
    let eight = original.picture.clone().with_depth(8);
    let qualities = if has_jpeg { qualities } else { Vec::new() };
    let mut page = html.as_ref().map(|_| Page::new(&path.display().to_string(), &original));
    let mut rows = vec![eval::header()];
    let mut add = |candidate: &Candidate| -> Result<Score> {
        let score = candidate.score(&original.picture, original.bytes)?;
        if args.has("json") {
            report::print(&eval::json("name", candidate, &score));
        } else {
            rows.push(eval::row(candidate, &score));
        }
        if let Some(page) = &mut page {
            page.add(&original.picture, candidate, &score);
        }
        Ok(score)
    };
    let jpegs = qualities.iter().map(|q| add(&jpeg(&eight, *q)?)).collect::<Result<Vec<_>>>()?;
    let mut files = Vec::new();
    let code = each(&args.operands[1..], |_, path| {
        files.push((path, add(&Candidate::load(path, limits(args))?)?));
        Ok(())
    })?;
    if !args.has("json") {
        report::print(&report::table(&rows, args.has("markdown")));
    }
    let (Some(mut page), Some(html)) = (page, html) else { return Ok(code) };
    // Each candidate is read once more, so that only one is in memory at a time.
    page.begin_crops(&original.picture);
    for (q, score) in qualities.iter().zip(&jpegs) {
        page.show(&jpeg(&eight, *q)?, score);
    }
    for (path, score) in &files {
        page.show(&Candidate::load(path, limits(args))?, score);
    }
    output::write_bytes(&html, None, page.finish().as_bytes())?;
    Ok(code)
}

fn qualities(text: &str) -> Result<Vec<u8>> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let parse = |q: &str| q.trim().parse::<u8>().ok().filter(|q| (1..=100).contains(q));
    text.split(',')
        .map(|q| parse(q).ok_or_else(|| usage(format!("--jpeg {text}: expected qualities from 1 to 100, or none"))))
        .collect()
}

/// JPEG of an 8-bit picture with the settings that most tools use: baseline, 4:2:0, the standard's Huffman and quantiser tables.
fn jpeg(picture: &Picture, quality: u8) -> Result<Candidate> {
    let failed = |e: String| Failure::new(Code::Input, format!("JPEG at quality {quality}: {e}"));
    let side = |n: usize| {
        u16::try_from(n).map_err(|_| {
            failed("sides above 65535 pixels are not possible; --jpeg none leaves the JPEG rows out".into())
        })
    };
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    let mut data = Vec::new();
    let mut encoder = Encoder::new(&mut data, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder.encode_image(Rows { picture, width, height }).map_err(|e| failed(e.to_string()))?;
    let decoded = files::parse_picture(&data, &ReadOptions { max_pixels: u64::MAX, frame: None })?;
    Ok(Candidate { name: format!("JPEG q{quality}"), bytes: data.len() as u64, picture: decoded.picture, parts: None })
}

/// A picture as input of the JPEG encoder. Only two colour types are needed; the encoder's own function for slices of
/// samples would add code for nine to the program.
struct Rows<'a> {
    picture: &'a Picture,
    width: u16,
    height: u16,
}

impl ImageBuffer for Rows<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        if self.picture.format.channels == 1 {
            JpegColorType::Luma
        } else {
            JpegColorType::Ycbcr
        }
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let stride = self.picture.width * self.picture.format.channels;
        let row = &self.picture.samples[y as usize * stride..][..stride];
        if self.picture.format.channels == 1 {
            buffers[0].extend(row.iter().map(|s| *s as u8));
            return;
        }
        for p in row.chunks_exact(3) {
            let (y, cb, cr) = rgb_to_ycbcr(p[0] as u8, p[1] as u8, p[2] as u8);
            buffers[0].push(y);
            buffers[1].push(cb);
            buffers[2].push(cr);
        }
    }
}
