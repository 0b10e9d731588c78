//! Encoding: the fit runs on threads of its own, while the caller's thread looks after signals and progress.

use crate::error::exception;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use tilefit::metadata::Item;
use tilefit::{Encoder, Error, Picture, PixelFormat, Progress, Signal, Target, Tune};

/// Time between two looks at signals and progress: twenty calls of the callback a second are enough for any display.
const TICK: Duration = Duration::from_millis(50);

/// An array and what it holds.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Array<'py> {
    samples: Bound<'py, PyAny>,
    width: usize,
    height: usize,
    channels: usize,
    depth: u32,
    alpha: bool,
}

/// The options of an encoder; those that are `None` keep their defaults.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// Name and value.
    target: Option<(String, f64)>,
    model: Option<String>,
    effort: Option<u32>,
    tune: Option<String>,
    alpha_quality: Option<f64>,
    time_limit: Option<f64>,
    max_memory: Option<u64>,
    seed: Option<u64>,
    tile: Option<usize>,
    channels: Option<usize>,
    threads: Option<usize>,
}

/// Encodes arrays to one file. `metadata` has picture, kind and data. `progress` is called with step, steps, lambda, PSNR and
/// bytes; if it returns `False`, the fit ends with the best file so far.
#[pyfunction]
pub fn encode<'py>(
    py: Python<'py>,
    arrays: Vec<Array<'py>>,
    options: Options,
    metadata: Vec<(usize, u8, Vec<u8>)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let pictures = arrays.into_iter().map(|a| picture(py, a)).collect::<PyResult<Vec<_>>>()?;
    let items = metadata.into_iter().map(|(picture, kind, data)| Item { picture, kind, data }).collect();
    let pool = crate::pool(options.threads).map_err(|e| exception(py, &e))?;
    let encoder = encoder(&options).map_err(|e| exception(py, &e))?.metadata(items);
    let latest = Mutex::new(None);
    let (cancel, finish) = (AtomicBool::new(false), AtomicBool::new(false));
    let encoder = encoder.stop(&cancel, Signal::Cancel).progress(|p| {
        *latest.lock().unwrap_or_else(|e| e.into_inner()) = Some(*p);
        if finish.load(Ordering::Relaxed) {
            Signal::Finish
        } else {
            Signal::GoOn
        }
    });
    let (result, raised) = py.detach(|| {
        let caller = thread::current();
        thread::scope(|scope| {
            let fit = scope.spawn(|| {
                let result = pool.install(|| encoder.encode_group(&pictures));
                caller.unpark();
                result
            });
            let mut raised = None;
            while !fit.is_finished() {
                thread::park_timeout(TICK);
                if raised.is_none() {
                    raised = Python::attach(|py| look(py, &latest, progress.as_ref(), &finish)).err();
                    cancel.store(raised.is_some(), Ordering::Relaxed);
                }
            }
            (fit.join(), raised)
        })
    });
    if let Some(e) = raised {
        return Err(e);
    }
    // A panic of the fit becomes an exception of this call.
    let encoded = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(PyBytes::new(py, &encoded.map_err(|e| exception(py, &e))?.bytes))
}

/// Raises the exception of a signal (Ctrl-C), and tells `callback` about the latest step.
fn look(
    py: Python<'_>,
    latest: &Mutex<Option<Progress>>,
    callback: Option<&Py<PyAny>>,
    finish: &AtomicBool,
) -> PyResult<()> {
    py.check_signals()?;
    let Some(p) = latest.lock().unwrap_or_else(|e| e.into_inner()).take() else { return Ok(()) };
    let Some(callback) = callback else { return Ok(()) };
    let answer = callback.bind(py).call1((p.step, p.steps, p.lambda, p.psnr, p.bytes))?;
    if answer.is(pyo3::types::PyBool::new(py, false)) {
        finish.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn picture(py: Python<'_>, a: Array<'_>) -> PyResult<Picture> {
    let samples = match a.depth {
        8 => PyBuffer::<u8>::get(&a.samples)?.to_vec(py)?.into_iter().map(u16::from).collect(),
        _ => PyBuffer::<u16>::get(&a.samples)?.to_vec(py)?,
    };
    let format = PixelFormat { channels: a.channels, depth: a.depth, alpha: a.alpha };
    Ok(Picture { width: a.width, height: a.height, format, samples })
}

fn encoder<'a>(o: &Options) -> tilefit::Result<Encoder<'a>> {
    let mut encoder = Encoder::new();
    if let Some((name, value)) = &o.target {
        encoder = encoder.target(target(name, *value)?);
    }
    if let Some(name) = &o.model {
        encoder = encoder.model(name);
    }
    if let Some(effort) = o.effort {
        encoder = encoder.effort(effort);
    }
    if let Some(name) = &o.tune {
        encoder = encoder.tune(tune(name)?);
    }
    if let Some(quality) = o.alpha_quality {
        encoder = encoder.alpha_quality(quality);
    }
    if let Some(seconds) = o.time_limit {
        let limit = Duration::try_from_secs_f64(seconds);
        encoder = encoder.time_limit(limit.map_err(|e| Error::of_argument("time_limit", e.to_string()))?);
    }
    if let Some(bytes) = o.max_memory {
        encoder = encoder.max_memory(bytes);
    }
    if let Some(seed) = o.seed {
        encoder = encoder.seed(seed);
    }
    if let Some(side) = o.tile {
        encoder = encoder.tile(side);
    }
    if let Some(channels) = o.channels {
        encoder = encoder.channels(channels);
    }
    encoder.check()?;
    Ok(encoder)
}

/// The target that the keyword `name` sets.
fn target(name: &str, value: f64) -> tilefit::Result<Target> {
    Ok(match name {
        "quality" => Target::Quality(value),
        "lambda_" => Target::Lambda(value),
        "target_psnr" => Target::Psnr(value),
        "target_ssimulacra2" => Target::Ssimulacra2(value),
        "target_msssim" => Target::MsSsim(value),
        "target_bpp" => Target::Bpp(value),
        // Negative and fractional numbers are refused in Python.
        "target_size" => Target::Size(value as u64),
        "max_error" => Target::MaxError(value as u16),
        _ => return Err(Error::of_argument("target", format!("there is no target {name}"))),
    })
}

fn tune(name: &str) -> tilefit::Result<Tune> {
    let all = [Tune::Psnr, Tune::Ssim, Tune::MsSsim, Tune::Visual];
    all.into_iter().find(|t| t.name() == name).ok_or_else(|| {
        let names = all.map(Tune::name).join(", ");
        Error::of_argument("tune", format!("{name}: expected one of {names}"))
    })
}
