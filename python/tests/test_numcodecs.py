"""The codec for numcodecs and Zarr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import psnr, smooth

import tilefit

numcodecs = pytest.importorskip("numcodecs")
from tilefit.numcodecs import TilefitCodec  # noqa: E402


def test_it_is_found_by_its_name() -> None:
    code = "import numcodecs; print(type(numcodecs.get_codec({'id': 'tilefit'})).__module__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "tilefit.numcodecs"


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        (None, (20, 30)),
        (None, (20, 30, 5)),
        ("yx", (20, 30)),
        ("xy", (20, 30)),
        ("cyx", (4, 20, 30)),
        ("cyx", (1, 20, 30)),
        ("zyx", (3, 20, 30)),
        ("zyx", (1, 20, 30)),
        ("zxyc", (2, 20, 30, 3)),
        ("tzcyx", (2, 3, 4, 20, 30)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_chunks_come_back(axes: str | None, shape: tuple[int, ...], dtype: Any) -> None:
    chunk = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    codec = TilefitCodec(axes)
    data = codec.encode(chunk)
    back = codec.decode(data)
    # Zarr gives the shape; what counts is the order of the samples.
    assert np.array_equal(back.reshape(shape), chunk) and back.dtype == chunk.dtype
    if axes is not None and len(shape) < 5:
        assert back.shape == shape
    out = np.zeros(shape, dtype)
    codec.decode(data, out)
    assert np.array_equal(out, chunk)
    again = numcodecs.get_codec(codec.get_config())
    assert again == codec and again.encode(chunk) == data


def test_wrong_axes() -> None:
    for axes in ("yy", "zy", "yxz", "ycz", "cx", "zzyx", "yzx", ""):
        with pytest.raises(tilefit.TilefitError, match="axes"):
            TilefitCodec(axes)
    with pytest.raises(tilefit.TilefitError, match="chunk of 2 axes"):
        TilefitCodec("zyx").encode(np.zeros((4, 4), np.uint8))
    with pytest.raises(tilefit.TilefitError, match="uint8 or uint16"):
        TilefitCodec().encode(np.zeros((4, 4), np.float32))


def test_zarr_arrays(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    stack = np.stack([smooth(70, 90, depth=16, seed=i) for i in range(4)])
    for place, options in [
        ("compressor", {"compressors": TilefitCodec("zyx")}),
        ("filter", {"filters": TilefitCodec("zyx"), "compressors": None}),
    ]:
        path = str(tmp_path / place)
        array = zarr.create_array(
            path, shape=stack.shape, chunks=(2, 32, 64), dtype=stack.dtype, zarr_format=2, **options
        )
        array[...] = stack
        back = zarr.open_array(path, mode="r")
        assert np.array_equal(back[...], stack)
        assert np.array_equal(back[1:3, 30:40, 60:70], stack[1:3, 30:40, 60:70])
        bytes_ = sum(f.stat().st_size for f in Path(path).rglob("*") if f.is_file())
        assert bytes_ < stack.nbytes * 0.9


def test_lossy_chunks(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    picture = smooth(64, 96, 3)
    array = zarr.create_array(
        str(tmp_path / "a"),
        shape=picture.shape,
        chunks=(64, 48, 3),
        dtype="uint8",
        zarr_format=2,
        compressors=TilefitCodec(quality=60, effort=1),
    )
    array[...] = picture
    assert 30 < psnr(array[...], picture) < 60


def test_chunks_are_not_tuned_for_the_eye() -> None:
    codec = TilefitCodec(quality=50, effort=1, model="pyramid")
    assert codec.get_config()["tune"] == "psnr"
    assert not tilefit.info(codec.encode(smooth(40, 40))).visual
    assert "tune" not in TilefitCodec(target_ssimulacra2=50).get_config()
