//! `tilefit info`: what a file contains and what decoding it costs.

use super::args::Args;
use super::failure::Result;
use super::report::{self, Json};
use super::{each, files, limits};
use crate::container::metadata::{self, Item};
use crate::decoder::{Decoder, Info};
use crate::pictures;

pub fn run(args: &Args) -> Result<u8> {
    each(&args.operands, |_, path| {
        let show = || {
            let data = files::read_bytes(path)?;
            let decoder = Decoder::new(&data, limits(args))?;
            let info = decoder.info();
            let digests: Vec<String> = info.pictures.iter().map(|p| format!("{:08x}", p.digest)).collect();
            let items = metadata::read(decoder.metadata())?;
            let name = path.display().to_string();
            report::print(&match args.has("json") {
                true => json(&name, &info, &digests, &items),
                false => text(&name, &info, &digests, &items),
            });
            Ok(())
        };
        show().map_err(|e: super::failure::Failure| e.at(path.display()))
    })
}

/// The distortion that the fit minimised, as far as the file says it.
fn tune(info: &Info) -> &'static str {
    if info.visual {
        "visual"
    } else {
        "other"
    }
}

/// The name of an item.
fn name_of(item: &Item) -> String {
    pictures::metadata::name(&pictures::Item { kind: item.kind, data: item.data.clone() })
}

fn json(name: &str, info: &Info, digests: &[String], items: &[Item]) -> String {
    let metadata = items.iter().map(|i| {
        Json::new()
            .integer("picture", i.picture as u64 + 1)
            .integer("kind", u64::from(i.kind))
            .text("name", &name_of(i))
            .integer("bytes", i.data.len() as u64)
            .end()
    });
    let pictures = info.pictures.iter().map(|p| {
        Json::new()
            .integer("width", p.width as u64)
            .integer("height", p.height as u64)
            .integer("channels", info.format.channels as u64)
            .integer("depth", u64::from(info.format.depth))
            .raw("alpha", if info.format.alpha { "true" } else { "false" })
            .end()
    });
    Json::new()
        .text("file", name)
        .integer("version", info.version as u64)
        .text("model", info.model)
        .text("tune", tune(info))
        .raw("knots", &report::array(info.knots.iter().map(u16::to_string)))
        .raw("pictures", &report::array(pictures))
        .integer("bytes", info.bytes as u64)
        .integer("header_bytes", info.header_bytes as u64)
        .integer("weights_bytes", info.weights_bytes as u64)
        .integer("codes_bytes", info.codes_bytes as u64)
        .integer("metadata_bytes", info.metadata_bytes as u64)
        .raw("metadata", &report::array(metadata))
        .integer("weights_count", info.weights_count as u64)
        .number("macs_per_pixel", info.macs_per_pixel)
        .integer("tile", info.tile as u64)
        .integer("tiles", info.tiles as u64)
        .integer("decode_memory_bytes", info.decode_memory_bytes)
        .integer("decode_work", info.decode_work)
        .raw("digests", &report::array(digests.iter().map(|d| report::quoted(d))))
        .end()
}

fn text(name: &str, info: &Info, digests: &[String], items: &[Item]) -> String {
    let bytes =
        |n: usize| format!("{:>12} B {:5.1} %", report::grouped(n as u64), 100.0 * n as f64 / info.bytes.max(1) as f64);
    let pixels: u64 = info.pictures.iter().map(|p| (p.width * p.height) as u64).sum();
    let mut lines = vec![
        name.to_string(),
        format!("  format     version {}, model {}, tune {}", info.version, info.model, tune(info)),
        format!("  file       {}", bytes(info.bytes)),
        format!("  header     {}", bytes(info.header_bytes)),
        format!("  weights    {}   {} weights", bytes(info.weights_bytes), report::grouped(info.weights_count as u64)),
        format!("  codes      {}", bytes(info.codes_bytes)),
        format!("  metadata   {}", bytes(info.metadata_bytes)),
        format!("  rate       {:.4} bpp", 8.0 * info.bytes as f64 / pixels as f64),
        match info.tile {
            0 => format!("  tiles      {} (one per picture)", info.tiles),
            side => format!("  tiles      {} of {side}x{side} pixels", info.tiles),
        },
        format!(
            "  decoding   {:.0} multiplications per pixel, {} in all, {} of memory",
            info.macs_per_pixel,
            report::grouped(info.decode_work),
            report::size(info.decode_memory_bytes as f64)
        ),
    ];
    let (colour, depth) = (info.format.name(), info.format.depth);
    if let [first, .., last] = info.knots[..] {
        let n = info.knots.len();
        lines.push(format!("  domain     samples {first} to {last} on a tone curve of {n} knots"));
    }
    for (i, (p, d)) in info.pictures.iter().zip(digests).enumerate() {
        lines.push(format!("  picture {:<3}{}x{}, {colour}, {depth} bits, digest {d}", i + 1, p.width, p.height));
    }
    for item in items {
        let (bytes, picture) = (report::grouped(item.data.len() as u64), item.picture + 1);
        lines.push(format!("  metadata   {bytes:>12} B, picture {picture}: {}", name_of(item)));
    }
    lines.join("\n")
}
