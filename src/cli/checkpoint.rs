//! Where the checkpoint of a fit lies: beside the output.

use super::args::usage;
use super::failure::Result;
use super::output::{Output, Writer};
use super::png_io;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Stdout has no place beside it.
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

/// Replaces the checkpoint at `place`.
pub fn write(place: &Path, checkpoint: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| png_io::cannot_write(&e).at(place.display());
    let mut file = Writer::create(place)?;
    file.write_all(checkpoint).map_err(failed)?;
    file.commit()
}

/// The checkpoint at `place`.
pub fn read(place: Option<&Path>) -> Result<Vec<u8>> {
    let place = place.ok_or_else(|| usage("--resume needs an output file: its checkpoint lies beside it"))?;
    png_io::read_bytes(place).map_err(|e| e.at(format!("--resume: {}", place.display())))
}
