"""The examples that map a folder over two workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import psnr, smooth

import tilefit

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(("script", "package"), [("folder_dask.py", "distributed"), ("folder_ray.py", "ray")])
def test_a_folder_on_two_workers(script: str, package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    image = pytest.importorskip("PIL.Image")
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    pictures = {f"{i}.png": smooth(48, 64, 3, seed=i) for i in range(4)}
    for name, picture in pictures.items():
        image.fromarray(picture).save(photos / name)
    (photos / "notes.txt").write_text("no picture")
    (photos / "broken.png").write_bytes(b"no picture either")
    command = [sys.executable, str(EXAMPLES / script), str(photos), str(out), "--workers", "2", "--effort", "1"]
    # Nothing is sent to anybody.
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "4 encoded, 1 failed" in run.stdout and "broken.png: " in run.stdout
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{n}.tfit" for n in pictures)
    for name, picture in pictures.items():
        assert psnr(np.asarray(tilefit.decode((out / f"{name}.tfit").read_bytes())), picture) > 26
    # Once more: all are there.
    (photos / "broken.png").unlink()
    if package == "distributed":
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        assert run.returncode == 0 and "0 encoded, 0 failed" in run.stdout, run.stdout + run.stderr
