#!/usr/bin/env python3
"""Rate against what is seen: eye.py TILEFIT OUT.csv PICTURE.png ... [--options "-e 5"] [--settings "-q 40,-q 55,-q 70,-q 85"]

Encodes each picture without its metadata with tilefit, AVIF (4:4:4, speed 4, the default tune of libavif) and JPEG XL (effort 7), measures all decoded
PNGs with `tilefit eval`, appends the points to OUT.csv, and prints how many more bytes tilefit takes at equal quality. Points that
are in OUT.csv already are not made again. Needs: pip install numpy scipy pillow imagecodecs.
"""
import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from scipy.interpolate import PchipInterpolator

FIELDS = ["picture", "codec", "setting", "bytes", "psnr", "ms_ssim", "ssimulacra2", "butteraugli_3norm", "seconds"]
AVIF_LEVELS = [20, 35, 50, 65, 80, 90]
JXL_DISTANCES = [8, 5, 3, 2, 1.2, 0.7]
# The range of each measure in which curves are compared, as far as both reach; a scale on which they are nearly straight.
MEASURES = {
    "ssimulacra2": ((30, 85), lambda v: v),
    "butteraugli_3norm": (None, lambda v: -np.log(v)),
    "psnr": (None, lambda v: v),
    "ms_ssim": (None, lambda v: -np.log(1 - v)),
}


def measured(tilefit, original, png):
    run = subprocess.run([tilefit, "eval", original, png, "--json"], check=True, capture_output=True, text=True)
    values = json.loads(run.stdout)
    return [values[name] for name in FIELDS[4:8]]


def points_of_others(tilefit, original, folder):
    """AVIF and JPEG XL: codec, setting, bytes, measures, seconds."""
    rgb = np.asarray(Image.open(original).convert("RGB"))
    png = folder / "other.png"
    for level in AVIF_LEVELS:
        start = time.time()
        data = imagecodecs.avif_encode(rgb, level=level, speed=4, pixelformat="444")
        seconds = time.time() - start
        Image.fromarray(imagecodecs.avif_decode(data)).save(png, compress_level=1)
        yield ["avif", f"level {level}", len(data), *measured(tilefit, original, png), round(seconds, 2)]
    for distance in JXL_DISTANCES:
        start = time.time()
        data = imagecodecs.jpegxl_encode(rgb, distance=distance, effort=7, lossless=False)
        seconds = time.time() - start
        Image.fromarray(imagecodecs.jpegxl_decode(data)).save(png, compress_level=1)
        yield ["jxl", f"distance {distance}", len(data), *measured(tilefit, original, png), round(seconds, 2)]


def point_of_tilefit(tilefit, original, options, folder):
    file, png = folder / "x.tfit", folder / "x.png"
    words = [tilefit, "encode", original, "-o", file, "-f", "--quiet", "--json", "--strip", "all", *options]
    encoded = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    subprocess.run([tilefit, "decode", file, "-o", png, "-f", "--quiet"], check=True)
    return [file.stat().st_size, *measured(tilefit, original, png), round(encoded["seconds"], 1)]


def more_bytes(ours, others, bounds):
    """Mean difference of ln bytes at equal quality, in per cent, of curves of (quality, bytes)."""
    if len(ours) < 2:
        return None
    ours, others = (np.array(sorted(curve)) for curve in (ours, others))
    low, high = max(ours[0, 0], others[0, 0]), min(ours[-1, 0], others[-1, 0])
    if bounds:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    if high <= low:
        return None
    ln = [PchipInterpolator(curve[:, 0], np.log(curve[:, 1])).integrate(low, high) for curve in (ours, others)]
    return 100 * np.expm1((ln[0] - ln[1]) / (high - low))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tilefit")
    parser.add_argument("out")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--options", default="-e 5")
    parser.add_argument("--settings", default="-q 40,-q 55,-q 70,-q 85")
    a = parser.parse_args()
    out = Path(a.out)
    rows = list(csv.DictReader(out.open())) if out.exists() else []
    codec = "tilefit " + a.options
    with out.open("a", newline="") as file, tempfile.TemporaryDirectory() as folder:
        writer = csv.writer(file, lineterminator="\n")
        if not rows:
            writer.writerow(FIELDS)

        def add(row):
            writer.writerow(row)
            file.flush()
            rows.append(dict(zip(FIELDS, map(str, row))))

        for picture in a.pictures:
            name = Path(picture).stem
            done = {(r["codec"], r["setting"]) for r in rows if r["picture"] == name}
            if not any(c == "avif" for c, _ in done):
                for row in points_of_others(a.tilefit, picture, Path(folder)):
                    add([name, *row])
            for setting in a.settings.split(","):
                if (codec, setting) in done:
                    continue
                options = [*a.options.split(), *setting.split()]
                add([name, codec, setting, *point_of_tilefit(a.tilefit, picture, options, Path(folder))])
                print(name, setting, *rows[-1].values(), file=sys.stderr)
    for other in ("avif", "jxl"):
        for measure, (bounds, scale) in MEASURES.items():

            def curve(name, codec):
                of = [r for r in rows if r["picture"] == name and r["codec"] == codec]
                return [(scale(float(r[measure])), float(r["bytes"])) for r in of]

            names = [Path(p).stem for p in a.pictures]
            each = {n: more_bytes(curve(n, codec), curve(n, other), bounds) for n in names}
            known = [v for v in each.values() if v is not None]
            if known:
                detail = ", ".join(f"{n} {v:+.1f}" for n, v in each.items() if v is not None)
                print(f"{codec}, bytes at equal {measure} against {other}: mean {np.mean(known):+.1f} % ({detail})")


if __name__ == "__main__":
    main()
