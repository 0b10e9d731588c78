//! `tilefit-decode`: the decoder alone as a small program. It writes PNG; exit codes are those of `tilefit`.
#![forbid(unsafe_code)]

mod png;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use tilefit::metadata::Item;
use tilefit::{Class, Decoder, Error, Limits, Picture, Rect};

const USAGE: &str = "\
usage: tilefit-decode IN.tfit OUT.png [--region X,Y,W,H] [--scale 1/2|1/4|1/8] [--image N] [-f]

OUT may be - for stdout. --region is in pixels of the full-size picture. --image chooses one of several
pictures, from 1 on. -f overwrites OUT.";

/// The command line.
#[derive(Default)]
struct Request {
    /// Input and output.
    paths: Vec<OsString>,
    /// In pixels of the full-size picture.
    region: Option<Rect>,
    /// The output is at `1/2^scale`.
    scale: u32,
    /// Number of the picture from 1 on; 0: not given.
    image: usize,
    /// Overwrites the output.
    force: bool,
}

/// Exit code and one line.
struct Failure(u8, String);

type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure(if e.class() == Class::Argument { 2 } else { 6 }, e.to_string())
    }
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.iter().any(|w| w == "-h" || w == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match parse(words).and_then(|r| run(&r)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, message)) => {
            eprintln!("tilefit-decode: {message}");
            ExitCode::from(code)
        }
    }
}

fn usage(what: &str) -> Failure {
    Failure(2, format!("{what}; tilefit-decode --help tells more"))
}

fn parse(words: Vec<OsString>) -> Result<Request> {
    let mut request = Request::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = |what: &str| words.next().and_then(|v| v.into_string().ok()).ok_or_else(|| usage(what));
        match word.to_str() {
            Some("--region") => {
                let what = "--region takes X,Y,W,H in pixels, W and H at least 1";
                let numbers: Vec<usize> = value(what)?.split(',').filter_map(|n| n.parse().ok()).collect();
                let &[x, y, w, h] = numbers.as_slice() else { return Err(usage(what)) };
                match (x.checked_add(w), y.checked_add(h)) {
                    (Some(x1), Some(y1)) if w > 0 && h > 0 => request.region = Some(Rect::new(x, y, x1, y1)),
                    _ => return Err(usage(what)),
                }
            }
            Some("--scale") => {
                let what = "--scale takes 1/2, 1/4 or 1/8";
                let scales = ["1/1", "1/2", "1/4", "1/8"];
                let scale = value(what)?;
                request.scale = scales.iter().position(|s| *s == scale).ok_or_else(|| usage(what))? as u32;
            }
            Some("--image") => {
                let what = "--image takes a number from 1 on";
                let number = value(what)?.parse::<usize>().ok().filter(|n| *n > 0);
                request.image = number.ok_or_else(|| usage(what))?;
            }
            Some("-f") => request.force = true,
            Some(option) if option.len() > 1 && option.starts_with('-') => {
                return Err(usage(&format!("unknown option {option}")))
            }
            _ => request.paths.push(word),
        }
    }
    if request.paths.len() != 2 {
        return Err(usage("an input and an output are needed"));
    }
    Ok(request)
}

fn run(request: &Request) -> Result<()> {
    let [input, output] = request.paths.as_slice() else { unreachable!("parse counts the paths") };
    let named = |path: &OsString, e: io::Error| Failure(1, format!("{}: {e}", path.to_string_lossy()));
    let data = std::fs::read(input).map_err(|e| named(input, e))?;
    let (picture, items) = decode(&data, request)
        .map_err(|Failure(code, message)| Failure(code, format!("{}: {message}", input.to_string_lossy())))?;
    if output == "-" {
        return png::write(&picture, &items, &mut io::stdout().lock()).map_err(|e| named(output, e));
    }
    let mut options = std::fs::File::options();
    let options = options.write(true).truncate(true);
    let file = if request.force { options.create(true) } else { options.create_new(true) }.open(output);
    let file = file.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure(4, format!("{}: it is there already; -f overwrites it", output.to_string_lossy()))
        }
        _ => named(output, e),
    })?;
    let mut file = BufWriter::new(file);
    png::write(&picture, &items, &mut file).and_then(|()| file.flush()).map_err(|e| {
        // No incomplete picture is left behind.
        let _ = std::fs::remove_file(output);
        named(output, e)
    })
}

/// The samples that the request asks for, and the metadata of their picture.
fn decode(data: &[u8], request: &Request) -> Result<(Picture, Vec<Item>)> {
    let decoder = Decoder::new(data, Limits::default())?;
    let count = decoder.pictures().len();
    if request.image == 0 && count > 1 {
        return Err(usage(&format!("the file has {count} pictures: choose one with --image 1..{count}")));
    }
    let region = request.region.map(|r| r.shrunk(request.scale));
    let number = request.image.max(1) - 1;
    Ok((decoder.decode_scaled(number, request.scale, region)?, decoder.items(number)?))
}
