//! The front door of the encoder: options in, a file and a report out.

use crate::container::metadata::{self, Item};
use crate::decoder::Decoder;
#[cfg(doc)]
use crate::error::Class;
use crate::error::{Error, Result};
use crate::fit::checkpoint::{self, Checkpoint};
use crate::fit::driver::{self, Monitor, Outcome};
pub use crate::fit::driver::{Progress, Signal};
use crate::fit::estimate::Work;
use crate::fit::options::EFFORTS;
use crate::fit::{self, Family, Options};
pub use crate::fit::{Target, Tune, WeightCoding};
use crate::image::Picture;
use crate::limits::Limits;
use crate::metrics;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Sides of a tile that a file may have, besides 0.
const TILES: RangeInclusive<usize> = 64..=32768;

/// Memory that a fit may use unless it is told otherwise.
const MAX_MEMORY: u64 = 4 << 30;

type OnProgress<'a> = Box<dyn FnMut(&Progress) -> Signal + Send + 'a>;
type OnCheckpoint<'a> = Box<dyn FnMut(&[u8]) + Send + 'a>;

/// Fits a model to pictures and makes a file of it.
///
/// Options are given one after another; each is checked before the work starts, and obeyed or refused.
///
/// ```
/// use tilefit::{Encoder, Decoder, Limits, Picture, Target};
/// # fn main() -> tilefit::Result<()> {
/// let (width, height) = (32, 24);
/// let samples = (0..width * height).map(|i| (4 * (i % width) + 3 * (i / width)) as u8).collect();
/// let picture = Picture { width, height, channels: 1, samples };
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
/// A callback sees each step, and may end the fit; with [`Signal::Finish`] it gives the best file so far:
///
/// ```
/// # use tilefit::{Encoder, Picture, Signal};
/// # fn main() -> tilefit::Result<()> {
/// # let picture = Picture { width: 16, height: 16, channels: 1, samples: (0..=255).collect() };
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
    options: Options,
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

/// A file and what is to be said of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encoded {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// How it came to be.
    pub report: Report,
}

/// How a file came to be, where its bytes went, and how near it is to the pictures.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The model's family.
    pub model: &'static str,
    /// The effort that was made: a time limit may have lowered it.
    pub effort: u32,
    /// The weight of bits that the fit ended with.
    pub lambda: f64,
    /// Steps made.
    pub steps: u64,
    /// Steps that the effort has without touch-ups. Fewer were made if time ran out.
    pub planned_steps: u64,
    /// Bytes of header and index.
    pub header_bytes: usize,
    /// Bytes of the model's weights.
    pub weights_bytes: usize,
    /// Bytes of the pictures' codes.
    pub codes_bytes: usize,
    /// Bytes of the metadata.
    pub metadata_bytes: usize,
    /// PSNR in dB of what the file decodes to, over all samples of all pictures; infinite for equal pictures.
    pub psnr: f64,
    /// MS-SSIM, the mean over the pictures; `None` if a picture has a side below 11 pixels.
    pub ms_ssim: Option<f64>,
    /// From the call to the file.
    pub time: Duration,
}

/// What an encoder is going to do, as far as it can be said before.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The model's family.
    pub model: &'static str,
    /// The effort: a time limit may have lowered it.
    pub effort: u32,
    /// About how long it takes.
    pub time: Duration,
    /// Bytes of memory at most.
    pub memory: u64,
}

impl Default for Encoder<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Encoder<'a> {
    /// Quality 75 at effort 5 with the family that makes the smallest files.
    pub fn new() -> Self {
        Encoder {
            family: Ok(&fit::FAMILIES[0]),
            options: Options::default(),
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

    /// The names that [`Self::model`] knows.
    pub fn models() -> &'static [&'static str] {
        &fit::NAMES
    }

    /// The family of models, one of [`Self::models`].
    pub fn model(mut self, name: &str) -> Self {
        let unknown = || Error::of_argument("model", format!("{name}: one of {} is expected", fit::NAMES.join(", ")));
        self.family = fit::family(name).ok_or_else(unknown);
        self
    }

    /// What the file is asked to be. The default is a quality of 75.
    pub fn target(mut self, target: Target) -> Self {
        self.options.target = target;
        self
    }

    /// The distortion that is minimised. The default is the mean squared error.
    pub fn tune(mut self, tune: Tune) -> Self {
        self.options.tune = tune;
        self
    }

    /// From 1 (fast) to 9 (small). The default is 5.
    pub fn effort(mut self, effort: u32) -> Self {
        self.options.effort = effort;
        self
    }

    /// The best file that so much time allows. It lowers an effort that takes far longer.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Threads to work with. The default are those of the present `rayon` pool. The file does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Bytes of memory that the fit may use; one that needs more is refused before it starts. The default is 4 GiB.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = bytes;
        self
    }

    /// Of the random numbers. Same pictures, options and seed make the same file on one instruction set, if there is no time
    /// limit. The default is 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// Side of a tile in pixels: a power of two from 64 to 32768, or 0 for one tile a picture. The default depends on the
    /// family and the pictures' size.
    pub fn tile(mut self, side: usize) -> Self {
        self.options.tile = Some(side);
        self
    }

    /// How weights are stored. The default is coded.
    pub fn weights(mut self, coding: WeightCoding) -> Self {
        self.options.weights = coding;
        self
    }

    /// Channels of the latent field, for the families that have a choice. The default depends on pictures and target.
    pub fn channels(mut self, channels: usize) -> Self {
        self.options.channels = Some(channels);
        self
    }

    /// Metadata that the file keeps.
    pub fn metadata(mut self, items: Vec<Item>) -> Self {
        self.metadata = items;
        self
    }

    /// Whether the file is decoded once more and compared with its checksums before it is handed out. It is, by default.
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// Called after every step, by a thread of the pool; what it answers may end the fit.
    pub fn progress(mut self, callback: impl FnMut(&Progress) -> Signal + Send + 'a) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// When `flag` becomes true, the fit does what `signal` says: [`Signal::Cancel`] or [`Signal::Finish`].
    pub fn stop(mut self, flag: &'a AtomicBool, signal: Signal) -> Self {
        self.stop = Some((flag, signal));
        self
    }

    /// Takes what [`Self::resume`] goes on from: every 20 seconds, and before a cancelled fit ends. The bytes are of no use
    /// to other versions of this crate.
    pub fn checkpoint(mut self, save: impl FnMut(&[u8]) + Send + 'a) -> Self {
        self.checkpoint = Some(Box::new(save));
        self
    }

    /// Goes on from a checkpoint of the same pictures and options. Time limit, threads and memory may be others.
    pub fn resume(mut self, checkpoint: Vec<u8>) -> Self {
        self.resume = Some(checkpoint);
        self
    }

    /// Fits a model to `picture`.
    ///
    /// # Errors
    /// [`Class::Argument`] for options and pictures that make no sense, [`Class::MemoryLimit`], [`Class::Target`] if the file
    /// would miss its target, or has no result within the time limit; [`Class::Cancelled`].
    pub fn encode(self, picture: &Picture) -> Result<Encoded> {
        self.encode_group(std::slice::from_ref(picture))
    }

    /// Fits one model to all `pictures`, which share it in one file. All are grey or all are RGB; sizes may differ.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_group(self, pictures: &[Picture]) -> Result<Encoded> {
        let started = Instant::now();
        let plan = self.plan(pictures)?;
        let checkpoint = self.read_checkpoint(pictures)?;
        let Encoder { family, mut options, time_limit, threads, verify, metadata, .. } = self;
        let family = family?;
        let metadata = metadata::write(&metadata)?;
        let key = checkpoint::key(family.name, &options, pictures);
        options.effort = plan.effort;
        let never = AtomicBool::new(false);
        let (stop, on_stop) = self.stop.unwrap_or((&never, Signal::Cancel));
        let mut progress = self.progress.unwrap_or_else(|| Box::new(|_| Signal::GoOn));
        let mut save = self.checkpoint.unwrap_or_else(|| Box::new(|_| ()));
        let monitor = Monitor {
            progress: &mut *progress,
            checkpoint: &mut *save,
            stop,
            on_stop,
            deadline: time_limit.map(|limit| started + limit),
        };
        let work = || {
            let outcome = driver::fit(family, pictures, &options, &metadata, checkpoint, key, monitor)?;
            if verify {
                let decoder = Decoder::new(&outcome.file.bytes, Limits::NONE);
                decoder.and_then(|d| d.verify()).map_err(|e| e.at("the file made does not decode, which is a bug"))?;
            }
            Ok(outcome)
        };
        let outcome = match threads {
            None => work(),
            Some(n) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
                pool.map_err(|e| Error::of_argument("threads", format!("{n} cannot be had: {e}")))?.install(work)
            }
        };
        let Outcome { file, quality, lambda, steps, planned } = outcome?;
        let report = Report {
            model: family.name,
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
            time: started.elapsed(),
        };
        Ok(Encoded { bytes: file.bytes, report })
    }

    /// Checks options and pictures, and says what encoding them will take.
    ///
    /// # Errors
    /// As [`Self::encode`], but for what only the fit can tell.
    pub fn plan(&self, pictures: &[Picture]) -> Result<Plan> {
        self.check()?;
        let family = self.family.clone()?;
        check_pictures(pictures, self.options.target)?;
        let work = Work {
            pixels: pictures.iter().map(Picture::pixels).sum(),
            channels: pictures[0].channels,
            threads: self.threads.unwrap_or_else(rayon::current_num_threads),
        };
        // A fit that is under way keeps its effort, whatever time is left for it.
        let effort = match self.read_checkpoint(pictures)? {
            Some(checkpoint) => checkpoint.effort,
            None => work.affordable(family, &self.options, self.time_limit)?,
        };
        let options = Options { effort, ..self.options.clone() };
        work.check_memory(family, &options, self.max_memory)?;
        let (time, memory) = work.estimate(family, &options, self.time_limit);
        Ok(Plan { model: family.name, effort, time, memory })
    }

    fn read_checkpoint(&self, pictures: &[Picture]) -> Result<Option<Checkpoint>> {
        let Some(bytes) = &self.resume else { return Ok(None) };
        let checkpoint = Checkpoint::read(bytes)?;
        checkpoint.check(checkpoint::key(self.family.clone()?.name, &self.options, pictures))?;
        Ok(Some(checkpoint))
    }

    /// Refuses options that make no sense, or that the family does not have: what [`Self::encode`] does first.
    ///
    /// # Errors
    /// [`Class::Argument`].
    pub fn check(&self) -> Result<()> {
        let (family, o) = (self.family.clone()?, &self.options);
        let refuse = |name, what: String| Err(Error::of_argument(name, what));
        let (what, value, range) = match o.target {
            Target::Quality(q) => ("a quality", q, 0.0..=100.0),
            Target::Lambda(l) => ("a lambda", l, 1e-9..=1e6),
            Target::Psnr(db) => ("a PSNR", db, 1.0..=100.0),
            Target::MsSsim(v) => ("an MS-SSIM", v, 0.01..=1.0),
            Target::Bpp(bpp) => ("a number of bits a pixel", bpp, 1e-6..=64.0),
            Target::Size(0) => return refuse("target", "at least 1 byte is expected".into()),
            Target::Size(bytes) => ("a size", bytes as f64, 1.0..=u64::MAX as f64),
        };
        if !range.contains(&value) {
            let what = format!("{what} from {} to {} is expected, not {value}", range.start(), range.end());
            return refuse("target", what);
        }
        if !EFFORTS.contains(&o.effort) {
            let what = format!("{}: from {} to {} is expected", o.effort, EFFORTS.start(), EFFORTS.end());
            return refuse("effort", what);
        }
        if o.tile.is_some_and(|t| t != 0 && !(t.is_power_of_two() && TILES.contains(&t))) {
            let what = format!("0 or a power of two from {} to {} is expected", TILES.start(), TILES.end());
            return refuse("tile", what);
        }
        if !family.tunes.contains(&o.tune) {
            let names = family.tunes.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
            return refuse("tune", format!("{}: {} has {names}", o.tune.name(), family.name));
        }
        match (o.channels, &family.channels) {
            (Some(_), None) => {
                let having = fit::FAMILIES.iter().filter(|f| f.channels.is_some()).map(|f| f.name);
                let having = having.collect::<Vec<_>>().join(", ");
                return refuse("channels", format!("{} has no such option, but {having}", family.name));
            }
            (Some(n), Some(range)) if !range.contains(&n) => {
                return refuse("channels", format!("{n}: from {} to {} is expected", range.start(), range.end()));
            }
            _ => {}
        }
        if self.threads == Some(0) {
            return refuse("threads", "at least 1 is expected".into());
        }
        Ok(())
    }
}

/// Refuses pictures that cannot be encoded together.
fn check_pictures(pictures: &[Picture], target: Target) -> Result<()> {
    let refuse = |what: String| Err(Error::of_argument("pictures", what));
    let Some(first) = pictures.first() else { return refuse("there is none".into()) };
    for p in pictures {
        if p.width == 0 || p.height == 0 {
            return refuse(format!("{}x{} has no pixels", p.width, p.height));
        }
        if !matches!(p.channels, 1 | 3) {
            return refuse(format!("{} samples a pixel: 1 (grey) or 3 (RGB) is expected", p.channels));
        }
        let samples = p.width.checked_mul(p.height).and_then(|n| n.checked_mul(p.channels));
        if samples != Some(p.samples.len()) {
            let what = format!("{} samples for {}x{} of {}", p.samples.len(), p.width, p.height, p.channels);
            return refuse(what);
        }
        if p.channels != first.channels {
            return refuse("all grey or all RGB is expected: grey and colour cannot share a model".into());
        }
        if matches!(target, Target::MsSsim(_)) && p.width.min(p.height) < metrics::MS_SSIM_LEAST_SIDE {
            let least = metrics::MS_SSIM_LEAST_SIDE;
            let what = format!("MS-SSIM needs sides of at least {least} pixels, {}x{} has less", p.width, p.height);
            return Err(Error::of_argument("target", what));
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
