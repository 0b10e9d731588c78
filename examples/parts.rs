use std::time::Instant;
use tilefit::fit::pyramid::{latents::Latents, rate::RateModel, synth::SynthModel};
use tilefit::models::pyramid::spec::PyramidSpec;
use tilefit::Level;
fn main() {
    let (w, h) = (512, 768);
    for (n, k, hid) in [(6, 2, 8), (10, 4, 16), (14, 6, 32), (14, 6, 48)] {
        let spec = PyramidSpec::preset(3, w * h, n, k, hid);
        let weights: Vec<f32> =
            (0..spec.weights_count()).map(|i| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.2).collect();
        let mut l = Latents::new(&spec, w, h, 0);
        for g in &mut l.grids {
            let y = &mut g.y;
            for (i, v) in y.iter_mut().enumerate() {
                *v = ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.3;
            }
        }
        let mut q = l.buffers();
        let mut dq = l.buffers();
        let mut r = RateModel::new(&spec, w, h, 0);
        let mut s = SynthModel::new(&spec, w, h, 0);
        let target = vec![0.4f32; 3 * w * h];
        let mut g = vec![0f32; weights.len()];
        let lv = Level::best();
        let mut best = [f64::MAX; 4];
        for i in 0..7 {
            let t = Instant::now();
            l.quantise(lv, &mut q, 0.3, 0.2, 16.0, 1, i);
            best[0] = best[0].min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            r.forward_backward(lv, &weights, &q, &mut dq, Some(&mut g));
            best[1] = best[1].min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            let views: Vec<_> =
                q.iter().zip(spec.coding_order()).filter(|(_, g)| !g.hyper).map(|(q, _)| q.view()).rev().collect();
            let mut dv: Vec<_> = dq
                .iter_mut()
                .zip(spec.coding_order())
                .filter(|(_, g)| !g.hyper)
                .map(|(q, _)| q.view_mut())
                .rev()
                .collect();
            s.forward_backward(lv, &weights, &views, &target, &mut dv, &mut g, 1.0);
            best[2] = best[2].min(t.elapsed().as_secs_f64());
            let t = Instant::now();
            l.adam_step(
                lv,
                &dq,
                16.0,
                &kernels::fast::adam::AdamStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, step: 5 },
            );
            best[3] = best[3].min(t.elapsed().as_secs_f64());
        }
        let px = (w * h) as f64;
        println!("n {n} k {k} hidden {hid}: quantise {:.1} ms rate {:.1} ms ({:.0} ns/px) synth {:.1} ms ({:.0} ns/px) adam {:.1} ms", best[0] * 1e3, best[1] * 1e3, best[1] * 1e9 / px, best[2] * 1e3, best[2] * 1e9 / px, best[3] * 1e3);
    }
}
