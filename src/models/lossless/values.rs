//! Which values the samples of a picture have: all up to the largest, a list for each channel, or a palette of colours.

use crate::entropy::adaptive::{level, BinaryCoder, Contexts, Integers, LEVELS, TABLES};
use crate::entropy::range_coder::RangeDecoder;
#[cfg(feature = "fit")]
use crate::entropy::range_coder::RangeEncoder;
use crate::error::{Error, Result};
use alloc::{vec, vec::Vec};

/// Most colours of a palette: an index has at most 16 bits.
pub const MAX_COLOURS: usize = 1 << 16;
/// Probability one half, of `2^16`.
const HALF: u32 = 1 << 15;

/// The values that samples have. What is coded of a sample is its place in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Values {
    /// Each value is its own place.
    All,
    /// For each channel the values that occur, rising; an empty list stands for all.
    Lists(Vec<Vec<u16>>),
    /// Colours, each of one value a channel.
    Palette(Vec<u16>),
}

/// The integers that describe lists. Differences are taken modulo 2^16, as signed numbers.
struct Coder<'a, C> {
    coder: &'a mut C,
    integers: Integers,
    /// The two integers before.
    before: [i16; 2],
}

impl<C: BinaryCoder> Coder<'_, C> {
    fn integer(&mut self, kind: usize, value: i16) -> i16 {
        let level = |v: i16| level(u32::from(v.unsigned_abs()), LEVELS - 1);
        let sign = |v: i16| (v.signum() + 1) as usize;
        let [a, b] = self.before;
        let contexts = Contexts {
            zero: [level(a), level(a) * LEVELS + level(b), kind * LEVELS + level(a), kind],
            size: [level(a), level(b)],
            sign: [sign(a) * 3 + sign(b), kind],
        };
        let value = self.integers.code(self.coder, &contexts, value);
        self.before = [value, a];
        value
    }

    /// A list that rises from 0 to at most `top`, of `list.len()` values.
    fn list(&mut self, list: &mut [u16], top: u16) -> Result<()> {
        let (mut value, mut gap) = (-1i32, 1i32);
        for v in list {
            let change = i32::from(*v) - value - gap;
            gap = i32::from((gap + i32::from(self.integer(0, change as i16))) as u16);
            value += gap;
            if gap == 0 || value > i32::from(top) {
                return Err(Error::format("the list of values does not rise up to the largest: the file is damaged"));
            }
            *v = value as u16;
        }
        Ok(())
    }

    /// Colours, of `channels` values up to `top` each.
    fn palette(&mut self, colours: &mut [u16], channels: usize, top: u16) -> Result<()> {
        let mut last = vec![0u16; channels];
        for colour in colours.chunks_exact_mut(channels) {
            let mut step = 0u16;
            for (c, (v, last)) in colour.iter_mut().zip(&mut last).enumerate() {
                let change = v.wrapping_sub(*last).wrapping_sub(step) as i16;
                step = step.wrapping_add(self.integer(1 + c.min(3), change) as u16);
                *last = last.wrapping_add(step);
                *v = *last;
                if *v > top {
                    return Err(Error::format("a colour of the palette is out of range: the file is damaged"));
                }
            }
        }
        Ok(())
    }
}

/// Codes a number below `2^16` in bits of equal probability.
fn bits(coder: &mut impl BinaryCoder, value: u32) -> u32 {
    (0..16).rev().fold(0, |v, i| 2 * v + u32::from(coder.decide(HALF, value >> i & 1 == 1)))
}

/// The kinds of integers: of lists, then of the first, second, third and further components of colours.
const KINDS: usize = 5;
const SIZES: [usize; TABLES] = [LEVELS, LEVELS * LEVELS, KINDS * LEVELS, KINDS];

impl Values {
    /// What the description says of the values in its flags.
    pub fn kind(&self) -> u8 {
        match self {
            Values::All => 0,
            Values::Lists(_) => 1,
            Values::Palette(_) => 2,
        }
    }

    /// Writes or, if `coder` reads, fills in the lists. `self` is of the kind that is to be read.
    fn code(&mut self, coder: &mut impl BinaryCoder, channels: usize, top: u16) -> Result<()> {
        let mut coder = Coder { integers: Integers::new(SIZES), before: [0; 2], coder };
        match self {
            Values::All => (),
            Values::Lists(lists) => {
                lists.resize(channels, Vec::new());
                for list in lists {
                    if coder.coder.decide(HALF, !list.is_empty()) {
                        let count = bits(coder.coder, (list.len() as u32).wrapping_sub(1) & 65535) as usize + 1;
                        if count > usize::from(top) + 1 {
                            return Err(Error::format("a list of more values than there are: the file is damaged"));
                        }
                        list.resize(count, 0);
                        coder.list(list, top)?;
                    }
                }
            }
            Values::Palette(colours) => {
                let count = bits(coder.coder, ((colours.len() / channels) as u32).wrapping_sub(1) & 65535) as usize + 1;
                if count > MAX_COLOURS {
                    return Err(Error::format("a palette of too many colours: the file is damaged"));
                }
                colours.resize(count * channels, 0);
                coder.palette(colours, channels, top)?;
            }
        }
        Ok(())
    }

    /// Reads the weights section. `kind` is that of the description.
    ///
    /// # Errors
    /// A section that breaks the format.
    pub fn read(kind: u8, channels: usize, top: u16, section: &[u8]) -> Result<Values> {
        let mut values = match kind {
            0 if section.is_empty() => return Ok(Values::All),
            1 => Values::Lists(Vec::new()),
            2 => Values::Palette(Vec::new()),
            _ => return Err(Error::format("a lossless model with a wrong weights section: the file is damaged")),
        };
        let mut decoder = RangeDecoder::new(section);
        values.code(&mut decoder, channels, top)?;
        decoder.finish()?;
        Ok(values)
    }

    /// The weights section.
    #[cfg(feature = "fit")]
    pub fn write(&self, channels: usize, top: u16) -> Vec<u8> {
        if *self == Values::All {
            return Vec::new();
        }
        let mut encoder = RangeEncoder::default();
        self.clone().code(&mut encoder, channels, top).expect("values of the picture");
        encoder.finish()
    }

    /// The largest place of each coded plane.
    pub fn tops(&self, channels: usize, top: u16) -> Vec<i32> {
        match self {
            Values::All => vec![top.into(); channels],
            Values::Lists(lists) => {
                lists.iter().map(|l| if l.is_empty() { top.into() } else { l.len() as i32 - 1 }).collect()
            }
            Values::Palette(colours) => vec![(colours.len() / channels) as i32 - 1],
        }
    }

    /// Turns places into values: `places` has the coded planes, `out` `channels` planes of the same area.
    pub fn values_of(&self, places: &[u16], channels: usize, out: &mut [i16]) {
        let area = out.len() / channels;
        match self {
            Values::All => out.iter_mut().zip(places).for_each(|(o, p)| *o = *p as i16),
            Values::Lists(lists) => {
                for ((out, places), list) in out.chunks_exact_mut(area).zip(places.chunks_exact(area)).zip(lists) {
                    for (o, p) in out.iter_mut().zip(places) {
                        *o = *list.get(usize::from(*p)).unwrap_or(p) as i16;
                    }
                }
            }
            Values::Palette(colours) => {
                for (i, p) in places.iter().enumerate() {
                    for c in 0..channels {
                        out[c * area + i] = colours[usize::from(*p) * channels + c] as i16;
                    }
                }
            }
        }
    }

    /// The inverse of [`values_of`](Self::values_of). Each value is in the lists.
    #[cfg(feature = "fit")]
    pub fn places_of(&self, values: &[i16], channels: usize) -> Vec<u16> {
        let area = values.len() / channels;
        let value = |i: usize| values[i] as u16;
        match self {
            Values::All => (0..values.len()).map(value).collect(),
            Values::Lists(lists) => (0..values.len())
                .map(|i| match &lists[i / area][..] {
                    [] => value(i),
                    list => list.partition_point(|v| *v < value(i)) as u16,
                })
                .collect(),
            Values::Palette(colours) => {
                let list: Vec<&[u16]> = colours.chunks_exact(channels).collect();
                let colour = |i: usize| (0..channels).map(move |c| value(c * area + i));
                (0..area).map(|i| list.partition_point(|l| l.iter().copied().lt(colour(i))) as u16).collect()
            }
        }
    }
}
