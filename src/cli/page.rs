//! The page of `compare --html`: one self-contained HTML file.

use super::candidate::{comparable, Candidate, Score};
use super::report;
use crate::image::{Picture, PixelFormat, Rect};
use crate::metrics;
use crate::pictures::{self, OutFormat, Source};
use std::fmt::Write;

/// Side of a crop in pixels.
const CROP: usize = 192;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Widest heat map in pixels.
const HEAT_WIDTH: usize = 420;

struct Point {
    name: String,
    bpp: f64,
    psnr: f64,
    ssimulacra2: Option<f64>,
    ours: bool,
}

/// Collects the parts of the page candidate by candidate, so that only one decoded picture is in memory at a time: first
/// [`Self::add`] for all, then [`Self::show`] for all.
pub struct Page {
    title: String,
    facts: String,
    crops: Vec<(&'static str, Rect)>,
    /// For each crop, the HTML of its figures.
    figures: Vec<String>,
    rows: String,
    points: Vec<Point>,
    /// Heat maps.
    heat: String,
    /// Places where the candidates may differ most, with the visual errors of each candidate there.
    places: Vec<(Rect, Vec<f64>)>,
}

impl Page {
    pub fn new(path: &str, original: &Source) -> Page {
        let p = &original.picture;
        let name = path.rsplit('/').next().unwrap_or(path);
        let facts = format!(
            "{} x {} pixels, {}, PNG of {} bytes",
            p.width,
            p.height,
            p.format.name(),
            report::grouped(original.bytes)
        );
        Page {
            title: escaped(name),
            facts,
            crops: crops(p),
            figures: Vec::new(),
            rows: String::new(),
            points: Vec::new(),
            heat: String::new(),
            places: cells(p).map(|r| (r, Vec::new())).collect(),
        }
    }

    /// Adds the numbers of a candidate, and where it differs from the `original`.
    pub fn add(&mut self, original: &Picture, c: &Candidate, s: &Score) {
        let name = escaped(c.name.rsplit('/').next().unwrap_or(&c.name));
        let psnr = report::psnr(s.psnr);
        let ms_ssim = s.ms_ssim.map_or("-".into(), |v| format!("{v:.5}"));
        let eye = s.ssimulacra2.map_or("-".into(), |v| format!("{v:.2}"));
        let part = |p: Option<u64>| p.map_or("-".to_string(), report::grouped);
        let distance = s.butteraugli.map_or("-".into(), |b| format!("{:.3}", b.norm3));
        if let Some(map) = comparable(original, &c.picture).ok().and_then(|p| error_map(original, &p)) {
            for (place, errors) in &mut self.places {
                errors.push(mean(&map, original.width, *place));
            }
            self.heat += &image(&name, &format!("SSIMULACRA2 {eye}"), &heat(&map, original.width));
        }
        let ours = c.parts.is_some();
        let _ = writeln!(
            self.rows,
            "<tr{}><th scope=row>{name}<td>{psnr}<td>{ms_ssim}<td>{eye}<td>{distance}<td>{:.5}<td>{:.4}<td>{}<td>{}<td>{}",
            if ours { " class=ours" } else { "" },
            s.factor,
            s.bpp,
            report::grouped(s.bytes),
            part(c.parts.map(|p| p.0)),
            part(c.parts.map(|p| p.1)),
        );
        self.points.push(Point { name, bpp: s.bpp, psnr: s.psnr, ssimulacra2: s.ssimulacra2, ours });
    }

    /// Ends the numbers and begins the crops: those by the original's detail, and the one where the candidates differ most.
    pub fn begin_crops(&mut self, original: &Picture) {
        // With a single candidate, where it differs most from the original.
        let spread = |errors: &[f64]| {
            let (least, most) = errors.iter().fold((f64::INFINITY, 0.0), |(l, m), e| (e.min(l), e.max(m)));
            most - if errors.len() > 1 { least } else { 0.0 }
        };
        let places = self.places.iter().filter(|(_, errors)| !errors.is_empty());
        if let Some((place, _)) = places.max_by(|a, b| spread(&a.1).total_cmp(&spread(&b.1))) {
            self.crops.insert(0, ("Largest differences", *place));
        }
        self.figures = self.crops.iter().map(|(_, r)| figure("original", "PNG", original, *r)).collect();
    }

    /// Adds the crops of a candidate.
    pub fn show(&mut self, c: &Candidate, s: &Score) {
        let name = escaped(c.name.rsplit('/').next().unwrap_or(&c.name));
        let eye = s.ssimulacra2.map_or(String::new(), |v| format!(", {v:.1}"));
        let caption = format!("{} B, {} dB{eye}", report::grouped(s.bytes), report::psnr(s.psnr));
        for ((_, r), figures) in self.crops.iter().zip(&mut self.figures) {
            *figures += &figure(&name, &caption, &c.picture, *r);
        }
    }

    pub fn finish(self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
<meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
<title>{0}: comparison</title>\n<style>\n{STYLE}</style>\n\
<header><h1>{0}</h1><p>{1}</p></header>\n<main>\n",
            self.title, self.facts
        );
        out += "<section><h2>Numbers</h2><div class=scroll><table><thead><tr><th scope=col>name<th scope=col>PSNR, dB\
<th scope=col>MS-SSIM<th scope=col>SSIMULACRA2<th scope=col>Butteraugli<th scope=col>factor<th scope=col>bpp<th scope=col>bytes<th scope=col>weights\
<th scope=col>codes<tbody>\n";
        out += &self.rows;
        out += "</table></div><p class=note>Sizes are whole files. Factor: bytes divided by the bytes of the PNG. \
PSNR: over all samples of the decoded picture. \
Butteraugli: its 3-norm, less is better; of the other measures more is better.</p></section>\n";
        let psnr = self.points.iter().filter(|p| p.psnr.is_finite()).map(|p| (p, p.psnr)).collect();
        out += &chart("PSNR over rate", "PSNR, dB", psnr);
        let eye = self.points.iter().filter_map(|p| Some((p, p.ssimulacra2?))).collect();
        out += &chart("SSIMULACRA2 over rate", "SSIMULACRA2", eye);
        if !self.heat.is_empty() {
            out += "<section><h2>Where errors are seen</h2><p class=note>By the error maps of SSIMULACRA2, on one scale for all: \
dark is like the original, bright is worse.</p>\n";
            let _ = writeln!(out, "<div class=\"crops heat\">{}</div></section>", self.heat);
        }
        out += "<section><h2>Crops</h2><p class=note>Press and hold a crop to show the original instead.</p>\n";
        for ((what, r), figures) in self.crops.iter().zip(&self.figures) {
            let _ = writeln!(
                out,
                "<h3>{what} <small>{} x {} pixels at {}, {}</small></h3><div class=crops>{figures}</div>",
                r.width(),
                r.height(),
                r.x0,
                r.y0
            );
        }
        let _ = write!(
            out,
            "</section>\n</main>\n<footer>Made by tilefit {}.</footer>\n<script>\n{SCRIPT}</script>\n",
            env!("CARGO_PKG_VERSION")
        );
        out
    }
}

/// A chart of a measure over rate, with a logarithmic rate axis.
fn chart(title: &str, axis: &str, mut points: Vec<(&Point, f64)>) -> String {
    points.retain(|(p, _)| p.bpp > 0.0);
    if points.len() < 2 {
        return String::new();
    }
    let range = |v: &dyn Fn(&(&Point, f64)) -> f64, margin: f64| {
        let low = points.iter().map(v).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(v).fold(f64::NEG_INFINITY, f64::max);
        (low - margin, high + margin)
    };
    let (x0, x1) = range(&|(p, _)| p.bpp.ln(), 0.25);
    let (y0, y1) = range(&|(_, value)| *value, 0.7);
    let (left, right, top, bottom) = (44.0, 700.0, 14.0, 290.0);
    let x = |bpp: f64| left + (bpp.ln() - x0) / (x1 - x0) * (right - left);
    let y = |value: f64| bottom - (value - y0) / (y1 - y0) * (bottom - top);
    let mut out = format!(
        "<section><h2>{title}</h2><div class=scroll><svg viewBox=\"0 0 760 330\" role=img \
aria-label=\"{axis} over bits per pixel\">\n"
    );
    let step = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0].into_iter().find(|s| (y1 - y0) / s <= 7.0).unwrap_or(50.0);
    let mut v = (y0 / step).ceil() * step;
    while v <= y1 {
        let _ = writeln!(
            out,
            "<path class=grid d=\"M{left} {0:.1}H{right}\"/><text x=\"{1}\" y=\"{2:.1}\" class=end>{v}</text>",
            y(v),
            left - 6.0,
            y(v) + 4.0
        );
        v += step;
    }
    for decade in -4..3 {
        for digit in [1.0, 2.0, 5.0] {
            let bpp = digit * 10f64.powi(decade);
            if bpp.ln() > x0 && bpp.ln() < x1 {
                let _ = writeln!(out, "<path class=grid d=\"M{0:.1} {top}V{bottom}\"/><text x=\"{0:.1}\" y=\"{1}\" class=middle>{bpp}</text>", x(bpp), bottom + 16.0);
            }
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"{right}\" y=\"{}\" class=end>bits per pixel</text><text x=\"{}\" y=\"{}\">{axis}</text>",
        bottom + 34.0,
        left + 6.0,
        top + 10.0
    );
    for ours in [false, true] {
        let mut line: Vec<&(&Point, f64)> = points.iter().filter(|(p, _)| p.ours == ours).collect();
        line.sort_by(|a, b| a.0.bpp.total_cmp(&b.0.bpp));
        let path: Vec<String> = line.iter().map(|(p, value)| format!("{:.1} {:.1}", x(p.bpp), y(*value))).collect();
        let class = if ours { "ours" } else { "other" };
        if path.len() > 1 {
            let _ = writeln!(out, "<path class=\"line {class}\" d=\"M{}\"/>", path.join("L"));
        }
        for (p, value) in line {
            let (px, py) = (x(p.bpp), y(*value));
            let _ = writeln!(
                out,
                "<circle class={class} cx=\"{px:.1}\" cy=\"{py:.1}\" r=4><title>{}: {:.4} bpp, {value:.2}</title></circle>\
<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                p.name,
                p.bpp,
                px + 8.0,
                py + 14.0,
                p.name
            );
        }
    }
    out + "</svg></div></section>\n"
}

/// The crops to show: the one with most detail, a typical one and a smooth one. Detail is the sum of absolute differences
/// between horizontal neighbours in the original.
fn crops(p: &Picture) -> Vec<(&'static str, Rect)> {
    let detail = |r: &Rect| -> u64 {
        let stride = p.width * p.format.channels;
        let mut sum = 0;
        for y in r.y0..r.y1 {
            let row = &p.samples[y * stride + r.x0 * p.format.channels..y * stride + r.x1 * p.format.channels];
            sum += row.iter().zip(&row[p.format.channels..]).map(|(a, b)| a.abs_diff(*b) as u64).sum::<u64>();
        }
        sum
    };
    let mut all: Vec<(u64, Rect)> = cells(p).map(|r| (detail(&r), r)).collect();
    all.sort_by_key(|(d, r)| (std::cmp::Reverse(*d), r.y0, r.x0));
    let mut out = vec![("Most detail", all[0].1)];
    if all.len() >= 3 {
        out.push(("Typical", all[all.len() / 2].1));
    }
    if all.len() >= 6 {
        out.push(("Smooth", all[all.len() * 9 / 10].1));
    }
    out
}

/// Crops that cover the picture.
fn cells(p: &Picture) -> impl Iterator<Item = Rect> {
    let (w, h) = (CROP.min(p.width), CROP.min(p.height));
    let places = |side: usize, crop: usize| (0..side.div_ceil(crop)).map(move |i| (i * crop).min(side - crop));
    let columns = places(p.width, w);
    places(p.height, h).flat_map(move |y| columns.clone().map(move |x| Rect::new(x, y, x + w, y + h)))
}

/// The visual error of each pixel; with alpha, of the pictures on mid-grey. `None` where there is no SSIMULACRA2.
fn error_map(original: &Picture, picture: &Picture) -> Option<Vec<f32>> {
    let grey = original.format.peak() / 2;
    let (a, b) = (metrics::composed(original, grey), metrics::composed(picture, grey));
    metrics::error_map(&a, &b)
}

/// The mean of a map of rows of `width` over a rectangle.
fn mean(map: &[f32], width: usize, r: Rect) -> f64 {
    let rows = (r.y0..r.y1).map(|y| map[y * width + r.x0..y * width + r.x1].iter().map(|v| f64::from(*v)).sum::<f64>());
    rows.sum::<f64>() / r.area() as f64
}

/// A map in colours from black over red to yellow, shrunk to at most [`HEAT_WIDTH`] columns.
fn heat(map: &[f32], width: usize) -> Picture {
    /// The error of a medium brightness: that of a score of 50.
    const MEDIUM: f64 = 6.2;
    let side = width.div_ceil(HEAT_WIDTH);
    let height = map.len() / width;
    let (w, h) = (width / side, (height / side).max(1));
    let samples = (0..w * h).flat_map(|i| {
        let (x, y) = (i % w * side, i / w * side);
        let error = mean(map, width, Rect::new(x, y, x + side, (y + side).min(height)));
        let level = 765.0 * error / (error + MEDIUM);
        [level, level - 255.0, level - 510.0].map(|v| v.clamp(0.0, 255.0) as u16)
    });
    Picture { width: w, height: h, format: PixelFormat::RGB, samples: samples.collect() }
}

fn figure(name: &str, caption: &str, p: &Picture, r: Rect) -> String {
    let mut samples = Vec::with_capacity(r.area() * p.format.channels);
    for y in r.y0..r.y1 {
        samples
            .extend_from_slice(&p.samples[(y * p.width + r.x0) * p.format.channels..][..r.width() * p.format.channels]);
    }
    image(name, caption, &Picture { width: r.width(), height: r.height(), format: p.format, samples })
}

/// A picture as a figure of the page.
fn image(name: &str, caption: &str, p: &Picture) -> String {
    let mut png = Vec::new();
    pictures::write(OutFormat::Png, p, &[], &mut png).expect("a small picture fits a PNG in memory");
    format!(
        "<figure><img width={} height={} alt=\"{name}\" src=\"data:image/png;base64,{}\"><figcaption><b>{name}</b>{caption}</figcaption></figure>\n",
        p.width,
        p.height,
        base64(&png)
    )
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for part in data.chunks(3) {
        let bits = part.iter().fold(0u32, |b, v| b << 8 | *v as u32) << (8 * (3 - part.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= part.len() { digit } else { '=' });
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_every_length() {
        assert_eq!(
            ["", "M", "Ma", "Man", "Many"].map(|t| base64(t.as_bytes())),
            ["", "TQ==", "TWE=", "TWFu", "TWFueQ=="]
        );
    }

    #[test]
    fn crops_are_inside_the_picture() {
        for (width, height) in [(1, 1), (191, 500), (1000, 193)] {
            let p = Picture::from_u8(width, height, 1, &vec![0; width * height]);
            for (_, r) in crops(&p) {
                assert!(!r.is_empty() && r.x1 <= width && r.y1 <= height);
            }
        }
    }
}
