"""Plugin for imageio: ``import tilefit.imageio`` lets ``imageio.v3`` know ``.tfit`` files.

>>> import imageio.v3 as iio, numpy as np
>>> import tilefit.imageio
>>> picture = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
>>> data = iio.imwrite("<bytes>", picture, extension=".tfit", lossless=True)
>>> bool((iio.imread(data, extension=".tfit") == picture).all())
True

Arrays of all kinds that :func:`tilefit.encode` takes are written, with its arguments. A list, or an array with a first axis more, is a
group; ``is_batch=True`` says that three axes are a batch of grey pictures. ``imread`` takes ``index``, ``region=(x, y, width, height)`` and
``scale``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from imageio.config import known_extensions, known_plugins
from imageio.config.extensions import FileExtension
from imageio.config.plugins import PluginConfig
from imageio.core.request import URI_BYTES, InitializationError, IOMode, Request
from imageio.core.v3_plugin_api import ImageProperties, PluginV3

import tilefit

EXTENSION = ".tfit"


class TilefitPlugin(PluginV3):
    """Reads and writes ``.tfit`` files."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.mode.io_mode == IOMode.read:
            try:
                self._decoder = tilefit.Decoder(request.get_file())
            except tilefit.TilefitError as e:
                raise InitializationError(str(e)) from e
        elif (request.format_hint or request.extension) != EXTENSION:
            raise InitializationError(f"tilefit writes {EXTENSION} files")

    def _index(self, index: Any) -> int:
        """``None`` is the first image: most files have one."""
        index = 0 if index is None else index
        if not 0 <= index < len(self._decoder):
            raise IndexError(f"image {index}: the file has {len(self._decoder)}")
        return int(index)

    def read(
        self, *, index: Any = None, region: tuple[int, int, int, int] | None = None, scale: int = 1
    ) -> np.ndarray[Any, Any]:
        """Decodes an image, or with ``index=...`` all of them, stacked."""
        if index is ...:
            images = [self.read(index=i, region=region, scale=scale) for i in range(len(self._decoder))]
            return np.stack(images)
        index = self._index(index)
        if region is not None:
            return self._decoder.read_region(*region, image=index, scale=scale)
        return self._decoder.read(index, scale=scale)

    def iter(self) -> Iterator[np.ndarray[Any, Any]]:
        """Decodes one image after the other."""
        return iter(self._decoder)

    def write(self, ndimage: Any, *, is_batch: bool | None = None, **options: Any) -> bytes | None:
        """Encodes an array, or several as a group, with the arguments of :func:`tilefit.encode`."""
        arrays = [np.asarray(a) for a in ndimage] if isinstance(ndimage, (list, tuple)) else np.asarray(ndimage)
        if not isinstance(arrays, list) and (arrays.ndim == 4 if is_batch is None else is_batch):
            arrays = list(arrays)
        data = tilefit.encode(arrays, **options)
        self.request.get_file().write(data)
        return data if self.request._uri_type == URI_BYTES else None

    def properties(self, index: Any = None) -> ImageProperties:
        """Shape and type of an image, or with ``index=...`` of all of them, stacked."""
        info, batch = self._decoder.info, index is ...
        image = info.images[0 if batch else self._index(index)]
        shape = (image.height, image.width) + ((info.channels,) if info.channels > 1 else ())
        if batch:
            return ImageProperties((len(info.images), *shape), info.dtype, n_images=len(info.images), is_batch=True)
        return ImageProperties(shape, info.dtype)

    def metadata(self, index: Any = None, exclude_applied: bool = True) -> dict[str, Any]:
        """The metadata of an image by kind; with ``index=...`` facts about the file."""
        info = self._decoder.info
        if index is ...:
            return {"model": info.model, "depth": info.depth, "alpha": info.alpha, "version": info.version}
        return {m.kind: m.data for m in info.metadata if m.image == self._index(index)}


known_plugins["tilefit"] = PluginConfig(name="tilefit", class_name="TilefitPlugin", module_name="tilefit.imageio")
known_extensions[EXTENSION] = [FileExtension(name="Tilefit", extension=EXTENSION, priority=["tilefit"])]
