//! `tilefit encode`: reads the pictures, runs the encoder, writes the file.

use super::args::{usage, Args};
use super::failure::{Code, Failure, Result};
use super::files::{self, print_warnings};
use super::output::{self, Like, Output};
use super::progress::ProgressLine;
use super::report::{self, Json};
use super::{checkpoint, each, interrupted, read_options, watch_interrupts, STOP};
use crate::container::metadata::{Item, BANDS, EXIF};
use crate::encoder::{Domain, Encoded, Encoder, Plan, Signal, Target, Tune, WeightCoding};
use crate::error::Class;
use crate::image::Picture;
use crate::pictures::metadata::Strip;
use crate::pictures::{self, apply_orientation};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A warning is printed if the time limit allowed less than `1 / STEPS_WARNING` of the planned steps: a longer fit would
/// then make a clearly smaller file.
const STEPS_WARNING: u64 = 2;

/// Flags that set the target; at most one of them may be given.
const TARGETS: [&str; 9] = [
    "quality",
    "lambda",
    "target-psnr",
    "target-ssimulacra2",
    "target-msssim",
    "target-bpp",
    "target-size",
    "lossless",
    "max-error",
];

pub fn run(args: &Args) -> Result<u8> {
    encoder(args)?;
    let option = args.path("output");
    if args.has("json") && !args.has("dry-run") && option.as_deref() == Some(Path::new("-")) {
        return Err(usage("--json and -o - both write to stdout: choose one"));
    }
    let together = args.one_of(&["group", "bands"])?;
    let outputs = if let Some(flag) = together {
        let Some(path) = option.filter(|o| !o.is_dir()) else {
            return Err(usage(format!("--{flag} needs -o FILE: all inputs go into one file")));
        };
        vec![if path == Path::new("-") { Output::Stdout } else { Output::File(path) }]
    } else {
        output::plan(&args.operands, option.as_deref(), "tfit")?
    };
    outputs.iter().try_for_each(not_a_picture)?;
    if !args.has("dry-run") {
        let mut unfinished = outputs.iter().filter(|o| !(args.has("resume") && finished(o)));
        unfinished.try_for_each(|o| output::check(o, &args.operands, args.has("force")))?;
        watch_interrupts();
    }
    if together.is_some() {
        return encode(args, &args.operands, &outputs[0]).map(|()| 0);
    }
    each(&args.operands, |i, input| encode(args, std::slice::from_ref(input), &outputs[i]))
}

/// The encoder with the options that the flags set. Bad options are errors here, before any input is read.
fn encoder<'a>(args: &Args) -> Result<Encoder<'a>> {
    let mut encoder = Encoder::new().verify(!args.has("no-verify"));
    if let Some(name) = args.text("model") {
        encoder = encoder.model(name);
    }
    if let Some(target) = target(args)? {
        encoder = encoder.target(target);
    }
    encoder = match args.text("tune") {
        Some("msssim") => encoder.tune(Tune::MsSsim),
        Some("ssim") => encoder.tune(Tune::Ssim),
        Some("visual") => encoder.tune(Tune::Visual),
        Some("psnr") => encoder.tune(Tune::Psnr),
        _ => encoder,
    };
    if args.text("domain") == Some("asinh") {
        encoder = encoder.domain(Domain::Asinh);
    }
    if let Some(effort) = args.integer("effort") {
        encoder = encoder.effort(effort as u32);
    }
    if let Some(limit) = args.duration("time-limit") {
        encoder = encoder.time_limit(limit);
    }
    if let Some(bytes) = args.size("max-memory") {
        encoder = encoder.max_memory(bytes);
    }
    if let Some(seed) = args.integer("seed") {
        encoder = encoder.seed(seed);
    }
    if let Some(side) = args.integer("tile") {
        encoder = encoder.tile(side as usize);
    }
    if args.text("weights") == Some("f16") {
        encoder = encoder.weights(WeightCoding::F16);
    }
    if let Some(quality) = args.number("alpha-quality") {
        encoder = encoder.alpha_quality(quality);
    }
    if let Some(channels) = args.integer("channels") {
        encoder = encoder.channels(channels as usize);
    }
    let flag = TARGETS.into_iter().find(|name| args.has(name));
    encoder.check().map_err(|e| match (e.argument(), flag) {
        (Some("target"), Some(flag)) => Failure::from(e).at(format!("--{flag}")),
        _ => e.into(),
    })?;
    Ok(encoder)
}

fn target(args: &Args) -> Result<Option<Target>> {
    let Some(name) = args.one_of(&TARGETS)? else { return Ok(None) };
    let number = args.number(name).unwrap_or(0.0);
    Ok(Some(match name {
        "quality" => Target::Quality(number),
        "lambda" => Target::Lambda(number),
        "target-psnr" => Target::Psnr(number),
        "target-msssim" => Target::MsSsim(number),
        "target-ssimulacra2" => Target::Ssimulacra2(number),
        "target-bpp" => Target::Bpp(number),
        "lossless" => Target::MaxError(0),
        "max-error" => Target::MaxError(args.integer(name).unwrap_or(0) as u16),
        _ => Target::Size(args.size(name).unwrap_or(0)),
    }))
}

/// Refuses outputs with the name of a picture.
fn not_a_picture(output: &Output) -> Result<()> {
    const PICTURES: [&str; 20] = [
        "png", "apng", "jpg", "jpeg", "tif", "tiff", "webp", "gif", "bmp", "qoi", "pnm", "pbm", "pgm", "ppm", "pam",
        "pfm", "fits", "avif", "jxl", "heic",
    ];
    let Output::File(path) = output else { return Ok(()) };
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match PICTURES.contains(&extension.as_str()) {
        true => Err(usage(format!("-o {}: encode writes .tfit files, not .{extension}", path.display()))),
        false => Ok(()),
    }
}

/// The input whose attributes its output gets.
pub fn like<'a>(args: &Args, input: &'a Path) -> Option<Like<'a>> {
    (input != Path::new("-")).then(|| Like { input, times: args.has("preserve-times") })
}

/// Encodes `inputs` into one file.
fn encode(args: &Args, inputs: &[PathBuf], output: &Output) -> Result<()> {
    interrupted()?;
    if args.has("resume") && finished(output) {
        let message = "nothing to resume: the output exists and has no checkpoint";
        return Err(Failure::new(Code::Nothing, message).at(output.name()));
    }
    let started = Instant::now();
    let name = inputs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
    let with_name = |e: crate::Error| Failure::from(e.at(&name));
    let Inputs { sources, pictures, metadata, measured } = read(args, inputs)?;
    let checkpoint_path = checkpoint::path(output);
    // Measurements, not pictures to look at.
    let data = args.has("bands") || measured;
    let mut encoder = encoder(args)?.metadata(metadata);
    if measured && matches!(args.text("domain"), None | Some("auto")) {
        encoder = encoder.domain(Domain::Automatic);
    }
    if let Some(limit) = args.duration("time-limit") {
        // The limit includes the time that reading the input took.
        encoder = encoder.time_limit(limit.saturating_sub(started.elapsed()));
    }
    if args.has("resume") {
        encoder = encoder.resume(checkpoint::read(checkpoint_path.as_deref())?);
    }
    if args.text("tune").is_none() && data {
        encoder = encoder.tune(Tune::Psnr);
    }
    let plan = encoder.plan(&pictures).map_err(with_name)?;
    let summary = plan_summary(args, &name, &pictures, &plan);
    if args.has("dry-run") {
        report::print(&if args.has("json") { dry_run(inputs, output, &pictures, &plan) } else { summary });
        return Ok(());
    }
    if !args.has("quiet") {
        report::print_stderr(&summary);
    }
    let mut progress = ProgressLine::new(args, started, args.duration("time-limit"));
    let mut saved = None;
    let encoded = encoder
        .progress(|p| {
            progress.show(p);
            Signal::GoOn
        })
        .checkpoint(|state| saved = checkpoint_path.as_ref().map(|path| checkpoint::write(path, state)))
        .stop(&STOP, Signal::Cancel)
        .encode_group(&pictures);
    drop(progress);
    let encoded = encoded.map_err(|e| match (e.class(), saved, &checkpoint_path) {
        (Class::Cancelled, Some(Ok(())), Some(path)) => {
            let what = format!("interrupted: --resume continues from the checkpoint {}", path.display());
            Failure::new(Code::Interrupted, what).at(&name)
        }
        (Class::Cancelled, Some(Err(e)), _) => {
            Failure::new(Code::Interrupted, format!("interrupted, and the checkpoint could not be saved: {e}"))
                .at(&name)
        }
        (Class::Cancelled, ..) => Failure::new(Code::Interrupted, "interrupted").at(&name),
        _ => with_name(e),
    })?;
    interrupted().map_err(|e| e.at(&name))?;
    // A group has no single input.
    let only = inputs.first().filter(|_| inputs.len() == 1);
    output::write_bytes(output, only.and_then(|i| like(args, i)), &encoded.bytes)?;
    if let Some(path) = checkpoint_path {
        let _ = std::fs::remove_file(path);
    }
    report_encoded(args, inputs, output, &sources, &pictures, &encoded, started);
    Ok(())
}

/// One line about the input, the model and the estimated time and memory.
fn plan_summary(args: &Args, name: &str, pictures: &[Picture], plan: &Plan) -> String {
    let first = &pictures[0];
    let what = match pictures.len() {
        1 => format!("{}x{} {}", first.width, first.height, first.format.name()),
        n => {
            let pixels: usize = pictures.iter().map(Picture::pixels).sum();
            format!("{n} pictures, {:.2} megapixels", pixels as f64 / 1e6)
        }
    };
    let effort = match args.integer("effort").unwrap_or(u64::from(plan.effort)) {
        asked if asked > u64::from(plan.effort) => {
            format!("{} (the time limit is too short for {asked})", plan.effort)
        }
        _ => plan.effort.to_string(),
    };
    let (time, memory) = (report::time(plan.time), report::size(plan.memory as f64));
    let (model, tune) = (plan.model, plan.tune.name());
    format!("{name}: {what}, {model} tuned for {tune} at effort {effort}: about {time}, {memory} of memory")
}

fn dry_run(inputs: &[PathBuf], output: &Output, pictures: &[Picture], plan: &Plan) -> String {
    input(Json::new(), inputs)
        .text("output", &output.name())
        .integer("width", pictures[0].width as u64)
        .integer("height", pictures[0].height as u64)
        .text("model", plan.model)
        .text("tune", plan.tune.name())
        .integer("effort", u64::from(plan.effort))
        .number("estimated_seconds", plan.time.as_secs_f64())
        .integer("estimated_memory_bytes", plan.memory)
        .end()
}

/// What the inputs contain.
struct Inputs {
    /// Bytes of each file.
    sources: Vec<u64>,
    pictures: Vec<Picture>,
    /// What `--strip` keeps.
    metadata: Vec<Item>,
    /// The samples of an input are measurements.
    measured: bool,
}

/// Reads the inputs.
fn read(args: &Args, inputs: &[PathBuf]) -> Result<Inputs> {
    let (mut sources, mut pictures, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    let mut measured = false;
    let strip = args.text("strip").map(|s| if s == "safe" { Strip::Safe } else { Strip::All });
    let kept = |kind: u8| strip.is_none_or(|s| s.keeps(kind));
    for (i, path) in inputs.iter().enumerate() {
        let mut source = files::read_picture(path, &read_options(args))?;
        print_warnings(args.has("quiet"), &path.display().to_string(), &source.warnings);
        if let Some(exif) = pictures::metadata::find(&source.metadata, EXIF).filter(|_| !kept(EXIF)) {
            // Without it the picture would be shown in another orientation.
            apply_orientation(&mut source.picture, exif).map_err(|e| Failure::from(e).at(path.display()))?;
        }
        measured |= source.measured;
        let kept = source.metadata.into_iter().filter(|m| kept(m.kind));
        metadata.extend(kept.map(|m| Item { picture: i, kind: m.kind, data: m.data }));
        let picture = match args.text("depth") {
            Some("8") => source.picture.with_depth(8),
            Some("16") => source.picture.with_depth(16),
            _ => source.picture,
        };
        let differs = |p: &&Picture| !args.has("bands") && p.format != picture.format;
        if let Some(first) = pictures.first().filter(differs) {
            let kind = |p: &Picture| format!("{} of {} bits", p.format.name(), p.format.depth);
            let message = format!("a group has one kind of picture, not {} and {}", kind(first), kind(&picture));
            return Err(Failure::new(Code::Input, message).at(path.display()));
        }
        sources.push(source.bytes);
        pictures.push(picture);
    }
    if args.has("bands") {
        let mut layout = Vec::new();
        for (p, path) in pictures.iter().zip(inputs) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = &name.as_bytes()[..name.len().min(255)];
            layout.extend([p.format.channels as u8, name.len() as u8]);
            layout.extend(name);
        }
        metadata.push(Item { picture: 0, kind: BANDS, data: layout });
        pictures = vec![Picture::joined(&pictures).map_err(|e| Failure::new(Code::Input, e.message()))?];
    }
    Ok(Inputs { sources, pictures, metadata, measured })
}

/// Prints the result of an encode: the JSON object if asked for, and lines on stderr unless `--quiet`.
fn report_encoded(
    args: &Args,
    inputs: &[PathBuf],
    output: &Output,
    sources: &[u64],
    pictures: &[Picture],
    encoded: &Encoded,
    started: Instant,
) {
    let (bytes, r) = (encoded.bytes.len() as u64, &encoded.report);
    let bpp = 8.0 * bytes as f64 / pictures.iter().map(|p| p.pixels() as f64).sum::<f64>();
    if args.has("json") {
        let json = input(Json::new(), inputs)
            .text("output", &output.name())
            .integer("width", pictures[0].width as u64)
            .integer("height", pictures[0].height as u64)
            .integer("bytes", bytes)
            .integer("weights_bytes", r.weights_bytes as u64)
            .integer("codes_bytes", r.codes_bytes as u64)
            .number("bpp", bpp)
            .number("psnr", r.psnr)
            .number("ms_ssim", r.ms_ssim)
            .number("ssimulacra2", r.ssimulacra2)
            .text("domain", if r.domain.is_some() { "asinh" } else { "linear" })
            .number("domain_psnr", r.domain.as_ref().map(|d| d.psnr))
            .number("domain_ms_ssim", r.domain.as_ref().and_then(|d| d.ms_ssim))
            .text("model", r.model)
            .text("tune", r.tune.name())
            .integer("effort", u64::from(r.effort))
            .number("seconds", started.elapsed().as_secs_f64())
            .integer("steps", r.steps)
            .integer("peak_memory_bytes", report::peak_memory());
        report::print(&json.end());
    }
    if args.has("quiet") {
        return;
    }
    if args.has("time-limit") && r.steps < r.planned_steps / STEPS_WARNING {
        report::print_stderr(&format!(
            "{}: the time limit allowed only {} of the {} steps of effort {}: a longer limit or a lower effort gives a smaller file",
            output.name(),
            r.steps,
            r.planned_steps,
            r.effort
        ));
    }
    let inputs: u64 = sources.iter().sum();
    let quality = if r.psnr.is_infinite() { "lossless".into() } else { format!("PSNR {} dB", report::psnr(r.psnr)) };
    report::print_stderr(&format!(
        "{}: {} bytes ({} weights, {} codes), {bpp:.4} bpp, {quality}{}{}, factor {:.5}, {}",
        output.name(),
        report::grouped(bytes),
        report::grouped(r.weights_bytes as u64),
        report::grouped(r.codes_bytes as u64),
        r.ssimulacra2.map_or(String::new(), |s| format!(", SSIMULACRA2 {s:.2}")),
        r.ms_ssim.map_or(String::new(), |m| format!(", MS-SSIM {m:.5}")),
        bytes as f64 / inputs as f64,
        report::time(started.elapsed()),
    ));
    if let Some(d) = &r.domain {
        report::print_stderr(&format!(
            "{}: fitted on an asinh curve from {} to {}, PSNR {} dB there",
            output.name(),
            d.knots[0],
            d.knots[d.knots.len() - 1],
            report::psnr(d.psnr),
        ));
    }
    if bytes > inputs {
        let what = format!("larger than its input of {} bytes", report::grouped(inputs));
        report::print_stderr(&format!("{}: warning: {what}", output.name()));
    }
    if args.has("verbose") {
        let memory = report::peak_memory().map_or("unknown".into(), |m| report::size(m as f64));
        report::print_stderr(&format!("{}: {} steps, peak memory {memory}", output.name(), r.steps));
    }
}

/// Whether an earlier run has completed this output: the file exists and has no checkpoint.
fn finished(output: &Output) -> bool {
    match (output, checkpoint::path(output)) {
        (Output::File(path), Some(checkpoint)) => path.is_file() && !checkpoint.exists(),
        _ => false,
    }
}

/// Adds the key `input`: the input's name, or for a group the list of names.
fn input(json: Json, inputs: &[PathBuf]) -> Json {
    match inputs {
        [one] => json.text("input", &one.display().to_string()),
        all => json.raw("input", &report::array(all.iter().map(|p| report::quoted(&p.display().to_string())))),
    }
}
