//! What `--resume` continues from: the fit's state beside the output, bound to its picture and options.

use super::args::usage;
use super::output::{Output, Writer};
use super::png_io;
use crate::error::Result;
use crate::fit::FitOptions;
use crate::image::Picture;
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"TFITCKP2";

/// Magic, key, effort.
const HEAD: usize = 17;

/// Beside the output; stdout has no such place.
pub fn place(output: &Output) -> Option<PathBuf> {
    match output {
        Output::Stdout => None,
        Output::File(path) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".checkpoint");
            Some(name.into())
        }
    }
}

/// FNV-1a over all that the fit depends on as it was asked for; not over its time limit and threads, which may change.
pub fn key(model: &str, o: &FitOptions, pictures: &[Picture]) -> u64 {
    let options = format!(
        "{} {model} {:?} {:?} {} {} {:?} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        o.target,
        o.tune,
        o.effort,
        o.seed,
        o.tile,
        o.weights,
        o.channels
    );
    let sizes = pictures.iter().flat_map(|p| [p.width, p.height, p.channels]).flat_map(|n| (n as u64).to_le_bytes());
    let samples = pictures.iter().flat_map(|p| p.samples.iter().copied());
    let all = options.bytes().chain(sizes).chain(samples);
    all.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3))
}

/// `effort` is the one that the fit is made with: a time limit may have left less than was asked for.
pub fn write(place: &Path, key: u64, effort: u32, state: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| png_io::cannot_write(&e).at(place.display());
    let mut file = Writer::create(place)?;
    for part in [&MAGIC[..], &key.to_le_bytes(), &[effort as u8], state] {
        file.write_all(part).map_err(failed)?;
    }
    file.commit()
}

/// The effort of the fit, and its state.
pub fn read(place: &Path, key: u64) -> Result<(u32, Vec<u8>)> {
    let mut data = png_io::read_bytes(place).map_err(|e| e.at(format!("--resume: {}", place.display())))?;
    let effort = data.get(16).map_or(0, |e| u32::from(*e));
    if data.len() < HEAD || &data[..8] != MAGIC || !(1..=9).contains(&effort) {
        return Err(usage("not a checkpoint of this program: run without --resume").at(place.display()));
    }
    if data[8..16] != key.to_le_bytes() {
        return Err(usage(
            "the checkpoint is of another picture or of other options: repeat those, or run without --resume",
        )
        .at(place.display()));
    }
    data.drain(..HEAD);
    Ok((effort, data))
}
