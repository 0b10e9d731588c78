"""What both families build on: sections 1, 4 and 5 of FORMAT.md."""

import numpy as np

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


# --- 1. Primitives -----------------------------------------------------------------------------------------------


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
    if coding in (0, 2):
        coder = RangeDecoder(data)
        for n in lengths:
            exponent = coder.bits(5) - 24
            s = 16 * coder.bits(5) + 128
            zeros = coder.bits(4) if coding == 2 and n >= 64 else 0

            def value():
                if zeros == 0:
                    return decode_laplace(coder, 0, s)
                edge = zeros << 12
                if coder.target() < edge:
                    coder.consume(0, edge)
                    return 0
                coder.consume(edge, (1 << 16) - edge)
                u = decode_laplace(coder, -32, s)
                return u + 1 if u >= 0 else u

            groups.append((exponent, [value() for _ in range(n)]))
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
