//! Outputs: their names, the check that nothing is overwritten by mistake, and writing through a temporary file, so that
//! a failed run leaves no partial output.

use super::args::usage;
use super::failure::{Code, Failure, Result};
use super::files::{cannot_write, reason};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where a result is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    Stdout,
    File(PathBuf),
}

impl Output {
    pub fn name(&self) -> String {
        match self {
            Output::Stdout => "-".into(),
            Output::File(path) => path.display().to_string(),
        }
    }
}

/// The output of each input. `option` (`-o`) is a file, a folder or `-` for stdout; without it the output has the input's
/// folder and name with `extension`.
pub fn plan(inputs: &[PathBuf], option: Option<&Path>, extension: &str) -> Result<Vec<Output>> {
    let stdin = Path::new("-");
    if inputs.iter().filter(|i| *i == stdin).count() > 1 {
        return Err(usage("stdin (-) can be read only once"));
    }
    let folder = option.is_some_and(|o| o.is_dir() || o.as_os_str().to_string_lossy().ends_with('/'));
    if let Some(o) = option.filter(|_| !folder) {
        if inputs.len() > 1 {
            return Err(usage(format!("-o {} is not a folder, and there are {} inputs", o.display(), inputs.len())));
        }
        return Ok(vec![if o == stdin { Output::Stdout } else { Output::File(o.into()) }]);
    }
    let name = |input: &PathBuf| -> Result<Output> {
        if input == stdin {
            return match option {
                None => Ok(Output::Stdout),
                Some(_) => Err(usage("an input from stdin has no name: give -o a file or -")),
            };
        }
        let file = Path::new(input.file_name().ok_or_else(|| usage(format!("{}: no file name", input.display())))?);
        let file = file.with_extension(extension);
        Ok(Output::File(match option {
            Some(folder) => folder.join(file),
            None => input.with_file_name(file),
        }))
    };
    let outputs = inputs.iter().map(name).collect::<Result<Vec<_>>>()?;
    for (i, o) in outputs.iter().enumerate() {
        if outputs[..i].contains(o) {
            return Err(usage(format!("two inputs would be written to {}", o.name())));
        }
    }
    Ok(outputs)
}

/// Checks before any work that `output` may be written. Errors: the file exists and `force` is not set, the file is one of
/// the inputs, or its folder does not exist or is not writable.
pub fn check(output: &Output, inputs: &[PathBuf], force: bool) -> Result<()> {
    let Output::File(path) = output else { return Ok(()) };
    let place = path.display();
    let exists = |message: &str| Err(Failure::new(Code::Exists, message).at(path.display()));
    if let Ok(meta) = fs::metadata(path) {
        if meta.is_dir() {
            return Err(usage(format!("{place}: this is a folder, not a file")));
        }
        let real = fs::canonicalize(path).ok();
        if inputs.iter().any(|i| real.is_some() && fs::canonicalize(i).ok() == real) {
            return exists("the output is the input itself: choose another output with -o");
        }
        if !meta.is_file() {
            return Ok(());
        }
        if !force {
            return exists("the output exists already: -f overwrites it, -o writes elsewhere");
        }
    } else if !force && fs::symlink_metadata(path).is_ok() {
        return exists("the output is a link to a file that does not exist: -f replaces it, -o writes elsewhere");
    }
    // Creates the temporary file as a test; dropping the writer removes it.
    Writer::create(path).map(drop)
}

/// Writes a temporary file in the folder of the target. [`commit`](Self::commit) renames it to the target; without a commit
/// it is removed.
pub struct Writer {
    target: PathBuf,
    temporary: Option<PathBuf>,
    file: Option<BufWriter<File>>,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Writer> {
        let failed = |e: io::Error| {
            let error = match e.kind() {
                io::ErrorKind::NotFound => Failure::new(Code::Input, "cannot write: the folder does not exist"),
                _ => cannot_write(&e),
            };
            error.at(path.display())
        };
        // Links are followed, so that they stay links. Devices and pipes are written directly.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
            let file = OpenOptions::new().write(true).open(&target).map_err(failed)?;
            return Ok(Writer { target, temporary: None, file: Some(BufWriter::new(file)) });
        }
        let name = target.file_name().ok_or_else(|| usage(format!("{}: no file name", path.display())))?;
        let name = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
        let temporary = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?;
        Ok(Writer { target, temporary: Some(temporary), file: Some(BufWriter::with_capacity(1 << 16, file)) })
    }

    /// Gives the temporary file the attributes of `like`, syncs it and renames it to the target.
    pub fn commit(mut self, like: Option<Like>) -> Result<()> {
        let failed = |e: io::Error| cannot_write(&e).at(self.target.display());
        let file = self.file.take().expect("commit takes the writer, so the file is open").into_inner();
        let file = file.map_err(|e| failed(e.into_error()))?;
        if let Some(temporary) = &self.temporary {
            if let Some((meta, times)) = like.and_then(|l| Some((fs::metadata(l.input).ok()?, l.times))) {
                // Some file systems have none of these attributes; the output is good without them.
                let _ = file.set_permissions(meta.permissions());
                if let (true, Ok(modified)) = (times, meta.modified()) {
                    let accessed = meta.accessed().unwrap_or(modified);
                    let _ = file.set_times(FileTimes::new().set_modified(modified).set_accessed(accessed));
                }
            }
            file.sync_all().map_err(failed)?;
            drop(file);
            fs::rename(temporary, &self.target).map_err(failed)?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.as_mut().expect("open until it commits").write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().expect("open until it commits").flush()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.file.take());
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The input that an output is made from.
#[derive(Clone, Copy)]
pub struct Like<'a> {
    pub input: &'a Path,
    /// Whether the output gets the input's times, as well as its permissions.
    pub times: bool,
}

/// Calls `write` with a writer to `output`. A file appears only if all was written; it gets the permissions of `like`.
pub fn write(output: &Output, like: Option<Like>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    match output {
        Output::Stdout => {
            let mut out = BufWriter::new(io::stdout().lock());
            write(&mut out).map_err(|e| e.at("stdout"))?;
            out.flush().map_err(|e| Failure::new(Code::Input, format!("stdout: cannot write: {}", reason(&e))))
        }
        Output::File(path) => {
            let mut file = Writer::create(path)?;
            write(&mut file).map_err(|e| e.at(path.display()))?;
            file.commit(like)
        }
    }
}

pub fn write_bytes(output: &Output, like: Option<Like>, bytes: &[u8]) -> Result<()> {
    write(output, like, |out| out.write_all(bytes).map_err(|e| cannot_write(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inputs: &[&str], option: Option<&str>) -> Result<Vec<String>> {
        let inputs: Vec<PathBuf> = inputs.iter().map(PathBuf::from).collect();
        plan(&inputs, option.map(Path::new), "tfit").map(|o| o.iter().map(Output::name).collect())
    }

    #[test]
    fn outputs_are_named_after_inputs() {
        assert_eq!(names(&["a/x.png", "y.b.png"], None).unwrap(), ["a/x.tfit", "y.b.tfit"]);
        assert_eq!(names(&["a/x.png"], Some("out/")).unwrap(), ["out/x.tfit"]);
        assert_eq!(names(&["a/x.png"], Some("-")).unwrap(), ["-"]);
        assert_eq!(names(&["-"], None).unwrap(), ["-"]);
        assert_eq!(names(&["-"], Some("z.tfit")).unwrap(), ["z.tfit"]);
        for bad in [
            names(&["a/x.png", "b/x.png"], Some("out/")),
            names(&["a.png", "b.png"], Some("one.tfit")),
            names(&["-", "-"], None),
            names(&["-"], Some("out/")),
        ] {
            assert_eq!(bad.unwrap_err().code, Code::Usage);
        }
    }
}
