"""Arrays to files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

from . import _tilefit
from ._errors import TilefitError
from ._metadata import MetadataLike, to_items

#: The arguments that set a target, with `lossless`.
TARGETS = (
    "quality",
    "lambda_",
    "max_error",
    "target_psnr",
    "target_ssimulacra2",
    "target_msssim",
    "target_bpp",
    "target_size",
)

Samples = Union["npt.NDArray[np.uint8]", "npt.NDArray[np.uint16]"]


@dataclass(frozen=True)
class Progress:
    """The state of a fit, for the callback ``progress`` of :func:`encode`."""

    #: Steps made.
    step: int
    #: Steps planned.
    steps: int
    #: The present weight of the rate in the loss.
    lambda_: float
    #: PSNR in dB at the last measurement.
    psnr: float | None
    #: Estimated bytes of the file at the last measurement.
    file_bytes: float | None


def encode(
    array: Samples | Sequence[Samples],
    *,
    quality: float | None = None,
    lambda_: float | None = None,
    lossless: bool = False,
    max_error: int | None = None,
    target_psnr: float | None = None,
    target_ssimulacra2: float | None = None,
    target_msssim: float | None = None,
    target_bpp: float | None = None,
    target_size: int | None = None,
    effort: int | None = None,
    tune: Literal["psnr", "ssim", "msssim", "visual"] | None = None,
    model: str | None = None,
    channels: int | None = None,
    tile: int | None = None,
    seed: int | None = None,
    alpha: bool | None = None,
    alpha_quality: float | None = None,
    depth: int | None = None,
    time_limit: float | datetime.timedelta | None = None,
    max_memory: int | None = None,
    threads: int | None = None,
    progress: Callable[[Progress], object] | None = None,
    metadata: MetadataLike | None = None,
) -> bytes:
    """Fits a model to ``array`` and returns the file.

    :param array: ``(height, width)`` or ``(height, width, channels)`` with 1 to 16 channels, of type ``uint8`` or ``uint16``; a list
        of arrays of one kind becomes one file with one model (a group).
    :param quality: 0 (smallest file) to 100; 75 if no target is given. Tuned for the eye it is about the score of SSIMULACRA2. At most one
        target is possible: this, ``lambda_``, ``lossless``, ``max_error`` or one of ``target_*``.
    :param lambda_: the weight of the rate in the loss.
    :param lossless: decode to the same samples.
    :param max_error: the largest difference of a sample.
    :param target_psnr: at least this PSNR in dB.
    :param target_ssimulacra2: at least this score of SSIMULACRA2, for grey and RGB.
    :param target_msssim: at least this MS-SSIM.
    :param target_bpp: at most this many bits a pixel.
    :param target_size: at most this many bytes.
    :param effort: 1 (fastest) to 9 (smallest file); 5 by default.
    :param tune: the distortion that is minimised: ``"psnr"``, ``"visual"``, ``"ssim"`` or ``"msssim"``, as far as the family has it. By
        default ``"visual"`` for grey and RGB, unless the target is of another measure, and ``"psnr"`` for bands. Give ``"psnr"`` for
        measurements.
    :param model: the model family; chosen by itself by default.
    :param channels: latent channels, for families that have the choice.
    :param tile: side of a tile in pixels, a power of two from 64 on, or 0 for one tile; a region decodes only the tiles that it needs.
    :param seed: seed of the random numbers.
    :param alpha: whether the last channel is alpha. By default it is with 2 and with 4 channels; ``False`` makes them bands.
    :param alpha_quality: 0 to 100, for alpha alone.
    :param depth: bits of a sample of ``uint16``, 9 to 16 (default).
    :param time_limit: seconds or a ``timedelta``; the file is the best that is found in that time.
    :param max_memory: bytes that the fit may use, 4 GiB by default.
    :param threads: all cores that the process may use by default. The file does not depend on it.
    :param progress: is called with a :class:`Progress` in the caller's thread, at most twenty times a second. If it returns ``False``
        the fit ends with the best file so far; an exception ends it without one and is raised here. Ctrl-C does the same.
    :param metadata: data by kind, for example ``{"icc": profile}``, or a sequence of :class:`Metadata`, as ``info(data).metadata`` is.
    :raises TilefitError: of kind ``argument``, ``target`` or ``memory_limit``.

    >>> import numpy as np, tilefit
    >>> ramp = np.arange(64, dtype=np.uint8) * np.ones((48, 1), np.uint8)
    >>> data = tilefit.encode(ramp, lossless=True, metadata={"xmp": b"<x:xmpmeta/>"})
    >>> bool((tilefit.decode(data) == ramp).all())
    True
    """
    values = (
        quality,
        lambda_,
        max_error,
        target_psnr,
        target_ssimulacra2,
        target_msssim,
        target_bpp,
        target_size,
    )
    targets: dict[str, float | None] = dict(zip(TARGETS, values, strict=True))
    given: list[tuple[str, float]] = [(name, value) for name, value in targets.items() if value is not None]
    if lossless:
        given.append(("max_error", 0))
    if len(given) > 1:
        names = ", ".join("lossless" if lossless and i == len(given) - 1 else n for i, (n, _) in enumerate(given))
        raise TilefitError(f"{names}: choose one target", "argument", given[0][0])
    for name, largest in [("max_error", 65535), ("target_size", 2**53)]:
        value = targets[name]
        if value is not None and not (value == int(value) and 0 <= value <= largest):
            raise TilefitError(f"{name}: {value}: expected an integer from 0 to {largest}", "argument", name)
    if isinstance(time_limit, datetime.timedelta):
        time_limit = time_limit.total_seconds()
    options = {
        "target": given[0] if given else None,
        "model": model,
        "effort": effort,
        "tune": tune,
        "alpha_quality": alpha_quality,
        "time_limit": time_limit,
        "max_memory": max_memory,
        "seed": seed,
        "tile": tile,
        "channels": channels,
        "threads": threads,
    }
    arrays = list(array) if isinstance(array, (list, tuple)) else [array]
    report = None
    if progress is not None:
        callback = progress

        def report(*state: Any) -> object:
            return callback(Progress(*state))

    return _tilefit.encode([_described(a, depth, alpha) for a in arrays], options, to_items(metadata), report)


def _described(array: Any, depth: int | None, alpha: bool | None) -> dict[str, Any]:
    """The array as the native half takes it."""
    samples = np.asarray(array)
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if (kind, size) == ("u", 1):
        bits, depths = 8, (8, 8)
    elif (kind, size) == ("u", 2):
        bits, depths = 16, (9, 16)
        # In the machine's order of bytes, and called so.
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False).view(np.uint16)
    else:
        message = f"array: an array of {samples.dtype}: expected uint8 or uint16"
        if kind == "f":
            message += " (scale samples to integers first, for example np.rint(array * 255).astype(np.uint8))"
        raise TilefitError(message, "argument", "array")
    if depth is not None:
        if not depths[0] <= depth <= depths[1]:
            allowed = "8" if bits == 8 else "9 to 16"
            raise TilefitError(f"depth: {depth}: expected {allowed} for {samples.dtype}", "argument", "depth")
        bits = depth
    if samples.ndim not in (2, 3):
        shape = "x".join(map(str, samples.shape)) or "a number"
        message = f"array: {shape}: expected height x width or height x width x channels"
        raise TilefitError(message, "argument", "array")
    count = samples.shape[2] if samples.ndim == 3 else 1
    return {
        "samples": samples,
        "width": samples.shape[1],
        "height": samples.shape[0],
        "channels": count,
        "depth": bits,
        "alpha": count in (2, 4) if alpha is None else alpha,
    }
