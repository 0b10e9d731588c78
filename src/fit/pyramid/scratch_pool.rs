//! Working memory that threads borrow in turn. Once each thread has borrowed some, nothing more is allocated.

use std::sync::Mutex;

/// The values that no thread uses at present.
pub(super) struct ScratchPool<T>(Mutex<Vec<T>>);

impl<T> ScratchPool<T> {
    /// An empty pool.
    pub fn new() -> ScratchPool<T> {
        ScratchPool(Mutex::default())
    }

    /// Runs `f` with a value of the pool, or with a new one from `make` if all are in use.
    pub fn lend<R>(&self, make: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
        let free = self.0.lock().expect("no thread panics while it holds the lock").pop();
        let mut value = free.unwrap_or_else(make);
        let result = f(&mut value);
        self.0.lock().expect("no thread panics while it holds the lock").push(value);
        result
    }
}
