//! `tilefit eval`: bytes, rate and quality of candidates against their original.

use super::args::Args;
use super::candidate::{Candidate, Score};
use super::failure::Result;
use super::report::{self, Json};
use super::{each, files, limits, read_options};

pub fn run(args: &Args) -> Result<u8> {
    let original = files::read_picture(&args.operands[0], &read_options(args))?;
    let mut rows = vec![header()];
    let code = each(&args.operands[1..], |_, path| {
        let candidate = Candidate::load(path, limits(args))?;
        let score = candidate.score(&original.picture, original.bytes)?;
        if args.has("json") {
            report::print(&json("file", &candidate, &score));
        } else {
            rows.push(row(&candidate, &score));
        }
        Ok(())
    })?;
    if rows.len() > 1 {
        report::print(&report::table(&rows, false));
    }
    Ok(code)
}

/// The JSON object of one candidate; `key` is the key of its name.
pub fn json(key: &str, candidate: &Candidate, s: &Score) -> String {
    Json::new()
        .text(key, &candidate.name)
        .integer("bytes", s.bytes)
        .number("bpp", s.bpp)
        .number("factor", s.factor)
        .number("psnr", s.psnr)
        .number("ms_ssim", s.ms_ssim)
        .number("ssimulacra2", s.ssimulacra2)
        .number("butteraugli_3norm", s.butteraugli.map(|b| b.norm3))
        .number("butteraugli_max", s.butteraugli.map(|b| b.max))
        .integer("weights_bytes", candidate.parts.map(|p| p.0))
        .integer("codes_bytes", candidate.parts.map(|p| p.1))
        .end()
}

pub fn header() -> Vec<String> {
    ["name", "PSNR", "MS-SSIM", "SSIMULACRA2", "Butteraugli", "its max", "factor", "bpp", "bytes", "weights", "codes"]
        .map(String::from)
        .to_vec()
}

pub fn row(candidate: &Candidate, s: &Score) -> Vec<String> {
    let part = |p: Option<u64>| p.map_or("-".to_string(), report::grouped);
    vec![
        candidate.name.clone(),
        report::psnr(s.psnr),
        s.ms_ssim.map_or("-".into(), |v| format!("{v:.5}")),
        s.ssimulacra2.map_or("-".into(), |v| format!("{v:.2}")),
        s.butteraugli.map_or("-".into(), |b| format!("{:.3}", b.norm3)),
        s.butteraugli.map_or("-".into(), |b| format!("{:.2}", b.max)),
        format!("{:.5}", s.factor),
        format!("{:.4}", s.bpp),
        report::grouped(s.bytes),
        part(candidate.parts.map(|p| p.0)),
        part(candidate.parts.map(|p| p.1)),
    ]
}
