//! The decoder behind a C interface, which `tilefit.h` documents. This file only translates between pointers and the types of
//! the decoder.

use std::ffi::{c_char, c_int};
use std::panic::{catch_unwind, AssertUnwindSafe};
use tilefit::{metadata, Class, Decoder, Error, Limits, Rect, Result};

const DAMAGED: c_int = 1;
const UNSUPPORTED: c_int = 2;
const LIMIT: c_int = 3;
const USAGE: c_int = 4;
const INTERNAL: c_int = 5;

/// `struct tilefit_limits`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CLimits {
    pub max_pixels: u64,
    pub max_memory: u64,
    pub max_work: u64,
}

/// `struct tilefit_picture_info`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CInfo {
    pub version: u32,
    pub pictures: u32,
    pub width: u32,
    pub height: u32,
    pub channels: u32,
    /// Bits of a sample.
    pub depth: u32,
    /// Whether the last channel is alpha: 0 or 1.
    pub alpha: u32,
    pub digest: u32,
    pub weights_bytes: u64,
    pub codes_bytes: u64,
    pub decode_memory: u64,
    pub macs_per_pixel: f64,
}

fn usage(what: &str) -> Error {
    Error::new(Class::Argument, what)
}

/// The file as a slice. A null pointer gives an empty slice, which the decoder refuses.
///
/// # Safety
/// `data` is null or points to `size` bytes that do not change during `'a`.
unsafe fn file<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size > isize::MAX as usize {
        return &[];
    }
    // SAFETY: `data` is not null; the rest is the contract of this function.
    unsafe { std::slice::from_raw_parts(data, size) }
}

/// The limits of the caller, or the default ones for a null pointer.
///
/// # Safety
/// `limits` is null or points to a `tilefit_limits`.
unsafe fn limits(limits: *const CLimits) -> Limits {
    // SAFETY: the contract of this function.
    match unsafe { limits.as_ref() } {
        Some(l) => Limits { max_pixels: l.max_pixels, max_memory: l.max_memory, max_work: l.max_work },
        None => Limits::default(),
    }
}

/// Runs `work` and returns a status. The message of a failure is written to `error`. A panic becomes a failure too.
///
/// # Safety
/// `error` is null or points to `error_size` bytes to write to.
unsafe fn guarded(error: *mut c_char, error_size: usize, work: impl FnOnce() -> Result<()>) -> c_int {
    let (code, message) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return 0,
        Ok(Err(e)) => {
            let code = match e.class() {
                Class::Unsupported => UNSUPPORTED,
                Class::PixelLimit | Class::MemoryLimit | Class::WorkLimit => LIMIT,
                Class::Argument => USAGE,
                _ => DAMAGED,
            };
            (code, e.to_string())
        }
        Err(_) => (INTERNAL, "a defect of the Tilefit library".to_owned()),
    };
    if !error.is_null() && error_size > 0 {
        let mut n = message.len().min(error_size - 1);
        while !message.is_char_boundary(n) {
            n -= 1;
        }
        // SAFETY: n + 1 <= error_size, and by the contract of this function as many bytes may be written; they do not
        // overlap the String.
        unsafe {
            std::ptr::copy_nonoverlapping(message.as_ptr(), error.cast(), n);
            *error.add(n) = 0;
        }
    }
    code
}

/// The first `size` bytes of `out` as a slice. They are set to zero first, because memory that was never written may not be
/// a slice.
///
/// # Safety
/// `out` is null or points to `out_size` bytes that may be written and that nothing else uses during `'a`.
unsafe fn output<'a>(out: *mut u8, out_size: usize, size: usize, what: &str) -> Result<&'a mut [u8]> {
    if out.is_null() {
        return Err(usage("out is a null pointer"));
    }
    if size > out_size {
        return Err(usage(&format!("out has {out_size} bytes, the {what} take {size}")));
    }
    // SAFETY: `out` is not null and has at least `size` bytes, which are written before the slice is made; the rest is the
    // contract of this function.
    unsafe {
        out.write_bytes(0, size);
        Ok(std::slice::from_raw_parts_mut(out, size))
    }
}

/// Decodes into `out`.
///
/// # Safety
/// As [`file`] and [`limits`]; `out` is null or points to `out_size` bytes to write to.
unsafe fn decode_to(
    data: &[u8],
    picture: usize,
    scale: u32,
    region: Option<Rect>,
    limits: Limits,
    out: *mut u8,
    out_size: usize,
) -> Result<()> {
    let decoder = Decoder::new(data, limits)?;
    let size = decoder.samples(picture, scale, region)?;
    if decoder.header().format.sample_bytes() == 1 {
        // SAFETY: the contract of this function.
        return decoder.decode_into(picture, scale, region, unsafe { output(out, out_size, size, "samples")? });
    }
    // The caller's buffer need not be aligned for u16.
    // SAFETY: the contract of this function.
    let out = unsafe { output(out, out_size, size.saturating_mul(2), "samples")? };
    let decoded = decoder.decode_scaled(picture, scale, region)?;
    out.chunks_exact_mut(2).zip(decoded.samples).for_each(|(o, s)| o.copy_from_slice(&s.to_ne_bytes()));
    Ok(())
}

/// See `tilefit.h`.
///
/// # Safety
/// Pointers are null or point to what `tilefit.h` says.
#[no_mangle]
pub unsafe extern "C" fn tilefit_info(
    data: *const u8,
    size: usize,
    picture: usize,
    info: *mut CInfo,
    error: *mut c_char,
    error_size: usize,
) -> c_int {
    // SAFETY: the contract of this function, for each pointer.
    unsafe {
        guarded(error, error_size, || {
            if info.is_null() {
                return Err(usage("info is a null pointer"));
            }
            let all = Decoder::new(file(data, size), Limits::NONE)?.info();
            let Some(p) = all.pictures.get(picture) else {
                return Err(usage(&format!("there is no picture {picture}: the file has {}", all.pictures.len())));
            };
            // The format limits sides to 2^30 and the number of pictures to 2^16.
            info.write(CInfo {
                version: all.version.into(),
                pictures: all.pictures.len() as u32,
                width: p.width as u32,
                height: p.height as u32,
                channels: all.format.channels as u32,
                depth: all.format.depth,
                alpha: all.format.alpha.into(),
                digest: p.digest,
                weights_bytes: all.weights_bytes as u64,
                codes_bytes: all.codes_bytes as u64,
                decode_memory: all.decode_memory_bytes,
                macs_per_pixel: all.macs_per_pixel,
            });
            Ok(())
        })
    }
}

/// See `tilefit.h`.
///
/// # Safety
/// Pointers are null or point to what `tilefit.h` says.
#[no_mangle]
pub unsafe extern "C" fn tilefit_decode(
    data: *const u8,
    size: usize,
    picture: usize,
    scale: u32,
    max: *const CLimits,
    out: *mut u8,
    out_size: usize,
    error: *mut c_char,
    error_size: usize,
) -> c_int {
    // SAFETY: the contract of this function, for each pointer.
    unsafe {
        guarded(error, error_size, || decode_to(file(data, size), picture, scale, None, limits(max), out, out_size))
    }
}

/// See `tilefit.h`.
///
/// # Safety
/// Pointers are null or point to what `tilefit.h` says.
#[no_mangle]
pub unsafe extern "C" fn tilefit_decode_region(
    data: *const u8,
    size: usize,
    picture: usize,
    scale: u32,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    max: *const CLimits,
    out: *mut u8,
    out_size: usize,
    error: *mut c_char,
    error_size: usize,
) -> c_int {
    // SAFETY: the contract of this function, for each pointer.
    unsafe {
        guarded(error, error_size, || {
            // A sum that overflows is outside any picture.
            let region = Rect::new(x, y, x.saturating_add(width), y.saturating_add(height));
            decode_to(file(data, size), picture, scale, Some(region), limits(max), out, out_size)
        })
    }
}

/// See `tilefit.h`.
///
/// # Safety
/// Pointers are null or point to what `tilefit.h` says.
#[no_mangle]
pub unsafe extern "C" fn tilefit_metadata(
    data: *const u8,
    size: usize,
    picture: usize,
    kind: u32,
    out: *mut u8,
    out_size: usize,
    length: *mut usize,
    error: *mut c_char,
    error_size: usize,
) -> c_int {
    // SAFETY: the contract of this function, for each pointer.
    unsafe {
        guarded(error, error_size, || {
            if length.is_null() {
                return Err(usage("length is a null pointer"));
            }
            let decoder = Decoder::new(file(data, size), Limits::NONE)?;
            let items = decoder.items(picture)?;
            let found = u8::try_from(kind).ok().and_then(|k| metadata::find(&items, k)).unwrap_or_default();
            length.write(found.len());
            if !out.is_null() {
                output(out, out_size, found.len(), "metadata")?.copy_from_slice(found);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(size: usize, work: impl FnOnce() -> Result<()>) -> (c_int, String) {
        let mut text = vec![b'?'; size];
        // SAFETY: `size` bytes are there.
        let code = unsafe { guarded(text.as_mut_ptr().cast(), size, work) };
        let end = text.iter().position(|b| *b == 0).unwrap_or(0);
        (code, String::from_utf8(text[..end].to_vec()).unwrap())
    }

    /// Runs in the profile of the library that is given away, too, where no panic may leave it either.
    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(run(80, || panic!("on purpose")), (INTERNAL, "a defect of the Tilefit library".to_owned()));
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let fail = || Err(usage("größer"));
        assert_eq!(run(80, fail), (USAGE, "größer".to_owned()));
        assert_eq!(run(5, fail), (USAGE, "gr".to_owned() + "ö"));
        assert_eq!(run(4, fail), (USAGE, "gr".to_owned()));
        assert_eq!(run(1, fail), (USAGE, String::new()));
        // SAFETY: there is no place for a message.
        assert_eq!(unsafe { guarded(std::ptr::null_mut(), 9, fail) }, USAGE);
        assert_eq!(run(9, || Ok(())).0, 0);
    }
}
