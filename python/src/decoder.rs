//! Decoding, with the bytes of a file as far as they were supplied.

use crate::error::exception;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use std::sync::{RwLock, RwLockReadGuard};
use tilefit::{Error, Limits, Rect};

/// An opened file. All calls may come from several threads.
#[pyclass(frozen, module = "tilefit._tilefit")]
pub struct Decoder {
    /// Locked only without the GIL, so that no thread waits for the one while it holds the other.
    file: RwLock<tilefit::Decoder<'static>>,
}

/// Left, top, width and height, in pixels of the scale.
type Region = Option<(usize, usize, usize, usize)>;

fn rect(region: Region) -> Option<Rect> {
    region.map(|(x, y, w, h)| Rect::new(x, y, x.saturating_add(w), y.saturating_add(h)))
}

impl Decoder {
    fn file(&self) -> RwLockReadGuard<'_, tilefit::Decoder<'static>> {
        self.file.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Changes the bytes that are at hand.
    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut tilefit::Decoder<'static>) + Send) {
        py.detach(|| change(&mut self.file.write().unwrap_or_else(|e| e.into_inner())));
    }
}

#[pymethods]
impl Decoder {
    /// Opens a file of `length` bytes that starts with `beginning`. The error is of kind "truncated" if that is too short.
    #[new]
    fn new(
        py: Python<'_>,
        beginning: &[u8],
        length: usize,
        max_pixels: Option<u64>,
        max_memory: Option<u64>,
        max_work: Option<u64>,
    ) -> PyResult<Self> {
        let default = Limits::default();
        let limits = Limits {
            max_pixels: max_pixels.unwrap_or(default.max_pixels),
            max_memory: max_memory.unwrap_or(default.max_memory),
            max_work: max_work.unwrap_or(default.max_work),
        };
        let file = py.detach(|| tilefit::Decoder::from_beginning(beginning, length, limits));
        Ok(Decoder { file: RwLock::new(file.map_err(|e| exception(py, &e))?) })
    }

    /// The ranges of bytes that a decode needs and that were not supplied; those at most `gap` apart are one.
    fn missing(
        &self,
        py: Python<'_>,
        image: usize,
        scale: u32,
        region: Region,
        gap: usize,
    ) -> PyResult<Vec<(usize, usize)>> {
        let ranges = py.detach(|| self.file().missing(image, scale, rect(region), gap));
        let ranges = ranges.map_err(|e| exception(py, &e))?;
        Ok(ranges.into_iter().map(|r| (r.start, r.end)).collect())
    }

    /// Adds the bytes at `offset` of the file.
    fn supply(&self, py: Python<'_>, offset: usize, bytes: Vec<u8>) {
        self.change(py, |file| file.supply(offset, bytes));
    }

    /// Drops all bytes that were supplied.
    fn forget(&self, py: Python<'_>) {
        self.change(py, |file| file.forget());
    }

    /// The samples of an image or of a region of it, as bytes or as u16 of the machine, interleaved.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        image: usize,
        scale: u32,
        region: Region,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let region = rect(region);
        let pool = crate::pool(threads).map_err(|e| exception(py, &e))?;
        let length = py.detach(|| -> tilefit::Result<usize> {
            let file = self.file();
            // Checks the limits with the samples of the output counted, which `samples` does not.
            file.missing(image, scale, region, 0)?;
            Ok(file.samples(image, scale, region)? * file.header().format.sample_bytes())
        });
        PyByteArray::new_with(py, length.map_err(|e| exception(py, &e))?, |out| {
            let decoded = py.detach(|| {
                let file = self.file();
                pool.install(|| -> Result<(), Error> {
                    if file.header().format.sample_bytes() == 1 {
                        return file.decode_into(image, scale, region, out);
                    }
                    let picture = file.decode_scaled(image, scale, region)?;
                    out.chunks_exact_mut(2).zip(picture.samples).for_each(|(o, s)| o.copy_from_slice(&s.to_ne_bytes()));
                    Ok(())
                })
            });
            decoded.map_err(|e| exception(py, &e))
        })
    }

    /// The items of metadata: image, kind and data as in the file.
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Vec<(usize, u8, Bound<'py, PyBytes>)>> {
        let items = py.detach(|| tilefit::metadata::read(self.file().metadata()));
        let items = items.map_err(|e| exception(py, &e))?;
        Ok(items.into_iter().map(|i| (i.picture, i.kind, PyBytes::new(py, &i.data))).collect())
    }

    /// What the header tells, by the names of the fields of `tilefit.Info`. `images` has width, height and digest of each.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let info = py.detach(|| self.file().info());
        let images: Vec<_> = info.pictures.iter().map(|p| (p.width, p.height, p.digest)).collect();
        let dict = PyDict::new(py);
        dict.set_item("version", info.version)?;
        dict.set_item("model", info.model)?;
        dict.set_item("visual", info.visual)?;
        dict.set_item("images", images)?;
        dict.set_item("channels", info.format.channels)?;
        dict.set_item("depth", info.format.depth)?;
        dict.set_item("alpha", info.format.alpha)?;
        dict.set_item("file_bytes", info.bytes)?;
        dict.set_item("header_bytes", info.header_bytes)?;
        dict.set_item("weights_bytes", info.weights_bytes)?;
        dict.set_item("codes_bytes", info.codes_bytes)?;
        dict.set_item("metadata_bytes", info.metadata_bytes)?;
        dict.set_item("weights_count", info.weights_count)?;
        dict.set_item("multiplications_per_pixel", info.macs_per_pixel)?;
        dict.set_item("tile", info.tile)?;
        dict.set_item("tiles", info.tiles)?;
        dict.set_item("decode_memory_bytes", info.decode_memory_bytes)?;
        dict.set_item("decode_work", info.decode_work)?;
        Ok(dict)
    }
}
