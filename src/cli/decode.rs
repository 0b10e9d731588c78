//! `tilefit decode`: writes the picture of a file, a region of it, or a smaller version of it.

use super::args::{usage, Args};
use super::encode::like;
use super::failure::{Code, Failure, Result};
use super::files;
use super::output::{self, Output};
use super::report::{self, Json};
use super::{each, limits};
use crate::container::header::MAGIC;
use crate::container::metadata::{self, bands, BANDS};
use crate::decoder::{Damage, Decoder};
use crate::image::{Picture, Rect};
use crate::pictures::{self, writer_for, Item, OutFormat, Window};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// Which pictures of a file to decode.
#[derive(Clone, Copy)]
enum Which {
    /// The only picture of the file; a usage error for a group.
    Only,
    /// The picture of this index, counted from 0.
    One(usize),
    All,
}

struct Request {
    region: Option<Rect>,
    scale: u32,
    which: Which,
    partial: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let scale = match args.text("scale") {
        Some("1/2") => 1,
        Some("1/4") => 2,
        Some("1/8") => 3,
        _ => 0,
    };
    let which = match args.text("image") {
        None => Which::Only,
        Some("all") => Which::All,
        Some(n) => match n.parse::<usize>() {
            Ok(n) if n > 0 => Which::One(n - 1),
            _ => return Err(usage(format!("--image {n}: expected a number, counted from 1, or all"))),
        },
    };
    let region = args.text("region").map(parse_region).transpose()?;
    let request = Request { region, scale, which, partial: args.has("partial") };
    let option = args.path("output");
    if args.has("json") && option.as_deref() == Some(Path::new("-")) {
        return Err(usage("--json and -o - both write to stdout: choose one"));
    }
    let force = args.has("force");
    let outputs = output::plan(&args.operands, option.as_deref(), "png")?;
    outputs.iter().try_for_each(|o| format_of(o).map(drop))?;
    if !matches!(which, Which::All) {
        // Inputs that are no .tfit files fail before anything is written, with a better reason.
        let checked = outputs.iter().zip(&args.operands).filter(|(_, input)| !is_other(input));
        checked.map(|(o, _)| o).try_for_each(|o| output::check(o, &args.operands, force))?;
    }
    each(&args.operands, |i, path| one(args, path, &outputs[i], &request).map_err(|e| e.at(path.display())))
}

/// The format that the name of an output asks for. Devices and stdout get PNG.
fn format_of(output: &Output) -> Result<OutFormat> {
    match output {
        Output::File(path) if !path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) => {
            writer_for(path).map_err(|e| usage(format!("-o {}: {}", path.display(), e.message())))
        }
        _ => Ok(OutFormat::Png),
    }
}

/// Whether a file can be read and is no .tfit file.
fn is_other(input: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(input).and_then(|f| f.take(MAGIC.len() as u64).read_to_end(&mut start));
    input != Path::new("-") && read.is_ok() && start != MAGIC
}

/// A picture that the format of the output cannot hold.
fn not_written(e: crate::Error) -> Failure {
    Failure::new(Code::Input, e.message())
}

/// Parses `X,Y,W,H`.
fn parse_region(text: &str) -> Result<Rect> {
    let invalid = || usage(format!("--region {text}: expected X,Y,W,H in pixels, W and H at least 1"));
    let v = text.split(',').map(|n| n.trim().parse::<usize>()).collect::<std::result::Result<Vec<_>, _>>();
    let &[x, y, w, h] = v.map_err(|_| invalid())?.as_slice() else { return Err(invalid()) };
    match (x.checked_add(w), y.checked_add(h)) {
        (Some(x1), Some(y1)) if w > 0 && h > 0 => Ok(Rect::new(x, y, x1, y1)),
        _ => Err(invalid()),
    }
}

fn one(args: &Args, path: &Path, output: &Output, request: &Request) -> Result<()> {
    let started = Instant::now();
    let data = files::read_bytes(path)?;
    let decoder = Decoder::new(&data, limits(args))?;
    let count = decoder.pictures().len();
    let chosen = match request.which {
        Which::Only if count > 1 => {
            return Err(usage(format!(
                "the file has {count} pictures: choose one with --image 1..{count}, or --image all"
            )))
        }
        Which::Only => 0..1,
        Which::One(n) if n >= count => {
            return Err(usage(format!("there is no picture {}: the file has {count} of them", n + 1)))
        }
        Which::One(n) => n..n + 1,
        Which::All => 0..count,
    };
    let outputs: Vec<Output> = chosen.clone().map(|i| numbered(output, i, count, request)).collect::<Result<_>>()?;
    if matches!(request.which, Which::All) {
        outputs.iter().try_for_each(|o| output::check(o, &args.operands, args.has("force")))?;
    }
    let format = format_of(output)?;
    let mut damage = Vec::new();
    let metadata = metadata::read(decoder.metadata())?;
    for (i, output) in chosen.zip(&outputs) {
        let band = args.integer("band").map(|n| n as usize - 1);
        let channels = band.map(|band| channels_of(&decoder, &metadata, i, band)).transpose()?;
        let window = window(&decoder, i, request)?;
        let (mut picture, bad) = decode(&decoder, i, request, window.map(|w| w.region))?;
        if let Some(channels) = channels {
            picture = picture.channels(channels);
        }
        // Items of the n-th of joined pictures have its number.
        let described = band.unwrap_or(i);
        let own = metadata.iter().filter(|m| m.picture == described && m.kind != BANDS);
        let mut items: Vec<Item> = own.map(|m| Item { kind: m.kind, data: m.data.clone() }).collect();
        let mut warnings = window.map_or(Vec::new(), |w| w.apply(&mut items));
        output::write(output, like(args, path), |out| {
            warnings.extend(pictures::write(format, &picture, &items, out).map_err(not_written)?);
            Ok(())
        })?;
        files::print_warnings(args.has("quiet"), &output.name(), &warnings);
        report_decoded(args, path, output, &picture, &bad, started);
        damage.extend(bad);
    }
    match damage.first() {
        None => Ok(()),
        Some(d) => Err(Failure::new(
            Code::Damaged,
            format!(
                "{} of the tiles could not be decoded (tile {}: {}); they are blank",
                damage.len(),
                d.tile,
                d.reason
            ),
        )),
    }
}

/// The channels of the `band`-th of the pictures that picture `i` was joined from.
fn channels_of(decoder: &Decoder, metadata: &[metadata::Item], i: usize, band: usize) -> Result<Range<usize>> {
    let layout = metadata.iter().find(|m| m.picture == i && m.kind == BANDS).and_then(|m| bands(&m.data));
    let layout = layout.ok_or_else(|| usage("--band: the picture was not joined from bands"))?;
    let Some((channels, _)) = layout.get(band) else {
        return Err(usage(format!("there is no band {}: the picture has {}", band + 1, layout.len())));
    };
    let first: usize = layout[..band].iter().map(|(n, _)| n).sum();
    if *channels == 0 || first + channels > decoder.header().format.channels {
        return Err(Failure::new(Code::Damaged, "the list of bands does not fit the picture"));
    }
    Ok(first..first + channels)
}

/// The part of picture `i` that is asked for; `None` for the whole picture at full size.
fn window(decoder: &Decoder, i: usize, request: &Request) -> Result<Option<Window>> {
    let p = &decoder.pictures()[i];
    let region = match request.region {
        Some(r) if r.x1 > p.width || r.y1 > p.height => {
            return Err(usage(format!(
                "the region {},{},{},{} is not inside the picture of {}x{}",
                r.x0,
                r.y0,
                r.width(),
                r.height(),
                p.width,
                p.height
            )))
        }
        None if request.scale == 0 => return Ok(None),
        region => region.unwrap_or(Rect::whole(p.width, p.height)),
    };
    Ok(Some(Window { height: p.height, region: region.shrunk(request.scale), scale: request.scale }))
}

fn decode(decoder: &Decoder, i: usize, request: &Request, region: Option<Rect>) -> Result<(Picture, Vec<Damage>)> {
    if request.partial {
        Ok(decoder.decode_partial(i, request.scale, region)?)
    } else {
        Ok((decoder.decode_scaled(i, request.scale, region)?, Vec::new()))
    }
}

/// The output of picture `i`: `x.png`, or `x-3.png` if all pictures of a group are decoded.
fn numbered(output: &Output, i: usize, count: usize, request: &Request) -> Result<Output> {
    if count == 1 || !matches!(request.which, Which::All) {
        return Ok(output.clone());
    }
    let Output::File(path) = output else {
        return Err(usage("only one picture can be written to stdout: choose it with --image N"));
    };
    let digits = count.to_string().len();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    Ok(Output::File(path.with_file_name(format!("{stem}-{:0digits$}{extension}", i + 1))))
}

/// Prints the JSON object of a decoded picture, or with `--verbose` one line about it.
fn report_decoded(args: &Args, path: &Path, output: &Output, picture: &Picture, damage: &[Damage], started: Instant) {
    if args.has("json") {
        let json = Json::new()
            .text("input", &path.display().to_string())
            .text("output", &output.name())
            .integer("width", picture.width as u64)
            .integer("height", picture.height as u64)
            .integer("channels", picture.format.channels as u64)
            .integer("damaged_segments", damage.len() as u64)
            .number("seconds", started.elapsed().as_secs_f64())
            .integer("peak_memory_bytes", report::peak_memory());
        report::print(&json.end());
    } else if args.has("verbose") {
        let time = report::time(started.elapsed());
        report::print_stderr(&format!("{}: {}x{} in {time}", output.name(), picture.width, picture.height));
    }
}
