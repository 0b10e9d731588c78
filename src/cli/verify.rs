//! `tilefit verify`: checks all checksums, decodes the whole file and compares the digests of the samples.

use super::args::Args;
use super::candidate::comparable;
use super::failure::Result;
use super::report::{self, Json};
use super::{each, files, limits, read_options};
use crate::decoder::Decoder;
use crate::metrics;

pub fn run(args: &Args) -> Result<u8> {
    let reference = args.path("reference").map(|p| {
        files::read_bytes(&p)
            .and_then(|data| files::parse_picture(&data, &read_options(args)))
            .map_err(|e| e.at(p.display()))
    });
    let reference = reference.transpose()?;
    each(&args.operands, |_, path| {
        let check = || {
            let data = files::read_bytes(path)?;
            let decoder = Decoder::new(&data, limits(args))?;
            decoder.verify()?;
            let quality = match &reference {
                None => None,
                Some(r) => {
                    let picture = decoder.decode(0)?;
                    let picture = comparable(&r.picture, &picture)?;
                    Some((metrics::psnr(&r.picture, &picture), metrics::ms_ssim(&r.picture, &picture)))
                }
            };
            let digests: Vec<String> = decoder.pictures().iter().map(|p| format!("{:08x}", p.digest)).collect();
            if args.has("json") {
                let json = Json::new()
                    .text("file", &path.display().to_string())
                    .raw("ok", "true")
                    .raw("digests", &report::array(digests.iter().map(|d| report::quoted(d))));
                let json = match quality {
                    Some((psnr, ms_ssim)) => json.number("psnr", psnr).number("ms_ssim", ms_ssim),
                    None => json,
                };
                report::print(&json.end());
            } else if !args.has("quiet") {
                let quality = quality.map(|(p, m)| {
                    let m = m.map_or(String::new(), |m| format!(", MS-SSIM {m:.5}"));
                    format!(", PSNR {} dB{m}", report::psnr(p))
                });
                report::print(&format!(
                    "{}: valid, digest {}{}",
                    path.display(),
                    digests.join(" "),
                    quality.unwrap_or_default()
                ));
            }
            Ok(())
        };
        check().map_err(|e: super::failure::Failure| e.at(path.display()))
    })
}
