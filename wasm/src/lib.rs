//! The decoder as plain WebAssembly exports: arguments and results are numbers and addresses in linear memory, there is no
//! generated glue code. `web/decoder.js` calls them.
//!
//! A function that can fail returns a code, 0 for success, and leaves its output, or the message of the error, in the
//! *answer*: [`tilefit_answer`] is its address, [`tilefit_answer_length`] its length in bytes. An answer is valid until the
//! next call.

#![cfg_attr(target_os = "unknown", no_std)]

extern crate alloc;

#[cfg(target_os = "unknown")]
mod memory;
mod session;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use session::Session;
use tilefit::{Class, Error, Rect, Result};

const DAMAGED: u32 = 1;
const UNSUPPORTED: u32 = 2;
const LIMIT: u32 = 3;
const USAGE: u32 = 4;
const IO: u32 = 5;
/// [`tilefit_open`] needs a longer beginning of the file.
const TRUNCATED: u32 = 6;

/// All that lasts between calls.
struct State {
    /// The open files by handle; closed ones are `None`.
    sessions: Vec<Option<Session>>,
    answer: Vec<u8>,
}

/// A static that one thread uses.
struct SingleThread(UnsafeCell<State>);

// SAFETY: a module without shared memory has one thread; native tests hold a lock.
unsafe impl Sync for SingleThread {}

static STATE: SingleThread = SingleThread(UnsafeCell::new(State { sessions: Vec::new(), answer: Vec::new() }));

fn with_state<T>(f: impl FnOnce(&mut State) -> T) -> T {
    // SAFETY: there is one thread, and no `f` below calls an export.
    f(unsafe { &mut *STATE.0.get() })
}

/// A panic is a defect of the decoder. The host sees a trap and makes a new instance.
#[cfg(target_os = "unknown")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Runs `work` and turns its result into a code and an answer.
fn answered(work: impl FnOnce(&mut Vec<Option<Session>>) -> Result<Vec<u8>>) -> u32 {
    with_state(|state| {
        // Freed before the work: the last answer may be a whole picture.
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

/// The open file of a handle.
fn session(sessions: &mut [Option<Session>], handle: u32) -> Result<&mut Session> {
    let open = sessions.get_mut(handle as usize).and_then(Option::as_mut);
    open.ok_or_else(|| Error::new(Class::Argument, "the file is closed"))
}

/// A rectangle, or `None`, the whole picture, for a width of 0.
fn region(x: u32, y: u32, width: u32, height: u32) -> Option<Rect> {
    let end = |from: u32, n: u32| from.saturating_add(n) as usize;
    (width > 0).then(|| Rect::new(x as usize, y as usize, end(x, width), end(y, height)))
}

/// Allocates `length` bytes, which the caller fills and passes to [`tilefit_open`] or [`tilefit_supply`]. Returns null if
/// the allocation fails.
#[no_mangle]
pub extern "C" fn tilefit_alloc(length: usize) -> *mut u8 {
    let mut bytes = Vec::<u8>::new();
    if bytes.try_reserve_exact(length).is_err() {
        return core::ptr::null_mut();
    }
    bytes.resize(length, 0);
    Box::into_raw(bytes.into_boxed_slice()).cast()
}

/// Takes ownership of bytes from [`tilefit_alloc`].
///
/// # Safety
/// `at` comes from `tilefit_alloc(length)`, is not null, and was not passed to an export before.
unsafe fn taken(at: *mut u8, length: usize) -> Vec<u8> {
    // SAFETY: by the contract above this is the box whose ownership `tilefit_alloc` gave up.
    unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(at, length)) }.into_vec()
}

/// Opens a file of `total` bytes from its first `length` bytes at `at`, which it frees. The answer is the handle, a u32.
///
/// # Safety
/// As `taken`.
#[no_mangle]
pub unsafe extern "C" fn tilefit_open(at: *mut u8, length: usize, total: usize) -> u32 {
    // SAFETY: by the contract of this function.
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

/// Closes a file. The handle may be given to another file later.
#[no_mangle]
pub extern "C" fn tilefit_close(handle: u32) {
    with_state(|state| {
        if let Some(session) = state.sessions.get_mut(handle as usize) {
            *session = None;
        }
        state.answer = Vec::new();
    });
}

/// The answer has the numbers of `Session::info`.
#[no_mangle]
pub extern "C" fn tilefit_info(handle: u32) -> u32 {
    answered(|sessions| Ok(session(sessions, handle)?.info()))
}

/// The answer is the metadata section of the file.
#[no_mangle]
pub extern "C" fn tilefit_metadata(handle: u32) -> u32 {
    answered(|sessions| Ok(session(sessions, handle)?.metadata()))
}

/// The answer has the byte ranges of the file that a decode of this region needs and that were not supplied yet: pairs of
/// offset and length, u32 each. Ranges less than `gap` bytes apart are joined. A width of 0 is the whole picture.
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

/// Supplies bytes of the file from `offset` on, and takes ownership of them.
///
/// # Safety
/// As `taken`.
#[no_mangle]
pub unsafe extern "C" fn tilefit_supply(handle: u32, offset: usize, at: *mut u8, length: usize) -> u32 {
    // SAFETY: by the contract of this function.
    let bytes = unsafe { taken(at, length) };
    answered(|sessions| {
        session(sessions, handle)?.supply(offset, bytes);
        Ok(Vec::new())
    })
}

/// Frees all bytes that were supplied.
#[no_mangle]
pub extern "C" fn tilefit_forget(handle: u32) -> u32 {
    answered(|sessions| {
        session(sessions, handle)?.forget();
        Ok(Vec::new())
    })
}

/// Decodes a region of the picture at `1/2^scale`, in pixels of that scale; a width of 0 is the whole picture. The answer
/// has the samples: RGBA if `rgba` is not 0, else the channels of the file. If `partial` is not 0, segments that cannot be
/// read count as zeros, and a line of text for each follows the samples.
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

/// Address of the answer of the last call.
#[no_mangle]
pub extern "C" fn tilefit_answer() -> *const u8 {
    with_state(|state| state.answer.as_ptr())
}

/// Length of the answer of the last call, in bytes.
#[no_mangle]
pub extern "C" fn tilefit_answer_length() -> usize {
    with_state(|state| state.answer.len())
}

#[cfg(test)]
mod tests;
