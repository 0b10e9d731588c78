"""The plugin for imageio."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import smooth

import tilefit

iio = pytest.importorskip("imageio.v3")
import tilefit.imageio  # noqa: E402


@pytest.mark.parametrize(("channels", "depth"), [(None, 8), (3, 8), (4, 8), (6, 8), (None, 16), (3, 16)])
def test_files(channels: int | None, depth: int, tmp_path: Path) -> None:
    picture = smooth(31, 42, channels, depth)
    iio.imwrite(tmp_path / "a.tfit", picture, lossless=True, metadata={"icc": b"profile"})
    assert np.array_equal(iio.imread(tmp_path / "a.tfit"), picture)
    assert np.array_equal(iio.imread(tmp_path / "a.tfit", region=(3, 2, 9, 8)), picture[2:10, 3:12])
    assert iio.imread(tmp_path / "a.tfit", scale=2).shape[:2] == (16, 21)
    properties = iio.improps(tmp_path / "a.tfit")
    assert (properties.shape, properties.dtype, properties.is_batch) == (picture.shape, picture.dtype, False)
    assert iio.immeta(tmp_path / "a.tfit") == {"icc": b"profile"}
    assert iio.immeta(tmp_path / "a.tfit", index=...)["model"] == "lossless"


def test_bytes_and_streams() -> None:
    picture = smooth(20, 20, 3)
    data = iio.imwrite("<bytes>", picture, extension=".tfit", lossless=True)
    assert np.array_equal(tilefit.decode(data), picture)
    # Without a hint: by its content.
    assert np.array_equal(iio.imread(data), picture)
    assert np.array_equal(iio.imread(io.BytesIO(data), extension=".tfit"), picture)


def test_batches(tmp_path: Path) -> None:
    stack = np.stack([smooth(20, 24, 3, seed=i) for i in range(3)])
    grey = stack[..., 0]
    path = tmp_path / "a.tfit"
    iio.imwrite(path, stack, lossless=True)
    assert np.array_equal(iio.imread(path, index=...), stack)
    assert np.array_equal(iio.imread(path, index=1), stack[1])
    assert np.array_equal(np.stack(list(iio.imiter(path))), stack)
    properties = iio.improps(path, index=...)
    assert (properties.shape, properties.n_images, properties.is_batch) == (stack.shape, 3, True)
    with pytest.raises(IndexError):
        iio.imread(path, index=3)
    iio.imwrite(path, grey, is_batch=True, lossless=True)
    assert np.array_equal(iio.imread(path, index=...), grey)
    iio.imwrite(path, list(grey), lossless=True)
    assert np.array_equal(iio.imread(path, index=2), grey[2])


def test_others_are_left_to_other_plugins(tmp_path: Path) -> None:
    (tmp_path / "a.tfit").write_bytes(b"no picture at all")
    with pytest.raises(OSError):
        iio.imread(tmp_path / "a.tfit")
    with pytest.raises(OSError, match="can not handle"):
        iio.imopen(tmp_path / "a.png", "w", plugin="tilefit")
