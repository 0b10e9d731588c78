"""Family pyramid of FORMAT.md: description, weights, codes of a tile, samples."""

import numpy as np

from coding import RangeDecoder, Reader, ceil_div, clamp, decode_groups, decode_laplace, need

F32 = np.float32
NEIGHBOURS = [
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-3, 0), (0, -3), (-1, -2), (-2, 1), (-2, -1), (-1, 2),
    (-2, -2), (-1, -3), (-2, 2), (-3, 1), (0, -4), (-1, 3), (-2, -3), (-2, 3), (-3, -1), (-3, -2), (-3, 2), (-4, 0),
    (-1, -4), (-4, -1),
]  # fmt: skip
F = 6


def sat16(v):
    return np.clip(v, -32768, 32767)


def wrap32(v):
    return (np.asarray(v, np.int64) + (1 << 31)) % (1 << 32) - (1 << 31)


def rescale(v, a, b):
    return v << (b - a) if a <= b else (v + (1 << (a - b - 1))) >> (a - b)


class Layer:
    """Of the trunk."""

    def __init__(self, outputs, flags):
        self.outputs = outputs
        self.kernel, self.residual, self.relu = 3 if flags & 1 else 1, bool(flags & 2), bool(flags & 4)


class Model:
    def __init__(self, description, section, channels):
        r = Reader(description)
        b = [r.byte() for _ in range(5)]
        need((b[0] & 0x40 > 0) == (channels > 1), "channels")
        self.channels = channels
        self.split, self.depth = bool(b[0] & 0x20), b[0] & 31
        self.feature_scales, self.spatial = b[1] >> 5, b[1] & 31
        self.features, self.hyper_from = b[2] & 31, b[4] & 63
        self.second = r.byte() if b[4] & 128 else 0
        self.outputs_apart = bool(b[4] & 64)
        need((self.second > 0) == (b[4] >= 128) and self.second >> (self.depth + 1) == 0, "second grids")
        tail = b[2] >> 5
        if b[0] & 0x80:
            residual = [Layer(self.channels, 1 | 2 | (4 if i + 1 < tail else 0)) for i in range(tail)]
            self.trunk = [Layer(b[3], 4), Layer(self.channels, 0)] + residual
        else:
            self.trunk = [Layer(r.byte(), r.byte()) for _ in range(tail + 2)]
        need(r.at == len(description), "length of the description")
        # (scale, hyper) in coding order
        self.grids = []
        for s in range(self.depth, -1, -1):
            second = self.second >> s & 1 > 0
            self.grids += [(s, not second)] if second or s >= self.hyper_from else []
            self.grids.append((s, False))
        self.shifts = [s for s, _ in self.grids]
        self.check()
        self.read_weights(section)

    def check(self):
        need(self.depth <= 10 and self.feature_scales <= self.depth and self.features <= 16, "description")
        need(1 <= self.spatial <= 26 and self.hyper_from <= self.depth + 1 and len(self.trunk) <= 9, "description")
        kernels = [layer.kernel for layer in self.trunk]
        self.ones = kernels.count(1)
        need(self.ones >= 1 and kernels == sorted(kernels), "1x1 layers come first")
        inputs = self.maps(0)
        for n, layer in enumerate(self.trunk):
            need(1 <= layer.outputs <= 128, "width of a layer")
            need(layer.outputs == self.channels or n + 1 < self.ones, "channels")
            need(layer.outputs == inputs or not layer.residual, "residual layers keep their width")
            need(n + 1 != self.ones or not layer.relu, "the last 1x1 layer is linear")
            inputs = layer.outputs

    def maps(self, scale):
        """How many maps the grids of a scale and of coarser ones give."""
        return sum(1 for s, hyper in self.grids if s >= scale and not hyper)

    def layer_grids(self, layer):
        coarse = sum(1 for s, _ in self.grids if s >= 3) if self.split and self.depth >= 3 else 0
        ranges = [range(coarse), range(coarse, len(self.grids))] if coarse else [range(len(self.grids))]
        return ranges[layer]

    @property
    def layers(self):
        return 2 if self.split and self.depth >= 3 else 1

    def feature_inputs(self, scale):
        """Numbers of the grids that the features of a scale see."""
        return [i for i in reversed(range(len(self.grids))) if self.grids[i][0] > scale]

    def read_weights(self, section):
        d, k = self.spatial + self.features, self.features
        tensors = []  # name, group, shape
        last = 2 if self.outputs_apart else 0
        for w, b, g, n in (("W1", "b1", 0, d), ("W2", "b2", 0, d), ("W3", "b3", last, 2), ("Ws", "bs", last, 2)):
            tensors += [(w, g, (n, d)), (b, 1, (n,))]
        if k > 0:
            for s in reversed(range(min(self.feature_scales, self.depth))):
                tensors += [(f"fw{s}", 3, (k, len(self.feature_inputs(s)))), (f"fb{s}", 4, (k,))]
        for s in reversed(range(self.depth)):
            tensors += [(f"up{s}", 5, (4,)), (f"pre{s}", 5, (4,))]
        inputs = self.maps(0)
        for n, layer in enumerate(self.trunk):
            shape = (layer.outputs, inputs) + ((3, 3) if layer.kernel == 3 else ())
            tensors += [(f"layer_w{n}", 6, shape), (f"layer_b{n}", 7, (layer.outputs,))]
            inputs = layer.outputs
        tensors += [("stab_w", 6, (self.channels, self.maps(0))), ("stab_b", 7, (self.channels,))]

        sizes = [sum(int(np.prod(t[2])) for t in tensors if t[1] == g) for g in range(8)]
        present = [g for g in range(8) if sizes[g] > 0]
        coded = dict(zip(present, decode_groups(section, [sizes[g] for g in present])))
        self.exponent = {g: -coded[g][0] for g in present}
        need(all(0 <= e <= 15 for e in self.exponent.values()), "a step that no pyramid has")
        self.integers, self.weights = {}, {}
        at = [0] * 8
        for name, g, shape in tensors:
            n = int(np.prod(shape))
            e = self.exponent[g]
            v = np.array(coded[g][1][at[g] : at[g] + n], np.int64)
            at[g] += n
            if name.startswith(("up", "pre")):
                start = np.array([-9, -27, 67, 225] if name.startswith("up") else [0, 0, 0, 256])
                v = sat16(((start << (e + 1)) + 256) >> 9) + v
            self.integers[name] = sat16(v).reshape(shape)
            self.weights[name] = (self.integers[name] * 2.0**-e).astype(F32)
        self.prepare_context(d)

    def prepare_context(self, d):
        e, eb = self.exponent[0], self.exponent[1]
        eo = self.exponent.get(2, e)
        self.shift = n = max(e, eo, 1)

        def matrix(name):
            return sat16(rescale(self.integers[name], eo, n))

        identity = np.eye(d, dtype=np.int64) << n
        w1 = sat16(rescale(self.integers["W1"], e, n) + identity)
        w2 = sat16(rescale(self.integers["W2"], e, n) + identity)

        def bias(v):
            return np.clip(rescale(v, eb, n + F), -(1 << 31), (1 << 31) - 1)

        i = self.integers
        self.w1, self.w2, self.w3 = w1, w2, np.hstack([matrix("W3"), matrix("Ws")])
        self.b1, self.b2, self.b3 = bias(i["b1"]), bias(i["b2"]), bias(i["b3"] + i["bs"])
        used = NEIGHBOURS[: self.spatial]
        self.skew = max([0] + [dx // -dy + 1 for dy, dx in used if dy < 0])

    # --- Features, context network, segments ---

    def feature_maps(self, grid, codes):
        scale, _ = self.grids[grid]
        height, width = codes[grid].shape
        half = ceil_div(height, 2), ceil_div(width, 2)
        if self.features == 0 or scale >= min(self.feature_scales, self.depth):
            return np.zeros((self.features,) + half, np.int64)
        e, eb = self.exponent[3], self.exponent[4]
        y, x = np.arange(half[0])[:, None], np.arange(half[1])[None, :]
        maps = []
        for row, b in zip(self.integers[f"fw{scale}"], self.integers[f"fb{scale}"]):
            total = np.full(half, rescale(int(b), eb, e), np.int64)
            for w, i in zip(row, self.feature_inputs(scale)):
                shift = self.grids[i][0] - scale - 1
                total = total + w * codes[i][y >> shift, x >> shift]
            maps.append(sat16(rescale(wrap32(total), e, F)))
        return np.stack(maps)

    def laws(self, context):
        """(mu, s) of each row of `context`."""
        n = self.shift

        def layer(w, b, v):
            return sat16(wrap32(v @ w.T + b + (1 << (n - 1))) >> n)

        h1 = np.maximum(layer(self.w1, self.b1, context), 0)
        h2 = np.maximum(layer(self.w2, self.b2, h1), 0)
        return layer(self.w3, self.b3, np.hstack([h2, context]))

    def decode_grid(self, coder, grid, codes):
        height, width = codes[grid].shape
        features = self.feature_maps(grid, codes)
        seen = np.zeros((height + 8, width + 8), np.int64)  # codes clamped and scaled, 4 more on each side
        for t in range(width + self.skew * (height - 1)):
            y = np.arange(height)
            x = t - self.skew * y
            y, x = y[(x >= 0) & (x < width)], x[(x >= 0) & (x < width)]
            if len(y) == 0:
                continue
            columns = [seen[y + 4 + dy, x + 4 + dx] for dy, dx in NEIGHBOURS[: self.spatial]]
            columns += [f[y >> 1, x >> 1] for f in features]
            for (mu, s), row, column in zip(self.laws(np.stack(columns, axis=1)), y, x):
                q = decode_laplace(coder, int(mu), int(s))
                codes[grid][row, column] = q
                seen[row + 4, column + 4] = clamp(q, -512, 511) << F

    def empty(self, width, height):
        return [np.zeros((ceil_div(height, 1 << s), ceil_div(width, 1 << s)), np.int64) for s in self.shifts]

    def decode_tile(self, segments, width, height):
        codes = self.empty(width, height)
        for layer, segment in enumerate(segments):
            coder = RangeDecoder(segment)
            for grid in self.layer_grids(layer):
                if coder.bits(1):
                    self.decode_grid(coder, grid, codes)
            coder.finish()
        return codes

    # --- Synthesis: f32 throughout, in the order given ---

    def synthesise(self, codes, width, height, scale, peak):
        w = self.weights
        z = {s: [] for s in self.shifts}
        for i, (s, hyper) in reversed(list(enumerate(self.grids))):
            z[s] += [] if hyper else [codes[i].astype(F32)]
        maps = z[self.depth]
        for j in range(self.depth - 1, scale - 1, -1):
            size = ceil_div(height, 1 << j), ceil_div(width, 1 << j)
            up = [upsample(upsample(m, w[f"up{j}"], size[1], 1), w[f"up{j}"], size[0], 0) for m in maps]
            maps = [prefilter(prefilter(v, w[f"pre{j}"], 1), w[f"pre{j}"], 0) + v for v in z[j]] + up
        absent = self.maps(0) - self.maps(scale)
        values = maps
        for n in range(self.ones):
            layer = self.trunk[n]
            weights, bias = w[f"layer_w{n}"].copy(), w[f"layer_b{n}"]
            if layer.residual:
                weights += np.eye(layer.outputs, dtype=F32)
            if n == 0:
                weights = weights[:, absent:]
            outputs = []
            for o in range(layer.outputs):
                total = np.full(maps[0].shape, bias[o], F32)
                if n + 1 == self.ones:
                    total[:] = bias[o] + w["stab_b"][o]
                    for weight, m in zip(w["stab_w"][o, absent:], maps):
                        total = total + weight * m
                for weight, v in zip(weights[o], values):
                    total = total + weight * v
                outputs.append(relu(total) if layer.relu else total)
            values = outputs
        for n in range(self.ones, len(self.trunk)):
            values = self.conv3x3(n, values)
        t = F32(peak) * np.stack(values, axis=-1) + F32(0.5)
        t = np.where(t > 0, t, F32(0))
        return np.where(t < peak, t, F32(peak)).astype(np.uint16)

    def conv3x3(self, n, values):
        layer = self.trunk[n]
        weights, bias = self.weights[f"layer_w{n}"].copy(), self.weights[f"layer_b{n}"]
        height, width = values[0].shape
        padded = [np.pad(v, 1, mode="edge") for v in values]
        outputs = []
        for o in range(layer.outputs):
            if layer.residual:
                weights[o, o, 1, 1] += F32(1)
            total = np.full((height, width), bias[o], F32)
            for i, v in enumerate(padded):
                for dy in range(3):
                    for dx in range(3):
                        total = total + weights[o, i, dy, dx] * v[dy : dy + height, dx : dx + width]
            outputs.append(relu(total) if layer.relu else total)
        return outputs


def relu(v):
    return np.where(v > 0, v, F32(0))


def prefilter(x, taps, axis):
    a, b, c, d = taps
    pad = [(0, 0), (0, 0)]
    pad[axis] = (3, 3)
    p, n = np.pad(x, pad), x.shape[axis]
    r = [np.take(p, np.arange(k, k + n), axis) for k in range(7)]
    return a * (r[0] + r[6]) + b * (r[1] + r[5]) + c * (r[2] + r[4]) + d * r[3]


def upsample(x, taps, size, axis):
    a, b, c, d = taps
    n = x.shape[axis]
    r = [np.take(x, np.clip(np.arange(n) + k, 0, n - 1), axis) for k in (-2, -1, 0, 1, 2)]
    even = a * r[0] + c * r[1] + d * r[2] + b * r[3]
    odd = b * r[1] + d * r[2] + c * r[3] + a * r[4]
    both = np.stack([even, odd], axis + 1)
    shape = list(x.shape)
    shape[axis] *= 2
    return np.take(both.reshape(shape), np.arange(size), axis)
