use super::*;
use kernels::fast::context::context_scalar;
use tilefit_testing::Noise;

#[derive(Clone)]
struct Case {
    spec: PyramidSpec,
    size: (usize, usize),
    finest: u32,
    weights: Vec<f64>,
    /// Grids in coding order, without padding.
    q: Vec<Vec<f64>>,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut r = Noise::new(seed.wrapping_mul(77).wrapping_add(5));
        let mut spec = PyramidSpec::preset(3, 1000, 1 + r.below(12), r.below(5), 4);
        spec.depth = 1 + r.below(5) as u32;
        spec.hyper_from = r.below(spec.depth as usize + 2) as u32;
        spec.feature_scales = r.below(spec.depth as usize + 2) as u32;
        let finest = r.below(3).min(spec.depth as usize) as u32;
        let size = [(1, 70), (83, 1), (57, 91)][seed as usize % 3];
        let scale = 1.2 / (spec.width() as f64).sqrt();
        let mut f32s = |n: usize, scale: f64| (0..n).map(|_| (r.signed() * scale) as f32 as f64).collect::<Vec<_>>();
        let mut weights = f32s(spec.weights_count(), scale);
        let bs = spec.tensors().iter().find(|t| t.name == "bs").unwrap().range.clone();
        weights[bs.end - 1] += 4.0;
        let q = grid_sizes(&spec, size.0, size.1, finest).iter().map(|(w, h)| f32s(w * h, 2.0)).collect();
        Case { spec, size, finest, weights, q }
    }

    /// The definition: features from grids upsampled one by one, then each grid's rate, in f64.
    fn bits(&self) -> f64 {
        let spec = &self.spec;
        let order = spec.coding_order();
        let sizes = grid_sizes(spec, self.size.0, self.size.1, self.finest);
        let tensors = spec.tensors();
        let context = tensors.iter().filter(|t| t.module == Module::Context).map(|t| t.range.len()).sum::<usize>();
        let mut bits = 0.0;
        for (g, q) in self.q.iter().enumerate() {
            let scale = order[g].scale;
            let tensor = |name: &str| tensors.iter().find(|t| t.name == name && t.index == scale as usize);
            let maps = tensor("feature_w").map(|w| {
                let (fw, fh) = (self.size.0.div_ceil(2 << scale), self.size.1.div_ceil(2 << scale));
                let (w, b) =
                    (&self.weights[w.range.clone()], &self.weights[tensor("feature_b").unwrap().range.clone()]);
                let inputs: Vec<usize> = (0..g).rev().filter(|j| order[*j].scale > scale).collect();
                let at = |k: usize, y: usize, x: usize| {
                    let value = |(i, j): (usize, &usize)| {
                        let shift = order[*j].scale - scale - 1;
                        w[k * inputs.len() + i] * self.q[*j][(y >> shift) * sizes[*j].0 + (x >> shift)]
                    };
                    b[k] + inputs.iter().enumerate().map(value).sum::<f64>()
                };
                (0..spec.features * fw * fh).map(|i| at(i / (fw * fh), i / fw % fh, i % fw)).collect::<Vec<f64>>()
            });
            let neighbours = &NEIGHBOURS[..spec.spatial];
            let weights = &self.weights[..context];
            bits += context_scalar(neighbours, weights, sizes[g].0, q, maps.as_deref(), spec.features);
        }
        bits
    }

    fn run(&self, level: Level) -> (f64, f64, Vec<f32>, Vec<Vec<f32>>) {
        let weights: Vec<f32> = self.weights.iter().map(|w| *w as f32).collect();
        let mut model = RateModel::new(&self.spec, self.size.0, self.size.1, self.finest);
        let mut q: Vec<PaddedGrid> = model.sizes().iter().map(|(w, h)| PaddedGrid::new(*w, *h)).collect();
        let mut dq = q.clone();
        for (buf, q) in q.iter_mut().zip(&self.q) {
            let w = buf.width;
            (0..buf.height).for_each(|y| buf.row_mut(y).iter_mut().zip(&q[y * w..]).for_each(|(b, q)| *b = *q as f32));
        }
        let mut dweights = vec![0f32; weights.len()];
        let forward = model.forward(level, &weights, &q);
        // Twice: gradients add up, nothing is left over.
        let bits = model.forward_backward(level, &weights, &q, &mut dq, None);
        for dq in &mut dq {
            dq.clear();
        }
        let again = model.forward_backward(level, &weights, &q, &mut dq, Some(&mut dweights));
        assert_eq!(bits.to_bits(), again.to_bits());
        assert!((model.grid_bits().iter().sum::<f64>() - bits).abs() < 1e-6 * bits.abs().max(1.0));
        let mut one_by_one = vec![0f32; weights.len()];
        let mut scratch = ContextScratch::default();
        for (g, (w, h)) in model.sizes().iter().enumerate() {
            for at in 0..w * h {
                model.gradient_at(&q, g, (at / w, at % w), &mut one_by_one, &mut scratch);
            }
        }
        for (i, (one, all)) in one_by_one.iter().zip(&dweights).enumerate() {
            assert!((one - all).abs() < 1e-3 * all.abs() + 1e-2, "weight {i}: {one} latent by latent, {all} at once");
        }
        let dq = dq.iter().map(|g| (0..g.height).flat_map(|y| g.row(y).to_vec()).collect()).collect();
        (forward, bits, dweights, dq)
    }

    /// The derivative of the definition in one number, `None` where it is not smooth.
    fn slope(&mut self, pick: impl Fn(&mut Case) -> &mut f64) -> Option<f64> {
        let mut at = |h: f64| {
            let old = *pick(self);
            *pick(self) = old + h;
            let bits = self.bits();
            *pick(self) = old;
            bits
        };
        let (wide, narrow) = ((at(2e-6) - at(-2e-6)) / 4e-6, (at(1e-6) - at(-1e-6)) / 2e-6);
        ((wide - narrow).abs() <= 1e-4 * (1.0 + narrow.abs())).then_some(narrow)
    }
}

#[test]
fn gradients_are_those_of_the_definition() {
    let mut compared = [0usize; 3];
    for seed in 0..18 {
        let mut case = Case::new(seed);
        let want = case.bits();
        let levels = Level::available();
        let level = levels[seed as usize % levels.len()];
        let (forward, bits, dweights, dq) = case.run(level);
        assert!((bits - want).abs() < 1e-4 * want, "seed {seed} {level:?}: {bits} for {want}");
        assert!((bits - forward).abs() < 1e-6 * want);
        let check = |got: f32, slope: Option<f64>, what: String| {
            let Some(want) = slope else { return 0 };
            assert!(
                (got as f64 - want).abs() < 3e-3 * want.abs() + 5e-3,
                "seed {seed} {level:?} {what}: {got} for {want}"
            );
            1
        };
        for tensor in case.spec.tensors() {
            let kind = match tensor.module {
                Module::Context => 0,
                Module::Features => 1,
                _ => continue,
            };
            for i in tensor.range.clone().step_by(tensor.range.len().div_ceil(4)) {
                let slope = case.slope(|c| &mut c.weights[i]);
                compared[kind] += check(dweights[i], slope, format!("{} {i}", tensor.name));
            }
        }
        for g in 0..dq.len() {
            for i in (0..dq[g].len()).step_by(dq[g].len().div_ceil(5)) {
                let slope = case.slope(|c| &mut c.q[g][i]);
                compared[2] += check(dq[g][i], slope, format!("grid {g} latent {i}"));
            }
        }
    }
    assert!(compared.iter().all(|c| *c > 60), "{compared:?}");
}

#[test]
fn threads_change_no_bit() {
    let case = Case::new(2);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (_, bits, dweights, dq) = pool.install(|| case.run(Level::best()));
        let all = dweights.into_iter().chain(dq.into_iter().flatten());
        (bits.to_bits(), all.map(f32::to_bits).collect::<Vec<_>>())
    };
    let one = run(1);
    assert!(one == run(2));
    assert!(one == run(3));
}
