"""Names of metadata, and how its data are stored in a file (docs/FORMAT.md, "Metadata")."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from ._errors import TilefitError

KINDS = {
    "icc": 1,
    "exif": 2,
    "cicp": 3,
    "xmp": 4,
    "mdcv": 5,
    "clli": 6,
    "gama": 7,
    "chrm": 8,
    "srgb": 9,
    "sbit": 10,
    "phys": 11,
    "bkgd": 12,
    "text": 13,
    "time": 14,
    "fits": 15,
    "scale": 16,
    "chunk": 17,
    "tiff": 18,
    "bands": 19,
}
NAMES = {number: name for name, number in KINDS.items()}

#: Kinds that are stored deflated.
DEFLATED = {"icc", "xmp", "fits"}
#: Most bytes of an item that is stored deflated.
LARGEST = 1 << 24


@dataclass(frozen=True)
class Metadata:
    """One item of metadata.

    ``kind`` is ``"icc"``, ``"exif"``, ``"xmp"`` or another name of ``tilefit.METADATA_KINDS``; a number as text for kinds that this
    version does not know. ``data`` is inflated: the profile, the EXIF from its byte order mark on, the XMP packet. ``image`` is the
    picture of a group that it belongs to.
    """

    kind: str
    data: bytes
    image: int = 0


MetadataLike = Union[Mapping[str, bytes], Iterable[Metadata]]


def to_items(metadata: MetadataLike | None) -> list[tuple[int, int, bytes]]:
    """Image, number and stored data of each item."""
    if metadata is None:
        return []
    if isinstance(metadata, Mapping):
        metadata = [Metadata(kind, data) for kind, data in metadata.items()]
    items = []
    for item in metadata:
        number = int(item.kind) if item.kind.isdecimal() else KINDS.get(item.kind)
        if number is None or not 0 <= number <= 255:
            raise TilefitError(f"metadata: {item.kind}: expected one of {', '.join(KINDS)}", "argument", "metadata")
        data = bytes(item.data)
        if item.kind == "exif":
            data = data.removeprefix(b"Exif\0\0")
        if item.kind in DEFLATED:
            if len(data) > LARGEST:
                raise TilefitError(f"metadata: {item.kind} of {len(data)} bytes: at most 2^24", "argument", "metadata")
            data = zlib.compress(data, 9)
        items.append((item.image, number, data))
    return items


def from_items(items: Sequence[tuple[int, int, bytes]]) -> tuple[Metadata, ...]:
    """The reverse of :func:`to_items`. Items that do not inflate are left out: the picture is good without them."""
    found = []
    for image, number, data in items:
        kind = NAMES.get(number, str(number))
        # A profile of an early version is not deflated; it starts with a byte 0.
        if kind in DEFLATED and data[:1] != b"\0":
            stream = zlib.decompressobj()
            try:
                data = stream.decompress(data, LARGEST)
            except zlib.error:
                continue
            if not stream.eof:
                continue
        found.append(Metadata(kind, data, image))
    return tuple(found)
