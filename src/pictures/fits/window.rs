//! Header cards of a part of a picture: the world coordinates (FITS standard 4.0, section 8, and the SIP convention for
//! distortions) and the physical coordinates of IRAF (LTV, LTM) follow the pixels.

use super::{keyword, number, CARD};
use crate::pictures::metadata::{deflated, inflated, MAX_INFLATED};
use crate::pictures::window::Window;
use std::collections::{BTreeMap, BTreeSet};

/// Keywords about pixels that nothing says how to change, and beginnings of such keywords: sections of a detector, tables of
/// distortions.
const OTHERS: [&str; 7] = ["DATASEC", "TRIMSEC", "BIASSEC", "CCDSEC", "DETSEC", "AMPSEC", "NORMSEC"];
const TABLES: [&str; 6] = ["CPDIS", "CQDIS", "CPERR", "CQERR", "DP", "D2IM"];

/// A keyword of world coordinates: the axis of pixels that it is about, and which of the descriptions it belongs to.
struct World {
    what: &'static str,
    axis: u32,
    version: String,
}

/// Parses `CRPIX1`, `CD1_2A` and the like, for the two axes of the picture.
fn world(name: &str) -> Option<World> {
    const NAMES: [&str; 6] = ["CRPIX", "CDELT", "CTYPE", "CRVAL", "CD", "PC"];
    let what = NAMES
        .into_iter()
        .find(|n| name.strip_prefix(n).is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit())))?;
    let rest = &name[what.len()..];
    let version = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    let indices = &rest[..rest.len() - version.len()];
    // In CDi_j and PCi_j the axis of pixels is the second.
    let axis = match what {
        "CD" | "PC" => indices.split_once('_')?.1,
        _ => indices,
    };
    let axis = axis.parse().ok().filter(|a| [1, 2].contains(a))?;
    (version.len() <= 1).then(|| World { what, axis, version: version.into() })
}

/// The order of a term of a SIP polynomial: `A_p_q` has `p + q`.
fn sip_order(name: &str) -> Option<i32> {
    let mut parts = name.split('_');
    let known = ["A", "B", "AP", "BP"].contains(&parts.next()?);
    let mut digit = || parts.next().filter(|d| d.len() == 1)?.parse::<i32>().ok();
    let order = digit()? + digit()?;
    (known && parts.next().is_none()).then_some(order)
}

/// The cards of the window, deflated as they are in the item; `None` if they are damaged. Keywords that cannot follow are
/// added to `left_out`.
pub fn moved(data: &[u8], window: &Window, left_out: &mut Vec<String>) -> Option<Vec<u8>> {
    let cards = inflated(data, MAX_INFLATED).ok()?;
    let axes = [window.columns(), window.rows_upwards()];
    let pixel = axes[0].pixel;
    let scaled = window.scale > 0;
    let position = |axis: u32, v: f64| axes[axis as usize - 1].moved(v, 1.0);
    let mut out = Vec::with_capacity(cards.len());
    // Keywords of each description of world coordinates, and all of physical coordinates.
    let mut versions: BTreeMap<String, BTreeSet<(&str, u32)>> = BTreeMap::new();
    let mut physical = BTreeSet::new();
    for card in cards.chunks_exact(CARD) {
        let name = keyword(card);
        if OTHERS.contains(&name) || TABLES.iter().any(|t| name.strip_prefix(t).is_some_and(is_index)) {
            left_out.push(format!("FITS card {name}"));
            continue;
        }
        let value = card_value(card);
        let new = if let Some(w) = world(name) {
            versions.entry(w.version).or_default().insert((w.what, w.axis));
            match (w.what, value) {
                ("CRPIX", Some(v)) => Some(position(w.axis, v)),
                ("CDELT" | "CD", Some(v)) if scaled => Some(v * pixel),
                _ => None,
            }
        } else {
            let axis =
                |prefix| name.strip_prefix(prefix).and_then(|n: &str| n.parse().ok()).filter(|n| [1, 2].contains(n));
            match (axis("LTV"), name.strip_prefix("LTM"), value) {
                (Some(axis), _, Some(v)) => {
                    physical.insert(axis);
                    Some(position(axis, v))
                }
                (_, Some(indices), Some(v)) if scaled && ["1", "2"].iter().any(|i| indices.starts_with(i)) => {
                    physical.extend(match indices {
                        "1_1" => Some(11),
                        "2_2" => Some(12),
                        _ => None,
                    });
                    Some(v / pixel)
                }
                (_, _, Some(v)) if scaled && ["A_DMAX", "B_DMAX"].contains(&name) => Some(v / pixel),
                (_, _, Some(v)) => sip_order(name).filter(|_| scaled).map(|order| match order {
                    0 => v / pixel,
                    _ => (1..order).fold(v, |v, _| v * pixel),
                }),
                _ => None,
            }
        };
        match new {
            Some(v) => out.extend(with_value(card, v)),
            None => out.extend(card),
        }
    }
    // What is left out in a header has a default, which would not be right any more.
    let mut add =
        |name: String, v: f64| out.extend(format!("{:<80}", format!("{name:<8}= {:>20}", text(v))).into_bytes());
    for (version, has) in &versions {
        for axis in [1, 2] {
            if !has.contains(&("CRPIX", axis)) {
                add(format!("CRPIX{axis}{version}"), position(axis, 0.0));
            }
            if scaled && !has.contains(&("CDELT", axis)) && !has.iter().any(|k| k.0 == "CD") {
                add(format!("CDELT{axis}{version}"), pixel);
            }
        }
    }
    for axis in [1, 2].into_iter().filter(|a| scaled && physical.contains(a) && !physical.contains(&(10 + a))) {
        add(format!("LTM{axis}_{axis}"), 1.0 / pixel);
    }
    Some(deflated(&out))
}

/// A number in as few characters as read back as the same f64.
fn text(v: f64) -> String {
    let plain = format!("{v}");
    if plain.len() <= 20 {
        plain
    } else {
        number(v)
    }
}

/// Whether the rest of a keyword is numbers.
fn is_index(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_digit())
}

/// The numeric value of a card.
fn card_value(card: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(card.get(10..)?).ok().filter(|_| card[8..10] == *b"= ")?;
    let value = text.split('/').next()?.trim();
    value.replace(['D', 'd'], "E").parse().ok().filter(|v: &f64| v.is_finite())
}

/// The card with another number, and as much of its comment as there is room for.
fn with_value(card: &[u8], v: f64) -> Vec<u8> {
    let comment = card.iter().position(|c| *c == b'/').map_or(&[][..], |at| &card[at..]);
    let mut new = format!("{:<8}= {:>20} ", keyword(card), text(v)).into_bytes();
    new.extend(comment);
    new.resize(CARD, b' ');
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rect;

    fn moved_cards(cards: &[&str], window: Window) -> (Vec<String>, Vec<String>) {
        let data = cards.iter().flat_map(|c| format!("{c:<80}").into_bytes()).collect::<Vec<_>>();
        let mut left_out = Vec::new();
        let out = inflated(&moved(&deflated(&data), &window, &mut left_out).unwrap(), MAX_INFLATED).unwrap();
        let text = |c: &[u8]| std::str::from_utf8(c).unwrap().trim_end().to_string();
        (out.chunks_exact(CARD).map(text).collect(), left_out)
    }

    /// The value of a card after [`moved_cards`].
    fn value(cards: &[String], name: &str) -> f64 {
        let card = cards.iter().find(|c| c[..8].trim_end() == name);
        card_value(format!("{:<80}", card.unwrap_or_else(|| panic!("no {name}"))).as_bytes()).unwrap()
    }

    #[test]
    fn a_region_moves_the_reference_pixel() {
        let window = Window { height: 100, region: Rect::new(10, 20, 40, 60), scale: 0 };
        let cards = [
            "CRPIX1  =                 50.5 / reference",
            "CRPIX2  =              5.05D+1",
            "CD1_1   = -1E-3",
            "OBJECT  = 'M 31 / CRPIX1'",
        ];
        let (out, left_out) = moved_cards(&cards, window);
        assert_eq!(out[0], "CRPIX1  =                 40.5 / reference");
        // 40 rows lie below the region.
        assert_eq!(value(&out, "CRPIX2"), 10.5);
        assert_eq!(&out[2..], &cards[2..]);
        assert!(left_out.is_empty());
    }

    /// World coordinates of the same place are the same, with a matrix, with steps, and with a distortion.
    #[test]
    fn world_coordinates_stay() {
        let window = Window { height: 103, region: Rect::new(5, 3, 20, 26), scale: 2 };
        let cards = [
            "CRPIX1  = 31.25",
            "CRPIX2  = 7.0",
            "CD1_1   = -0.5",
            "CD1_2   = 0.25",
            "CD2_1   = 0.125",
            "CD2_2   = 2",
            "A_2_0   = 1E-3",
            "B_1_1   = 3E-3",
            "CRPIX1A = 1.0",
            "CDELT1A = 0.5",
            "CDELT2A = 4.0",
        ];
        let (out, _) = moved_cards(&cards, window);
        let before: Vec<String> = cards.iter().map(|c| c.to_string()).collect();
        let sky = |cards: &[String], x: f64, y: f64| {
            let v = |name| value(cards, name);
            let (u, w) = (x - v("CRPIX1"), y - v("CRPIX2"));
            let (u, w) = (u + v("A_2_0") * u * u, w + v("B_1_1") * u * w);
            [v("CD1_1") * u + v("CD1_2") * w, v("CD2_1") * u + v("CD2_2") * w]
        };
        // A corner of a pixel of the window, and that place in the picture: FITS counts from 0.5 at the lower left.
        for (x, y) in [(0.5, 0.5), (3.5, 2.5), (15.5, 23.5)] {
            let (full_x, full_y) = (0.5 + 4.0 * (5.0 + x - 0.5), 0.5 + 103.0 - 4.0 * 26.0 + 4.0 * (y - 0.5));
            let (a, b) = (sky(&before, full_x, full_y), sky(&out, x, y));
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
            let a = 4.0 * full_y;
            let b = value(&out, "CDELT2A") * (y - value(&out, "CRPIX2A"));
            assert!((a - b).abs() < 1e-9, "{a} {b}");
            assert_eq!(0.5 * (full_x - 1.0), value(&out, "CDELT1A") * (x - value(&out, "CRPIX1A")));
        }
    }

    #[test]
    fn physical_coordinates_and_defaults_follow() {
        let window = Window { height: 64, region: Rect::new(2, 0, 8, 8), scale: 3 };
        let cards = [
            "LTV1    = -100.0",
            "LTM1_1  = 0.5",
            "LTV2    = 0",
            "CTYPE1  = 'RA---TAN'",
            "PC1_1   = 1.0",
            "DATASEC = '[1:64,1:64]'",
            "DP1     = 'NAXIS: 2'",
            "DPI     = 300",
        ];
        let (out, left_out) = moved_cards(&cards, window);
        assert_eq!(value(&out, "LTM1_1"), 0.0625);
        assert_eq!(value(&out, "LTM2_2"), 0.125);
        // Physical 250 is 25 of the picture, which is the centre of its column 25, counted from 1.
        assert!((0.0625 * 250.0 + value(&out, "LTV1") - (0.5 + (24.5 - 16.0) / 8.0)).abs() < 1e-9);
        assert_eq!((value(&out, "CDELT1"), value(&out, "CDELT2"), value(&out, "PC1_1")), (8.0, 8.0, 1.0));
        assert_eq!(left_out, ["FITS card DATASEC", "FITS card DP1"]);
        assert!(out.iter().any(|c| c.starts_with("DPI")));
    }
}
