"""Pictures for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def smooth(height: int, width: int, channels: int | None = None, depth: int = 8, seed: int = 0) -> np.ndarray[Any, Any]:
    """Waves with a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for c in range(channels or 1):
        a, b, p = random.uniform(0.02, 0.2, 2).tolist() + [c]
        planes.append(0.5 + 0.4 * np.sin(a * x + p) * np.cos(b * y) + random.normal(0, 0.01, (height, width)))
    samples = np.clip(np.stack(planes, -1), 0, 1) * ((1 << depth) - 1)
    array = np.rint(samples).astype(np.uint8 if depth == 8 else np.uint16)
    return array if channels else array[..., 0]


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], peak: float = 255) -> float:
    return float(10 * np.log10(peak**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.fixture(scope="session")
def tiled() -> tuple[bytes, np.ndarray[Any, Any]]:
    """A lossless file of 4 x 4 tiles, and its picture."""
    import tilefit

    picture = smooth(256, 256, 3)
    return tilefit.encode(picture, lossless=True, tile=64, metadata={"icc": b"profile", "xmp": b"<x/>"}), picture
