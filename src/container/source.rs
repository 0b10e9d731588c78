//! The bytes of a file: the whole file in memory, or the parts of it that were fetched so far.

use super::header::Segment;
use crate::error::{Error, Result};
use alloc::{format, vec::Vec};
use std::ops::Range;

/// The bytes that segments are read from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    Whole(&'a [u8]),
    /// Parts of a file of `length` bytes, each with its offset in the file.
    Parts {
        length: usize,
        parts: Vec<(usize, Vec<u8>)>,
    },
}

impl Source<'_> {
    /// Size of the whole file in bytes.
    pub fn length(&self) -> usize {
        match self {
            Source::Whole(bytes) => bytes.len(),
            Source::Parts { length, .. } => *length,
        }
    }

    /// Whether the bytes of the segment are available.
    pub fn holds(&self, s: Segment) -> bool {
        self.segment(s).is_ok()
    }

    /// The bytes of a segment; its checksum is not checked.
    ///
    /// # Errors
    /// [`Class::Format`](crate::Class::Format) if the segment ends after the file, [`Class::Io`](crate::Class::Io) if it was
    /// not fetched.
    pub fn segment(&self, s: Segment) -> Result<&[u8]> {
        let end = s.offset.checked_add(s.length).filter(|end| *end <= self.length());
        let Some(end) = end else {
            return Err(Error::format(format!(
                "the segment of {} bytes at byte {} ends after the end of the file: the file is cut short",
                s.length, s.offset
            )));
        };
        match self {
            Source::Whole(bytes) => Ok(&bytes[s.offset..end]),
            // An empty segment, that of a tile of zeros, does not need to be fetched.
            Source::Parts { .. } if s.length == 0 => Ok(&[]),
            Source::Parts { parts, .. } => {
                let holds = |(at, bytes): &&(usize, Vec<u8>)| *at <= s.offset && end - at <= bytes.len();
                let Some((at, bytes)) = parts.iter().find(holds) else {
                    return Err(Error::new(
                        crate::Class::Io,
                        format!("the segment of {} bytes at byte {} was not fetched", s.length, s.offset),
                    ));
                };
                Ok(&bytes[s.offset - at..end - at])
            }
        }
    }
}

/// Sorts `ranges` and merges those that are at most `gap` bytes apart: one request for more bytes is cheaper than two.
pub fn merged(ranges: impl Iterator<Item = Range<usize>>, gap: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for r in ranges {
        // Ranges before `r` stay; those within `gap` of it are merged with it.
        let first = out.partition_point(|o| o.end.saturating_add(gap) < r.start);
        let end = out.partition_point(|o| o.start <= r.end.saturating_add(gap));
        let joined = out[first..end].iter().fold(r, |r, o| r.start.min(o.start)..r.end.max(o.end));
        out.splice(first..end, [joined]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetched_parts_give_the_bytes_of_the_file() {
        let bytes: Vec<u8> = (0..100).collect();
        let parts = Source::Parts { length: 100, parts: vec![(10, bytes[10..30].into()), (50, bytes[50..60].into())] };
        let whole = Source::Whole(&bytes);
        for offset in 0..110 {
            for length in 0..30 {
                let s = Segment { offset, length, crc: 0 };
                let end = offset + length;
                assert_eq!(whole.holds(s), end <= 100);
                let fetched = (offset >= 10 && end <= 30) || (offset >= 50 && end <= 60);
                let available = fetched || (length == 0 && end <= 100);
                assert_eq!(parts.holds(s), available, "{s:?}");
                if available {
                    assert_eq!(parts.segment(s).unwrap(), whole.segment(s).unwrap());
                }
            }
        }
        assert!(!parts.holds(Segment { offset: usize::MAX, length: 2, crc: 0 }));
    }

    #[test]
    fn ranges_within_the_gap_are_merged() {
        assert_eq!(merged([20..30, 0..10, 12..15, 40..41].into_iter(), 4), [0..15, 20..30, 40..41]);
        assert_eq!(merged([0..50, 10..20, 60..61].into_iter(), 0), [0..50, 60..61]);
    }
}
