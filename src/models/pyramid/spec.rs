//! The shape of a pyramid model: which grids, which layers, which weights in which order.

use crate::models::GridSpec;
use alloc::vec::Vec;
use std::ops::Range;

/// Causal neighbours `(dy, dx)` of the context network, in order of priority; the first `n` are used.
pub const NEIGHBOURS: [(i32, i32); 26] = [
    (0, -1),
    (-1, 0),
    (-1, -1),
    (-1, 1),
    (0, -2),
    (-2, 0),
    (-3, 0),
    (0, -3),
    (-1, -2),
    (-2, 1),
    (-2, -1),
    (-1, 2),
    (-2, -2),
    (-1, -3),
    (-2, 2),
    (-3, 1),
    (0, -4),
    (-1, 3),
    (-2, -3),
    (-2, 3),
    (-3, -1),
    (-3, -2),
    (-3, 2),
    (-4, 0),
    (-1, -4),
    (-4, -1),
];

/// One convolution of the synthesis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynthLayer {
    pub outputs: usize,
    /// 1 or 3; a 3x3 has replicate padding.
    pub kernel: usize,
    /// Adds the input to the output (`outputs` equals the inputs).
    pub residual: bool,
    pub relu: bool,
}

/// A trunk as most are: `hidden` 1x1 with ReLU, 1x1 to the channels, `tail` residual 3x3 with ReLU between.
pub fn usual_trunk(channels: usize, hidden: usize, tail: usize) -> Vec<SynthLayer> {
    let layer = |outputs, kernel, residual, relu| SynthLayer { outputs, kernel, residual, relu };
    let head = [layer(hidden, 1, false, true), layer(channels, 1, false, false)];
    head.into_iter().chain((1..=tail).map(|i| layer(channels, 3, true, i < tail))).collect()
}

/// A pyramid model without its weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PyramidSpec {
    /// Channels of the picture, 1 or 3.
    pub channels: usize,
    /// Scale of the coarsest grid: grids stand at `1/2^0 ..= 1/2^depth`.
    pub depth: u32,
    /// Scales `hyper_from ..= depth` have one more grid, a hyper-grid: context only, not synthesised.
    /// `depth + 1`: none.
    pub hyper_from: u32,
    /// Bit `s`: scale `s` has a second synthesised grid, as chroma wants, and no hyper-grid.
    pub second: u8,
    /// Spatial neighbours of the context network.
    pub spatial: usize,
    /// Features of coarser grids (IFCE) that the context network sees.
    pub features: usize,
    /// Grids at scales `0 .. feature_scales` get features; the others see zeros.
    pub feature_scales: u32,
    /// Whether the context network's outputs have a step of their own.
    pub outputs_apart: bool,
    /// The trunk: 1x1 layers first (the last of them with `channels` outputs), then 3x3 layers.
    pub trunk: Vec<SynthLayer>,
}

/// Parts of the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Module {
    /// Context network: `h1 = relu(W1 c + b1 + c)`, `h2 = relu(W2 h1 + b2 + h1)`,
    /// `(mu, s) = W3 h2 + b3 + Ws c + bs`.
    Context,
    /// One linear layer per scale: all coarser grids (and hyper-grids) to `features` maps.
    Features,
    Upsampling,
    Synthesis,
}

/// Weights that share a quantisation step and a law, in file order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Context,
    ContextBiases,
    /// `W3` and `Ws`, where they are apart: an error in the location or the scale costs several times what one in a hidden
    /// unit does.
    Outputs,
    Features,
    FeatureBiases,
    Upsampling,
    Synthesis,
    SynthesisBiases,
}

impl Group {
    pub const COUNT: usize = 8;
}

/// One tensor of weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorSpec {
    pub name: &'static str,
    pub module: Module,
    pub group: Group,
    /// Scale (features, upsampling) or layer (synthesis) that it belongs to.
    pub index: usize,
    /// Outputs, inputs per output (`inputs * kernel * kernel`, input-major).
    pub shape: (usize, usize),
    /// Where it stands in the flat list of all weights.
    pub range: Range<usize>,
}

/// A grid of the pyramid in coding order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PyramidGrid {
    pub scale: u32,
    pub hyper: bool,
}

impl PyramidSpec {
    /// Width of the context network's layers.
    pub fn width(&self) -> usize {
        self.spatial + self.features
    }

    /// Maps at full resolution that the synthesis sees: one a synthesised grid, the last coded first.
    pub fn maps(&self) -> usize {
        self.maps_at(0)
    }

    fn has_second(&self, scale: u32) -> bool {
        u32::from(self.second).checked_shr(scale).unwrap_or(0) & 1 == 1
    }

    /// Synthesised grids of a scale.
    pub fn synthesised_at(&self, scale: u32) -> usize {
        1 + usize::from(self.has_second(scale))
    }

    /// Places of the maps of `scale` among those of `finest` and coarser scales.
    pub fn maps_of(&self, scale: u32, finest: u32) -> Range<usize> {
        let first = (finest..scale).map(|s| self.synthesised_at(s)).sum();
        first..first + self.synthesised_at(scale)
    }

    /// Maps at `scale`: one for each synthesised grid of this scale and coarser ones.
    pub fn maps_at(&self, scale: u32) -> usize {
        (scale..=self.depth).map(|s| self.synthesised_at(s)).sum()
    }

    /// Coding order: coarsest first, at each scale the hyper-grid or the second grid before the first.
    pub fn coding_order(&self) -> Vec<PyramidGrid> {
        (0..=self.depth)
            .rev()
            .flat_map(|scale| {
                let second = self.has_second(scale);
                let before = (second || scale >= self.hyper_from).then_some(PyramidGrid { scale, hyper: !second });
                before.into_iter().chain([PyramidGrid { scale, hyper: false }])
            })
            .collect()
    }

    pub fn grids(&self) -> Vec<GridSpec> {
        self.coding_order().iter().map(|g| GridSpec { shift: g.scale, channels: 1 }).collect()
    }

    /// Inputs of the feature layer of `scale`: all grids coded before, the newest first, each
    /// nearest-neighbour upsampled to scale `scale + 1`, where the layer runs.
    pub fn feature_inputs(&self, scale: u32) -> usize {
        self.coding_order().iter().filter(|g| g.scale > scale).count()
    }

    /// All tensors in file order; `range` runs without gaps from 0.
    ///
    /// Context: w1 [D,D], b1 [D,1], w2, b2, w3 [2,D], b3 [2,1], ws [2,D], bs [2,1].
    /// Features, for each scale `feature_scales-1 .. 0` (coding order): w [k, inputs], b [k,1].
    /// Upsampling, for each step `depth-1 .. 0` (from scale index+1 to index): up [1,4] = `a b c d` of the
    /// kernel `a b c d d c b a`, pre [1,4] = `a b c d` of `a b c d c b a`.
    /// Synthesis: each layer w [outputs, inputs*k*k], b [outputs,1]; then the stabiliser w [channels, maps],
    /// b [channels,1], a linear 1x1 layer from the maps to the picture, added to the output of the last 1x1 layer
    /// of the trunk (before the 3x3 layers).
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list: Vec<TensorSpec> = Vec::new();
        let mut at = 0;
        let mut add = |name, module, group, index, outputs: usize, inputs: usize| {
            let n = outputs * inputs;
            list.push(TensorSpec { name, module, group, index, shape: (outputs, inputs), range: at..at + n });
            at += n;
        };
        let d = self.width();
        let last = if self.outputs_apart { Group::Outputs } else { Group::Context };
        for (name, bias_name, group, outputs) in [
            ("w1", "b1", Group::Context, d),
            ("w2", "b2", Group::Context, d),
            ("w3", "b3", last, 2),
            ("ws", "bs", last, 2),
        ] {
            add(name, Module::Context, group, 0, outputs, d);
            add(bias_name, Module::Context, Group::ContextBiases, 0, outputs, 1);
        }
        if self.features > 0 {
            for scale in (0..self.feature_scales.min(self.depth)).rev() {
                let (index, inputs) = (scale as usize, self.feature_inputs(scale));
                add("feature_w", Module::Features, Group::Features, index, self.features, inputs);
                add("feature_b", Module::Features, Group::FeatureBiases, index, self.features, 1);
            }
        }
        for step in (0..self.depth as usize).rev() {
            add("up", Module::Upsampling, Group::Upsampling, step, 1, 4);
            add("pre", Module::Upsampling, Group::Upsampling, step, 1, 4);
        }
        let mut inputs = self.maps();
        for (index, layer) in self.trunk.iter().enumerate() {
            let area = layer.kernel * layer.kernel;
            add("synth_w", Module::Synthesis, Group::Synthesis, index, layer.outputs, inputs * area);
            add("synth_b", Module::Synthesis, Group::SynthesisBiases, index, layer.outputs, 1);
            inputs = layer.outputs;
        }
        add("stab_w", Module::Synthesis, Group::Synthesis, self.trunk.len(), self.channels, self.maps());
        add("stab_b", Module::Synthesis, Group::SynthesisBiases, self.trunk.len(), self.channels, 1);
        list
    }

    pub fn weights_count(&self) -> usize {
        self.tensors().last().map_or(0, |t| t.range.end)
    }

    /// A preset: `hidden` channels in the trunk, a context network of `spatial + features` inputs.
    pub fn preset(channels: usize, pixels: usize, spatial: usize, features: usize, hidden: usize) -> Self {
        let depth = if pixels < 1 << 20 {
            6
        } else if pixels < 3 << 20 {
            7
        } else {
            8
        };
        PyramidSpec {
            channels,
            depth,
            hyper_from: 4,
            second: 0,
            spatial,
            features,
            feature_scales: 3,
            outputs_apart: true,
            trunk: usual_trunk(channels, hidden, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_match_the_published_preset() {
        // mop: 480 context, 108 features (9 + 8 + 7 inputs), 48 upsampling.
        let spec = PyramidSpec::preset(3, 768 * 512, 10, 4, 16);
        let count = |m| spec.tensors().iter().filter(|t| t.module == m).map(|t| t.range.len()).sum::<usize>();
        assert_eq!(count(Module::Context), 480);
        assert_eq!(count(Module::Features), 4 * (9 + 8 + 7) + 12);
        assert_eq!(count(Module::Upsampling), 48);
        assert_eq!(count(Module::Synthesis), 7 * 16 + 16 + 16 * 3 + 3 + 2 * (27 * 3 + 3) + 7 * 3 + 3);
        assert_eq!(spec.coding_order().len(), 10);
    }
}
