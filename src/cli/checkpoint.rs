//! The checkpoint file of a fit: it is named after the output file, with `.checkpoint` appended.

use super::args::usage;
use super::failure::Result;
use super::files;
use super::output::{Output, Writer};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The path of the checkpoint; `None` if the output is stdout.
pub fn path(output: &Output) -> Option<PathBuf> {
    match output {
        Output::Stdout => None,
        Output::File(path) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".checkpoint");
            Some(name.into())
        }
    }
}

/// Writes the checkpoint file at `path`, replacing an older one.
pub fn write(path: &Path, checkpoint: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| files::cannot_write(&e).at(path.display());
    let mut file = Writer::create(path)?;
    file.write_all(checkpoint).map_err(failed)?;
    file.commit(None)
}

/// Reads the checkpoint file at `path`. `None`, for an output on stdout, is a usage error.
pub fn read(path: Option<&Path>) -> Result<Vec<u8>> {
    let path = path.ok_or_else(|| usage("--resume needs an output file: the checkpoint is stored next to it"))?;
    files::read_bytes(path).map_err(|e| e.at(format!("--resume: {}", path.display())))
}
