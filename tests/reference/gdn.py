"""Family gdn of FORMAT.md: adaptive integers, weights, codes of a tile, samples. Family hyperprior shares the weights and the
synthesis."""

from collections import defaultdict

import numpy as np

from coding import RangeDecoder, Reader, ceil_div, clamp, need

F32 = np.float32
HALF = 1 << 15

# --- Adaptive integers ----------------------------------------------------------------------------------------------


def squash_table():
    """By x + 3072."""
    falling, e = [], 1 << 62
    for _ in range(3073):
        s = (1 << 62) + e
        falling.append(max(1, ((e << 16) + s // 2) // s))
        e = (e * 0xFF007FD55FFDDE38) >> 64
    return falling[:0:-1] + [HALF] + [(1 << 16) - p for p in falling[1:]]


SQUASH = squash_table()
# By p >> 4.
STRETCH = [int(x) for x in np.minimum(np.searchsorted(SQUASH, 16 * np.arange(4096) + 8) - 3072, 3072)]


def decision(coder, p):
    one = coder.target() < p
    coder.consume(*((0, p) if one else (p, 65536 - p)))
    return one


class Counter:
    def __init__(self):
        self.p, self.n = HALF, 0

    def learn(self, bit):
        change, by = 2 * ((65535 if bit else 0) - self.p), 2 * self.n + 3
        self.p += change // by if change >= 0 else -(-change // by)
        self.n = min(self.n + 1, 250)


class Mixed:
    """Decisions over `k` tables with one set of weights; the tables may be shared."""

    def __init__(self, k, tables=None):
        self.tables = tables or [defaultdict(Counter) for _ in range(k)]
        self.weights = [81920 // k] * k

    def decide(self, coder, contexts):
        chosen = [table[c] for table, c in zip(self.tables, contexts)]
        o = [STRETCH[c.p >> 4] for c in chosen]
        x = sum(a * w for a, w in zip(o, self.weights)) >> 16
        p = SQUASH[clamp(x, -3072, 3072) + 3072]
        bit = decision(coder, p)
        error = (65536 if bit else 0) - p
        self.weights = [clamp(w + ((a * error) >> 14), -(1 << 20), 1 << 20) for a, w in zip(o, self.weights)]
        for c in chosen:
            c.learn(bit)
        return bit


class Integers:
    """One set of adaptive integers."""

    def __init__(self):
        self.zero, self.sign = Mixed(4), Mixed(2)
        first = Mixed(3)
        self.size = [first] + [Mixed(3, first.tables) for _ in range(13)]
        self.escape = defaultdict(Counter)

    def decode(self, coder, zero, size, sign):
        if self.zero.decide(coder, zero):
            return 0
        negative = self.sign.decide(coder, sign)
        n = 1
        while n < 15 and self.size[n - 1].decide(coder, (n - 1, 16 * (n - 1) + size[0], 16 * (n - 1) + size[1])):
            n += 1
        if n == 15:
            n += self.beyond(coder)
        return -min(n, 32768) if negative else min(n, 32767)

    def beyond(self, coder):
        c, more = 0, True
        while c < 16 and more:
            more = decision(coder, max(self.escape[c].p, 1))
            self.escape[c].learn(more)
            c += more
        v = 1
        for _ in range(c):
            v = 2 * v + decision(coder, HALF)
        return v - 1


def level(v, last=15):
    k = v.bit_length() - 1
    return min(v if v < 4 else 2 * k + (v >> (k - 1) & 1), last)


def sgn(v):
    return 1 + (v > 0) - (v < 0)


# --- Weights --------------------------------------------------------------------------------------------------------

RING = [[0, 1, 3], [1, 2, 4], [3, 4, 5]]


def decode_tensor(coder, integers, rows, columns, k):
    """Integers by row, column, u, v."""
    out = np.zeros((rows, columns, k, k), np.int64)
    in_row, in_column = [0] * rows, [0] * columns
    for r, c, u, v in np.ndindex(out.shape):

        def at(inside, *place):
            return int(out[place]) if inside else 0

        w, n = at(v > 0, r, c, u, v - 1), at(u > 0, r, c, u - 1, v)
        nw = at(u > 0 and v > 0, r, c, u - 1, v - 1)
        left, above = at(c > 0, r, c - 1, u, v), at(r > 0, r - 1, c, u, v)
        near = level(2 * (abs(w) + abs(n)) + abs(nw))
        same = level(abs(left) + abs(above))
        row = level(4 * in_row[r] // max(1, c * k * k + u * k + v))
        column = level(4 * in_column[c] // max(1, r * k * k + u * k + v))
        ring = RING[abs(u - 2)][abs(v - 2)] if k == 5 else int(r == c)
        zero = near * 6 + ring, row * 16 + column, same * 16 + near, ring * 4 + min(same, 3)
        sign = 3 * sgn(w) + sgn(n), 3 * sgn(left) + sgn(above)
        value = integers.decode(coder, zero, (max(near, same), max(row, column)), sign)
        need(abs(value) <= 2048, "a weight out of range")
        out[r, c, u, v] = value
        in_row[r] += abs(value)
        in_column[c] += abs(value)
    return out


# --- The model ------------------------------------------------------------------------------------------------------


def shapes(maps, channels):
    """(kind, rows, columns, side) of each tensor of a synthesis, whose convolutions have `maps` inputs."""
    out = []
    for kind, inputs, outputs in zip(("hidden", "hidden", "last"), maps, [*maps[1:], channels]):
        out += [(kind, inputs, outputs, 5), ("vector", 1, outputs, 1)]
        if kind == "hidden":
            out += [("beta", 1, outputs, 1), ("gamma", outputs, outputs, 1)]
    return out


def plain_tensors(section, shapes):
    """f16."""
    r, out = Reader(section), []
    for _, rows, columns, k in shapes:
        values = np.frombuffer(r.take(2 * rows * columns * k * k), "<f2").astype(F32)
        values = np.where(np.isfinite(values), values, F32(0))
        out.append(values.reshape(rows, columns, k, k))
    need(r.at == len(section), "bytes after the weights")
    return out


def coded_tensors(coder, shapes):
    """(exponent, integers) of each."""
    integers, out = defaultdict(Integers), []
    for kind, rows, columns, k in shapes:
        e = sum(decision(coder, HALF) << b for b in (3, 2, 1, 0))
        out.append((e, decode_tensor(coder, integers[kind], rows, columns, k)))
    return out


class Model:
    shifts = [3]
    layers = 1

    def __init__(self, description, section, channels):
        r = Reader(description)
        flags, self.n = r.byte(), r.byte()
        need(r.at == len(description) and flags < 2 and self.n > 0, "description")
        self.channels = channels
        tensors = shapes([self.n] * 3, channels)
        if flags == 1:
            self.tensors = plain_tensors(section, tensors)
        else:
            coder = RangeDecoder(section)
            self.tensors = [(values * 2.0**-e).astype(F32) for e, values in coded_tensors(coder, tensors)]
            coder.finish()

    def empty(self, width, height):
        return [np.zeros((self.n, ceil_div(height, 8), ceil_div(width, 8)), np.int64)]

    def decode_tile(self, segments, width, height):
        codes = self.empty(width, height)
        coder = RangeDecoder(segments[0])
        activity = np.zeros((codes[0].shape[1] + 3, codes[0].shape[2] + 4), np.int64)
        for channel in codes[0]:
            if decision(coder, HALF):
                rest = decode_channel(coder, channel, activity, decision(coder, HALF))
                activity += np.minimum(np.abs(rest), 31)
        coder.finish()
        return codes

    def synthesise(self, codes, width, height, scale, peak):
        return synthesise(self.tensors, self.channels, codes[0], width, height, scale, peak)


def synthesise(tensors, channels, codes, width, height, scale, peak):
    """f32 throughout, in the order given."""
    x = codes.astype(F32)
    for i in (0, 4):
        w, bias, beta, gamma = tensors[i : i + 4]
        x = inverse_gdn(transposed(x, w, bias.ravel()), beta.ravel(), gamma[:, :, 0, 0])
    x = transposed(x, tensors[8], tensors[9].ravel())[:, :height, :width]
    if channels == 3:
        y, co, cg = x
        t, g = y - cg, y + cg
        x = np.stack([t + co, g, t - co])
    x = averaged(x, 1 << scale)
    v = np.floor(np.moveaxis(x, 0, -1) * F32(peak) + F32(0.5))
    return np.where(v > 0, np.minimum(v, F32(peak)), F32(0)).astype(np.uint16)  # NaN is not > 0


def decode_channel(coder, codes, activity, predicted):
    """Fills `codes`; what was coded comes back, as `activity` with 2 more on the left, right and top, 1 below."""
    rest, seen = np.zeros_like(activity), np.zeros_like(activity)
    integers = Integers()
    for row, column in np.ndindex(codes.shape):
        y, x = row + 2, column + 2
        around = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
        w, n, nw, ne, ww, nn = (int(rest[y + dy, x + dx]) for dy, dx in around)
        a = int(activity[y, x])
        direct = sum(int(activity[y + dy, x + dx]) for dy, dx in ((0, -1), (0, 1), (-1, 0), (1, 0)))
        near, far = 2 * (abs(w) + abs(n)) + abs(nw) + abs(ne), abs(ww) + abs(nn)
        loud, lev = level(4 * a + direct), level(near)
        tw, tn, tnw, tne = (min(abs(v), 2) for v in (w, n, nw, ne))
        zero = (
            3 * lev + min(far, 2),
            ((3 * tw + tn) * 3 + tnw) * 3 + tne,
            4 * level(a) + min(near, 3),
            16 * loud + level(near + far),
        )
        value = integers.decode(coder, zero, (lev, loud), (3 * sgn(w) + sgn(n), 3 * sgn(nw) + sgn(ne)))
        guess = 0
        if predicted:
            w, n, nw, ne = (int(seen[y + dy, x + dx]) for dy, dx in around[:4])
            guess = (2 * (w + n) + ne - nw + 2) >> 2
        rest[y, x] = value
        seen[y, x] = codes[row, column] = (value + guess + 32768) % 65536 - 32768
    return rest


def transposed(x, w, bias):
    """5x5, stride 2; w[in][out][5][5]."""
    _, height, width = x.shape
    y = np.empty((len(bias), 2 * height, 2 * width), F32)
    y[:] = bias[:, None, None]
    for c, u, v in np.ndindex(len(x), 5, 5):
        # Y = 2 i + u - 2 inside: the first and last i, and likewise j.
        i0, i1 = max(0, (3 - u) // 2), min(height, (2 * height + 3 - u) // 2)
        j0, j1 = max(0, (3 - v) // 2), min(width, (2 * width + 3 - v) // 2)
        part = y[:, 2 * i0 + u - 2 : 2 * i1 + u - 3 : 2, 2 * j0 + v - 2 : 2 * j1 + v - 3 : 2]
        part += w[c, :, u, v][:, None, None] * x[c, i0:i1, j0:j1]
    return y


def inverse_gdn(x, beta, gamma):
    square, out = x * x, np.empty_like(x)
    for i in range(len(x)):
        n = np.full(x[i].shape, beta[i], F32)
        for j in range(len(x)):
            n += gamma[i, j] * square[j]
        out[i] = x[i] * np.sqrt(n)
    return out


def averaged(x, side):
    """Over squares, cut at the edge: the sum row by row, divided by the number of samples."""
    _, height, width = x.shape
    rows, columns = ceil_div(height, side), ceil_div(width, side)
    padded = np.zeros((len(x), rows * side, columns * side), F32)
    padded[:, :height, :width] = x
    total = np.zeros((len(x), rows, columns), F32)
    for dy in range(side):
        for dx in range(side):
            total += padded[:, dy::side, dx::side]
    high = np.minimum(side, height - side * np.arange(rows))
    wide = np.minimum(side, width - side * np.arange(columns))
    return total / (high[:, None] * wide).astype(F32)
