"""Tilefit: an image codec that fits a small neural model to one picture and ships it in the file.

>>> import numpy as np, tilefit
>>> y, x = np.mgrid[:64, :96]
>>> picture = (x + y).astype(np.uint8)
>>> data = tilefit.encode(picture, quality=60, effort=1)
>>> tilefit.decode(data).shape
(64, 96)

``import tilefit.pillow`` and ``import tilefit.imageio`` register plugins; ``tilefit.numcodecs`` is found by numcodecs and Zarr.
"""

from ._decode import Decoder, ImageInfo, Info, decode, decode_region, info
from ._encode import Progress, encode
from ._errors import TilefitError
from ._metadata import KINDS as _KINDS
from ._metadata import Metadata
from ._tilefit import __version__

#: Names of the kinds of metadata that a file can have.
METADATA_KINDS = tuple(_KINDS)

__all__ = [
    "METADATA_KINDS",
    "Decoder",
    "ImageInfo",
    "Info",
    "Metadata",
    "Progress",
    "TilefitError",
    "__version__",
    "decode",
    "decode_region",
    "encode",
    "info",
]
