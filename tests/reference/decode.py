#!/usr/bin/env python3
"""A second decoder of .tfit files, written from docs/FORMAT.md alone. Slow and plain.

    decode.py FILE...              prints the digests of codes, pictures and previews, as in fixtures/golden/results.txt
    decode.py FILE -o OUT.ppm      writes the (first) picture as PPM or PGM

Section numbers are those of FORMAT.md. Needs numpy.
"""

import sys
import zlib

import numpy as np

import gdn
import hyperprior
import lossless
import pyramid
from coding import Damaged, Reader, need

# --- 2. Header ------------------------------------------------------------------------------------------------------

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


# --- 3. Tiles put together ------------------------------------------------------------------------------------------


class File:
    def __init__(self, data):
        self.header = h = Header(data)
        need(h.family in (1, 2, 3, 4), f"unknown family {h.family}")
        if h.family == 3:
            self.model = pyramid.Model(h.description, h.weights)
        else:
            family = {1: gdn, 2: hyperprior, 4: lossless}[h.family]
            self.model = family.Model(h.description, h.weights, h.channels)
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
