"""Encodes a folder of pictures with Ray.

    python folder_ray.py photos/ out/ --workers 4 --effort 5
    python folder_ray.py photos/ out/ --address auto

Without --address it starts Ray on this machine with --workers cores. Each task fits one picture and takes --threads cores. On a cluster of
several machines, both folders are on a file system that all of them see, and tilefit is installed on each. Outputs that exist are kept: a run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import ray

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}


@ray.remote
def encode(source: Path, target: Path, effort: int, quality: float, threads: int) -> tuple[str, int, int]:
    """Runs on a worker: one picture to one file. Returns its name and the bytes before and after."""
    from PIL import Image

    import tilefit.pillow  # noqa: F401

    part = target.with_suffix(".part")
    with Image.open(source) as image:
        image.save(part, "TILEFIT", effort=effort, quality=quality, threads=threads)
    # It appears complete or not at all.
    os.replace(part, target)
    return source.name, source.stat().st_size, target.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description="Encode a folder of pictures with Ray.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--address", help="address of a running cluster, or auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=1, help="threads of each fit")
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--quality", type=float, default=75)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    jobs = []
    for source in sorted(args.folder.resolve().iterdir()):
        target = args.output.resolve() / (source.name + ".tfit")
        if source.suffix.lower() in PICTURES and not target.exists():
            jobs.append((source, target))
    if args.address:
        ray.init(address=args.address)
    else:
        ray.init(num_cpus=args.workers, include_dashboard=False)
    remote = encode.options(num_cpus=args.threads)
    running = {remote.remote(s, t, args.effort, args.quality, args.threads): s for s, t in jobs}
    failed = 0
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        source = running.pop(done)
        try:
            name, before, after = ray.get(done)
            print(f"{name}: {before} to {after} bytes", flush=True)
        except ray.exceptions.RayTaskError as e:
            # A picture that cannot be read is no reason to stop.
            failed += 1
            print(f"{source.name}: {e.cause}", flush=True)
    ray.shutdown()
    print(f"{len(jobs) - failed} encoded, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
