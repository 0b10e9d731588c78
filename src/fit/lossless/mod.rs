//! The encoder of family `lossless`. There is no gradient descent: the codes follow from the samples, and the model says
//! only which values occur.

use crate::image::Rect;
use crate::models::lossless::model::{quantised, LosslessModel};
use crate::models::lossless::values::{Values, MAX_COLOURS};
use crate::models::{Codes, Encode, Grid};
use std::collections::BTreeSet;

/// Most colours of a palette of several channels: the palette of more costs more than it saves.
const FEW_COLOURS: usize = 1 << 12;

/// The samples of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[channels][height][width]`
    pub samples: &'a [u16],
}

/// A model of pictures of `channels` channels of `depth` bits, and their codes. A decoded sample differs from the original
/// by at most `max_error`; with 0 by nothing.
pub fn encode(pictures: &[Planes], channels: usize, depth: u32, max_error: u16) -> (LosslessModel, Vec<Codes>) {
    let codes: Vec<Codes> = pictures
        .iter()
        .map(|p| {
            let mut grid = Grid::new(Rect::whole(p.width, p.height), channels);
            for (code, sample) in grid.codes.iter_mut().zip(p.samples) {
                *code = quantised((*sample).into(), max_error) as i16;
            }
            vec![grid]
        })
        .collect();
    let model = |values| LosslessModel::new(channels, depth, max_error, values);
    let largest = model(Values::All).largest();
    let mut candidates = vec![Values::All];
    candidates.extend(lists(&codes, channels, largest));
    candidates.extend(palette(&codes, channels));
    // Bits of the values and, about, of the pictures.
    let cost = |values: &Values| {
        let model = model(values.clone());
        let mut section = Vec::new();
        model.write_weights(&mut section);
        8.0 * section.len() as f64 + codes.iter().map(|c| model.price(&c[0])).sum::<f64>()
    };
    let best = candidates.into_iter().map(|v| (cost(&v), v)).min_by(|a, b| a.0.total_cmp(&b.0));
    (model(best.expect("candidates").1), codes)
}

/// The values that each channel has, if they are few of those that it could have.
fn lists(pictures: &[Codes], channels: usize, largest: u16) -> Option<Values> {
    let mut lists = vec![Vec::new(); channels];
    for (c, list) in lists.iter_mut().enumerate() {
        let mut used = vec![false; usize::from(largest) + 1];
        for grid in pictures.iter().map(|p| &p[0]) {
            grid.codes[c * grid.rect.area()..][..grid.rect.area()]
                .iter()
                .for_each(|v| used[usize::from(*v as u16)] = true);
        }
        let count = used.iter().filter(|u| **u).count();
        // A list of nearly all values costs more than it saves.
        if count <= used.len() * 3 / 4 {
            list.extend((0..=largest).filter(|v| used[usize::from(*v)]));
        }
    }
    lists.iter().any(|l| !l.is_empty()).then_some(Values::Lists(lists))
}

/// The colours, if they are few enough for a palette.
fn palette(pictures: &[Codes], channels: usize) -> Option<Values> {
    let mut colours = BTreeSet::new();
    for grid in pictures.iter().map(|p| &p[0]) {
        let area = grid.rect.area();
        let mut last = Vec::new();
        for i in 0..area {
            let colour: Vec<u16> = (0..channels).map(|c| grid.codes[c * area + i] as u16).collect();
            if colour != last {
                last.clone_from(&colour);
                colours.insert(colour);
                if colours.len() > if channels == 1 { MAX_COLOURS } else { FEW_COLOURS } {
                    return None;
                }
            }
        }
    }
    Some(Values::Palette(colours.into_iter().flatten().collect()))
}
