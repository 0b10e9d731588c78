//! Watches a fit, cancels it, and goes on from its checkpoint: `cargo run --release --example progress_and_cancel`
#![allow(clippy::disallowed_methods)]

use tilefit::{Class, Encoder, Picture, Signal};

/// Rings around the middle.
fn picture() -> Picture {
    let (width, height) = (192, 128);
    let sample = |i: usize| {
        let (x, y) = ((i % width) as f64 - 96.0, (i / width) as f64 - 64.0);
        (128.0 + 100.0 * (0.02 * (x * x + y * y)).sqrt().sin()) as u8
    };
    Picture::from_u8(width, height, 1, &(0..width * height).map(sample).collect::<Vec<u8>>())
}

fn main() -> tilefit::Result<()> {
    let picture = picture();
    let mut checkpoint = Vec::new();
    let cancelled = Encoder::new()
        .effort(1)
        .progress(|p| {
            if p.step % 100 == 0 {
                println!("step {} of {}, {:.2} dB", p.step, p.steps, p.psnr.unwrap_or(0.0));
            }
            // `Signal::Finish` would give the best file so far instead.
            if p.step < 500 {
                Signal::GoOn
            } else {
                Signal::Cancel
            }
        })
        .checkpoint(|state| checkpoint = state.to_vec())
        .encode(&picture);
    match cancelled {
        Err(e) if e.class() == Class::Cancelled => println!("cancelled, {} bytes of checkpoint", checkpoint.len()),
        Err(e) => return Err(e),
        Ok(_) => println!("it was done before"),
    }

    let encoded = Encoder::new().effort(1).resume(checkpoint).encode(&picture)?;
    println!("{} bytes at {:.2} dB", encoded.bytes.len(), encoded.report.psnr);
    Ok(())
}
