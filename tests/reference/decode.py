#!/usr/bin/env python3
"""A second decoder of .tfit files, written from docs/FORMAT.md alone. Slow and plain.

    decode.py FILE...              prints the digests of codes, pictures and previews, as in fixtures/golden/results.txt
    decode.py FILE -o OUT.pam      writes the (first) picture as PAM

Section numbers are those of FORMAT.md. Needs numpy.
"""

import sys
import zlib

import numpy as np

import gdn
import hyperprior
import lossless
import planes
import pyramid
from coding import Damaged, Reader, need

# --- 2. Header ------------------------------------------------------------------------------------------------------

GROUP, TILED, METADATA, GREY, LAYERED, SAMPLES = 1, 2, 4, 8, 16, 32


class Header:
    def __init__(self, data):
        r = Reader(data)
        need(r.take(5) == b"\x8bTF\r\n", "not a Tilefit file")
        need(r.byte() == 1, "unsupported version")
        self.family, flags = r.byte(), r.byte()
        need(flags < 128, "unsupported flags")
        count = r.varint() if flags & GROUP else 1
        need(2 <= count <= 1 << 16 if flags & GROUP else True, "number of pictures")
        self.pictures = []
        for _ in range(count):
            width, height = r.varint(), r.varint()
            need(1 <= width <= 1 << 30 and 1 <= height <= 1 << 30 and width * height <= 1 << 40, "size")
            self.pictures.append((width, height, r.u32()))
        self.channels, self.depth, self.alpha = 1 if flags & GREY else 3, 8, False
        if flags & SAMPLES:
            channels, self.depth = r.byte(), r.byte()
            self.channels, self.alpha = channels & 127, channels > 127
            need(not flags & GREY and 1 <= self.channels <= 16 and 8 <= self.depth <= 16, "samples")
            need(self.channels > 1 if self.alpha else (self.channels, self.depth) not in ((1, 8), (3, 8)), "samples")
        self.tile = 0
        if flags & TILED:
            k = r.byte()
            need(6 <= k <= 15, "tile size")
            self.tile = 1 << k
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


# --- 3. Tiles put together ------------------------------------------------------------------------------------------


def model(family, description, weights, channels, depth, alpha):
    if family == 4:
        return lossless.Model(description, weights, channels, depth)
    if family == 5:
        return planes.Model(description, weights, channels, depth, alpha, model)
    need(family in (1, 2, 3), f"unknown family {family}")
    return {1: gdn, 2: hyperprior, 3: pyramid}[family].Model(description, weights, channels)


class File:
    def __init__(self, data):
        self.header = h = Header(data)
        self.peak = (1 << h.depth) - 1
        self.model = model(h.family, h.description, h.weights, h.channels, h.depth, h.alpha)
        need(self.model.channels == h.channels and self.model.layers == h.layers, "header and model differ")
        need(h.tile == 0 or h.tile >> max(self.model.shifts) > 0, "tiles that cut codes")

    def codes(self, picture):
        """The codes of each tile, and of the whole picture."""
        h = self.header
        width, height, _ = h.pictures[picture]
        whole = self.model.empty(width, height)
        tiles = []
        for t, (x0, y0, x1, y1) in enumerate(h.tiles[picture]):
            segments = [h.segment(layer, picture, t) for layer in range(h.layers)]
            codes = self.model.decode_tile(segments, x1 - x0, y1 - y0)
            tiles.append(codes)
            for to, part, s in zip(whole, codes, self.model.shifts):
                y, x = y0 >> s, x0 >> s
                to[..., y : y + part.shape[-2], x : x + part.shape[-1]] = part
        return tiles, whole

    def picture(self, picture, whole, scale):
        width, height, _ = self.header.pictures[picture]
        samples = self.model.synthesise(whole, width, height, scale, self.peak)
        return samples.astype("<u2" if self.header.depth > 8 else np.uint8)


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
        height, width, channels = samples.shape
        alpha = "_ALPHA" if file.header.alpha else ""
        kind = {1: "GRAYSCALE", 3: "RGB"}.get(channels - file.header.alpha, "BANDS") + alpha
        with open(arguments[2], "wb") as f:
            head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL {file.peak}\nTUPLTYPE {kind}\nENDHDR\n"
            # PAM has big-endian samples.
            f.write(head.encode() + samples.astype(">u2" if file.peak > 255 else np.uint8).tobytes())
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
