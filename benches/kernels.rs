//! Speed of the kernels on one core: `cargo bench --bench kernels -- [FILTER]`.

mod common;

use common::Table;
use kernels::fast::gdn::Gdn;
use kernels::fast::gemm::{gemm, gemm_scalar, Matrix};
use kernels::fast::{conv2d as c2, conv_transpose2d as ct, gdn as g, ssim as sm, PackedConv, Scratch};
use kernels::{Conv2d, ConvTranspose2d, Level};
use tilefit::fit::soap::{Shape as SoapShape, Soap, SoapRate};

/// `n` values in [-0.5, 0.5).
fn noise(n: usize) -> Vec<f32> {
    tilefit_testing::noise(n, 1).iter().map(|v| 0.5 * v).collect()
}

fn main() {
    let table = Table::new();
    for n in [32, 128] {
        layers(&table, n);
    }
    products(&table);
    similarity(&table);
}

/// Dense matrix products of the sizes of the SOAP optimiser's bases, and the optimiser's step.
fn products(table: &Table) {
    for n in [8, 16, 32, 64, 128] {
        let (a, b, mut c) = (noise(n * n), noise(n * n), noise(n * n));
        let (a, b) = (Matrix::new(&a, n, n), Matrix::new(&b, n, n).transposed());
        table.row(&format!("gemm/sgemm/{n}"), n * n * n, || gemm(1.0, a, b, 0.0, &mut c));
        table.row(&format!("gemm/loops/{n}"), n * n * n, || gemm_scalar(1.0, a, b, 0.0, &mut c));
    }
    for (rows, cols) in [(16, 16), (32, 24), (48, 40)] {
        let mut soap = Soap::new([SoapShape { start: 0, rows, cols }]);
        let (mut w, g) = (noise(rows * cols), noise(rows * cols));
        table.row(&format!("soap/{rows}x{cols}"), 0, || soap.step(&mut w, &g, &SoapRate::default()));
    }
}

/// The three passes of each layer of the `gdn` family on 128x128 crops, and their sum over a training step.
fn layers(table: &Table, n: usize) {
    let level = Level::best();
    let first = if n == 128 { 17 } else { 5 };
    // Two crops per call, as a call of the fit has a few samples.
    let samples = 2;
    let conv = |in_channels, kernel, side| Conv2d {
        in_channels,
        out_channels: n,
        kernel,
        stride: 2,
        padding: kernel / 2,
        in_height: side,
        in_width: side,
    };
    let mut total = (0.0, 0);
    let mut add = |time: f64, macs: usize| total = (total.0 + time, total.1 + macs);
    let mut scratch = Scratch::default();
    for conv in [conv(3, first, 128), conv(n, 5, 64), conv(n, 5, 32)] {
        let (x, dy, w) =
            (noise(samples * conv.input_len()), noise(samples * conv.output_len()), noise(conv.weights_len()));
        let (mut y, mut dx, mut dw, mut db) = (dy.clone(), x.clone(), w.clone(), noise(n));
        let bias = noise(n);
        let mut packed = PackedConv::default();
        packed.pack(&conv, &w);
        let macs = samples * conv.macs();
        let name = |pass: &str| format!("conv2d/{pass}/{}-{n}/k{}/{}", conv.in_channels, conv.kernel, conv.in_width);
        let t =
            table.row(&name("forward"), macs, || c2::conv2d(level, &conv, &x, &packed, &bias, &mut y, &mut scratch));
        add(t, macs);
        let t = table.row(&name("data"), macs, || {
            c2::conv2d_backward_data(level, &conv, &dy, &packed, false, &mut dx, &mut scratch)
        });
        if conv.in_channels > 3 {
            add(t, macs);
        }
        let t = table.row(&name("weights"), macs, || {
            c2::conv2d_backward_weights(level, &conv, &x, &dy, &mut dw, &mut db, &mut scratch)
        });
        add(t, macs);
    }
    let up = |out_channels, side| ConvTranspose2d {
        in_channels: n,
        out_channels,
        kernel: 5,
        stride: 2,
        padding: 2,
        output_padding: 1,
        in_height: side,
        in_width: side,
    };
    for conv in [up(n, 16), up(n, 32), up(3, 64)] {
        let (x, dy, w) =
            (noise(samples * conv.input_len()), noise(samples * conv.output_len()), noise(conv.weights_len()));
        let (mut y, mut dx, mut dw, mut db) = (dy.clone(), x.clone(), w.clone(), noise(conv.out_channels));
        let bias = db.clone();
        let mut packed = PackedConv::default();
        packed.pack(&conv.adjoint(), &w);
        let macs = samples * conv.macs();
        let name = |pass: &str| format!("conv_transpose2d/{pass}/{n}-{}/k5/{}", conv.out_channels, conv.in_width);
        let t = table.row(&name("forward"), macs, || {
            ct::conv_transpose2d(level, &conv, &x, &packed, &bias, &mut y, &mut scratch)
        });
        add(t, macs);
        let t = table.row(&name("data"), macs, || {
            ct::conv_transpose2d_backward_data(level, &conv, &dy, &packed, false, &mut dx, &mut scratch)
        });
        add(t, macs);
        let t = table.row(&name("weights"), macs, || {
            ct::conv_transpose2d_backward_weights(level, &conv, &x, &dy, &mut dw, &mut db, &mut scratch)
        });
        add(t, macs);
    }
    for (side, inverse) in [(64, false), (32, false), (32, true), (64, true)] {
        let gdn = Gdn { channels: n, pixels: side * side, inverse };
        let len = samples * n * gdn.pixels;
        let (x, dy, mut y, mut norm, mut dx) = (noise(len), noise(len), noise(len), noise(len), noise(len));
        let (beta, gamma) = (vec![1.0; n], vec![0.01; n * n]);
        let (mut dbeta, mut dgamma) = (beta.clone(), gamma.clone());
        let macs = n * len;
        let name = |pass: &str| format!("{}gdn/{pass}/{n}/{side}", if inverse { "i" } else { "" });
        let t = table
            .row(&name("forward"), macs, || g::gdn(level, &gdn, &x, &beta, &gamma, &mut y, &mut norm, &mut scratch));
        add(t, macs);
        norm.fill(1.5);
        let t = table.row(&name("backward"), 2 * macs, || {
            g::gdn_backward(level, &gdn, &x, &norm, &gamma, &dy, false, &mut dx, &mut dbeta, &mut dgamma, &mut scratch)
        });
        add(t, 2 * macs);
    }
    if table.wants("") {
        let batch = 16 / samples;
        table.print(&format!("all layers/{n}/16 tiles"), batch * total.1, batch as f64 * total.0);
    }
}

fn similarity(table: &Table) {
    let level = Level::best();
    let mut scratch = Scratch::default();
    for (name, side, weights) in [("ssim", 128, &[1.0][..]), ("ms-ssim", 256, &sm::MS_SSIM_WEIGHTS[..])] {
        let a: Vec<f32> = noise(3 * side * side).iter().map(|v| v + 0.5).collect();
        let b: Vec<f32> = a.iter().zip(noise(a.len())).map(|(a, n)| a + 0.1 * n).collect();
        let mut db = vec![0.0; a.len()];
        // Eight filters of two passes with 11 taps at the finest scale.
        let macs = 8 * 22 * a.len();
        table.row(&format!("{name}/gradient/3x{side}x{side}"), macs, || {
            sm::ms_ssim(level, side, side, weights, &a, &b, 1.0, &mut db, &mut scratch);
        });
    }
}
