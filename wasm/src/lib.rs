//! The decoder behind plain WebAssembly exports: numbers and places in linear memory, no glue generator. `web/decoder.js`
//! is the other side.
//!
//! Every function that can fail gives a code (0: done) and leaves its output, or the sentence of the error, in the
//! answer: [`tilefit_answer`] and [`tilefit_answer_length`] say where. An answer is good until the next call.

#![cfg_attr(target_os = "unknown", no_std)]

extern crate alloc;

#[cfg(target_os = "unknown")]
mod memory;
mod session;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use session::Session;
use tilefit::{Class, Error, Rect, Result};

const DAMAGED: u32 = 1;
const UNSUPPORTED: u32 = 2;
const LIMIT: u32 = 3;
const USAGE: u32 = 4;
const IO: u32 = 5;
/// `tilefit_open` needs a longer beginning of the file.
const TRUNCATED: u32 = 6;

struct State {
    /// By handle; closed ones are `None`.
    sessions: Vec<Option<Session>>,
    answer: Vec<u8>,
}

struct Single(UnsafeCell<State>);

// SAFETY: a module without shared memory has one thread; native tests take turns.
unsafe impl Sync for Single {}

static STATE: Single = Single(UnsafeCell::new(State { sessions: Vec::new(), answer: Vec::new() }));

fn with_state<T>(f: impl FnOnce(&mut State) -> T) -> T {
    // SAFETY: one thread, and no `f` below calls an export.
    f(unsafe { &mut *STATE.0.get() })
}

/// A panic is a defect: the host sees a trap and starts anew.
#[cfg(target_os = "unknown")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Runs `work` and turns what it gives into a code and an answer.
fn answered(work: impl FnOnce(&mut Vec<Option<Session>>) -> Result<Vec<u8>>) -> u32 {
    with_state(|state| {
        // Freed first: the last answer may be a picture.
        state.answer = Vec::new();
        match work(&mut state.sessions) {
            Ok(answer) => {
                state.answer = answer;
                0
            }
            Err(e) => {
                state.answer = e.to_string().into_bytes();
                match e.class() {
                    Class::Unsupported => UNSUPPORTED,
                    Class::PixelLimit | Class::MemoryLimit => LIMIT,
                    Class::Argument => USAGE,
                    Class::Io => IO,
                    Class::Truncated => TRUNCATED,
                    _ => DAMAGED,
                }
            }
        }
    })
}

fn session(sessions: &mut [Option<Session>], handle: u32) -> Result<&mut Session> {
    let open = sessions.get_mut(handle as usize).and_then(Option::as_mut);
    open.ok_or_else(|| Error::new(Class::Argument, "the file is closed"))
}

/// `None` for a width of 0: the whole picture.
fn region(x: u32, y: u32, width: u32, height: u32) -> Option<Rect> {
    let end = |from: u32, n: u32| from.saturating_add(n) as usize;
    (width > 0).then(|| Rect::new(x as usize, y as usize, end(x, width), end(y, height)))
}

/// `length` bytes for the caller to write to; null when there are none.
#[no_mangle]
pub extern "C" fn tilefit_alloc(length: usize) -> *mut u8 {
    let mut bytes = Vec::<u8>::new();
    if bytes.try_reserve_exact(length).is_err() {
        return core::ptr::null_mut();
    }
    bytes.resize(length, 0);
    Box::into_raw(bytes.into_boxed_slice()).cast()
}

/// Takes over what [`tilefit_alloc`] gave.
///
/// # Safety
/// `at` comes from `tilefit_alloc(length)`, is not null and was not handed over before.
unsafe fn taken(at: *mut u8, length: usize) -> Vec<u8> {
    // SAFETY: the caller's promise: this is the box that `tilefit_alloc` let go of.
    unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(at, length)) }.into_vec()
}

/// Opens a file of `total` bytes from its beginning, which it frees. The answer is the handle, four bytes.
///
/// # Safety
/// As [`taken`].
#[no_mangle]
pub unsafe extern "C" fn tilefit_open(at: *mut u8, length: usize, total: usize) -> u32 {
    // SAFETY: the caller's promise.
    let beginning = unsafe { taken(at, length) };
    answered(|sessions| {
        let opened = Session::open(&beginning, total)?;
        let free = sessions.iter().position(Option::is_none).unwrap_or(sessions.len());
        if free == sessions.len() {
            sessions.push(None);
        }
        sessions[free] = Some(opened);
        Ok((free as u32).to_le_bytes().to_vec())
    })
}

#[no_mangle]
pub extern "C" fn tilefit_close(handle: u32) {
    with_state(|state| {
        if let Some(session) = state.sessions.get_mut(handle as usize) {
            *session = None;
        }
        state.answer = Vec::new();
    });
}

/// Numbers about the file: see [`Session::info`].
#[no_mangle]
pub extern "C" fn tilefit_info(handle: u32) -> u32 {
    answered(|sessions| Ok(session(sessions, handle)?.info()))
}

/// The metadata section.
#[no_mangle]
pub extern "C" fn tilefit_metadata(handle: u32) -> u32 {
    answered(|sessions| Ok(session(sessions, handle)?.metadata()))
}

/// Byte ranges that a decode of this region needs and that were not supplied: pairs of offset and length, four bytes
/// each. Ranges less than `gap` bytes apart are one.
#[no_mangle]
pub extern "C" fn tilefit_missing(
    handle: u32,
    picture: u32,
    scale: u32,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    gap: usize,
) -> u32 {
    answered(|sessions| session(sessions, handle)?.missing(picture, scale, region(x, y, width, height), gap))
}

/// Adds bytes of the file from `offset` on; takes them over.
///
/// # Safety
/// As [`taken`].
#[no_mangle]
pub unsafe extern "C" fn tilefit_supply(handle: u32, offset: usize, at: *mut u8, length: usize) -> u32 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { taken(at, length) };
    answered(|sessions| {
        session(sessions, handle)?.supply(offset, bytes);
        Ok(Vec::new())
    })
}

/// Drops all bytes that were supplied.
#[no_mangle]
pub extern "C" fn tilefit_forget(handle: u32) -> u32 {
    answered(|sessions| {
        session(sessions, handle)?.forget();
        Ok(Vec::new())
    })
}

/// Decodes a region (width 0: all) at `1/2^scale`, in pixels of that scale. The answer has the samples, as RGBA where
/// `rgba` is not 0. `partial` not 0: segments that cannot be read count as zeros; the samples are followed by a line for
/// each.
#[no_mangle]
pub extern "C" fn tilefit_decode(
    handle: u32,
    picture: u32,
    scale: u32,
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    rgba: u32,
    partial: u32,
) -> u32 {
    answered(|sessions| {
        let region = region(x, y, width, height);
        session(sessions, handle)?.decode(picture, scale, region, rgba != 0, partial != 0)
    })
}

#[no_mangle]
pub extern "C" fn tilefit_answer() -> *const u8 {
    with_state(|state| state.answer.as_ptr())
}

#[no_mangle]
pub extern "C" fn tilefit_answer_length() -> usize {
    with_state(|state| state.answer.len())
}

#[cfg(test)]
mod tests;
