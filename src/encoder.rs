//! The encoder's public interface: a builder for the options, and the file with its report.

use crate::container::metadata::{self, Item};
use crate::decoder::Decoder;
#[cfg(doc)]
use crate::error::Class;
use crate::error::{Error, Result};
use crate::fit::checkpoint::{self, Checkpoint};
use crate::fit::driver::{Monitor, Outcome};
pub use crate::fit::driver::{Progress, Signal};
use crate::fit::estimate::Work;
use crate::fit::options::EFFORTS;
use crate::fit::prepare::{Alpha, Prepared};
use crate::fit::select;
use crate::fit::{self, Family, Options};
pub use crate::fit::{Domain, Target, Tune, WeightCoding};
use crate::image::Picture;
use crate::limits::Limits;
use crate::metrics;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Sides of a tile that a file may have, besides 0.
const TILES: RangeInclusive<usize> = 64..=32768;

/// Default of the memory that a fit may use, in bytes.
const MAX_MEMORY: u64 = 4 << 30;

type OnProgress<'a> = Box<dyn FnMut(&Progress) -> Signal + Send + 'a>;
type OnCheckpoint<'a> = Box<dyn FnMut(&[u8]) + Send + 'a>;

/// Fits a model to one picture or a group of pictures and writes a file.
///
/// All options are checked before the fit starts; an option that is not valid is an error.
///
/// ```
/// use tilefit::{Encoder, Decoder, Limits, Picture, Target};
/// # fn main() -> tilefit::Result<()> {
/// let (width, height) = (32, 24);
/// let samples: Vec<u8> = (0..width * height).map(|i| (4 * (i % width) + 3 * (i / width)) as u8).collect();
/// let picture = Picture::from_u8(width, height, 1, &samples);
///
/// let encoded = Encoder::new().effort(1).target(Target::Quality(40.0)).encode(&picture)?;
/// println!("{} bytes, {:.2} dB", encoded.bytes.len(), encoded.report.psnr);
///
/// let decoder = Decoder::new(&encoded.bytes, Limits::default())?;
/// let back = decoder.decode(0)?;
/// assert_eq!((back.width, back.height), (width, height));
/// # assert!(tilefit::metrics::psnr(&picture, &back) > 25.0);
/// # Ok(())
/// # }
/// ```
///
/// A callback is called after each step and may end the fit. [`Signal::Finish`] ends it with the best file so far:
///
/// ```
/// # use tilefit::{Encoder, Picture, Signal};
/// # fn main() -> tilefit::Result<()> {
/// # let picture = Picture::from_u8(16, 16, 1, &(0..=255).collect::<Vec<u8>>());
/// let mut steps = 0;
/// let encoded = Encoder::new()
///     .effort(9)
///     .progress(|p| {
///         steps = p.step;
///         if p.step < 150 { Signal::GoOn } else { Signal::Finish }
///     })
///     .encode(&picture)?;
/// assert!(encoded.report.steps < encoded.report.planned_steps);
/// # assert!((150..400).contains(&steps), "{steps}");
/// # Ok(())
/// # }
/// ```
pub struct Encoder<'a> {
    family: Result<&'static Family>,
    /// Whether the family was not chosen by the caller: a lossless file is written where it is smaller.
    automatic: bool,
    alpha_quality: Option<f64>,
    options: Options,
    /// Chosen by the caller.
    tune: Option<Tune>,
    time_limit: Option<Duration>,
    threads: Option<usize>,
    max_memory: u64,
    verify: bool,
    metadata: Vec<Item>,
    progress: Option<OnProgress<'a>>,
    checkpoint: Option<OnCheckpoint<'a>>,
    resume: Option<Vec<u8>>,
    stop: Option<(&'a AtomicBool, Signal)>,
}

/// An encoded file and the report of the fit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encoded {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Facts about the fit and the file.
    pub report: Report,
}

/// Facts about a fit and its file: effort, bytes by section, and quality.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The model's family.
    pub model: &'static str,
    /// The effort of the fit. A time limit may have lowered it.
    pub effort: u32,
    /// The weight of the rate in the loss at the end of the fit.
    pub lambda: f64,
    /// Steps made.
    pub steps: u64,
    /// Steps that the effort plans, without touch-ups. A time limit may leave fewer.
    pub planned_steps: u64,
    /// Bytes of header and index.
    pub header_bytes: usize,
    /// Bytes of the model's weights.
    pub weights_bytes: usize,
    /// Bytes of the pictures' codes.
    pub codes_bytes: usize,
    /// Bytes of the metadata.
    pub metadata_bytes: usize,
    /// PSNR of the decoded pictures in dB, over all samples of all pictures; infinite if they equal the originals.
    pub psnr: f64,
    /// MS-SSIM, the mean over the pictures; `None` if a picture has a side below 11 pixels.
    pub ms_ssim: Option<f64>,
    /// SSIMULACRA2, the mean over the pictures; `None` for bands, and if a picture has a side below 8 pixels.
    pub ssimulacra2: Option<f64>,
    /// The distortion that a fit minimised.
    pub tune: Tune,
    /// The tone curve of the file and the quality on it; `None` if samples are linear.
    pub domain: Option<OnCurve>,
    /// Time of the whole call.
    pub time: Duration,
}

/// The tone curve of a file, and the quality of samples on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OnCurve {
    /// The samples at knots of equal distances on the scale of the fit.
    pub knots: Vec<u16>,
    /// The largest difference between neighbouring samples that the curve reaches.
    pub step: u16,
    /// As [`Report::psnr`].
    pub psnr: f64,
    /// As [`Report::ms_ssim`].
    pub ms_ssim: Option<f64>,
}

/// What an encode will do, and its estimated cost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The model's family.
    pub model: &'static str,
    /// The effort of the fit. A time limit may have lowered it.
    pub effort: u32,
    /// The distortion that the fit will minimise.
    pub tune: Tune,
    /// Estimated time.
    pub time: Duration,
    /// Estimated peak memory in bytes.
    pub memory: u64,
}

impl Default for Encoder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Encoder<'a> {
    /// An encoder with the defaults: quality 75, effort 5, and the family that makes the smallest files.
    pub fn new() -> Self {
        Encoder {
            family: Ok(&fit::FAMILIES[0]),
            automatic: true,
            alpha_quality: None,
            options: Options::default(),
            tune: None,
            time_limit: None,
            threads: None,
            max_memory: MAX_MEMORY,
            verify: true,
            metadata: Vec::new(),
            progress: None,
            checkpoint: None,
            resume: None,
            stop: None,
        }
    }

    /// The names of model families that [`Self::model`] accepts.
    pub fn models() -> &'static [&'static str] {
        &fit::NAMES
    }

    /// Sets the model family, one of [`Self::models`]. Another name is an error of [`Self::check`]. Without a choice a
    /// lossless file is written where it is smaller than a fitted one.
    pub fn model(mut self, name: &str) -> Self {
        self.automatic = false;
        let unknown = || Error::of_argument("model", format!("{name}: expected one of {}", fit::NAMES.join(", ")));
        self.family = fit::family(name).ok_or_else(unknown);
        self
    }

    /// Sets the quality or the size of the file. The default is a quality of 75.
    pub fn target(mut self, target: Target) -> Self {
        self.options.target = target;
        self
    }

    /// Sets the quality of alpha, 0 to 100: at `q` its samples differ by at most `(100 - q) / 4` percent of the peak, at 100 by
    /// nothing. The default is lossless alpha where it costs next to nothing; otherwise alpha is fitted together with colour,
    /// for pictures that look right on every background.
    pub fn alpha_quality(mut self, quality: f64) -> Self {
        self.alpha_quality = Some(quality);
        self
    }

    /// Sets the distortion that the fit minimises. The default is [`Tune::Visual`] for grey and RGB pictures with or without
    /// alpha, where the family has it, the memory suffices, the target is not one of another measure and the
    /// [domain](Self::domain) is linear; else the mean squared error. Choose [`Tune::Psnr`] for data.
    pub fn tune(mut self, tune: Tune) -> Self {
        self.tune = Some(tune);
        self
    }

    /// Sets the domain of the fit, in which targets are measured; [`Report`] has the quality in both. The default is [`Domain::Linear`].
    pub fn domain(mut self, domain: Domain) -> Self {
        self.options.domain = domain;
        self
    }

    /// Sets the effort, from 1 (fastest) to 9 (smallest file). The default is 5.
    pub fn effort(mut self, effort: u32) -> Self {
        self.options.effort = effort;
        self
    }

    /// Limits the time of the encode; the file is the best that can be reached in it. If the effort would take more than
    /// twice the limit, a lower effort is used.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Sets the number of threads, at least 1. The default is that of the current `rayon` pool. The file does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the memory that the fit may use, in bytes. A fit that needs more is an error before it starts. The default is
    /// 4 GiB.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Sets the seed of the random numbers. The same pictures, options and seed give the same file on one instruction set, if
    /// there is no time limit. The default is 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// Sets the side of a tile in pixels: a power of two from 64 to 32768, or 0 for one tile per picture. The default depends
    /// on the family and the pictures' size.
    pub fn tile(mut self, side: usize) -> Self {
        self.options.tile = Some(side);
        self
    }

    /// Sets how weights are stored. The default is [`WeightCoding::Coded`].
    pub fn weights(mut self, coding: WeightCoding) -> Self {
        self.options.weights = coding;
        self
    }

    /// Sets the number of latent channels, for families that have a choice. The default depends on pictures and target.
    pub fn channels(mut self, channels: usize) -> Self {
        self.options.channels = Some(channels);
        self
    }

    /// Sets the metadata that the file stores, at most 2^26 bytes in all.
    pub fn metadata(mut self, items: Vec<Item>) -> Self {
        self.metadata = items;
        self
    }

    /// Sets whether the file is decoded and checked against its checksums before it is returned. The default is true.
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Sets a callback that is called after every step, on a thread of the pool. Its answer may end the fit.
    pub fn progress(mut self, callback: impl FnMut(&Progress) -> Signal + Send + 'a) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// Sets a flag that ends the fit when it becomes true, as `signal` says: [`Signal::Cancel`] or [`Signal::Finish`]. A
    /// progress callback that ends the fit sets the flag, too.
    pub fn stop(mut self, flag: &'a AtomicBool, signal: Signal) -> Self {
        self.stop = Some((flag, signal));
        self
    }

    /// Sets a callback that receives checkpoints for [`Self::resume`]: every 20 seconds, and before a cancelled fit ends.
    /// Other versions of this crate cannot read them.
    pub fn checkpoint(mut self, save: impl FnMut(&[u8]) + Send + 'a) -> Self {
        self.checkpoint = Some(Box::new(save));
        self
    }

    /// Continues from a checkpoint of the same pictures and options. Time limit, threads and memory may differ.
    pub fn resume(mut self, checkpoint: Vec<u8>) -> Self {
        self.resume = Some(checkpoint);
        self
    }

    /// Fits a model to `picture`.
    ///
    /// # Errors
    /// [`Class::Argument`] for invalid options or pictures, [`Class::MemoryLimit`] if the fit needs more memory than allowed,
    /// [`Class::Target`] if the target cannot be reached or the time limit is too short for any result, [`Class::Cancelled`]
    /// if the callback or the flag cancels the fit.
    pub fn encode(self, picture: &Picture) -> Result<Encoded> {
        self.encode_group(std::slice::from_ref(picture))
    }

    /// Fits one model to all `pictures` and writes them to one file. All must be grey or all RGB; their sizes may differ.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_group(self, pictures: &[Picture]) -> Result<Encoded> {
        let started = Instant::now();
        let (plan, mut options, checkpoint) = self.prepare(pictures)?;
        let Encoder { family, automatic, alpha_quality, time_limit, threads, verify, metadata, .. } = self;
        let family = family?;
        let metadata = metadata::write(&metadata)?;
        let key = match &checkpoint {
            Some(checkpoint) => checkpoint.key,
            None => checkpoint::key(family.name, &options, pictures),
        };
        options.effort = plan.effort;
        let peak = f64::from(pictures[0].format.peak());
        let alpha = match alpha_quality {
            Some(quality) => Alpha::Apart(((100.0 - quality) / 400.0 * peak).round() as u16),
            None => Alpha::Automatic,
        };
        let prepared = match options.target {
            Target::MaxError(_) => Prepared::unfitted(pictures),
            _ => Prepared::new(pictures, alpha, options.domain),
        };
        let never = AtomicBool::new(false);
        let (stop, on_stop) = self.stop.unwrap_or((&never, Signal::Cancel));
        let mut progress = self.progress.unwrap_or_else(|| Box::new(|_| Signal::GoOn));
        let mut save = self.checkpoint;
        let monitor = Monitor {
            progress: &mut *progress,
            checkpoint: match &mut save {
                Some(save) => Some(&mut **save),
                None => None,
            },
            stop,
            on_stop,
            deadline: time_limit.map(|limit| started + limit),
        };
        let work = || {
            let outcome = select::encode(family, automatic, &prepared, &options, &metadata, checkpoint, key, monitor)?;
            if verify {
                let decoder = Decoder::new(&outcome.file.bytes, Limits::NONE);
                decoder
                    .and_then(|d| d.verify())
                    .map_err(|e| e.at("internal error: the encoded file does not decode"))?;
            }
            Ok(outcome)
        };
        let outcome = match threads {
            None => work(),
            Some(n) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
                pool.map_err(|e| Error::of_argument("threads", format!("cannot start {n} threads: {e}")))?.install(work)
            }
        };
        let Outcome { file, quality, in_domain, lambda, steps, planned } = outcome?;
        let domain = file.curve.map(|curve| OnCurve {
            knots: curve.knots().to_vec(),
            step: curve.step(),
            psnr: in_domain.psnr(),
            ms_ssim: in_domain.ms_ssim,
        });
        let report = Report {
            model: file.model,
            effort: options.effort,
            lambda,
            steps,
            planned_steps: planned,
            header_bytes: file.header_bytes,
            weights_bytes: file.weights_bytes,
            codes_bytes: file.codes_bytes,
            metadata_bytes: file.metadata_bytes,
            psnr: quality.psnr(),
            ms_ssim: quality.ms_ssim,
            ssimulacra2: quality.ssimulacra2,
            tune: options.tune,
            domain,
            time: started.elapsed(),
        };
        Ok(Encoded { bytes: file.bytes, report })
    }

    /// Checks options and pictures, and estimates the cost of encoding them.
    ///
    /// # Errors
    /// Those of [`Self::encode`] that are known before the fit.
    pub fn plan(&self, pictures: &[Picture]) -> Result<Plan> {
        self.prepare(pictures).map(|(plan, ..)| plan)
    }

    /// The plan, the options with the effort that was asked for, and the checkpoint to continue from.
    fn prepare(&self, pictures: &[Picture]) -> Result<(Plan, Options, Option<Checkpoint>)> {
        self.check()?;
        let family = self.family.clone()?;
        check_pictures(pictures, self.options.target)?;
        let work = Work {
            pixels: pictures.iter().map(Picture::pixels).sum(),
            rows: fit::narrow::rows(pictures),
            channels: pictures[0].format.channels,
            threads: self.threads.unwrap_or_else(rayon::current_num_threads),
        };
        let options = self.resolved(pictures)?;
        // A resumed fit keeps its effort, whatever the time limit.
        let checkpoint = self.read_checkpoint(family, &options, pictures)?;
        let effort = match &checkpoint {
            Some(checkpoint) => checkpoint.effort,
            None => work.affordable(family, &options, self.time_limit)?,
        };
        let planned = Options { effort, ..options.clone() };
        work.check_memory(family, &planned, self.max_memory)?;
        let (time, memory) = work.estimate(family, &planned, self.time_limit);
        Ok((Plan { model: family.name, effort, tune: options.tune, time, memory }, options, checkpoint))
    }

    /// The options with what these pictures and the family make of them.
    fn resolved(&self, pictures: &[Picture]) -> Result<Options> {
        let (family, target, format) = (self.family.clone()?, self.options.target, pictures[0].format);
        let fits = |tune: &Tune| {
            let pixels = pictures.iter().map(Picture::pixels).sum();
            let options = Options { tune: *tune, ..self.options.clone() };
            (family.cost)(&options, pixels, format.channels).memory <= self.max_memory
        };
        let tune = match (self.tune, self.options.domain) {
            (Some(tune), _) => tune,
            // Large pictures get the distortion that takes less memory.
            (None, Domain::Linear) => {
                Some(Tune::default_for(family.tunes, target, format)).filter(fits).unwrap_or(Tune::Psnr)
            }
            // Measurements, not pictures to look at.
            (None, _) => Tune::Psnr,
        };
        let target = match target {
            // Of a picture to look at: every sample.
            Target::Quality(100.0) if tune == Tune::Visual => Target::MaxError(0),
            target => target,
        };
        Ok(Options { tune, target, ..self.options.clone() })
    }

    fn read_checkpoint(&self, family: &Family, options: &Options, pictures: &[Picture]) -> Result<Option<Checkpoint>> {
        let Some(bytes) = &self.resume else { return Ok(None) };
        let checkpoint = Checkpoint::read(bytes)?;
        checkpoint.check(checkpoint::key(family.name, options, pictures))?;
        Ok(Some(checkpoint))
    }

    /// Checks the options without any pictures; [`Self::encode`] does the same first.
    ///
    /// # Errors
    /// [`Class::Argument`] for an option that is out of range or that the family does not have.
    pub fn check(&self) -> Result<()> {
        let (family, o) = (self.family.clone()?, &self.options);
        let refuse = |name, what: String| Err(Error::of_argument(name, what));
        let (what, value, range) = match o.target {
            Target::Quality(q) => ("a quality", q, 0.0..=100.0),
            Target::Lambda(l) => ("a lambda", l, 1e-9..=1e6),
            Target::Psnr(db) => ("a PSNR", db, 1.0..=100.0),
            Target::MsSsim(v) => ("an MS-SSIM", v, 0.01..=1.0),
            Target::Ssimulacra2(v) => ("a score", v, 0.0..=100.0),
            Target::Bpp(bpp) => ("a number of bits per pixel", bpp, 1e-6..=64.0),
            Target::Size(0) => return refuse("target", "expected at least 1 byte".into()),
            Target::Size(bytes) => ("a size", bytes as f64, 1.0..=u64::MAX as f64),
            Target::MaxError(n) => ("an error", n.into(), 0.0..=65535.0),
        };
        if !range.contains(&value) {
            let what = format!("expected {what} from {} to {}, not {value}", range.start(), range.end());
            return refuse("target", what);
        }
        if matches!((o.target, o.domain), (Target::MaxError(_), Domain::Asinh)) {
            return refuse("domain", "asinh is for fits: lossless and nearly lossless files are always linear".into());
        }
        if let Some(quality) = self.alpha_quality.filter(|q| !(0.0..=100.0).contains(q)) {
            return refuse("alpha_quality", format!("expected 0 to 100, not {quality}"));
        }
        if matches!(self.stop, Some((_, Signal::GoOn))) {
            return refuse("stop", "expected a signal that ends the fit".into());
        }
        if !EFFORTS.contains(&o.effort) {
            let what = format!("{}: expected {} to {}", o.effort, EFFORTS.start(), EFFORTS.end());
            return refuse("effort", what);
        }
        if o.tile.is_some_and(|t| t != 0 && !(t.is_power_of_two() && TILES.contains(&t))) {
            let what = format!("expected 0 or a power of two from {} to {}", TILES.start(), TILES.end());
            return refuse("tile", what);
        }
        if let Some(tune) = self.tune.filter(|tune| !family.tunes.contains(tune)) {
            let names = family.tunes.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
            return refuse("tune", format!("{}: the family {} has only {names}", tune.name(), family.name));
        }
        match (o.channels, &family.channels) {
            (Some(_), None) => {
                let names = fit::FAMILIES.iter().filter(|f| f.channels.is_some()).map(|f| f.name);
                let names = names.collect::<Vec<_>>().join(", ");
                return refuse("channels", format!("{} does not have this option, only {names}", family.name));
            }
            (Some(n), Some(range)) if !range.contains(&n) => {
                return refuse("channels", format!("{n}: expected {} to {}", range.start(), range.end()));
            }
            _ => {}
        }
        if self.threads == Some(0) {
            return refuse("threads", "expected at least 1".into());
        }
        Ok(())
    }
}

/// Checks that `pictures` are valid, can share a model, and are large enough for the target.
fn check_pictures(pictures: &[Picture], target: Target) -> Result<()> {
    let refuse = |what: String| Err(Error::of_argument("pictures", what));
    let Some(first) = pictures.first() else { return refuse("expected at least one picture".into()) };
    for p in pictures {
        if p.width == 0 || p.height == 0 {
            return refuse(format!("a picture of {}x{} has no pixels", p.width, p.height));
        }
        p.format.check().map_err(|e| Error::of_argument("pictures", e.message()))?;
        let samples = p.width.checked_mul(p.height).and_then(|n| n.checked_mul(p.format.channels));
        if samples != Some(p.samples.len()) {
            let what = format!(
                "{} samples for {}x{} pixels of {} channels",
                p.samples.len(),
                p.width,
                p.height,
                p.format.channels
            );
            return refuse(what);
        }
        if p.samples.iter().any(|s| *s > p.format.peak()) {
            return refuse(format!("a sample over {}, the largest of {} bits", p.format.peak(), p.format.depth));
        }
        if p.format != first.format {
            let (a, b) = (first.format.name(), p.format.name());
            return refuse(format!("{a} and {b} pictures cannot share a model: expected all of one kind and depth"));
        }
        if matches!(target, Target::MsSsim(_)) && p.width.min(p.height) < metrics::MS_SSIM_LEAST_SIDE {
            let least = metrics::MS_SSIM_LEAST_SIDE;
            let what = format!("MS-SSIM needs sides of at least {least} pixels, {}x{} has less", p.width, p.height);
            return Err(Error::of_argument("target", what));
        }
        if matches!(target, Target::Ssimulacra2(_)) {
            let least = metrics::ssimulacra2::LEAST_SIDE;
            if !matches!(p.format.colours(), 1 | 3) || p.width.min(p.height) < least {
                let (kind, w, h) = (p.format.name(), p.width, p.height);
                let what =
                    format!("SSIMULACRA2 needs grey or RGB of at least {least}x{least} pixels, not {kind} of {w}x{h}");
                return Err(Error::of_argument("target", what));
            }
        }
    }
    Ok(())
}

impl std::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let name = self.family.as_ref().map_or("?", |family| family.name);
        f.debug_struct("Encoder").field("model", &name).field("options", &self.options).finish_non_exhaustive()
    }
}
