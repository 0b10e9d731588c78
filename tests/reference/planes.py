"""Family planes of FORMAT.md: several models, and channels from their planes."""

import numpy as np

from coding import Reader, need


class Model:
    def __init__(self, description, section, channels, depth, alpha, read):
        """`read` makes a model of another family."""
        d, w = Reader(description), Reader(section)
        first = d.byte()
        count, self.blended = first & 31, first > 127
        self.turned = first & 32
        need(1 <= count <= 2, "number of models")
        self.models = []
        for _ in range(count):
            family, planes = d.byte(), d.byte()
            need(family != 5 and 1 <= planes <= 16, "a model of planes")
            own = d.block(len(description))
            self.models.append(read(family, own, w.block(len(section)), planes, depth, False))
            need(self.models[-1].channels == planes, "planes of a model")
        self.channels = channels
        total = sum(m.channels for m in self.models)
        if self.blended:
            need(count == 1 and total == channels and alpha, "blended planes")
        else:
            self.map = list(d.take(channels))
            need(all(p < total for p in self.map), "a channel without a plane")
        self.colours = channels - 1 if alpha else channels
        self.knots = knots(d, (1 << depth) - 1) if first & 64 else None
        need(d.at == len(description) and w.at == len(section), "bytes after the models")
        need(all(m.layers == 1 for m in self.models[:-1]), "layers of the first model")
        self.layers = self.models[-1].layers
        self.shifts = [s for m in self.models for s in m.shifts]

    def empty(self, width, height):
        return [g for m in self.models for g in m.empty(width, height)]

    def decode_tile(self, segments, width, height):
        r = Reader(segments[0])
        parts = [[r.block(len(segments[0]))] for _ in self.models[:-1]]
        parts.append([segments[0][r.at :], *segments[1:]])
        if self.turned:
            width, height = height, width
        grids = [g for m, own in zip(self.models, parts) for g in m.decode_tile(own, width, height)]
        return [np.swapaxes(g, -1, -2) for g in grids] if self.turned else grids

    def synthesise(self, codes, width, height, scale, peak):
        planes, at = [], 0
        if self.turned:
            width, height = height, width
            codes = [np.swapaxes(g, -1, -2) for g in codes]
        for m in self.models:
            planes.append(m.synthesise(codes[at : at + len(m.shifts)], width, height, scale, peak))
            at += len(m.shifts)
        planes = np.concatenate(planes, axis=-1).astype(np.int64)
        if self.turned:
            planes = np.swapaxes(planes, 0, 1)
        samples = separate(planes, peak) if self.blended else planes[..., self.map]
        if self.knots is not None:
            samples[..., : self.colours] = curved(samples[..., : self.colours], self.knots, peak)
        return samples


def knots(r, peak):
    segments = r.byte()
    need(1 <= segments <= 32, "segments of a tone curve")
    values = np.cumsum([r.varint() for _ in range(segments + 1)])
    need(values[-1] <= peak, "a tone curve over the peak")
    return values


def curved(planes, values, peak):
    segments = len(values) - 1
    at = planes * segments
    i = np.minimum(at // peak, segments - 1)
    rise = values[i + 1] - values[i]
    return values[i] + (rise * (at - i * peak) + peak // 2) // peak


def separate(planes, peak):
    margin = peak // 64
    n = 7 * (peak - 2 * margin)
    alpha = (np.clip(8 * planes[..., -1:] - 7 * margin, 0, n) * peak + n // 2) // n
    premultiplied = np.maximum(2 * peak * planes[..., :-1] - peak * (peak - alpha), 0)
    colours = np.minimum((premultiplied + alpha) // np.maximum(2 * alpha, 1), peak)
    return np.concatenate([np.where(alpha > 0, colours, 0), alpha], axis=-1)
