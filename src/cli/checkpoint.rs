//! What `--resume` continues from: the fit's state beside the output, bound to its picture and options.

use super::args::usage;
use super::output::{Output, Writer};
use super::png_io;
use crate::error::Result;
use crate::fit::FitOptions;
use crate::image::Picture;
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"TFITCKP1";

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

/// FNV-1a over all that the fit depends on; not over its time limit and threads, which may change.
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

pub fn write(place: &Path, key: u64, state: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| png_io::cannot_write(&e).at(place.display());
    let mut file = Writer::create(place)?;
    for part in [&MAGIC[..], &key.to_le_bytes(), state] {
        file.write_all(part).map_err(failed)?;
    }
    file.commit()
}

pub fn read(place: &Path, key: u64) -> Result<Vec<u8>> {
    let mut data = png_io::read_bytes(place).map_err(|e| e.at(format!("--resume: {}", place.display())))?;
    if data.len() < 16 || &data[..8] != MAGIC {
        return Err(usage("not a checkpoint of this program: run without --resume").at(place.display()));
    }
    if data[8..16] != key.to_le_bytes() {
        return Err(usage(
            "the checkpoint is of another picture or of other options: repeat those, or run without --resume",
        )
        .at(place.display()));
    }
    data.drain(..16);
    Ok(data)
}
