//! Checkpoints of interrupted fits: the state of family and driver, and a key of pictures and options.
//!
//! ```text
//! 8  magic            4  CRC-32 of all that follows
//! 8  key              4  effort    4  stage    4  step    8  steps made    8  lambda (f64)    rest: the family's state
//! ```
//! Little-endian. The optimisers' moments are not saved: a resumed fit starts them at zero.

use super::options::{Options, EFFORTS};
use crate::crc::crc32;
use crate::error::{Error, Result};
use crate::image::Picture;

const MAGIC: &[u8; 8] = b"TFITCKP3";
const HEAD: usize = MAGIC.len() + 4;

/// A fit between two steps.
#[derive(Clone, PartialEq, Debug)]
pub struct Checkpoint {
    /// [`key`] of the pictures and options.
    pub key: u64,
    /// The effort of the fit, which a time limit may have lowered.
    pub effort: u32,
    /// The current stage.
    pub stage: u32,
    /// Steps made in the stage; `u32::MAX` after its last step.
    pub step: u32,
    /// Steps made in the whole fit.
    pub done: u64,
    /// The current weight of the rate in the loss.
    pub lambda: f64,
    /// The family's state: see [`Fit::save`](super::Fit::save).
    pub state: Vec<u8>,
}

/// FNV-1a hash of crate version, family, options and pictures. Time limit and threads are left out: a resumed fit may change
/// them.
pub fn key(family: &str, options: &Options, pictures: &[Picture]) -> u64 {
    let options = format!("{} {family} {options:?}", env!("CARGO_PKG_VERSION"));
    let sizes = pictures
        .iter()
        .flat_map(|p| [p.width, p.height, p.format.channels, p.format.depth as usize, p.format.alpha.into()]);
    let sizes = sizes.flat_map(|n| (n as u64).to_le_bytes());
    let samples = pictures.iter().flat_map(|p| p.samples.iter().flat_map(|s| s.to_le_bytes()));
    let all = options.bytes().chain(sizes).chain(samples);
    all.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3))
}

/// The error of a checkpoint that cannot be used.
fn unusable(what: &str) -> Error {
    Error::of_argument("resume", what)
}

impl Checkpoint {
    /// The bytes of a checkpoint. `save` appends the state, so that it is held only once.
    pub fn write(&self, save: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend([0; HEAD - MAGIC.len()]);
        out.extend(self.key.to_le_bytes());
        for word in [self.effort, self.stage, self.step] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.done.to_le_bytes());
        out.extend(self.lambda.to_le_bytes());
        save(&mut out);
        let crc = crc32(&out[HEAD..]).to_le_bytes();
        out[MAGIC.len()..HEAD].copy_from_slice(&crc);
        out
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`Class::Argument`](crate::Class::Argument) if the bytes are damaged or not a checkpoint of this version.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let crc = match bytes.get(..HEAD) {
            Some(head) if head.starts_with(MAGIC) => &head[MAGIC.len()..],
            _ => return Err(unusable("this is not a checkpoint of this version")),
        };
        let mut body = &bytes[HEAD..];
        if crc32(body).to_le_bytes() != crc {
            return Err(unusable("the checkpoint is damaged: its checksum does not match"));
        }
        fn take<const N: usize>(b: &mut &[u8]) -> Result<[u8; N]> {
            let (first, rest) = b.split_first_chunk().ok_or_else(|| unusable("the checkpoint is cut short"))?;
            *b = rest;
            Ok(*first)
        }
        let b = &mut body;
        Ok(Checkpoint {
            key: u64::from_le_bytes(take(b)?),
            effort: u32::from_le_bytes(take(b)?),
            stage: u32::from_le_bytes(take(b)?),
            step: u32::from_le_bytes(take(b)?),
            done: u64::from_le_bytes(take(b)?),
            lambda: f64::from_le_bytes(take(b)?),
            state: body.to_vec(),
        })
    }

    /// Returns an error if the checkpoint is of other pictures or options than those of `key`.
    pub fn check(&self, key: u64) -> Result<()> {
        match self.key == key && EFFORTS.contains(&self.effort) {
            true => Ok(()),
            false => Err(unusable("the checkpoint is of another picture or of other options")),
        }
    }
}

/// Appends values to a family's state, little-endian.
pub fn write_floats(out: &mut Vec<u8>, values: &[f32]) {
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

/// Fills `to` with values from the front of a family's state; false if there are fewer.
pub fn read_floats(state: &mut &[u8], to: &mut [f32]) -> bool {
    let Some(bytes) = state.split_off(..4 * to.len()) else { return false };
    let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    to.iter_mut().zip(values).for_each(|(t, v)| *t = v);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_round_trip_and_damaged_ones_are_errors() {
        let state = vec![1, 2, 3];
        let checkpoint = Checkpoint { key: 7 << 40, effort: 5, stage: 2, step: 99, done: 1 << 33, lambda: 1e-3, state };
        let bytes = checkpoint.write(|out| out.extend(&checkpoint.state));
        assert_eq!(Checkpoint::read(&bytes).unwrap(), checkpoint);
        assert!(checkpoint.check(7 << 40).is_ok() && checkpoint.check(8).is_err());
        (0..bytes.len()).for_each(|n| assert!(Checkpoint::read(&bytes[..n]).is_err()));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::read(&flipped).is_err(), "bit {bit}");
        }
    }
}
