"""Family lossless of FORMAT.md: values, places of a tile, samples."""

import numpy as np

from coding import RangeDecoder, ceil_div, clamp, need
from gdn import HALF, SQUASH, STRETCH, Integers, decision, level, sgn

F32 = np.float32
PLAIN, SMOOTH, MIXED, EXACT = range(4)
PAD = 4
M32 = (1 << 32) - 1


def signed16(v):
    return (v + 32768) % 65536 - 32768


# --- Values ---------------------------------------------------------------------------------------------------------


class Values:
    """Kind 0: nothing; 1: a list for each channel, or None; 2: a palette."""

    def __init__(self, kind, channels, largest, section):
        need(kind < 3, "kind of values")
        self.kind = kind
        if kind == 0:
            need(len(section) == 0, "weights without lists")
            return
        self.coder, self.integers, self.before = RangeDecoder(section), Integers(), (0, 0)
        if kind == 1:
            self.lists = [self.list(largest) if decision(self.coder, HALF) else None for _ in range(channels)]
        else:
            self.palette, last = [], [0] * channels
            for _ in range(self.count()):
                t = 0
                for c in range(channels):
                    t += self.integer(1 + min(c, 3))
                    last[c] = (last[c] + t) % 65536
                    need(last[c] <= largest, "a colour out of range")
                self.palette.append(tuple(last))
        self.coder.finish()

    def count(self):
        v = 0
        for _ in range(16):
            v = 2 * v + decision(self.coder, HALF)
        return v + 1

    def integer(self, kind):
        a, b = self.before
        la, lb = level(abs(a)), level(abs(b))
        zero = la, 16 * la + lb, 16 * kind + la, kind
        value = self.integers.decode(self.coder, zero, (la, lb), (3 * sgn(a) + sgn(b), kind))
        self.before = value, a
        return value

    def list(self, largest):
        n = self.count()
        need(n <= largest + 1, "a list too long")
        v, g, out = -1, 1, []
        for _ in range(n):
            g = (g + self.integer(0)) % 65536
            v += g
            need(g > 0 and v <= largest, "a list that does not rise")
            out.append(v)
        return out

    def tops(self, channels, largest):
        if self.kind == 2:
            return [len(self.palette) - 1]
        if self.kind == 1:
            return [largest if entries is None else len(entries) - 1 for entries in self.lists]
        return [largest] * channels

    def codes(self, places):
        """Planes of places to planes of codes."""
        if self.kind == 2:
            return np.moveaxis(np.array(self.palette)[places[0]], -1, 0)
        if self.kind == 1:
            return np.stack([p if e is None else np.array(e)[p] for p, e in zip(places, self.lists)])
        return np.array(places)


# --- Decisions ------------------------------------------------------------------------------------------------------


class Counters(dict):
    """By context: [p, n]."""

    def __missing__(self, context):
        self[context] = [1 << 21, 0]
        return self[context]


class Mixed:
    def __init__(self):
        self.tables = [Counters() for _ in range(8)]
        self.weights = [{}, {}]
        self.lines = {}

    def forget(self):
        for table in self.tables:
            for counter in table.values():
                counter[1] = min(counter[1], 24)

    def decide(self, coder, contexts, sets):
        chosen = [table[c] for table, c in zip(self.tables, contexts)]
        o = np.array([STRETCH[p >> 10] for p, _ in chosen], F32) / F32(256)
        xs = []
        for weights, s in zip(self.weights, sets):
            w = weights.setdefault(s, np.full(8, 0.4375, F32))
            products = o * w
            s0, s1, s2, s3 = (products[j] + products[j + 4] for j in range(4))
            xs.append(clamp(int(((s0 + s1) + (s2 + s3)) * F32(256)), -3072, 3072))
        m = (xs[0] + xs[1]) >> 1
        line = self.lines.setdefault(sets[0], [SQUASH[256 * i] for i in range(25)])
        i = min((m + 3072) >> 8, 23)
        f = m + 3072 - 256 * i
        c = (line[i] * (256 - f) + line[i + 1] * f) >> 8
        bit = decision(coder, clamp((SQUASH[m + 3072] + c) >> 1, 1, 65535))
        j = i if f < 128 else i + 1
        line[j] += ((65535 if bit else 0) - line[j]) >> 6
        for weights, s, x in zip(self.weights, sets, xs):
            error = F32((65536 if bit else 0) - SQUASH[x + 3072]) * F32(2.0**-23)
            weights[s] = np.clip(weights[s] + o * error, F32(-16), F32(16))
        for counter in chosen:
            p, n = counter
            target = (1 << 22) - 1 if bit else 0
            counter[0] = p + ((((target - p) >> 6) * ((1 << 17) // (2 * n + 3))) >> 10)
            counter[1] = n if n == 250 else n + 1
        return bit


def bits_up_to(top, decide):
    v = 0
    for i in reversed(range(top.bit_length())):
        bit = (2 * v + 1) << i <= top and decide(1 << (top.bit_length() - 1 - i) | v)
        v = 2 * v + bit
    return v


def hashed(*values):
    h = 0
    for v in values:
        h = ((h ^ (v & M32)) * 0x9E3779B1) & M32
        h ^= h >> 15
    return h


# --- Planes ---------------------------------------------------------------------------------------------------------


class Plane:
    """Samples and differences, with edges of PAD."""

    def __init__(self, height, width, start):
        self.height, self.width = height, width
        self.v = np.full((height + PAD + 2, width + 2 * PAD), start, np.int64)
        self.e = np.zeros_like(self.v)

    def set(self, y, x, v, e):
        row, column = y + PAD, x + PAD
        self.v[row, column], self.e[row, column] = v, e
        if y == 0:
            self.v[:PAD, column : column + PAD + 1] = v
        if x == self.width - 1:
            self.v[row, column + 1 :], self.e[row, column + 1 :] = v, e
            self.v[row + 1, :PAD] = self.v[row, PAD]

    def finish(self):
        self.v[: PAD + 1, :PAD] = self.v[PAD, PAD]
        last = self.height + PAD - 1
        self.v[last + 1 :], self.e[last + 1 :] = self.v[last], self.e[last]


def around(y, x):
    """A reader of a padded array by offsets to the right and down."""
    return lambda a, dx=0, dy=0: int(a[y + PAD + dy, x + PAD + dx])


W, N, NW, NE, WW, NN = (-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2)
OWN = [W, N, NW, NE, WW, NN, (1, -2), (-1, -2), (-2, -1), (2, -1), (0, -3)]
FIRST = [(0, 0), (1, 0), (0, 1), W, N, NW, NE, (1, 1)]
SECOND = [(0, 0), (1, 0), (0, 1), W]


def grade(v, limits):
    k = sum(limit <= abs(v) for limit in limits)
    return len(limits) - k if v < 0 else len(limits) + k


def towards_zero(v, by):
    return abs(v) // by * (1 if v >= 0 else -1)


def near(v):
    return grade(towards_zero(v, 4), [1, 2, 4, 8, 16, 32, 64])


def far(v):
    return grade(towards_zero(v, 8), [1, 3, 7, 15, 31, 63])


def med(w, n, nw):
    return clamp(w + n - nw, min(w, n), max(w, n))


class Candidates:
    def __init__(self, area):
        self.shift = 32 - clamp(area.bit_length() - 1 + 3, 8, 18)
        self.mixed, self.tree = Mixed(), Mixed()
        self.memories = [{}, {}]
        self.gates = {}

    def forget(self):
        self.mixed.forget()
        self.memories = [{}, {}]

    def at(self, *values):
        return hashed(*values) >> self.shift

    def look(self, get, plane, refs):
        v = self.near = [get(plane.v, *o) for o in (W, N, NW, NE, WW, NN, (1, -2))]
        w, n, nw, ne, ww, nn, nne = v
        here = [get(r.v) for r in refs] + [-1] * (2 - len(refs))
        self.here, self.same = here, 0
        if refs:
            self.same = sum((get(refs[0].v, *o) == here[0]) << k for k, o in enumerate((W, N, NW, NE)))
        pairs = [(w, n), (w, nw), (n, nw), (n, ne), (w, ww), (n, nn), (w, ne), (ne, nne)]
        self.pattern = sum((a == b) << k for k, (a, b) in enumerate(pairs))
        self.place = 256 * self.same + self.pattern
        if refs:
            self.h = [hashed(*here, w, n), hashed(*here, -1)]
        else:
            self.h = [hashed(w, n, nw, ne, ww, nn), hashed(w, n, ne)]
        self.h3 = hashed(*v, *here)

    def opens(self):
        return self.gates.get(self.place, HALF) >= 45000

    def learn(self, v):
        gate = self.gates.get(self.place, HALF)
        self.gates[self.place] = gate + (((65535 if v in self.near[:4] else 0) - gate) >> 5)

    def decode(self, coder):
        w, n, nw, ne = self.near[:4]
        seen = [m.get(h >> self.shift, (-1, 0)) for m, h in zip(self.memories, self.h)]
        r1, r2 = (min(run, 7) for _, run in seen)
        found = [seen[0][0], seen[1][0], w, n, ne, nw]
        tried = 0
        for k, v in enumerate(found):
            if v < 0 or v in found[:k]:
                continue
            agree = sum((o == v) << j for j, o in enumerate(found))
            contexts = (
                self.at(self.h[0], k),
                self.at(self.h[1], v, k),
                ((k * 8 + r1) * 8 + r2) * 8 + tried,
                4096 * k + self.place,
                self.at(w, n, self.same, k),
                (64 * agree + self.pattern % 64) * 16 + self.same,
                self.at(v, self.here[0], k + 8 * agree),
                self.at(self.h3, k),
            )
            if self.mixed.decide(coder, contexts, (16 * k + self.same, 64 * k + 8 * r1 + r2)):
                return v
            tried += 1
        return None

    def index(self, coder, top):
        w, n, nw, ne, ww, nn, _ = self.near

        def decide(node):
            contexts = (
                node % 65536,
                self.at(w, node),
                self.at(n, node, -1),
                self.at(w, n, node),
                self.at(nw, ne, node, -2),
                self.at(w, n, nw, ne, node),
                self.at(w, ww, node, -3),
                self.at(n, nn, node, -4),
            )
            return self.tree.decide(coder, contexts, (node.bit_length() - 1, 0))

        return bits_up_to(top, decide)

    def remember(self, v):
        for memory, h in zip(self.memories, self.h):
            sample, run = memory.get(h >> self.shift, (-1, 0))
            memory[h >> self.shift] = (v, min(run + 1, 200) if sample == v else 1)


class Predictors:
    """Two least-squares predictors of n inputs."""

    def __init__(self, width, refs):
        self.n = n = (11, 19, 23)[refs]
        self.start = np.zeros(n, F32)
        self.start[:3] = 0.3125, 0.3125, -0.1875
        self.start[11:12], self.start[19:20] = 0.625, 0.1875
        self.blocks = ceil_div(width, 16)
        self.sums = np.zeros((2, self.blocks, n, n + 1), F32)
        self.c = [self.start.copy(), self.start.copy()]

    def enter(self):
        self.t, self.solved = np.zeros((self.n, self.n + 1), F32), False

    def solve(self, block):
        if self.solved:
            return
        self.solved = True
        n = self.n
        for p, (reach, ridge) in enumerate(((1, F32(1 / 128)), (2, F32(1 / 512)))):
            blocks = range(max(block - reach, 0), min(block + reach + 1, self.blocks))
            a = self.sums[p, blocks[0]].copy()
            for b in blocks[1:]:
                a += self.sums[p, b]
            for i in range(n):
                r = ridge * a[i, i] + F32(0.5)
                a[i, i] += r
                a[i, n] += r * self.start[i]
            for k in range(n):
                inverse = F32(1) / max(a[k, k], F32(0.01))
                for i in range(k + 1, n):
                    a[i, i:] -= (a[k, i] * inverse) * a[k, i:]
            for k in reversed(range(n)):
                self.c[p][k] = a[k, n] / max(a[k, k], F32(0.01))
                a[:k, n] -= a[:k, k] * self.c[p][k]

    def predict(self, p, d, mean, top):
        s = [F32(0)] * 4
        for i in range(self.n):
            s[i % 4] = s[i % 4] + d[i] * self.c[p][i]
        v = (((s[0] + s[1]) + (s[2] + s[3])) + F32(mean)) * F32(16) + F32(0.5)
        return int(min(v, F32(16 * top))) if v > 0 else 0

    def learn(self, d, energy):
        weight = F32(1) / (F32(energy) + F32(32))
        for i in range(self.n):
            self.t[i, i:] += (d[i] * weight) * d[i:]

    def leave(self, block):
        for p, decay in enumerate((0.75, 0.96875)):
            self.sums[p, block] = F32(decay) * self.sums[p, block] + self.t


def decode_difference(coder, mixed, contexts, sets, guess, top, deep):
    """`deep` is the third argument of the hash in mode exact, else None."""
    path = 1

    def decide(z):
        nonlocal path
        of_z = [64 * c + z for c in contexts]
        if deep is not None:
            of_z[1], of_z[6] = hashed(path, z) % 65536, hashed(path, z, deep) % 65536
        bit = mixed.decide(coder, of_z, [64 * s + z for s in sets])
        path = (6 * path + bit) & M32
        return bit

    if top == 0:
        return 0
    if decide(0):
        return guess
    below = guess > 0 and (guess == top or decide(1))
    most = (guess if below else top - guess) - 1
    bucket = 0
    while bucket < most.bit_length() and decide(2 + bucket):
        bucket += 1
    v = int(bucket > 0)
    for i in range(1, bucket):
        bit = 0
        if (2 * v + 1) << (bucket - 1 - i) <= most:
            z = 20 + bucket if i == 1 else 38 + 2 * (bucket - 3) + v % 2 if i == 2 and bucket <= 15 else 63
            bit = decide(z)
        v = 2 * v + bit
    return guess - 1 - v if below else guess + 1 + v


def decode_plane(coder, plane, refs, top, palette, mode, mixed, candidates):
    predictors = Predictors(plane.width, len(refs))
    n = predictors.n
    errors = np.zeros((3,) + plane.v.shape, np.int64)
    for y, x in np.ndindex(plane.height, plane.width):
        get = around(y, x)
        candidates.look(get, plane, refs)
        if palette:
            v = candidates.decode(coder)
            v = candidates.index(coder, top) if v is None else v
            candidates.remember(v)
            plane.set(y, x, v, 0)
            continue
        if x % 16 == 0:
            predictors.enter()
        v, e = None, 0
        tries = mode == EXACT or (mode == MIXED and candidates.opens())
        if tries:
            v = candidates.decode(coder)
        if v is None:
            predictors.solve(x // 16)
            w, no, nw, ne, ww, nn = (get(plane.v, *o) for o in (W, N, NW, NE, WW, NN))
            means = [
                (3 * get(a, *W) + 3 * get(a, *N) + get(a, *NW) + get(a, *NE)) >> 3
                for a in [plane.v] + [r.v for r in refs]
            ]
            sources = [plane] + refs
            d = [
                get(s.v, *o) - m
                for s, m, offsets in zip(sources, means, (OWN, FIRST, SECOND))
                for o in offsets
            ]
            d = np.array(d, F32)
            p = [predictors.predict(k, d, means[0], top) for k in (0, 1)]
            if refs:
                r = refs[0].v
                differences = (get(plane.v, *o) - get(r, *o) for o in (W, N, NW))
                p.append(16 * clamp(get(r) + med(*differences), 0, top))
            else:
                p.append(16 * med(w, no, nw))
            below, above = F32(0), F32(0)
            for k in range(3):
                q = [get(errors[k], *o) for o in (W, N, NW, NE, WW, NN)]
                u = F32(2 * q[0] + 2 * q[1] + sum(q[2:])) + F32(16)
                weight = F32(1) / (u * u)
                below += weight
                above += weight * F32(p[k])
            best = clamp(int(above / below + F32(0.5)), 0, 16 * top)
            guess = (best + 8) >> 4
            if mode == EXACT:
                guess = min((w, no, nw, ne, ww, nn), key=lambda v: abs(16 * v - best))
            ew, en = get(plane.e, *W), get(plane.e, *N)
            spread = sum(abs(k - best) for k in p)
            own = 2 * (abs(ew) + abs(en)) + sum(abs(get(plane.e, *o)) for o in (NW, NE, WW, NN))
            e1 = get(refs[0].e) if refs else 0
            e2 = get(refs[1].e) if len(refs) > 1 else 0
            other, energy = 0, own + (spread >> 1)
            if refs:
                other = 2 * abs(e1) + sum(abs(get(refs[0].e, *o)) for o in ((1, 0), (0, 1), W, N))
                energy = (3 * own + 2 * other + spread) >> 2
            fine = level(energy >> 2, 31)
            coarse = min(fine // 3, 9)
            off = best - 16 * guess
            part = clamp(off + 8, 0, 15)
            sides = (w, no, nw, ne, 2 * w - ww, 2 * no - nn, ww, nn)
            shape = sum((16 * v > best) << k for k, v in enumerate(sides))
            contexts = (
                16 * fine + part,
                10 * far(e1) + coarse + 160 * (part // 4),
                15 * near(p[0] - best) + near(p[2] - best) + 225 * (coarse // 3),
                13 * far(ew) + far(en) + 169 * (coarse // 2),
                4 * shape + max(min(fine // 4, 3), min(coarse, 3)),
                10 * ((64 * guess) >> max(top.bit_length(), 1)) + coarse,
                13 * far(e1) + far(e2) + 169 * (coarse // 2),
                32 * level(spread, 31) + fine,
            )
            g = sum(limit <= other for limit in (8, 16, 32, 64, 128, 256, 512))
            deep = 64 * near(off >> 1) + coarse if mode == EXACT else None
            v = decode_difference(coder, mixed, contexts, (coarse, 4 * g + part // 4), guess, top, deep)
            e = 16 * v - best
            for k in range(3):
                errors[k, y + PAD, x + PAD] = abs(16 * v - p[k])
            predictors.learn(np.append(d, F32(v - means[0])), energy)
        if tries:
            candidates.remember(v)
        candidates.learn(v)
        plane.set(y, x, v, e)
        if x % 16 == 15 or x == plane.width - 1:
            predictors.leave(x // 16)
    plane.finish()


# --- The model ------------------------------------------------------------------------------------------------------


class Model:
    shifts = [0]
    layers = 1

    def __init__(self, description, section, channels, depth):
        need(2 <= len(description) <= 3 and description[0] < 8, "description")
        flags, self.error = description[0], int.from_bytes(description[1:], "little")
        need(len(description) == 2 or self.error > 255, "an error in more bytes than it needs")
        self.swapped = bool(flags & 4)
        need(not self.swapped or channels > 1, "an order of one channel")
        self.channels = channels
        self.largest = ((1 << depth) - 1 + self.error) // (2 * self.error + 1)
        self.values = Values(flags & 3, channels, self.largest, section)

    def empty(self, width, height):
        return [np.zeros((self.channels, height, width), np.int64)]

    def decode_tile(self, segments, width, height):
        coder = RangeDecoder(segments[0])
        tops = self.values.tops(self.channels, self.largest)
        places = np.zeros((len(tops), height, width), np.int64)
        if any(tops):
            mode = 2 * decision(coder, HALF)
            mode += decision(coder, HALF)
            if mode == PLAIN:
                for c, y, x in np.ndindex(places.shape):
                    places[c, y, x] = bits_up_to(tops[c], lambda node: decision(coder, HALF))
            else:
                self.decode_planes(coder, mode, tops, places)
        coder.finish()
        return [signed16(self.values.codes(places))]

    def decode_planes(self, coder, mode, tops, places):
        height, width = places.shape[1:]
        order = list(range(len(tops)))
        if self.swapped and len(order) > 1:
            order[:2] = 1, 0
        mixed, candidates, refs = Mixed(), Candidates(width * height), []
        for c in order:
            if refs:
                mixed.forget()
                candidates.forget()
            start = min(int(refs[0].v[PAD, PAD]), tops[c]) if refs else (tops[c] + 1) >> 1
            plane = Plane(height, width, start)
            decode_plane(coder, plane, refs, tops[c], self.values.kind == 2, mode, mixed, candidates)
            places[c] = plane.v[PAD : PAD + height, PAD : PAD + width]
            refs = [plane] + refs[:1]

    def synthesise(self, codes, width, height, scale, peak):
        samples = np.minimum(codes[0] % 65536 * (2 * self.error + 1), peak)
        side = 1 << scale
        rows, columns = ceil_div(height, side), ceil_div(width, side)
        padded = np.zeros((self.channels, rows * side, columns * side), np.int64)
        padded[:, :height, :width] = samples
        total = padded.reshape(self.channels, rows, side, columns, side).sum((2, 4))
        high = np.minimum(side, height - side * np.arange(rows))
        wide = np.minimum(side, width - side * np.arange(columns))
        count = high[:, None] * wide
        return np.moveaxis((total + count // 2) // count, 0, -1).astype(np.uint16)
