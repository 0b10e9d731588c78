"""Plugin for Pillow: ``import tilefit.pillow`` lets ``Image.open`` and ``Image.save`` know ``.tfit`` files.

>>> import io
>>> from PIL import Image
>>> import tilefit.pillow
>>> file = io.BytesIO()
>>> Image.new("RGB", (40, 30), "orange").save(file, "TILEFIT", lossless=True)
>>> Image.open(file).convert("L").size
(40, 30)

Modes L, LA, RGB, RGBA and I;16 are written; what :func:`tilefit.encode` takes is passed on by ``save``, as are ``icc_profile``, ``exif``
and ``xmp`` (those of the image by default). ``save_all=True`` with ``append_images`` writes a group, whose pictures are the frames of
the opened image. Grey of more than 8 bits opens as I;16, scaled to 16 bits; RGB and alpha of more than 8 bits as 8 bits, since Pillow
has no more. ``draft`` and ``thumbnail`` decode at 1/2, 1/4 or 1/8 where that is enough.
"""

from __future__ import annotations

import inspect
import io
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

import tilefit

from ._metadata import Metadata

MAGIC = b"\x8bTF\r\n"
MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA"}
#: Channels and whether there is alpha, by mode.
WRITTEN = {mode: kind for kind, mode in MODES.items()} | {"I;16": (1, False)}
#: Metadata that Pillow has names for.
INFO = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp"}
#: What `save` passes on.
OPTIONS = {
    name
    for name, parameter in inspect.signature(tilefit.encode).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("alpha", "depth", "metadata")
}


class TilefitImageFile(ImageFile.ImageFile):
    """An opened ``.tfit`` file."""

    format = "TILEFIT"
    format_description = "Tilefit"
    _close_exclusive_fp_after_loading = False

    def _open(self) -> None:
        assert self.fp is not None
        try:
            # Samples of large images are limited by Pillow itself (Image.MAX_IMAGE_PIXELS).
            self._decoder = tilefit.Decoder(self.fp, max_pixels=1 << 62)
        except tilefit.TilefitError as e:
            if e.kind == "unsupported":
                raise OSError(str(e)) from e
            # Image.open turns it to an UnidentifiedImageError.
            raise SyntaxError(str(e)) from e
        info = self._decoder.info
        mode = MODES.get((info.channels - info.alpha, info.alpha))
        if mode is None:
            raise OSError(f"{info.channels} bands: Pillow has grey and RGB; tilefit.decode reads them all")
        self._mode = "I;16" if mode == "L" and info.depth > 8 else mode
        self.n_frames = len(info.images)
        self.is_animated = self.n_frames > 1
        self._show(0)

    def _show(self, frame: int) -> None:
        """Makes a frame the one that is loaded next."""
        info = self._decoder.info
        image = info.images[frame]
        self._frame, self._scale = frame, 1
        self._size = (image.width, image.height)
        for kind, name in INFO.items():
            data = info.find(kind, frame)
            if data is None:
                self.info.pop(name, None)
            else:
                self.info[name] = b"Exif\0\0" + data if kind == "exif" else data
        self._rest()

    def _rest(self) -> None:
        """One tile, the whole image, so that Pillow knows that it is still to load."""
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, self._mode)]

    def seek(self, frame: int) -> None:
        if self._seek_check(frame):
            self._im = None
            self._show(frame)

    def tell(self) -> int:
        return self._frame

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        if size is None or not self.tile or self._scale != 1:
            return None
        width, height = self._size
        fits = [s for s in (8, 4, 2) if width >= s * size[0] and height >= s * size[1]]
        if not fits:
            return None
        self._scale = fits[0]
        self._size = (-(-width // self._scale), -(-height // self._scale))
        self._rest()
        return self._mode, (0, 0, width / self._scale, height / self._scale)

    def load(self) -> Any:
        if self.tile:
            array = self._decoder.read(self._frame, scale=self._scale)
            depth = self._decoder.info.depth
            peak = (1 << depth) - 1
            if self._mode == "I;16":
                scaled = (array.astype(np.uint32) * 65535 + peak // 2) // peak
                data = scaled.astype("<u2").tobytes()
            elif depth > 8:
                data = ((array.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8).tobytes()
            else:
                data = array.tobytes()
            if self.n_frames == 1:
                self._decoder.close()
                if self.fp is not None and self._exclusive_fp:
                    self.fp.close()
            # What Pillow reads from are the samples. The file stays open for the other frames.
            fp, self.fp = self.fp, io.BytesIO(data)
            try:
                return super().load()
            finally:
                self.fp = fp if self.n_frames > 1 else None
        return super().load()

    def load_seek(self, pos: int) -> None:
        pass


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _arrays(image: Image.Image) -> np.ndarray[Any, Any]:
    if image.mode not in WRITTEN:
        modes = ", ".join(WRITTEN)
        raise OSError(f"cannot write mode {image.mode} as TILEFIT: convert it to one of {modes}")
    array = np.asarray(image)
    return array.astype(np.uint16, copy=False) if image.mode == "I;16" else array


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    _write([image], image.encoderinfo, fp)


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    given = image.encoderinfo
    frames: list[Image.Image] = []
    for one in [image, *given.get("append_images", [])]:
        for frame in range(getattr(one, "n_frames", 1)):
            one.seek(frame)
            frames.append(one.copy())
    _write(frames, given, fp)


def _write(images: list[Image.Image], given: dict[str, Any], fp: IO[bytes]) -> None:
    metadata = []
    for i, image in enumerate(images):
        for kind, name in INFO.items():
            data = given.get(name, image.info.get(name))
            if isinstance(data, Image.Exif):
                data = data.tobytes()
            if data:
                metadata.append(Metadata(kind, data, i))
    alpha = WRITTEN.get(images[0].mode, (1, False))[1]
    options = {name: value for name, value in given.items() if name in OPTIONS}
    arrays = [_arrays(image) for image in images]
    fp.write(tilefit.encode(arrays, alpha=alpha, metadata=metadata, **options))


Image.register_open(TilefitImageFile.format, TilefitImageFile, _accept)
Image.register_save(TilefitImageFile.format, _save)
Image.register_save_all(TilefitImageFile.format, _save_all)
Image.register_extension(TilefitImageFile.format, ".tfit")
Image.register_mime(TilefitImageFile.format, "image/x-tilefit")
