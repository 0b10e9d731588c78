//! The allocator: a first-fit list of free blocks in the order of their addresses. The decoder allocates few and large
//! blocks, so that the list stays short; the standard allocator would add some kilobytes to the download.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::Cell;
use core::ptr::{null_mut, NonNull};

/// Bytes of a page of WebAssembly memory.
const PAGE: usize = 1 << 16;
/// Sizes and addresses of blocks are multiples of this, which is at least the size of a [`Block`].
const UNIT: usize = 16;

/// The header at the start of each free block.
struct Block {
    /// Bytes of the block, the header included.
    size: usize,
    /// The next free block, at a higher address.
    next: *mut Block,
}

struct FirstFit {
    head: Cell<*mut Block>,
}

// SAFETY: a module without shared memory has one thread.
unsafe impl Sync for FirstFit {}

#[global_allocator]
static ALLOCATOR: FirstFit = FirstFit { head: Cell::new(null_mut()) };

/// `size` as a multiple of [`UNIT`], at least one; `None` on overflow.
fn rounded(size: usize) -> Option<usize> {
    Some(size.max(1).checked_add(UNIT - 1)? & !(UNIT - 1))
}

impl FirstFit {
    /// Takes `size` bytes from the first block of the list that is large enough.
    fn take(&self, size: usize) -> Option<NonNull<u8>> {
        let mut link: *const Cell<*mut Block> = &self.head;
        // SAFETY: links and blocks belong to the list and lie in memory that nothing else uses; a `Cell` has the layout
        // of its content.
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

    /// Adds a block to the list and joins it with free neighbours.
    ///
    /// # Safety
    /// Nothing uses the `size` bytes at `at`; address and size are multiples of [`UNIT`].
    unsafe fn give(&self, at: *mut u8, size: usize) {
        let mut before: *mut Block = null_mut();
        let mut next = self.head.get();
        let at: *mut Block = at.cast();
        let end = |b: *mut Block, size: usize| b.cast::<u8>().wrapping_add(size).cast::<Block>();
        // SAFETY: blocks of the list belong to it, and by the contract above nothing else uses the block at `at`.
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

// SAFETY: blocks come from the list or from new pages, have the requested size and do not overlap. They are aligned to
// `UNIT`; a request for more fails.
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
        // SAFETY: the pages are new, so nothing uses them.
        unsafe { self.give((first * PAGE) as *mut u8, size.div_ceil(PAGE) * PAGE) };
        self.take(size).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let Some(size) = rounded(layout.size()) {
            // SAFETY: by the contract of `dealloc` the block came from `alloc`, with this size.
            unsafe { self.give(at, size) };
        }
    }
}
