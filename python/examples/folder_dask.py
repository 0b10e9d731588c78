"""Encodes a folder of pictures on a Dask cluster.

    python folder_dask.py photos/ out/ --workers 4 --effort 5
    python folder_dask.py photos/ out/ --scheduler tcp://host:8786

Without --scheduler it starts workers on this machine. A fit gains little from more than one thread where there are other pictures to
fit, so each worker fits one picture at a time on --threads threads. With a scheduler on other machines, both folders are on a file
system that all of them see, and tilefit is installed on each. Outputs that exist are kept: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dask.distributed import Client, LocalCluster, as_completed

PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}


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
    parser = argparse.ArgumentParser(description="Encode a folder of pictures on a Dask cluster.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scheduler", help="address of a running cluster")
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
    failed = 0
    cluster = args.scheduler or LocalCluster(n_workers=args.workers, threads_per_worker=1, dashboard_address=None)
    with Client(cluster) as client:
        futures = {
            client.submit(encode, source, target, args.effort, args.quality, args.threads, pure=False): source
            for source, target in jobs
        }
        for future in as_completed(futures):
            # A picture that cannot be read is no reason to stop.
            if future.exception() is not None:
                failed += 1
                print(f"{futures[future].name}: {future.exception()}", flush=True)
                continue
            name, before, after = future.result()
            print(f"{name}: {before} to {after} bytes", flush=True)
    if not args.scheduler:
        cluster.close()
    print(f"{len(jobs) - failed} encoded, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
