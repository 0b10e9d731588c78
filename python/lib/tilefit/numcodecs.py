"""Codec for numcodecs, and so for Zarr (format 2): chunks of arrays as files of one image or a group.

numcodecs finds it by its name ``tilefit``; nothing needs to be imported.

>>> import numcodecs, numpy as np
>>> codec = numcodecs.get_codec({"id": "tilefit", "axes": "zyx"})
>>> stack = np.add.outer(np.arange(3), np.add.outer(np.arange(40), np.arange(50))).astype(np.uint16)
>>> bool((codec.decode(codec.encode(stack)) == stack).all())
True

With Zarr:

>>> import zarr
>>> from tilefit.numcodecs import TilefitCodec
>>> array = zarr.create_array(
...     {}, shape=(3, 80, 100), chunks=(3, 40, 50), dtype="uint16", zarr_format=2, compressors=TilefitCodec(axes="zyx")
... )
>>> array[...] = 7
>>> int(array[2, 79, 99])
7
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ndarray_copy
from numcodecs.registry import register_codec

import tilefit

from ._encode import TARGETS


class TilefitCodec(Codec):  # type: ignore[misc]
    """Chunks of ``uint8`` or ``uint16`` as ``.tfit`` files, lossless unless a target is given.

    :param axes: a letter for each axis of a chunk. ``y`` and ``x`` are those of the pictures, ``c`` are channels (at most 16). Other
        letters come first and count pictures, which are coded as a group: ``"zyx"``, ``"tzcyx"``. ``"yx"`` or ``"yxc"`` by default.
    :param threads: as in :func:`tilefit.encode`; not stored.
    :param options: arguments of :func:`tilefit.encode` that JSON can hold, such as ``quality``, ``max_error``, ``effort``, ``depth``.
    """

    codec_id = "tilefit"

    def __init__(self, axes: str | None = None, threads: int | None = None, **options: Any) -> None:
        if axes is not None:
            picture = axes.lstrip("".join(set(axes) - set("yxc")))
            if sorted(picture) not in (["x", "y"], ["c", "x", "y"]) or len(set(axes)) < len(axes):
                message = f"axes: {axes}: expected letters that count pictures, then y, x and, for channels, c"
                raise tilefit.TilefitError(message, "argument", "axes")
        self.axes, self.threads = axes, threads
        if not any(options.get(name) is not None for name in TARGETS):
            options["lossless"] = True
        # Chunks are measurements as a rule: four channels are bands, and none is tuned for the eye.
        options.setdefault("alpha", False)
        if options.get("target_ssimulacra2") is None:
            options.setdefault("tune", "psnr")
        self.options = options

    def encode(self, buf: Any) -> bytes:
        """Encodes a chunk."""
        array = np.asarray(buf)
        axes = self.axes or {2: "yx", 3: "yxc"}.get(array.ndim, "")
        if len(axes) != array.ndim:
            message = f"axes: a chunk of {array.ndim} axes: expected {self.axes or 'yx or yxc'}"
            raise tilefit.TilefitError(message, "argument", "axes")
        picture = _picture(axes)
        array = array.reshape((-1,) + array.shape[len(axes) - len(picture) :])
        array = array.transpose([0] + [1 + picture.index(a) for a in "yxc" if a in picture])
        return tilefit.encode(list(array), threads=self.threads, **self.options)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decodes a chunk, or into ``out``. Pictures are counted along one axis, however many the chunk had for it."""
        decoder = tilefit.Decoder(ensure_bytes(buf), threads=self.threads)
        if self.axes is None:
            array: np.ndarray[Any, Any] = decoder.read()
        else:
            picture = _picture(self.axes)
            array = np.stack(list(decoder))
            if "c" in picture and array.ndim == 3:
                array = array[..., None]
            array = array.transpose([0] + [1 + "yxc".index(a) for a in picture])
            if picture == self.axes:
                array = array[0]
        array = np.ascontiguousarray(array)
        return array if out is None else ndarray_copy(array, out)

    def get_config(self) -> dict[str, Any]:
        """What Zarr stores in its metadata."""
        return {"id": self.codec_id, "axes": self.axes, **self.options}


def _picture(axes: str) -> str:
    """The axes of a picture, without those that count pictures."""
    return "".join(a for a in axes if a in "yxc")


register_codec(TilefitCodec)
