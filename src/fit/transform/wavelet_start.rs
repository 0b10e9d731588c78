//! A start that is a codec already: analysis and synthesis of a wavelet packet (5/3 filters of Le Gall and Tabatabai
//! 1988) of three levels, of which `N` bands are kept. Training goes on from there.

use super::bands;
use crate::models::transform::KERNEL;

const LEVELS: usize = 3;
const TAPS: usize = KERNEL;
type Filter = [f32; TAPS];

/// Taps from -2 to 2 around the even sample, low and high; the high band lies on the odd ones. The last tap of the
/// high synthesis would be the sixth.
const ANALYSIS: [Filter; 2] = [[-0.125, 0.25, 0.75, 0.25, -0.125], [0.0, 0.0, -0.5, 1.0, -0.5]];
const SYNTHESIS: [Filter; 2] = [[0.0, 0.5, 1.0, 0.5, 0.0], [0.0, -0.125, -0.25, 0.75, -0.25]];

/// A band of one colour component after some levels: low (0) or high (1) at each, the finest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Band {
    component: usize,
    x: Vec<usize>,
    y: Vec<usize>,
}

/// A connection: output map, input map, filter.
#[derive(Clone, Copy, Debug)]
pub struct Tap2d {
    pub fine: usize,
    pub coarse: usize,
    x: usize,
    y: usize,
    gain: f32,
}

impl Tap2d {
    /// The weight of the analysis at row `u`, column `v` of the kernel.
    pub fn analysis(&self, u: usize, v: usize) -> f32 {
        self.gain * ANALYSIS[self.y][u] * ANALYSIS[self.x][v]
    }

    /// That of the synthesis, of its inverse.
    pub fn synthesis(&self, u: usize, v: usize) -> f32 {
        SYNTHESIS[self.y][u] * SYNTHESIS[self.x][v] / self.gain
    }
}

/// The connections of each level, the finest first: of the picture's components, of the maps at 1/2, at 1/4.
#[derive(Clone, Debug)]
pub struct Packet {
    pub levels: Vec<Vec<Tap2d>>,
}

/// Choices of low and high, the finest first, for frequency `f` in 0..8: a high band lies upside down.
fn path(f: usize) -> Vec<usize> {
    let bit = |k: usize| f >> k & 1;
    vec![bit(2), bit(2) ^ bit(1), bit(1) ^ bit(0)]
}

/// The norm of a band's synthesis along one axis.
fn norm(path: &[usize]) -> f32 {
    let mut response = vec![1f32];
    for &choice in path.iter().rev() {
        let mut finer = vec![0f32; 2 * response.len() + TAPS];
        for (i, r) in response.iter().enumerate() {
            SYNTHESIS[choice].iter().enumerate().for_each(|(k, s)| finer[2 * i + k] += r * s);
        }
        response = finer;
    }
    response.iter().map(|r| r * r).sum::<f32>().sqrt()
}

impl Packet {
    /// The first of `bands`, one for each channel of the codes, for an error of `step` of a code in the picture's norm. A
    /// band that would need more feature maps than `maps` has is left out.
    pub fn new(maps: [usize; LEVELS], bands: &[bands::Band], step: f32) -> Self {
        let of = |b: &bands::Band| Band { component: b.component, x: path(b.fx), y: path(b.fy) };
        let mut coarse: Vec<Band> = bands.iter().take(maps[0]).map(of).collect();
        let mut levels = Vec::new();
        for level in (0..LEVELS).rev() {
            let mut fine: Vec<Band> = Vec::new();
            let mut taps = Vec::new();
            for (i, band) in coarse.iter().enumerate() {
                let mut parent = band.clone();
                let (x, y) = (parent.x.remove(level), parent.y.remove(level));
                let at = match level {
                    0 => parent.component,
                    _ => fine.iter().position(|b| *b == parent).unwrap_or(fine.len()),
                };
                if level > 0 && at == fine.len() {
                    if at == maps[LEVELS - level] {
                        continue;
                    }
                    fine.push(parent);
                }
                let gain = if level == LEVELS - 1 { norm(&band.x) * norm(&band.y) / step } else { 1.0 };
                taps.push(Tap2d { fine: at, coarse: i, x, y, gain });
            }
            levels.push(taps);
            coarse = fine;
        }
        levels.reverse();
        Packet { levels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_have_their_paths() {
        let all: Vec<_> = (0..8).map(path).collect();
        assert_eq!(all[0], [0, 0, 0]);
        assert_eq!(all[1], [0, 0, 1]);
        assert_eq!(all[4], [1, 1, 0]);
        assert!((0..8).all(|i| (0..i).all(|j| all[i] != all[j])));
    }

    #[test]
    fn maps_fit_and_every_code_is_used() {
        for (n, channels) in [(1, 3), (2, 3), (4, 1), (8, 3), (12, 3), (33, 3), (192, 3), (255, 3), (64, 1), (70, 1)] {
            let all: Vec<bands::Band> =
                (0..64 * channels).map(|i| bands::Band { component: i / 64, fy: i % 64 / 8, fx: i % 8 }).collect();
            let packet = Packet::new([n; 3], &all, 0.05);
            assert_eq!(packet.levels[2].len(), n.min(64 * channels));
            for maps in [[n; 3], [n, n.div_ceil(2), n.div_ceil(3)], [n, 1, 1]] {
                let packet = Packet::new(maps, &all, 0.05);
                for (k, level) in packet.levels.iter().enumerate() {
                    let fine = if k == 0 { channels } else { maps[3 - k] };
                    assert!(level.iter().all(|t| t.coarse < maps[2 - k] && t.fine < fine));
                }
            }
        }
    }
}
