#!/usr/bin/env python3
"""Makes the samples of the web page: samples.py TILEFIT. Needs Pillow with AVIF, and cjxl and djxl (libjxl-tools).
If KEEP is set in the environment, existing .tfit files are kept.

Each picture is encoded with tilefit, JPEG, AVIF and JPEG XL. The other codecs use the quality that gives their smallest file
not smaller than the .tfit file. All are measured by `tilefit eval`. web/samples/samples.json lists the samples for the page;
web/test/golden.json has the SHA-256 of the decoded RGB samples for the tests.
"""
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "web" / "samples"
SAMPLES = [
    # name, title, encoder's flags, credit
    ("nebula", "Nebula", "-e 3 -q 85 --tile 256",
     "Part of the James Webb Space Telescope's Tarantula Nebula. NASA, ESA, CSA, STScI; public domain."),
    ("coffee", "Coffee", "-e 3 -q 55", "Pikolo Espresso Bar, by Rachel Michetti; CC0."),
    ("chelsea", "Chelsea", "-e 3 -q 55", "Chelsea the cat, by Stefan van der Walt; CC0."),
]


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.decode()}")
    return done.stdout


def jpeg(picture, quality):
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
    return out.getvalue()


def avif(picture, quality):
    out = io.BytesIO()
    picture.save(out, "AVIF", quality=quality, speed=3, max_threads=2)
    return out.getvalue()


def jxl(source, quality, folder):
    # `quality` maps to a distance of (1500 - quality) / 100, so that a higher quality gives a larger file.
    out = folder / "x.jxl"
    run("cjxl", source, out, "-d", distance(quality), "-e", 7, "--quiet")
    return out.read_bytes()


def distance(quality):
    return (1500 - quality) / 100


def smallest_not_below(size, low, high, encode):
    """Finds the lowest quality whose file has at least `size` bytes, by bisection; the size grows with quality, up to noise."""
    best = None
    while low <= high:
        quality = (low + high) // 2
        data = encode(quality)
        if len(data) >= size:
            best = (quality, data)
            high = quality - 1
        else:
            low = quality + 1
    if best is None:
        sys.exit(f"no quality gives {size} bytes")
    return best


def digest(picture):
    return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def measure(tilefit, original, candidates):
    rows = [json.loads(line) for line in run(tilefit, "eval", "--json", original, *candidates).splitlines()]
    rows = {Path(r["file"]).name: r for r in rows}
    return [{"psnr": round(rows[Path(c).name]["psnr"], 3), "ms_ssim": round(rows[Path(c).name]["ms_ssim"], 5)} for c in candidates]


def sample(tilefit, name, title, flags, credit, folder):
    source = ROOT / "fixtures" / f"{name}.png"
    out = OUT / f"{name}.tfit"
    if not os.environ.get("KEEP"):
        run(tilefit, "encode", source, "-o", out, "-f", "--quiet", *flags.split())
    size = out.stat().st_size
    picture = Image.open(source).convert("RGB")

    made = {}
    quality, data = smallest_not_below(size, 0, 100, lambda q: jpeg(picture, q))
    made["jpg"] = ("JPEG", f"libjpeg-turbo, quality {quality}, 4:2:0, progressive", data)
    quality, data = smallest_not_below(size, 0, 100, lambda q: avif(picture, q))
    made["avif"] = ("AVIF", f"libavif with libaom, quality {quality}, 4:2:0, speed 3", data)
    quality, data = smallest_not_below(size, 0, 1490, lambda q: jxl(source, q, folder))
    version = run("cjxl", "--version").decode().split()[1]
    made["jxl"] = ("JPEG XL", f"cjxl {version}, distance {distance(quality):g}, effort 7", data)

    candidates, golden = [out], {}
    for extension, (_, _, data) in made.items():
        file = OUT / f"{name}.{extension}"
        file.write_bytes(data)
        decoded = folder / f"{name}-{extension}.png"
        if extension == "jxl":
            run("djxl", file, decoded, "--quiet")
            # For browsers without JPEG XL, as lossless WebP.
            shown = Image.open(decoded).convert("RGB")
            shown.save(OUT / f"{name}-jxl.webp", lossless=True, quality=100, method=6)
            golden["jxl"] = {"sha256": digest(shown)}
        else:
            Image.open(file).convert("RGB").save(decoded)
        candidates.append(decoded)
    ours, *theirs = measure(tilefit, source, candidates)

    thumb = picture.copy()
    side = min(thumb.size)
    left, top = (thumb.width - side) // 2, (thumb.height - side) // 2
    thumb.crop((left, top, left + side, top + side)).resize((64, 64), Image.LANCZOS).save(OUT / f"{name}-thumb.webp", quality=80)

    for scale in ("1/1", "1/8"):
        png = folder / "scale.png"
        run(tilefit, "decode", out, "-o", png, "-f", "--quiet", "--scale", scale)
        decoded = Image.open(png)
        golden[scale] = {"width": decoded.width, "height": decoded.height, "sha256": digest(decoded)}
    region = [picture.width // 3, picture.height // 4, 200, 150]
    png = folder / "region.png"
    run(tilefit, "decode", out, "-o", png, "-f", "--quiet", "--region", ",".join(map(str, region)))
    golden["region"] = {"rect": region, "sha256": digest(Image.open(png))}

    entry = {"name": name, "title": title, "credit": credit, "file": out.name, "bytes": size, **ours,
             "thumb": f"{name}-thumb.webp",
             "rivals": [{"codec": codec, "file": f"{name}.{extension}", "bytes": len(data), **m, "made": how}
                        for (extension, (codec, how, data)), m in zip(made.items(), theirs)]}
    entry["rivals"][-1]["decoded"] = f"{name}-jxl.webp"
    print(f"{name}: {size} bytes, {ours}; " + ", ".join(f"{r['codec']} {r['bytes']} {r['psnr']}" for r in entry["rivals"]), flush=True)
    return entry, golden


def main():
    tilefit = Path(sys.argv[1]).resolve()
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = [sample(tilefit, *s, Path(folder)) for s in SAMPLES]
    (OUT / "samples.json").write_text(json.dumps({"samples": [entry for entry, _ in made]}, indent=2) + "\n")
    golden = {entry["name"]: g for entry, g in made}
    (ROOT / "web" / "test").mkdir(exist_ok=True)
    (ROOT / "web" / "test" / "golden.json").write_text(json.dumps(golden, indent=2) + "\n")


main()
