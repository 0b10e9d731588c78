//! Reads the files of the command line, and gives the failures of [`crate::pictures`] their exit codes.

use super::failure::{Code, Failure, Result};
use super::report;
use crate::error::{Class, Error};
use crate::pictures::{self, ReadOptions, Source};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a picture; `-` is stdin.
pub fn read_picture(path: &Path, options: &ReadOptions) -> Result<Source> {
    let read = || parse_picture(&read_bytes(path)?, options);
    read().map_err(|e| e.at(path.display()))
}

/// Reads a picture from the bytes of its file.
pub fn parse_picture(data: &[u8], options: &ReadOptions) -> Result<Source> {
    pictures::read(data, options).map_err(unreadable)
}

/// An input that is no picture is exit code 1, unlike a damaged `.tfit` file.
fn unreadable(e: Error) -> Failure {
    match e.class() {
        Class::PixelLimit => Failure::new(Code::Damaged, format!("{}: raise it with --max-pixels", e.message())),
        Class::MemoryLimit => Failure::new(Code::Damaged, e.message()),
        Class::Argument => Failure::new(Code::Usage, e.message()),
        _ => bad(e.message()),
    }
}

/// Prints what of a file could not be kept.
pub fn print_warnings(quiet: bool, name: &str, warnings: &[String]) {
    for warning in warnings.iter().filter(|_| !quiet) {
        report::print_stderr(&format!("{name}: warning: {warning}"));
    }
}

/// All bytes of a file; `-` is stdin.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().read_to_end(&mut data).map_err(cannot_read)?;
    } else {
        open(path)?.read_to_end(&mut data).map_err(cannot_read)?;
    }
    Ok(data)
}

fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(cannot_read)?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(bad("this is a folder, not a file"));
    }
    Ok(file)
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::Input, message)
}

/// The operating system's message without the error number.
pub fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

fn cannot_read(e: io::Error) -> Failure {
    bad(format!("cannot read: {}", reason(&e)))
}

pub fn cannot_write(e: &io::Error) -> Failure {
    bad(format!("cannot write: {}", reason(e)))
}
