"""What a user writes, for mypy --strict: the types that the package promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

import tilefit


def shrink(picture: npt.NDArray[np.uint8]) -> bytes:
    def progress(p: tilefit.Progress) -> bool:
        return p.psnr is None or p.psnr < 40.0

    return tilefit.encode(picture, quality=75.0, effort=1, progress=progress, metadata={"icc": b""})


def together(pictures: list[npt.NDArray[np.uint16]]) -> bytes:
    return tilefit.encode(pictures, depth=12, lossless=True)


def corner(path: Path) -> tuple[int, ...]:
    with tilefit.Decoder(path, max_pixels=1 << 20) as decoder:
        for array in decoder:
            assert array.ndim >= 2
        profile: bytes | None = decoder.info.find("icc")
        assert profile is None or len(profile) > 0
        return decoder.read_region(0, 0, 8, 8).shape


def kind(data: bytes) -> str:
    try:
        return tilefit.info(data).model
    except tilefit.TilefitError as e:
        return e.kind
