//! The page of `compare --html`: one self-contained HTML file.

use super::candidate::{Candidate, Score};
use super::failure::Result;
use super::report;
use crate::image::{Picture, Rect};
use crate::pictures::{self, OutFormat, Source};
use std::fmt::Write;

/// Side of a crop in pixels.
const CROP: usize = 192;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

struct Point {
    name: String,
    bpp: f64,
    psnr: f64,
    ours: bool,
}

/// Collects table rows and crops candidate by candidate, so that only one decoded picture is in memory at a time.
pub struct Page {
    title: String,
    facts: String,
    crops: Vec<(&'static str, Rect)>,
    /// For each crop, the HTML of its figures.
    figures: Vec<String>,
    rows: String,
    points: Vec<Point>,
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
        let crops = crops(p);
        let figures = crops.iter().map(|(_, r)| figure("original", "PNG", p, *r)).collect();
        Page { title: escaped(name), facts, crops, figures, rows: String::new(), points: Vec::new() }
    }

    pub fn add(&mut self, c: &Candidate, s: &Score) -> Result<()> {
        let name = escaped(c.name.rsplit('/').next().unwrap_or(&c.name));
        let psnr = report::psnr(s.psnr);
        let ms_ssim = s.ms_ssim.map_or("-".into(), |v| format!("{v:.5}"));
        let eye = s.ssimulacra2.map_or("-".into(), |v| format!("{v:.2}"));
        let part = |p: Option<u64>| p.map_or("-".to_string(), report::grouped);
        let caption = format!("{} B, {psnr} dB", report::grouped(s.bytes));
        for ((_, r), figures) in self.crops.iter().zip(&mut self.figures) {
            *figures += &figure(&name, &caption, &c.picture, *r);
        }
        let ours = c.parts.is_some();
        let _ = writeln!(
            self.rows,
            "<tr{}><th scope=row>{name}<td>{psnr}<td>{ms_ssim}<td>{eye}<td>{:.5}<td>{:.4}<td>{}<td>{}<td>{}",
            if ours { " class=ours" } else { "" },
            s.factor,
            s.bpp,
            report::grouped(s.bytes),
            part(c.parts.map(|p| p.0)),
            part(c.parts.map(|p| p.1)),
        );
        self.points.push(Point { name, bpp: s.bpp, psnr: s.psnr, ours });
        Ok(())
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
<th scope=col>MS-SSIM<th scope=col>SSIMULACRA2<th scope=col>factor<th scope=col>bpp<th scope=col>bytes<th scope=col>weights\
<th scope=col>codes<tbody>\n";
        out += &self.rows;
        out += "</table></div><p class=note>Sizes are whole files. Factor: bytes divided by the bytes of the PNG. \
PSNR: over all 8-bit samples of the decoded picture.</p></section>\n";
        out += &chart(&self.points);
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

/// A chart of PSNR over rate, with a logarithmic rate axis.
fn chart(points: &[Point]) -> String {
    let points: Vec<&Point> = points.iter().filter(|p| p.psnr.is_finite() && p.bpp > 0.0).collect();
    if points.len() < 2 {
        return String::new();
    }
    let range = |v: &dyn Fn(&Point) -> f64, margin: f64| {
        let low = points.iter().map(|p| v(p)).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(|p| v(p)).fold(f64::NEG_INFINITY, f64::max);
        (low - margin, high + margin)
    };
    let (x0, x1) = range(&|p| p.bpp.ln(), 0.25);
    let (y0, y1) = range(&|p| p.psnr, 0.7);
    let (left, right, top, bottom) = (44.0, 700.0, 14.0, 290.0);
    let x = |bpp: f64| left + (bpp.ln() - x0) / (x1 - x0) * (right - left);
    let y = |psnr: f64| bottom - (psnr - y0) / (y1 - y0) * (bottom - top);
    let mut out = String::from(
        "<section><h2>PSNR over rate</h2><div class=scroll><svg viewBox=\"0 0 760 330\" role=img \
aria-label=\"PSNR over bits per pixel\">\n",
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
        "<text x=\"{right}\" y=\"{}\" class=end>bits per pixel</text><text x=\"{}\" y=\"{}\">PSNR, dB</text>",
        bottom + 34.0,
        left + 6.0,
        top + 10.0
    );
    for ours in [false, true] {
        let mut line: Vec<&&Point> = points.iter().filter(|p| p.ours == ours).collect();
        line.sort_by(|a, b| a.bpp.total_cmp(&b.bpp));
        let path: Vec<String> = line.iter().map(|p| format!("{:.1} {:.1}", x(p.bpp), y(p.psnr))).collect();
        let class = if ours { "ours" } else { "other" };
        if path.len() > 1 {
            let _ = writeln!(out, "<path class=\"line {class}\" d=\"M{}\"/>", path.join("L"));
        }
        for p in line {
            let (px, py) = (x(p.bpp), y(p.psnr));
            let _ = writeln!(
                out,
                "<circle class={class} cx=\"{px:.1}\" cy=\"{py:.1}\" r=4><title>{}: {:.4} bpp, {:.2} dB</title></circle>\
<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                p.name,
                p.bpp,
                p.psnr,
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
    let (w, h) = (CROP.min(p.width), CROP.min(p.height));
    let places = |side: usize, crop: usize| {
        let n = side.div_ceil(crop);
        (0..n).map(move |i| (i * crop).min(side - crop))
    };
    let detail = |r: &Rect| -> u64 {
        let stride = p.width * p.format.channels;
        let mut sum = 0;
        for y in r.y0..r.y1 {
            let row = &p.samples[y * stride + r.x0 * p.format.channels..y * stride + r.x1 * p.format.channels];
            sum += row.iter().zip(&row[p.format.channels..]).map(|(a, b)| a.abs_diff(*b) as u64).sum::<u64>();
        }
        sum
    };
    let mut all: Vec<(u64, Rect)> = places(p.height, h)
        .flat_map(|y| places(p.width, w).map(move |x| Rect::new(x, y, x + w, y + h)))
        .map(|r| (detail(&r), r))
        .collect();
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

fn figure(name: &str, caption: &str, p: &Picture, r: Rect) -> String {
    let mut samples = Vec::with_capacity(r.area() * p.format.channels);
    for y in r.y0..r.y1 {
        samples
            .extend_from_slice(&p.samples[(y * p.width + r.x0) * p.format.channels..][..r.width() * p.format.channels]);
    }
    let crop = Picture { width: r.width(), height: r.height(), format: p.format, samples };
    let mut png = Vec::new();
    pictures::write(OutFormat::Png, &crop, &[], &mut png).expect("a crop fits a PNG in memory");
    format!(
        "<figure><img width={} height={} alt=\"{name}\" src=\"data:image/png;base64,{}\"><figcaption><b>{name}</b>{caption}</figcaption></figure>\n",
        r.width(),
        r.height(),
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
