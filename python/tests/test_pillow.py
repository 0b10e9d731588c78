"""The plugin for Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import smooth

import tilefit

Image = pytest.importorskip("PIL.Image")
import tilefit.pillow  # noqa: E402


def saved(image: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "TILEFIT", **options)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("L", None), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_modes(mode: str, channels: int | None, tmp_path: Path) -> None:
    picture = smooth(31, 42, channels)
    image = Image.fromarray(picture)
    assert image.mode == mode
    image.save(tmp_path / "a.tfit", lossless=True)
    with Image.open(tmp_path / "a.tfit") as back:
        assert (back.format, back.mode, back.size) == ("TILEFIT", mode, (42, 31))
        assert np.array_equal(np.asarray(back), picture)
        # Loaded already; once more.
        assert np.array_equal(np.asarray(back), picture)


def test_sixteen_bits() -> None:
    picture = smooth(20, 30, depth=16)
    image = Image.fromarray(picture)
    assert image.mode == "I;16"
    back = Image.open(io.BytesIO(saved(image, lossless=True)))
    assert back.mode == "I;16" and np.array_equal(np.asarray(back), picture)
    ten = Image.open(io.BytesIO(tilefit.encode(np.array([[0, 512, 1023]], np.uint16), depth=10, lossless=True)))
    assert np.asarray(ten).tolist() == [[0, 32800, 65535]]
    rgb = Image.open(io.BytesIO(tilefit.encode(np.array([[[0, 2048, 4095]]], np.uint16), depth=12, lossless=True)))
    assert rgb.mode == "RGB" and np.asarray(rgb).tolist() == [[[0, 128, 255]]]


def test_options_are_passed_on() -> None:
    image = Image.fromarray(smooth(40, 40, 3))
    assert len(saved(image, quality=10, effort=1)) < len(saved(image, quality=90, effort=1))
    assert tilefit.info(saved(image, effort=1, model="gdn")).model == "gdn"
    with pytest.raises(tilefit.TilefitError, match="effort"):
        saved(image, effort=11)


def test_profile_exif_and_xmp_are_kept() -> None:
    image = Image.new("RGB", (8, 8), "teal")
    exif = image.getexif()
    exif[0x0112] = 6
    exif[0x010E] = "a boat"
    data = saved(image, lossless=True, icc_profile=b"profile", exif=exif, xmp=b"<x:xmpmeta/>")
    back = Image.open(io.BytesIO(data))
    assert back.info["icc_profile"] == b"profile" and back.info["xmp"] == b"<x:xmpmeta/>"
    assert dict(back.getexif()) == {0x0112: 6, 0x010E: "a boat"}
    assert tilefit.info(data).find("exif")[:2] in (b"II", b"MM")  # type: ignore[index]
    # From there into another format and back.
    png = io.BytesIO()
    back.save(png, "PNG", exif=back.getexif(), icc_profile=back.info["icc_profile"])
    again = tilefit.info(saved(Image.open(png), lossless=True))
    assert again.find("icc") == b"profile" and b"a boat" in (again.find("exif") or b"")


def test_a_group_has_frames() -> None:
    pictures = [smooth(20 + i, 24, 3, seed=i) for i in range(3)]
    first, *more = [Image.fromarray(p) for p in pictures]
    more[0].info["icc_profile"] = b"second"
    data = saved(first, save_all=True, append_images=more, lossless=True)
    back = Image.open(io.BytesIO(data))
    assert back.n_frames == 3 and back.is_animated
    for i in (2, 0, 1, 1):
        back.seek(i)
        assert back.tell() == i and back.size == (24, 20 + i)
        assert np.array_equal(np.asarray(back), pictures[i])
        assert back.info.get("icc_profile") == (b"second" if i == 1 else None)
    with pytest.raises(EOFError):
        back.seek(3)
    # A group of a group.
    assert Image.open(io.BytesIO(saved(back, save_all=True, lossless=True))).n_frames == 3


def test_thumbnails_decode_small() -> None:
    data = saved(Image.fromarray(smooth(100, 120, 3)), quality=60, effort=1, model="pyramid")
    image = Image.open(io.BytesIO(data))
    image.draft(None, (25, 25))
    assert image.size == (30, 25)
    assert np.array_equal(np.asarray(image), tilefit.decode(data, scale=4))
    image = Image.open(io.BytesIO(data))
    image.thumbnail((12, 12))
    assert image.size == (12, 10)


def test_what_pillow_cannot_hold() -> None:
    with pytest.raises(OSError, match="5 bands"):
        Image.open(io.BytesIO(tilefit.encode(smooth(8, 8, 5), lossless=True)))
    for mode in ("P", "1", "CMYK", "F", "I"):
        with pytest.raises(OSError, match=f"cannot write mode {mode} as TILEFIT"):
            saved(Image.new(mode, (4, 4)))
    from PIL import UnidentifiedImageError

    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(tilefit.encode(smooth(8, 8), lossless=True)[:20]))
