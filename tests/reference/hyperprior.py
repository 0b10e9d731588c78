"""Family hyperprior of FORMAT.md: hyper-codes by tables, codes by Laplace laws, the synthesis of family gdn."""

from collections import defaultdict

import numpy as np

import gdn
from coding import RangeDecoder, Reader, ceil_div, clamp, decode_laplace, need

NEIGHBOURS = [
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1), (-2, -2), (-2, 2),
]  # fmt: skip
AROUND = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def clip(q):
    return np.clip(q, -511, 511)


def lg(v):
    k = int(v).bit_length() - 1
    return 64 * k + ((64 * int(v)) >> k) - 64


def shifted(plane, down, right):
    """What lies `down`, `right` of each position; 0 outside."""
    height, width = plane.shape
    padded = np.pad(plane, 2)
    return padded[2 + down : 2 + down + height, 2 + right : 2 + right + width]


def clamp16(v):
    return clamp(int(v), -32768, 32767)


def raw(coder, n):
    v = 0
    for _ in range(n):
        v = 2 * v + gdn.decision(coder, gdn.HALF)
    return v


class Table:
    """A table with a tail, as family hyperprior stores it."""

    def __init__(self, coder):
        self.first = (raw(coder, 16) + 32768) % 65536 - 32768
        n = raw(coder, 6) + 1
        stored = [raw(coder, 6) for _ in range(n)]
        weights = [(4 + (m & 3)) << (m >> 2) for m in stored]
        need(self.first + n - 1 <= 32768, "a table that leaves 16 bits")
        sums = [sum(weights[:i]) for i in range(n)]
        self.edges = [i + (65536 - n) * s // sum(weights) for i, s in enumerate(sums)] + [65536]

    def decode(self, coder):
        target = coder.target()
        i = sum(e <= target for e in self.edges) - 1
        coder.consume(self.edges[i], self.edges[i + 1] - self.edges[i])
        codes = len(self.edges) - 2
        if i < codes:
            return self.first + i
        below = coder.bits(1)
        n = 0
        while coder.bits(1) == 0:
            n += 1
            need(n <= 17, "an escape that is too long")
        v = 1
        for _ in range(n):
            v = v << 1 | coder.bits(1)
        q = self.first - v if below else self.first + codes + v - 1
        need(-32768 <= q <= 32767, "an escape that leaves 16 bits")
        return q


def up(a, height, width):
    """64 times the interpolated hyper-codes."""

    def axis(n, side):
        at = 2 * np.arange(n) + 5
        return np.clip(at // 8 - 1, 0, side - 1), np.clip(at // 8, 0, side - 1), at % 8

    (top, bottom, down), (left, right, across) = axis(height, a.shape[0]), axis(width, a.shape[1])
    rows = (8 - down)[:, None] * a[top] + down[:, None] * a[bottom]
    return (8 - across) * rows[:, left] + across * rows[:, right]


class Model:
    shifts = [5, 3]
    layers = 1

    def __init__(self, description, section, channels):
        r = Reader(description)
        flags, self.n, quarter, half, self.hyper = (r.byte() for _ in range(5))
        need(r.at == len(description) and flags < 2, "description")
        need(min(self.n, quarter, half) > 0 and 1 <= self.hyper <= 16, "description")
        self.channels = channels
        shapes = gdn.shapes([self.n, quarter, half], channels)
        if flags == 1:
            size = 2 * sum(rows * columns * k * k for _, rows, columns, k in shapes)
            self.tensors = gdn.plain_tensors(Reader(section).take(size), shapes)
            section = section[size:]
        coder = RangeDecoder(section)
        if flags == 0:
            self.tensors = [(v * 2.0**-e).astype(gdn.F32) for e, v in gdn.coded_tensors(coder, shapes)]
        columns = 1 + 12 + self.hyper + 8 * channels + self.n, 3 + self.hyper + 2 * self.n
        matrices = [(kind, self.n, c, 1) for kind, c in zip(("mean", "scale"), columns)]
        (self.em, mean), (self.es, scale) = gdn.coded_tensors(coder, matrices)
        self.mean, self.scale = mean[:, :, 0, 0], scale[:, :, 0, 0]
        self.tables = [Table(coder) for _ in range(self.hyper)]
        coder.finish()

    def empty(self, width, height):
        shape = [(c, ceil_div(height, 1 << s), ceil_div(width, 1 << s)) for c, s in zip((self.hyper, self.n), self.shifts)]
        return [np.zeros(s, np.int64) for s in shape]

    def decode_tile(self, segments, width, height):
        z, y = self.empty(width, height)
        coder = RangeDecoder(segments[0])
        for channel, table in zip(z, self.tables):
            for at in np.ndindex(channel.shape):
                channel[at] = table.decode(coder)
        earlier = []
        for c in range(self.n):
            errors = self.decode_channel(coder, c, z, y, earlier)
            e = np.minimum(errors, 1984)
            four = sum(shifted(e, *by) for by in ((0, -1), (0, 1), (-1, 0), (1, 0)))
            stored = np.vectorize(lambda v: 4 * ((lg(v + 16) - 256) >> 2), otypes=[np.int64])
            earlier.append((stored(4 * e), stored(four)))
        coder.finish()
        return [z, y]

    def decode_channel(self, coder, c, z, y, earlier):
        """Fills channel `c` of `y`; returns its errors."""
        height, width = y[c].shape
        mean, scale = self.mean[c], self.scale[c]
        k, leading = self.hyper, self.channels
        # What does not depend on the channel's own codes.
        total = np.full((height, width), mean[0])
        at = 13 + k
        for l in range(leading):
            for i, by in enumerate(AROUND):
                if l < c:
                    total += mean[at + 8 * l + i] * shifted(clip(y[l]), *by)
        at += 8 * leading
        for l in range(c):
            total += mean[at + l] * clip(y[l])
        logs = np.full((height, width), 64 * scale[0])
        for l, (here, four) in enumerate(earlier):
            logs += scale[3 + k + l] * here + scale[3 + k + self.n + l] * four
        hyper_mean = up(np.tensordot(mean[13 : 13 + k], clip(z), 1), height, width)
        hyper_scale = up(np.tensordot(scale[3 : 3 + k], clip(z), 1), height, width)
        # Two more on each side, so that all neighbours exist.
        codes, errors = np.zeros((2, height + 4, width + 4), np.int64)
        for row, column in np.ndindex(height, width):
            v, h = row + 2, column + 2
            own = sum(int(mean[1 + i] * codes[v + dy, h + dx]) for i, (dy, dx) in enumerate(NEIGHBOURS))
            mu = 64 * (int(total[row, column]) + own) + int(hyper_mean[row, column])
            mu = clamp16((mu + (1 << self.em) // 2) >> self.em)

            def error(down, right):
                return int(errors[v + down, h + right])

            near = lg(2 * (error(0, -1) + error(-1, 0)) + error(-1, -1) + error(-1, 1) + 16)
            far = lg(error(0, -2) + error(-2, 0) + 16)
            s = int(logs[row, column] + hyper_scale[row, column] + scale[1] * near + scale[2] * far)
            q = decode_laplace(coder, mu, clamp16((s + (1 << self.es) // 2) >> self.es))
            y[c, row, column] = q
            codes[v, h] = clamp(q, -511, 511)
            errors[v, h] = min(abs(64 * q - mu), 32767)
        return errors[2:-2, 2:-2]

    def synthesise(self, codes, width, height, scale, peak):
        return gdn.synthesise(self.tensors, self.channels, codes[1], width, height, scale, peak)
