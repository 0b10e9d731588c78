//! The shape of a pyramid model: its grids, its layers, and the order of its weights.
//!
//! *Scale* `s` is the resolution `1/2^s` of the picture. *Maps* are the planes that the synthesis works on: one for each
//! synthesised grid, upsampled to the scale in question.

use crate::models::GridSpec;
use alloc::vec::Vec;
use std::ops::Range;

/// Causal neighbours `(dy, dx)` of a code, as offsets down and right. A context network of `n` neighbours sees the first
/// `n`. The order is part of the format.
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

/// One convolution of the synthesis network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynthLayer {
    /// Output channels.
    pub outputs: usize,
    /// Side of the kernel, 1 or 3. A 3x3 layer repeats the picture's edge outside.
    pub kernel: usize,
    /// Whether the input is added to the output; it then has as many channels.
    pub residual: bool,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// The usual trunk: 1x1 to `hidden` channels with ReLU, 1x1 to the picture's `channels`, then `tail` residual 3x3 layers
/// of these channels with ReLU on all but the last.
pub fn usual_trunk(channels: usize, hidden: usize, tail: usize) -> Vec<SynthLayer> {
    let layer = |outputs, kernel, residual, relu| SynthLayer { outputs, kernel, residual, relu };
    let head = [layer(hidden, 1, false, true), layer(channels, 1, false, false)];
    head.into_iter().chain((1..=tail).map(|i| layer(channels, 3, true, i < tail))).collect()
}

/// The shape of a pyramid model, without its weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PyramidSpec {
    /// Channels of the picture, 1 to 16.
    pub channels: usize,
    /// Scale of the coarsest grid: there are grids at scales `0 ..= depth`.
    pub depth: u32,
    /// Scales `hyper_from ..= depth` have one more grid, a hyper-grid: context for others, not synthesised.
    /// `depth + 1` means none.
    pub hyper_from: u32,
    /// Bit `s`: scale `s` has a second synthesised grid (for chroma, say) and no hyper-grid.
    pub second: u8,
    /// Number of neighbours in its own grid that the context network sees of a code.
    pub spatial: usize,
    /// Number of features, linear combinations of coarser grids, that the context network sees.
    pub features: usize,
    /// Grids at scales `0 .. feature_scales` have features; for the others they are zero.
    pub feature_scales: u32,
    /// Whether the weights of the context network's outputs have a quantisation step of their own.
    pub outputs_apart: bool,
    /// The layers of the synthesis network: 1x1 layers, the last of them with `channels` outputs, then 3x3 layers.
    pub trunk: Vec<SynthLayer>,
}

/// Parts of the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Module {
    /// The context network, from contexts `c` to the location `mu` and the log-scale `s` of a code's distribution:
    /// `h1 = relu(W1 c + b1 + c)`, `h2 = relu(W2 h1 + b2 + h1)`, `(mu, s) = W3 h2 + b3 + Ws c + bs`.
    Context,
    /// One linear layer for each scale, from all coarser grids, hyper-grids included, to `features` planes.
    Features,
    /// Upsampling filters, and the filters that sharpen a grid before it joins the coarser ones.
    Upsampling,
    /// The synthesis network.
    Synthesis,
}

/// Weights that share a quantisation step and a distribution, in file order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Matrices of the context network (without `W3` and `Ws` where these are a group of their own).
    Context,
    /// Biases of the context network.
    ContextBiases,
    /// `W3` and `Ws`, with [`PyramidSpec::outputs_apart`]: an error in the location or the scale costs several times what
    /// the same error in a hidden unit does.
    Outputs,
    /// Matrices of the feature layers.
    Features,
    /// Biases of the feature layers.
    FeatureBiases,
    /// Taps of all filters.
    Upsampling,
    /// Weights of the synthesis network.
    Synthesis,
    /// Biases of the synthesis network.
    SynthesisBiases,
}

impl Group {
    /// Number of groups.
    pub const COUNT: usize = 8;
}

/// One tensor of weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorSpec {
    /// Its name in [`PyramidSpec::tensors`].
    pub name: &'static str,
    /// The part of the model that it belongs to.
    pub module: Module,
    /// The group with whose quantisation step it is stored.
    pub group: Group,
    /// Scale (features, upsampling) or number of the layer (synthesis) that it belongs to.
    pub index: usize,
    /// Outputs, and weights for each output: `[inputs][kernel][kernel]`.
    pub shape: (usize, usize),
    /// Its values in the flat list of all weights.
    pub range: Range<usize>,
}

/// One grid of the pyramid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PyramidGrid {
    /// It is at `1/2^scale` of the picture's resolution.
    pub scale: u32,
    /// Whether it is a hyper-grid: context for others, not synthesised.
    pub hyper: bool,
}

impl PyramidSpec {
    /// Width of the context network's layers.
    pub fn width(&self) -> usize {
        self.spatial + self.features
    }

    /// Number of maps at full resolution: one for each synthesised grid. The last coded grid has the first map.
    pub fn maps(&self) -> usize {
        self.maps_at(0)
    }

    fn has_second(&self, scale: u32) -> bool {
        u32::from(self.second).checked_shr(scale).unwrap_or(0) & 1 == 1
    }

    /// Number of synthesised grids of a scale, 1 or 2.
    pub fn synthesised_at(&self, scale: u32) -> usize {
        1 + usize::from(self.has_second(scale))
    }

    /// The indices of the maps that come from grids of `scale`, among all maps at scale `finest`.
    pub fn maps_of(&self, scale: u32, finest: u32) -> Range<usize> {
        let first = (finest..scale).map(|s| self.synthesised_at(s)).sum();
        first..first + self.synthesised_at(scale)
    }

    /// Number of maps at `scale`: one for each synthesised grid of this scale and of coarser ones.
    pub fn maps_at(&self, scale: u32) -> usize {
        (scale..=self.depth).map(|s| self.synthesised_at(s)).sum()
    }

    /// All grids in coding order: the coarsest scale first, and at each scale the hyper-grid or the second grid before the
    /// first grid.
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

    /// The layout of the grids in coding order.
    pub fn grids(&self) -> Vec<GridSpec> {
        self.coding_order().iter().map(|g| GridSpec { shift: g.scale, channels: 1 }).collect()
    }

    /// Number of inputs of the feature layer of `scale`: all grids of coarser scales, the last coded first, each upsampled
    /// (nearest neighbour) to scale `scale + 1`, where the layer runs.
    pub fn feature_inputs(&self, scale: u32) -> usize {
        self.coding_order().iter().filter(|g| g.scale > scale).count()
    }

    /// All tensors in file order; their ranges follow each other without gaps from 0. With `D = spatial + features`:
    ///
    /// - context network: `w1 [D, D]`, `b1 [D, 1]`, `w2`, `b2` alike, `w3 [2, D]`, `b3 [2, 1]`, `ws [2, D]`, `bs [2, 1]`;
    /// - features, for each scale from `feature_scales - 1` down to 0: `feature_w [features, inputs]`,
    ///   `feature_b [features, 1]`;
    /// - upsampling, for each step from scale `index + 1` to `index`, `index` from `depth - 1` down to 0: `up [1, 4]`, the
    ///   taps `a b c d` of the kernel `a b c d d c b a`, and `pre [1, 4]`, those of `a b c d c b a`;
    /// - synthesis, for each layer of the trunk: `synth_w [outputs, inputs * kernel^2]`, `synth_b [outputs, 1]`; then the
    ///   stabiliser `stab_w [channels, maps]`, `stab_b [channels, 1]`: a linear 1x1 layer from the maps to the picture,
    ///   whose output is added to that of the trunk's last 1x1 layer.
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

    /// Number of weights of all tensors.
    pub fn weights_count(&self) -> usize {
        self.tensors().last().map_or(0, |t| t.range.end)
    }

    /// A shape for a picture of `pixels` pixels: `hidden` channels in a usual trunk with two 3x3 layers, a context network
    /// of `spatial + features` inputs. Larger pictures have more scales: with these bounds the coarsest grid has about
    /// 7 to 16 codes a side from 0.25 to 12 megapixels.
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
        // Cool-chic's preset of medium complexity has 480 weights in the context network and 48 in the upsampling.
        let spec = PyramidSpec::preset(3, 768 * 512, 10, 4, 16);
        let count = |m| spec.tensors().iter().filter(|t| t.module == m).map(|t| t.range.len()).sum::<usize>();
        assert_eq!(count(Module::Context), 480);
        assert_eq!(count(Module::Features), 4 * (9 + 8 + 7) + 12);
        assert_eq!(count(Module::Upsampling), 48);
        assert_eq!(count(Module::Synthesis), 7 * 16 + 16 + 16 * 3 + 3 + 2 * (27 * 3 + 3) + 7 * 3 + 3);
        assert_eq!(spec.coding_order().len(), 10);
    }
}
