//! The allocator: a list of free blocks in order of their addresses, first fit. The decoder asks for few and large
//! blocks, so that the list stays short, and a download of some kilobytes is saved.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::Cell;
use core::ptr::{null_mut, NonNull};

const PAGE: usize = 1 << 16;
/// Sizes and addresses are multiples of it; it is as large as a [`Block`] at least.
const UNIT: usize = 16;

/// Stands at the start of each free block.
struct Block {
    size: usize,
    next: *mut Block,
}

struct FirstFit {
    head: Cell<*mut Block>,
}

// SAFETY: a module without shared memory has one thread.
unsafe impl Sync for FirstFit {}

#[global_allocator]
static ALLOCATOR: FirstFit = FirstFit { head: Cell::new(null_mut()) };

fn rounded(size: usize) -> Option<usize> {
    Some(size.max(1).checked_add(UNIT - 1)? & !(UNIT - 1))
}

impl FirstFit {
    /// A block from the list.
    fn take(&self, size: usize) -> Option<NonNull<u8>> {
        let mut link: *const Cell<*mut Block> = &self.head;
        // SAFETY: links and blocks are the list's own, in memory that nobody else has; a `Cell` has the layout of
        // what is in it.
        unsafe {
            while let Some(block) = NonNull::new((*link).get()) {
                let at = block.as_ptr();
                let left = (*at).size.wrapping_sub(size);
                if (*at).size >= size {
                    let next = (*at).next;
                    if left == 0 {
                        (*link).set(next);
                    } else {
                        let rest = at.cast::<u8>().add(size).cast::<Block>();
                        rest.write(Block { size: left, next });
                        (*link).set(rest);
                    }
                    return Some(block.cast());
                }
                link = (&raw const (*at).next).cast();
            }
        }
        None
    }

    /// Gives a block back to the list, joined with its free neighbours.
    ///
    /// # Safety
    /// `at` has `size` bytes that nobody uses, both multiples of [`UNIT`].
    unsafe fn give(&self, at: *mut u8, size: usize) {
        let mut before: *mut Block = null_mut();
        let mut next = self.head.get();
        let at: *mut Block = at.cast();
        let end = |b: *mut Block, size: usize| b.cast::<u8>().wrapping_add(size).cast::<Block>();
        // SAFETY: blocks of the list are its own, `at` is the caller's gift.
        unsafe {
            while !next.is_null() && next < at {
                before = next;
                next = (*next).next;
            }
            at.write(Block { size, next });
            if !next.is_null() && end(at, size) == next {
                at.write(Block { size: size + (*next).size, next: (*next).next });
            }
            if before.is_null() {
                self.head.set(at);
            } else if end(before, (*before).size) == at {
                before.write(Block { size: (*before).size + (*at).size, next: (*at).next });
            } else {
                (*before).next = at;
            }
        }
    }
}

// SAFETY: blocks come from the list or from fresh pages, are of the size asked for and do not overlap; none is aligned to
// more than `UNIT`.
unsafe impl GlobalAlloc for FirstFit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(size) = rounded(layout.size()).filter(|_| layout.align() <= UNIT) else { return null_mut() };
        if let Some(block) = self.take(size) {
            return block.as_ptr();
        }
        let first = memory_grow::<0>(size.div_ceil(PAGE));
        if first == usize::MAX {
            return null_mut();
        }
        // SAFETY: the pages are new.
        unsafe { self.give((first * PAGE) as *mut u8, size.div_ceil(PAGE) * PAGE) };
        self.take(size).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let Some(size) = rounded(layout.size()) {
            // SAFETY: the caller gives back what `alloc` gave, which was of this size.
            unsafe { self.give(at, size) };
        }
    }
}
