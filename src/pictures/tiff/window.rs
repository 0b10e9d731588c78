//! Tags of a part of a picture: the place on earth (GeoTIFF 1.1, section 7.3.1 and Annex B) follows the pixels.

use super::directory::Entry;
use crate::pictures::window::Window;

const PIXEL_SCALE: u16 = 33550;
const TIEPOINTS: u16 = 33922;
const TRANSFORMATION: u16 = 34264;
const GEO_KEYS: u16 = 34735;
/// Polynomials from the earth to pixels, and a grid of Intergraph.
const OTHERS: [(u16, &str); 2] = [(50844, "RPC coefficients"), (33920, "Intergraph's matrix")];

/// The key whose value 2 says that a coordinate is that of the centre of a pixel.
const RASTER_TYPE: u64 = 1025;

/// The packed tags of the window; `None` if they are damaged. Tags that cannot follow are added to `left_out`.
pub fn moved(data: &[u8], window: &Window, left_out: &mut Vec<String>) -> Option<Vec<u8>> {
    let mut entries = Entry::unpacked(data)?;
    entries.retain(|e| {
        let other = OTHERS.iter().find(|o| o.0 == e.tag);
        left_out.extend(other.map(|o| o.1.into()));
        other.is_none()
    });
    let keys = entries.iter().find(|e| e.tag == GEO_KEYS).map_or(Vec::new(), Entry::integers);
    let centres = keys.chunks_exact(4).skip(1).any(|k| k[0] == RASTER_TYPE && k[3] == 2);
    let first = if centres { 0.0 } else { 0.5 };
    let axes = [window.columns(), window.rows()];
    for e in &mut entries {
        match e.tag {
            PIXEL_SCALE => change(e, 3, |v| (0..2).for_each(|i| v[i] *= axes[i].pixel))?,
            TIEPOINTS => change(e, 6, |v| (0..2).for_each(|i| v[i] = axes[i].moved(v[i], first)))?,
            // A place of the full-size picture is what `moved` takes to that place of the window: a step and a start.
            TRANSFORMATION => change(e, 16, |m| {
                for row in m.chunks_exact_mut(4) {
                    for (i, axis) in axes.iter().enumerate() {
                        let start = axis.start + (0.5 - first) * (axis.pixel - 1.0);
                        row[3] += row[i] * start;
                        row[i] *= axis.pixel;
                    }
                }
            })?,
            _ => {}
        }
    }
    let mut out = Vec::with_capacity(data.len());
    entries.iter().for_each(|e| e.pack(&mut out));
    Some(out)
}

/// Changes each `n` numbers of a tag of f64; `None` for other types and counts.
fn change(e: &mut Entry, n: usize, f: impl Fn(&mut [f64])) -> Option<()> {
    let bytes = e.values.chunks_exact(8);
    let mut values: Vec<f64> = bytes.map(|b| b.try_into().map(f64::from_le_bytes)).collect::<Result<_, _>>().ok()?;
    if e.kind != 12 || !values.len().is_multiple_of(n) {
        return None;
    }
    values.chunks_exact_mut(n).for_each(f);
    e.values = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rect;

    fn doubles(tag: u16, values: &[f64]) -> Entry {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Entry { tag, kind: 12, count: values.len() as u64, values: bytes }
    }

    fn numbers(entries: &[Entry], tag: u16) -> Vec<f64> {
        let e = entries.iter().find(|e| e.tag == tag).unwrap();
        e.values.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Where a pixel of the window lies, by either way of GeoTIFF, is where it lies in the picture.
    #[test]
    fn places_on_earth_stay() {
        for (raster, first) in [(1, 0.5), (2, 0.0)] {
            let matrix = [2.0, 0.5, 0.0, 100.0, 0.25, -3.0, 0.0, 900.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
            let before = [
                doubles(PIXEL_SCALE, &[2.0, 3.0, 0.0]),
                doubles(TIEPOINTS, &[7.0, 1.0, 0.0, 100.0, 900.0, 0.0]),
                doubles(TRANSFORMATION, &matrix),
                Entry::shorts(GEO_KEYS, &[1, 1, 0, 1, 1025, 0, 1, raster]),
                Entry::shorts(50844, &[1]),
            ];
            let mut data = Vec::new();
            before.iter().for_each(|e| e.pack(&mut data));
            let window = Window { height: 90, region: Rect::new(5, 3, 20, 22), scale: 2 };
            let mut left_out = Vec::new();
            let after = Entry::unpacked(&moved(&data, &window, &mut left_out).unwrap()).unwrap();
            assert_eq!((after.len(), left_out.len()), (4, 1));
            // Points of pixels: their centres, or their left upper corners.
            for (x, y) in [(0.0, 0.0), (4.0, 9.0)] {
                let full = |v: f64, start: f64| 4.0 * (v + 0.5 - first + start) - (0.5 - first);
                let (fx, fy) = (full(x, 5.0), full(y, 3.0));
                let tied = |e: &[Entry], x: f64, y: f64| {
                    let (s, t) = (numbers(e, PIXEL_SCALE), numbers(e, TIEPOINTS));
                    [t[3] + s[0] * (x - t[0]), t[4] - s[1] * (y - t[1])]
                };
                let by_matrix = |e: &[Entry], x: f64, y: f64| {
                    let m = numbers(e, TRANSFORMATION);
                    [m[0] * x + m[1] * y + m[3], m[4] * x + m[5] * y + m[7]]
                };
                assert_eq!(tied(&before, fx, fy), tied(&after, x, y));
                assert_eq!(by_matrix(&before, fx, fy), by_matrix(&after, x, y));
            }
        }
    }

    #[test]
    fn damaged_tags_are_left_out() {
        let window = Window { height: 9, region: Rect::new(0, 0, 2, 2), scale: 0 };
        let mut data = Vec::new();
        doubles(PIXEL_SCALE, &[1.0, 2.0]).pack(&mut data);
        assert_eq!(moved(&data, &window, &mut Vec::new()), None);
        assert_eq!(moved(&data[..7], &window, &mut Vec::new()), None);
    }
}
