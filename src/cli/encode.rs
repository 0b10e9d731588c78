//! `tilefit encode`: fit, write, decode what was written, put it in place.

use super::args::{usage, Args};
use super::estimate::{affordable, estimate};
use super::output::{self, Output};
use super::png_io::{self, Source};
use super::progress::Progress;
use super::report::{self, Json};
use super::{checkpoint, each, interrupted, read_limits, watch_interrupts, STOP};
use crate::codec::{write_file_with, Written};
use crate::container::metadata::{self, Item};
use crate::decoder::Decoder;
use crate::error::{Class, Error, Result};
use crate::fit::{self, FitOptions, Monitor, Target, Tune, WeightCoding};
use crate::limits::Limits;
use crate::metrics;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The family with the smallest files.
const DEFAULT_MODEL: &str = "pyramid";

/// A fit that did less than this share of its steps is said to be cut short.
const STARVED: u64 = 4;

const TARGETS: [&str; 6] = ["quality", "lambda", "target-psnr", "target-msssim", "target-bpp", "target-size"];

struct Job<'a> {
    args: &'a Args,
    model: &'static str,
    options: FitOptions,
    time_limit: Option<Duration>,
}

pub fn run(args: &Args) -> Result<u8> {
    let model = ["pyramid", "gdn"].into_iter().find(|m| *m == args.text("model").unwrap_or(DEFAULT_MODEL));
    let model = model.unwrap_or(DEFAULT_MODEL);
    let job = Job { args, model, options: options(args)?, time_limit: args.duration("time-limit") };
    if job.options.tune == Tune::Ssim && model != "gdn" {
        return Err(usage("--tune ssim is of --model gdn: use --tune msssim"));
    }
    if args.has("channels") && model != "gdn" {
        return Err(usage("--channels is of --model gdn: leave it out, or add --model gdn"));
    }
    let option = args.path("output");
    if args.has("json") && !args.has("dry-run") && option.as_deref() == Some(Path::new("-")) {
        return Err(usage("--json and -o - both want stdout: choose one"));
    }
    if args.has("depth") && args.text("depth") == Some("16") {
        return Err(usage("--depth 16 is not supported: samples have 8 bits"));
    }
    let outputs = if args.has("group") {
        let Some(path) = option.filter(|o| !o.is_dir()) else {
            return Err(usage("--group needs -o FILE: all inputs go into one file"));
        };
        vec![if path == Path::new("-") { Output::Stdout } else { Output::File(path) }]
    } else {
        output::plan(&args.operands, option.as_deref(), "tfit")?
    };
    if !args.has("dry-run") {
        let mut open = outputs.iter().filter(|o| !(args.has("resume") && finished(o)));
        open.try_for_each(|o| output::check(o, &args.operands, args.has("force")))?;
        watch_interrupts();
    }
    if args.has("group") {
        return job.encode(&args.operands, &outputs[0]).map(|()| 0);
    }
    each(&args.operands, |i, input| job.encode(std::slice::from_ref(input), &outputs[i]))
}

fn options(args: &Args) -> Result<FitOptions> {
    let usual = FitOptions::default();
    let number = |name| args.number(name).unwrap_or(0.0);
    let target = match args.one_of(&TARGETS)? {
        None => usual.target,
        Some("quality") => Target::Quality(number("quality")),
        Some("lambda") => Target::Lambda(number("lambda")),
        Some("target-psnr") => Target::Psnr(number("target-psnr")),
        Some("target-msssim") => Target::MsSsim(number("target-msssim")),
        Some("target-bpp") => Target::Bpp(number("target-bpp")),
        Some(_) => match args.size("target-size").unwrap_or(0) {
            0 => return Err(usage("--target-size 0: at least 1 byte is expected")),
            bytes => Target::Size(bytes),
        },
    };
    let tile = args.integer("tile").map(|t| t as usize);
    if tile.is_some_and(|t| t != 0 && !(t.is_power_of_two() && (64..=32768).contains(&t))) {
        return Err(usage("--tile: 0 or a power of two from 64 to 32768 is expected"));
    }
    Ok(FitOptions {
        target,
        tune: match args.text("tune") {
            Some("msssim") => Tune::MsSsim,
            Some("ssim") => Tune::Ssim,
            _ => Tune::Psnr,
        },
        effort: args.integer("effort").map_or(usual.effort, |e| e as u32),
        max_memory: args.size("max-memory").unwrap_or(usual.max_memory),
        seed: args.integer("seed").unwrap_or(usual.seed),
        tile,
        weights: if args.text("weights") == Some("f16") { WeightCoding::F16 } else { WeightCoding::Coded },
        channels: args.integer("channels").map(|c| c as usize),
        ..usual
    })
}

impl Job<'_> {
    /// `inputs` into one file.
    fn encode(&self, inputs: &[PathBuf], output: &Output) -> Result<()> {
        interrupted()?;
        if self.args.has("resume") && finished(output) {
            let message = "nothing to resume: the file is there and has no checkpoint";
            return Err(Error::new(Class::Nothing, message).at(output.name()));
        }
        let name = inputs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
        let started = Instant::now();
        let mut options = FitOptions { deadline: self.time_limit.map(|t| started + t), ..self.options.clone() };
        let (sources, pictures, metadata) = self.read(inputs)?;
        let (pixels, channels) = (pictures.iter().map(|p| p.pixels() as u64).sum(), pictures[0].channels);
        let promise = options.target;
        options.target = without(promise, metadata.len() as u64, pixels);
        let place = checkpoint::place(output);
        let key = checkpoint::key(self.model, &options, &pictures);
        let resume = match (self.args.has("resume"), &place) {
            (false, _) => None,
            (true, Some(place)) => Some(checkpoint::read(place, key)?),
            (true, None) => return Err(usage("--resume needs an output file: its checkpoint lies beside it")),
        };
        let asked = options.effort;
        options.effort = match &resume {
            Some((effort, _)) => *effort,
            None => affordable(self.model, pixels, channels, &options),
        };
        let cost = estimate(self.model, pixels, channels, &options);
        let first = &pictures[0];
        let size = match pictures.len() {
            1 => format!("{}x{} {}", first.width, first.height, if channels == 1 { "grey" } else { "RGB" }),
            n => format!("{n} pictures, {:.2} megapixels", pixels as f64 / 1e6),
        };
        let effort = match options.effort {
            effort if effort < asked => format!("{effort} (the time limit is too short for {asked})"),
            effort => effort.to_string(),
        };
        let opening = format!("{name}: {size}, {} at effort {effort}: {}", self.model, cost.words());
        if self.args.has("dry-run") {
            if self.args.has("json") {
                let json = input(Json::new(), inputs)
                    .text("output", &output.name())
                    .integer("width", first.width as u64)
                    .integer("height", first.height as u64)
                    .text("model", self.model)
                    .integer("effort", options.effort as u64)
                    .number("estimated_seconds", cost.time.as_secs_f64())
                    .integer("estimated_memory_bytes", cost.memory);
                report::print(&json.end());
            } else {
                report::print(&opening);
            }
            return Ok(());
        }
        if !self.args.has("quiet") {
            report::say(&opening);
        }
        let fit = fit::family(self.model)
            .ok_or_else(|| usage(format!("--model {} is not part of this build", self.model)))?;
        let mut planned = 0;
        let fitted = {
            let mut progress = Progress::new(self.args, options.deadline);
            let mut saved = None;
            let mut save = |state: &[u8]| {
                saved = place.as_ref().map(|place| checkpoint::write(place, key, options.effort, state));
            };
            let mut monitor = Monitor {
                report: &mut |m| {
                    planned = m.steps;
                    progress.show(m);
                },
                stop: &STOP,
                save: &mut save,
                resume: resume.map(|(_, state)| state),
            };
            let fitted = fit(&pictures, &options, &mut monitor);
            drop(progress);
            fitted.map_err(|e| match (e.class, saved, &place) {
                (Class::Interrupted, Some(Ok(())), Some(place)) => Error::new(
                    Class::Interrupted,
                    format!("interrupted: the checkpoint is {}, --resume goes on from it", place.display()),
                ),
                (Class::Interrupted, Some(Err(e)), _) => {
                    Error::new(Class::Interrupted, format!("interrupted, and the checkpoint is lost: {e}"))
                }
                _ => e,
            })
        };
        let fitted = fitted.map_err(|e| e.at(&name))?;
        if self.time_limit.is_some() && fitted.steps < planned / STARVED && !self.args.has("quiet") {
            report::say(&format!(
                "{name}: the time limit left {} of the {planned} steps of effort {}: a longer one, or a lower effort, \
                 gives a smaller file",
                fitted.steps, options.effort
            ));
        }
        let written = write_file_with(&fitted, &pictures, metadata).map_err(|e| e.at(&name))?;
        interrupted().map_err(|e| e.at(&name))?;
        if !self.args.has("no-verify") {
            Decoder::new(&written.bytes, Limits::NONE)
                .and_then(|d| d.verify())
                .map_err(|e| e.at(format!("{name}: the file written does not decode, which is a bug of tilefit")))?;
        }
        let quality = Quality::of(&pictures, &written);
        meets(&promise, &written, &quality, pixels).map_err(|e| e.at(&name))?;
        output::write_bytes(output, &written.bytes)?;
        if let Some(place) = place {
            let _ = std::fs::remove_file(place);
        }
        self.told(inputs, output, &sources, &written, &quality, &options, fitted.steps, started, pixels, first);
        Ok(())
    }

    /// Sizes of the files, pictures, and the section of metadata.
    fn read(&self, inputs: &[PathBuf]) -> Result<(Vec<u64>, Vec<crate::Picture>, Vec<u8>)> {
        let (mut bytes, mut pictures, mut items) = (Vec::new(), Vec::new(), Vec::new());
        let kept = |kind: u8| match self.args.text("strip") {
            None => true,
            Some("safe") => kind != metadata::EXIF,
            Some(_) => false,
        };
        for (i, path) in inputs.iter().enumerate() {
            let Source { picture, bytes: b, metadata } = png_io::read_file(path, &read_limits(self.args))?;
            let metadata = metadata.into_iter().filter(|(kind, _)| kept(*kind));
            items.extend(metadata.map(|(kind, data)| Item { picture: i, kind, data }));
            if pictures.first().is_some_and(|p: &crate::Picture| p.channels != picture.channels) {
                return Err(
                    Error::new(Class::Io, "the pictures of a group must be all grey or all RGB").at(path.display())
                );
            }
            bytes.push(b);
            pictures.push(picture);
        }
        Ok((bytes, pictures, metadata::write(&items)?))
    }

    fn told(
        &self,
        inputs: &[PathBuf],
        output: &Output,
        sources: &[u64],
        written: &Written,
        quality: &Quality,
        options: &FitOptions,
        steps: u64,
        started: Instant,
        pixels: u64,
        first: &crate::Picture,
    ) {
        let bytes = written.bytes.len() as u64;
        let bpp = 8.0 * bytes as f64 / pixels as f64;
        if self.args.has("json") {
            let json = input(Json::new(), inputs)
                .text("output", &output.name())
                .integer("width", first.width as u64)
                .integer("height", first.height as u64)
                .integer("bytes", bytes)
                .integer("weights_bytes", written.weights_bytes as u64)
                .integer("codes_bytes", written.codes_bytes as u64)
                .number("bpp", bpp)
                .number("psnr", quality.psnr)
                .number("ms_ssim", quality.ms_ssim)
                .text("model", self.model)
                .integer("effort", options.effort as u64)
                .number("seconds", started.elapsed().as_secs_f64())
                .integer("steps", steps)
                .integer("peak_memory_bytes", report::peak_memory());
            report::print(&json.end());
        }
        if self.args.has("quiet") {
            return;
        }
        report::say(&format!(
            "{}: {} bytes ({} weights, {} codes), {bpp:.4} bpp, PSNR {} dB{}, factor {:.5}, {}",
            output.name(),
            report::grouped(bytes),
            report::grouped(written.weights_bytes as u64),
            report::grouped(written.codes_bytes as u64),
            report::psnr(quality.psnr),
            quality.ms_ssim.map_or(String::new(), |m| format!(", MS-SSIM {m:.5}")),
            bytes as f64 / sources.iter().sum::<u64>() as f64,
            report::time(started.elapsed()),
        ));
        if self.args.has("verbose") {
            let memory = report::peak_memory().map_or("unknown".into(), |m| report::size(m as f64));
            report::say(&format!("{}: {steps} steps, peak memory {memory}", output.name()));
        }
    }
}

/// What is left for the fit of a target that counts the whole file: metadata stand in it too.
fn without(target: Target, metadata: u64, pixels: u64) -> Target {
    // With its length field.
    let bytes = if metadata == 0 { 0 } else { metadata + 4 };
    match target {
        Target::Size(n) => Target::Size(n.saturating_sub(bytes).max(1)),
        Target::Bpp(bpp) => Target::Bpp((bpp - 8.0 * bytes as f64 / pixels as f64).max(1e-6)),
        other => other,
    }
}

/// Written by an earlier run that came to its end.
fn finished(output: &Output) -> bool {
    match (output, checkpoint::place(output)) {
        (Output::File(path), Some(checkpoint)) => path.is_file() && !checkpoint.exists(),
        _ => false,
    }
}

/// The input's name, or for a group the list of them.
fn input(json: Json, inputs: &[PathBuf]) -> Json {
    match inputs {
        [one] => json.text("input", &one.display().to_string()),
        all => json.raw("input", &report::array(all.iter().map(|p| report::quoted(&p.display().to_string())))),
    }
}

/// What the file decodes to; for a group, PSNR over all samples and the mean of the MS-SSIM.
struct Quality {
    psnr: f64,
    ms_ssim: Option<f64>,
}

impl Quality {
    fn of(pictures: &[crate::Picture], written: &Written) -> Quality {
        let (mut squares, mut pixels, mut ms_ssim) = (0.0, 0.0, Some(0.0));
        for (a, b) in pictures.iter().zip(&written.decoded) {
            squares += metrics::mse(a, b) * a.pixels() as f64;
            pixels += a.pixels() as f64;
            ms_ssim = ms_ssim.zip(metrics::ms_ssim(a, b)).map(|(x, y)| x + y);
        }
        Quality { psnr: metrics::mse_to_psnr(squares / pixels), ms_ssim: ms_ssim.map(|m| m / pictures.len() as f64) }
    }
}

/// Holds the real file to the target.
fn meets(target: &Target, written: &Written, quality: &Quality, pixels: u64) -> Result<()> {
    let bytes = written.bytes.len() as u64;
    let missed = |what: String| Err(Error::new(Class::Target, format!("{what}; nothing was written")));
    match *target {
        Target::Psnr(db) if quality.psnr < db => {
            missed(format!("PSNR {db} dB is not reached, the closest is {:.2} dB", quality.psnr))
        }
        Target::MsSsim(v) if quality.ms_ssim.is_some_and(|m| m < v) => {
            missed(format!("MS-SSIM {v} is not reached, the closest is {:.5}", quality.ms_ssim.unwrap_or(0.0)))
        }
        Target::MsSsim(_) if quality.ms_ssim.is_none() => {
            missed("MS-SSIM needs sides of at least 11 pixels: use --target-psnr".into())
        }
        Target::Size(limit) if bytes > limit => {
            missed(format!("{limit} bytes are not reachable, the closest is {bytes} bytes"))
        }
        Target::Bpp(limit) if 8.0 * bytes as f64 / pixels as f64 > limit => missed(format!(
            "{limit} bpp are not reachable, the closest is {:.5} bpp ({bytes} bytes)",
            8.0 * bytes as f64 / pixels as f64
        )),
        _ => Ok(()),
    }
}
