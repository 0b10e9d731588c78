//! What `--resume` continues from: the parameters, and in the second stage the codes. Moments start anew.

use crate::error::{Error, Result};

const MAGIC: &[u8; 4] = b"GDN1";

/// A fit between two steps. `codes` is empty in the first stage.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    pub channels: u32,
    pub step: u64,
    pub lambda: f64,
    pub exponents: Vec<u32>,
    pub parameters: Vec<f32>,
    pub codes: Vec<Vec<f32>>,
}

impl State {
    pub fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.channels.to_le_bytes());
        out.extend(self.step.to_le_bytes());
        out.extend(self.lambda.to_le_bytes());
        let floats = |out: &mut Vec<u8>, list: &[f32]| {
            out.extend((list.len() as u64).to_le_bytes());
            out.extend(list.iter().flat_map(|v| v.to_le_bytes()));
        };
        let exponents: Vec<f32> = self.exponents.iter().map(|&e| e as f32).collect();
        floats(&mut out, &exponents);
        floats(&mut out, &self.parameters);
        out.extend((self.codes.len() as u64).to_le_bytes());
        self.codes.iter().for_each(|c| floats(&mut out, c));
        out
    }

    pub fn read(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes)
            .ok_or_else(|| Error::format("the checkpoint is damaged or of another program: start without --resume"))
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let b = &mut bytes;
        if b.split_off(..4)? != MAGIC {
            return None;
        }
        fn word(b: &mut &[u8]) -> Option<u64> {
            Some(u64::from_le_bytes(b.split_off(..8)?.try_into().ok()?))
        }
        fn floats(b: &mut &[u8]) -> Option<Vec<f32>> {
            let n = usize::try_from(word(b)?).ok()?.checked_mul(4)?;
            let list = b.split_off(..n)?;
            Some(list.chunks_exact(4).map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]])).collect())
        }
        let channels = u32::from_le_bytes(b.split_off(..4)?.try_into().ok()?);
        let step = word(b)?;
        let lambda = f64::from_bits(word(b)?);
        let exponents = floats(b)?.into_iter().map(|e| e as u32).collect();
        let parameters = floats(b)?;
        let pictures = word(b)?;
        let codes = (0..pictures).map(|_| floats(b)).collect::<Option<_>>()?;
        b.is_empty().then_some(State { channels, step, lambda, exponents, parameters, codes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_and_cut_ones_are_refused() {
        let state = State {
            channels: 7,
            step: 99,
            lambda: 1e-3,
            exponents: vec![3, 4],
            parameters: vec![0.5, -1.0],
            codes: vec![vec![1.0], vec![2.0, 3.0]],
        };
        let bytes = state.write();
        assert_eq!(State::read(&bytes).unwrap(), state);
        (0..bytes.len()).for_each(|n| assert!(State::read(&bytes[..n]).is_err()));
    }
}
