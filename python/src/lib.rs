//! The native half of the package `tilefit` for Python: buffers in, bytes out, without the GIL in between. The package's Python
//! files have the interface that users see.

mod decoder;
mod encode;
mod error;

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A pool for one call: of all cores that the process may use, if no number is given.
fn pool(threads: Option<usize>) -> tilefit::Result<ThreadPool> {
    let refuse = |what: String| tilefit::Error::of_argument("threads", what);
    let n = match threads {
        Some(0) => return Err(refuse("expected at least 1".into())),
        Some(n) => n,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    ThreadPoolBuilder::new().num_threads(n).build().map_err(|e| refuse(format!("cannot start {n} threads: {e}")))
}

#[pymodule]
mod _tilefit {
    #[pymodule_export]
    use crate::decoder::Decoder;
    #[pymodule_export]
    use crate::encode::encode;

    #[allow(non_upper_case_globals)]
    #[pymodule_export]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
