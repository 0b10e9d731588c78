#!/usr/bin/env python3
"""A second decoder of .tfit files, family pyramid, written from docs/FORMAT.md alone. Slow and plain.

    decode.py FILE...              prints the digests of codes, pictures and previews, as in fixtures/golden/results.txt
    decode.py FILE -o OUT.ppm      writes the (first) picture as PPM or PGM

Section numbers are those of FORMAT.md. Needs numpy.
"""

import sys
import zlib

import numpy as np

F32 = np.float32
M64 = (1 << 64) - 1


class Damaged(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damaged(what)


def ceil_div(a, b):
    return -(-a // b)


def clamp(v, low, high):
    return max(low, min(high, v))


# --- 1. Primitives, 2. Header ---------------------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(self.at + n <= len(self.data), "cut short")
        self.at += n
        return self.data[self.at - n : self.at]

    def byte(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def varint(self):
        value = 0
        for i in range(9):
            b = self.byte()
            value |= (b & 127) << (7 * i)
            if b < 128:
                need(b != 0 or i == 0, "varint not in its shortest form")
                return value
        raise Damaged("varint too long")

    def block(self, limit):
        n = self.varint()
        need(n <= limit, "a section is too long")
        return self.take(n)


GROUP, TILED, METADATA, GREY, LAYERED = 1, 2, 4, 8, 16


class Header:
    def __init__(self, data):
        r = Reader(data)
        need(r.take(5) == b"\x8bTF\r\n", "not a Tilefit file")
        need(r.byte() == 1, "unsupported version")
        self.family, flags = r.byte(), r.byte()
        need(flags < 32, "unsupported flags")
        count = r.varint() if flags & GROUP else 1
        need(2 <= count <= 1 << 16 if flags & GROUP else True, "number of pictures")
        self.pictures = []
        for _ in range(count):
            width, height = r.varint(), r.varint()
            need(1 <= width <= 1 << 30 and 1 <= height <= 1 << 30 and width * height <= 1 << 40, "size")
            self.pictures.append((width, height, r.u32()))
        self.tile = 0
        if flags & TILED:
            k = r.byte()
            need(6 <= k <= 15, "tile size")
            self.tile = 1 << k
        self.channels = 1 if flags & GREY else 3
        self.metadata = r.block(1 << 26) if flags & METADATA else b""
        self.description = r.block(1 << 12)
        self.weights = r.block(1 << 26)
        self.layers = 2 if flags & LAYERED else 1
        self.tiles = [self.tiles_of(w, h) for w, h, _ in self.pictures]
        total = sum(len(t) for t in self.tiles)
        need(total <= 1 << 24, "too many tiles")
        entries = [(r.varint(), r.u32()) for _ in range(self.layers * total)]
        end = r.at
        need(r.u32() == zlib.crc32(data[:end]), "header checksum")
        self.segments = []
        for length, crc in entries:
            segment = r.take(length)
            need(zlib.crc32(segment) == crc, "segment checksum")
            self.segments.append(segment)
        need(r.at == len(data), "bytes after the last segment")

    def tiles_of(self, width, height):
        """(x0, y0, x1, y1), row by row."""
        t = self.tile or max(width, height)
        return [
            (x, y, min(x + t, width), min(y + t, height)) for y in range(0, height, t) for x in range(0, width, t)
        ]

    def segment(self, layer, picture, tile):
        before = sum(len(t) for t in self.tiles[:picture])
        return self.segments[layer * sum(len(t) for t in self.tiles) + before + tile]


# --- 4. Range coder -------------------------------------------------------------------------------------------------


class RangeDecoder:
    def __init__(self, data):
        self.data, self.at, self.beyond = data, 0, 0
        self.range = M64
        self.code = self.word() << 32 | self.word()

    def word(self):
        if self.at >= len(self.data):
            self.beyond += 1
        word = int.from_bytes(self.data[self.at : self.at + 4].ljust(4, b"\0"), "big")
        self.at += 4
        return word

    def target(self):
        return min(self.code // (self.range >> 16), 65535)

    def consume(self, low, width):
        unit = self.range >> 16
        self.code = (self.code - unit * low) & M64
        self.range = unit * width
        if self.range < 1 << 32:
            self.code = (self.code << 32) & M64 | self.word()
            self.range <<= 32

    def bits(self, n):
        v = self.target() >> (16 - n)
        self.consume(v << (16 - n), 1 << (16 - n))
        return v

    def exp_golomb_escape(self):
        """Of section 5: after 17 zeros there is no one bit."""
        n = 0
        while n < 17 and self.bits(1) == 0:
            n += 1
        v = 1
        for _ in range(n):
            v = v << 1 | self.bits(1)
        return v - 1

    def finish(self):
        need(self.at >= len(self.data) and self.beyond <= 2, "a stream of the wrong length")


# --- 5. Coded integers ----------------------------------------------------------------------------------------------


def table(v, factor, n, entry):
    out = []
    for _ in range(n):
        out.append(entry(v))
        v = (v * factor) >> 64
    return out


RATE = table(0x0D61D6BF69DF7B03, 0xFC07F55FF77D2493, 641, lambda v: v >> 36)
TAIL = table(1 << 63, 0xFFD3A751C0F7E10B, 1024, lambda v: (v + (1 << 47)) >> 48)


def decode_laplace(coder, mu, s):
    mode = (mu + 32) >> 6
    offset = mu - (mode << 6)
    rate = RATE[clamp(s - 256 + 320, 0, 640)]
    window = min(11 * 94548 // rate + 1, 511)

    def edge(k):
        if k == -window - 1:
            return 0
        if k == window + 2:
            return 65536
        x = (k << 6) - 32 - offset
        bits = abs(x) * rate
        tail = TAIL[(bits >> 12) & 1023] >> min(bits >> 22, 31)
        cdf = tail if x < 0 else 65536 - tail
        return ((cdf * (65536 - (2 * window + 3))) >> 16) + k + window + 1

    target = coder.target()
    low, high = -window - 1, window + 2  # edge(low) <= target < edge(high)
    while high - low > 1:
        middle = (low + high) // 2
        if edge(middle) <= target:
            low = middle
        else:
            high = middle
    coder.consume(edge(low), edge(high) - edge(low))
    q = mode + low
    if low == -window - 1:
        q -= coder.exp_golomb_escape()
    elif low == window + 1:
        q += coder.exp_golomb_escape()
    return clamp(q, -32768, 32767)


def decode_groups(section, lengths):
    """Weights in groups: (exponent, integers) each."""
    need(section, "no weights")
    coding, data = section[0], section[1:]
    groups = []
    if coding == 0:
        coder = RangeDecoder(data)
        for n in lengths:
            exponent = coder.bits(5) - 24
            s = 16 * coder.bits(5) + 128
            groups.append((exponent, [decode_laplace(coder, 0, s) for _ in range(n)]))
        coder.finish()
    else:
        need(coding == 1, "unknown coding of weights")
        r = Reader(data)
        for n in lengths:
            exponent = r.byte() - 24
            values = np.frombuffer(r.take(2 * n), "<f2").astype(np.float64) * 2.0**-exponent
            need(np.isfinite(values).all() and (values == np.rint(values)).all(), "a weight between steps")
            groups.append((exponent, [int(v) for v in values]))
        need(r.at == len(data), "bytes after the weights")
    for exponent, values in groups:
        need(-24 <= exponent <= 5 and all(abs(v) <= 2047 for v in values), "a weight out of range")
    return groups


# --- Family pyramid: description, weights ---------------------------------------------------------------------------

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
    def __init__(self, description, section):
        r = Reader(description)
        b = [r.byte() for _ in range(5)]
        self.channels = 3 if b[0] & 0x40 else 1
        self.split, self.depth = bool(b[0] & 0x20), b[0] & 31
        self.feature_scales, self.spatial = b[1] >> 5, b[1] & 31
        self.features, self.hyper_from = b[2] & 31, b[4]
        tail = b[2] >> 5
        if b[0] & 0x80:
            residual = [Layer(self.channels, 1 | 2 | (4 if i + 1 < tail else 0)) for i in range(tail)]
            self.trunk = [Layer(b[3], 4), Layer(self.channels, 0)] + residual
        else:
            self.trunk = [Layer(r.byte(), r.byte()) for _ in range(tail + 2)]
        need(r.at == len(description), "length of the description")
        self.check()
        # (scale, hyper) in coding order
        self.grids = []
        for s in range(self.depth, -1, -1):
            self.grids += [(s, True)] if s >= self.hyper_from else []
            self.grids.append((s, False))
        self.read_weights(section)

    def check(self):
        need(self.depth <= 10 and self.feature_scales <= self.depth and self.features <= 16, "description")
        need(1 <= self.spatial <= 26 and self.hyper_from <= self.depth + 1 and len(self.trunk) <= 9, "description")
        kernels = [layer.kernel for layer in self.trunk]
        self.ones = kernels.count(1)
        need(self.ones >= 1 and kernels == sorted(kernels), "1x1 layers come first")
        inputs = self.depth + 1
        for n, layer in enumerate(self.trunk):
            need(1 <= layer.outputs <= 128, "width of a layer")
            need(layer.outputs == self.channels or n + 1 < self.ones, "channels")
            need(layer.outputs == inputs or not layer.residual, "residual layers keep their width")
            need(n + 1 != self.ones or not layer.relu, "the last 1x1 layer is linear")
            inputs = layer.outputs

    def layer_grids(self, layer):
        coarse = sum(1 for s, _ in self.grids if s >= 3) if self.split and self.depth >= 3 else 0
        ranges = [range(coarse), range(coarse, len(self.grids))] if coarse else [range(len(self.grids))]
        return ranges[layer]

    def layers(self):
        return 2 if self.split and self.depth >= 3 else 1

    def feature_inputs(self, scale):
        """Numbers of the grids that the features of a scale see."""
        return [i for i in reversed(range(len(self.grids))) if self.grids[i][0] > scale]

    def read_weights(self, section):
        d, k = self.spatial + self.features, self.features
        tensors = []  # name, group, shape
        for w, b, n in (("W1", "b1", d), ("W2", "b2", d), ("W3", "b3", 2), ("Ws", "bs", 2)):
            tensors += [(w, 0, (n, d)), (b, 1, (n,))]
        if k > 0:
            for s in reversed(range(min(self.feature_scales, self.depth))):
                tensors += [(f"fw{s}", 2, (k, len(self.feature_inputs(s)))), (f"fb{s}", 3, (k,))]
        for s in reversed(range(self.depth)):
            tensors += [(f"up{s}", 4, (4,)), (f"pre{s}", 4, (4,))]
        inputs = self.depth + 1
        for n, layer in enumerate(self.trunk):
            shape = (layer.outputs, inputs) + ((3, 3) if layer.kernel == 3 else ())
            tensors += [(f"layer_w{n}", 5, shape), (f"layer_b{n}", 6, (layer.outputs,))]
            inputs = layer.outputs
        tensors += [("stab_w", 5, (self.channels, self.depth + 1)), ("stab_b", 6, (self.channels,))]

        sizes = [sum(int(np.prod(t[2])) for t in tensors if t[1] == g) for g in range(7)]
        present = [g for g in range(7) if sizes[g] > 0]
        coded = dict(zip(present, decode_groups(section, [sizes[g] for g in present])))
        self.exponent = {g: -coded[g][0] for g in present}
        need(all(0 <= e <= 15 for e in self.exponent.values()), "a step that no pyramid has")
        self.integers, self.weights = {}, {}
        at = [0] * 7
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
        self.shift = n = max(e, 1)

        def matrix(name):
            return sat16(rescale(self.integers[name], e, n))

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
        e, eb = self.exponent[2], self.exponent[3]
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

    def decode_tile(self, segments, width, height):
        codes = [np.zeros((ceil_div(height, 1 << s), ceil_div(width, 1 << s)), np.int64) for s, _ in self.grids]
        for layer, segment in enumerate(segments):
            coder = RangeDecoder(segment)
            for grid in self.layer_grids(layer):
                if coder.bits(1):
                    self.decode_grid(coder, grid, codes)
            coder.finish()
        return codes

    # --- Synthesis: f32 throughout, in the order given ---

    def synthesise(self, codes, width, height, scale):
        w = self.weights
        z = {s: codes[i].astype(F32) for i, (s, hyper) in enumerate(self.grids) if not hyper}
        maps = [z[self.depth]]
        for j in range(self.depth - 1, scale - 1, -1):
            size = ceil_div(height, 1 << j), ceil_div(width, 1 << j)
            up = [upsample(upsample(m, w[f"up{j}"], size[1], 1), w[f"up{j}"], size[0], 0) for m in maps]
            pre = prefilter(prefilter(z[j], w[f"pre{j}"], 1), w[f"pre{j}"], 0) + z[j]
            maps = [pre] + up
        values = maps
        for n in range(self.ones):
            layer = self.trunk[n]
            weights, bias = w[f"layer_w{n}"].copy(), w[f"layer_b{n}"]
            if layer.residual:
                weights += np.eye(layer.outputs, dtype=F32)
            if n == 0:
                weights = weights[:, scale:]
            outputs = []
            for o in range(layer.outputs):
                total = np.full(maps[0].shape, bias[o], F32)
                if n + 1 == self.ones:
                    total[:] = bias[o] + w["stab_b"][o]
                    for weight, m in zip(w["stab_w"][o, scale:], maps):
                        total = total + weight * m
                for weight, v in zip(weights[o], values):
                    total = total + weight * v
                outputs.append(relu(total) if layer.relu else total)
            values = outputs
        for n in range(self.ones, len(self.trunk)):
            values = self.conv3x3(n, values)
        t = F32(255) * np.stack(values, axis=-1) + F32(0.5)
        t = np.where(t > 0, t, F32(0))
        return np.where(t < 255, t, F32(255)).astype(np.uint8)

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


# --- 3. Tiles put together ------------------------------------------------------------------------------------------


class File:
    def __init__(self, data):
        self.header = h = Header(data)
        need(h.family == 3, f"family {h.family}: this decoder knows pyramid (3)")
        self.model = Model(h.description, h.weights)
        need(self.model.channels == h.channels and self.model.layers() == h.layers, "header and model differ")
        need(h.tile == 0 or h.tile >> self.model.depth > 0, "tiles that cut codes")

    def codes(self, picture):
        """The codes of each tile, and of the whole picture."""
        h, grids = self.header, self.model.grids
        width, height, _ = h.pictures[picture]
        whole = [np.zeros((ceil_div(height, 1 << s), ceil_div(width, 1 << s)), np.int64) for s, _ in grids]
        tiles = []
        for t, (x0, y0, x1, y1) in enumerate(h.tiles[picture]):
            segments = [h.segment(layer, picture, t) for layer in range(h.layers)]
            codes = self.model.decode_tile(segments, x1 - x0, y1 - y0)
            tiles.append(codes)
            for to, part, (s, _) in zip(whole, codes, grids):
                y, x = y0 >> s, x0 >> s
                to[y : y + part.shape[0], x : x + part.shape[1]] = part
        return tiles, whole

    def picture(self, picture, whole, scale):
        width, height, _ = self.header.pictures[picture]
        return self.model.synthesise(whole, width, height, scale)


def digests(name, data):
    file = File(data)
    for n, (_, _, promised) in enumerate(file.header.pictures):
        tiles, whole = file.codes(n)
        raw = b"".join(g.astype("<i2").tobytes() for codes in tiles for g in codes)
        yield f"{name} {n} codes {zlib.crc32(raw):08x}"
        for scale in range(4):
            samples = file.picture(n, whole, scale)
            digest = zlib.crc32(samples.tobytes())
            need(scale > 0 or digest == promised, "the picture is not what the header promises")
            yield f"{name} {n} {samples.shape[1]}x{samples.shape[0]} 1/{1 << scale} {digest:08x}"


def main(arguments):
    if len(arguments) == 3 and arguments[1] == "-o":
        with open(arguments[0], "rb") as f:
            file = File(f.read())
        samples = file.picture(0, file.codes(0)[1], 0)
        kind = b"P6" if samples.shape[2] == 3 else b"P5"
        with open(arguments[2], "wb") as f:
            f.write(b"%s\n%d %d\n255\n" % (kind, samples.shape[1], samples.shape[0]) + samples.tobytes())
        return
    for path in arguments:
        with open(path, "rb") as f:
            data = f.read()
        for line in digests(path.replace("\\", "/").split("/")[-1], data):
            print(line)


if __name__ == "__main__":
    np.seterr(all="ignore")  # hostile weights may overflow f32, which the format allows
    try:
        main(sys.argv[1:])
    except Damaged as e:
        sys.exit(f"decode.py: {e}")
