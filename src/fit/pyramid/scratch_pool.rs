//! Working memory that threads take in turn, so that nothing is allocated once each has had its own.

use std::sync::Mutex;

pub(super) struct ScratchPool<T>(Mutex<Vec<T>>);

impl<T> ScratchPool<T> {
    pub fn new() -> ScratchPool<T> {
        ScratchPool(Mutex::default())
    }

    /// Runs `f` with one that is free, or the one that `make` gives.
    pub fn lend<R>(&self, make: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
        let free = self.0.lock().expect("no panic holds it").pop();
        let mut one = free.unwrap_or_else(make);
        let result = f(&mut one);
        self.0.lock().expect("no panic holds it").push(one);
        result
    }
}
