//! Working memory from a whole cache line on: a vector across two lines is loaded twice.

use super::scratch::grown;

/// Values in a cache line.
pub const LINE: usize = 16;

/// How many values of `data` come before its first whole cache line; at most [`LINE`].
pub fn to_line(data: &[f32]) -> usize {
    data.as_ptr().align_offset(4 * LINE).min(LINE)
}

/// `n` values of `data` from a whole cache line on; it grows where it must, and its contents are arbitrary.
pub fn lines(data: &mut Vec<f32>, n: usize) -> &mut [f32] {
    let data = grown(data, n + LINE);
    let start = to_line(data);
    &mut data[start..][..n]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_at_a_line_and_hold_what_is_asked() {
        let mut data = Vec::new();
        for n in [0, 1, 700, 16, 701] {
            let part = lines(&mut data, n);
            assert_eq!((part.len(), part.as_ptr() as usize % 64), (n, 0));
        }
    }
}
