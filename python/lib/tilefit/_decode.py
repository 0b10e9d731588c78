"""Files to arrays."""

from __future__ import annotations

import io
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Union, cast

import numpy as np
import numpy.typing as npt

from . import _tilefit
from ._errors import TilefitError
from ._metadata import Metadata, from_items

Data = Union[bytes, bytearray, memoryview]
Source = Union[Data, str, "os.PathLike[str]", IO[bytes]]
Array = Union["npt.NDArray[np.uint8]", "npt.NDArray[np.uint16]"]

#: Bytes that are read first. The headers of most files fit: they have the weights, about 1 to 10 KB, and 6 to 14 bytes for each tile.
FIRST_READ = 1 << 16
#: Ranges at most this far apart are read as one: a request of 1 ms costs as much as 12 KB at 100 Mbit/s.
GAP = 1 << 14
#: Bytes of tiles that a decoder keeps from one call to the next: all of a gigapixel at half a bit a pixel.
KEPT = 1 << 26


@dataclass(frozen=True)
class ImageInfo:
    """One image of a file."""

    width: int
    height: int
    #: CRC-32 of the decoded samples.
    digest: int


@dataclass(frozen=True)
class Info:
    """What a file tells without being decoded."""

    #: Version of the format.
    version: int
    #: The model family.
    model: str
    #: Whether the fit was tuned for the eye.
    visual: bool
    images: tuple[ImageInfo, ...]
    #: Samples of a pixel, alpha included.
    channels: int
    #: Bits of a sample.
    depth: int
    #: Whether the last channel is alpha.
    alpha: bool
    #: Bytes of the file, and of its parts.
    file_bytes: int
    header_bytes: int
    weights_bytes: int
    codes_bytes: int
    metadata_bytes: int
    weights_count: int
    multiplications_per_pixel: float
    #: Side of a tile in pixels; 0 if each image is one tile.
    tile: int
    tiles: int
    #: Memory and multiplications that decoding the most costly image takes; the first is an upper bound.
    decode_memory_bytes: int
    decode_work: int
    metadata: tuple[Metadata, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first image as an array."""
        image = self.images[0]
        return (image.height, image.width) + ((self.channels,) if self.channels > 1 else ())

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """Type of the decoded arrays."""
        return np.dtype(np.uint8) if self.depth == 8 else np.dtype(np.uint16)

    def find(self, kind: str, image: int = 0) -> bytes | None:
        """The data of the first item of metadata of this kind, for example ``"icc"``, ``"exif"`` or ``"xmp"``."""
        return next((m.data for m in self.metadata if m.kind == kind and m.image == image), None)


class Decoder:
    """An opened file: a path, bytes, or a file object that can seek.

    Only the header is read at first, later the ranges of bytes that a call needs. Calls from several threads are possible; those that
    read from a path or a file object wait for each other.

    :param source: a path, bytes, or a file object.
    :param max_pixels: most pixels that a call may decode; 2^28 by default. The limits protect from files that others made.
    :param max_memory: most bytes of memory that it may use, its result included; 2 GiB by default.
    :param max_work: most multiplications that it may make; 2^40 by default.
    :param threads: number of threads of a call, if it does not give another.

    >>> import numpy as np, tilefit
    >>> data = tilefit.encode(np.zeros((300, 400), np.uint8), lossless=True, tile=64)
    >>> with tilefit.Decoder(data) as d:
    ...     d.info.shape, d.read_region(380, 280, 20, 10).shape, d.read(scale=4).shape
    ((300, 400), (10, 20), (75, 100))
    """

    def __init__(
        self,
        source: Source,
        *,
        max_pixels: int | None = None,
        max_memory: int | None = None,
        max_work: int | None = None,
        threads: int | None = None,
    ) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._opened = False
        self._kept = 0
        limits = (max_pixels, max_memory, max_work)
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            self._native = _tilefit.Decoder(data, len(data), *limits)
        else:
            if isinstance(source, (str, os.PathLike)):
                self._file = open(source, "rb")
                self._opened = True
            else:
                self._file = source
            try:
                self._native = self._open(self._file, limits)
            except BaseException:
                self.close()
                raise
        fields = self._native.info()
        images = tuple(ImageInfo(*image) for image in fields.pop("images"))
        #: Facts about the file.
        self.info = Info(images=images, metadata=from_items(self._native.metadata()), **fields)

    @staticmethod
    def _open(file: IO[bytes], limits: tuple[int | None, int | None, int | None]) -> _tilefit.Decoder:
        """Reads from the beginning until the header is complete."""
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        data, wanted = b"", FIRST_READ
        while True:
            more = file.read(wanted - len(data))
            data += more
            try:
                return _tilefit.Decoder(data, length, *limits)
            except TilefitError as e:
                if e.kind != "truncated" or not more:
                    raise
            if len(data) >= wanted:
                wanted *= 2

    def __len__(self) -> int:
        """Number of images."""
        return len(self.info.images)

    def __iter__(self) -> Iterator[Array]:
        """Decodes one image after the other."""
        return (self.read(i) for i in range(len(self)))

    def read(self, image: int = 0, *, scale: int = 1, threads: int | None = None) -> Array:
        """Decodes an image, at ``1/scale`` of its size with ``scale`` 1, 2, 4 or 8 (sides are rounded up).

        The array has the shape ``(height, width)``, or ``(height, width, channels)`` for more than one channel; its type is
        ``uint8`` for 8 bits a sample and ``uint16`` for more.
        """
        return self._decode(image, scale, None, threads)

    def read_region(
        self, x: int, y: int, width: int, height: int, *, image: int = 0, scale: int = 1, threads: int | None = None
    ) -> Array:
        """Decodes a rectangle in pixels of that scale: the same samples as that part of the whole image."""
        for name, value in [("x", x), ("y", y), ("width", width), ("height", height)]:
            if value < 0:
                raise TilefitError(f"{name}: {value}: expected at least 0", "argument", name)
        return self._decode(image, scale, (x, y, width, height), threads)

    def verify(self, *, threads: int | None = None) -> None:
        """Decodes everything and compares it with the checksums in the file; raises :class:`TilefitError` if they differ."""
        for i, image in enumerate(self.info.images):
            samples = self.read(i, threads=threads)
            digest = _digest(samples)
            if digest != image.digest:
                message = f"the decoded samples of image {i} have digest {digest:08x}, the header says {image.digest:08x}"
                raise TilefitError(message, "format")

    def _decode(
        self, image: int, scale: int, region: tuple[int, int, int, int] | None, threads: int | None
    ) -> Array:
        if not 0 <= image < len(self):
            raise TilefitError(f"image: {image}: the file has {len(self)}, counted from 0", "argument", "image")
        if scale not in (1, 2, 4, 8):
            raise TilefitError(f"scale: {scale}: expected 1, 2, 4 or 8", "argument", "scale")
        shift = (1, 2, 4, 8).index(scale)
        threads = self._threads if threads is None else threads
        if self._file is None:
            data = self._native.decode(image, shift, region, threads)
        else:
            with self._lock:
                self._fetch(self._file, image, shift, region)
                data = self._native.decode(image, shift, region, threads)
        if region is None:
            size = self.info.images[image]
            width, height = -(-size.width // scale), -(-size.height // scale)
        else:
            width, height = region[2:]
        shape = (height, width) + ((self.info.channels,) if self.info.channels > 1 else ())
        return cast(Array, np.frombuffer(data, self.info.dtype).reshape(shape))

    def _fetch(self, file: IO[bytes], image: int, shift: int, region: tuple[int, int, int, int] | None) -> None:
        """Reads the bytes that a decode needs."""
        if self._kept > KEPT:
            self._native.forget()
            self._kept = 0
        for start, end in self._native.missing(image, shift, region, GAP):
            file.seek(start)
            data = b""
            while len(data) < end - start:
                more = file.read(end - start - len(data))
                if not more:
                    raise TilefitError(f"bytes {start} to {end} could not be read: the file has become shorter", "io")
                data += more
            self._native.supply(start, data)
            self._kept += len(data)

    def close(self) -> None:
        """Closes the file, if it was opened from a path."""
        if self._opened and self._file is not None:
            self._file.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _digest(samples: Array) -> int:
    little = samples if samples.dtype.itemsize == 1 else samples.astype("<u2", copy=False)
    return zlib.crc32(little.tobytes())


def decode(
    data: Data,
    *,
    image: int = 0,
    scale: int = 1,
    threads: int | None = None,
    max_pixels: int | None = None,
    max_memory: int | None = None,
    max_work: int | None = None,
) -> Array:
    """Decodes one image of a file; see :meth:`Decoder.read` for what it returns and :class:`Decoder` for the limits.

    >>> import numpy as np, tilefit
    >>> data = tilefit.encode(np.full((20, 30, 3), 1000, np.uint16), depth=10, lossless=True)
    >>> array = tilefit.decode(data)
    >>> array.shape, array.dtype, int(array[0, 0, 0])
    ((20, 30, 3), dtype('uint16'), 1000)
    """
    decoder = Decoder(data, max_pixels=max_pixels, max_memory=max_memory, max_work=max_work)
    return decoder.read(image, scale=scale, threads=threads)


def decode_region(
    data: Data,
    x: int,
    y: int,
    width: int,
    height: int,
    *,
    image: int = 0,
    scale: int = 1,
    threads: int | None = None,
    max_pixels: int | None = None,
    max_memory: int | None = None,
    max_work: int | None = None,
) -> Array:
    """Decodes a rectangle; see :meth:`Decoder.read_region`.

    >>> import numpy as np, tilefit
    >>> picture = np.add.outer(np.arange(90), np.arange(80)).astype(np.uint8)
    >>> data = tilefit.encode(picture, lossless=True)
    >>> bool((tilefit.decode_region(data, 8, 5, 20, 10) == picture[5:15, 8:28]).all())
    True
    """
    decoder = Decoder(data, max_pixels=max_pixels, max_memory=max_memory, max_work=max_work)
    return decoder.read_region(x, y, width, height, image=image, scale=scale, threads=threads)


def info(source: Source) -> Info:
    """What a file tells without being decoded: sizes, model, bytes of its parts, metadata.

    >>> import numpy as np, tilefit
    >>> facts = tilefit.info(tilefit.encode(np.zeros((6, 5, 4), np.uint8), lossless=True, metadata={"icc": b"profile"}))
    >>> facts.shape, facts.alpha, facts.find("icc")
    ((6, 5, 4), True, b'profile')
    """
    with Decoder(source) as decoder:
        return decoder.info
