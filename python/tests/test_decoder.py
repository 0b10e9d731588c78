"""Decoding: regions, scales, ranges, limits, metadata, damage."""

from __future__ import annotations

import io
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import smooth

import tilefit

Tiled = tuple[bytes, "np.ndarray[Any, Any]"]


class Counting(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_regions_equal_the_whole(tiled: Tiled) -> None:
    data, picture = tiled
    for x, y, w, h in [(0, 0, 256, 256), (255, 255, 1, 1), (60, 100, 70, 30), (128, 64, 64, 64)]:
        assert np.array_equal(tilefit.decode_region(data, x, y, w, h), picture[y : y + h, x : x + w])


def test_scales_halve_the_sides() -> None:
    data = tilefit.encode(smooth(61, 45, 3), quality=50, effort=1, model="pyramid")
    for scale in (1, 2, 4, 8):
        back = tilefit.decode(data, scale=scale)
        assert back.shape == (-(-61 // scale), -(-45 // scale), 3)
        assert np.array_equal(tilefit.decode_region(data, 1, 2, 3, 4, scale=scale), back[2:6, 1:4])


def test_only_the_ranges_that_a_region_needs_are_read(tiled: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilefit._decode.FIRST_READ", 2000)
    monkeypatch.setattr("tilefit._decode.GAP", 0)
    data, picture = tiled
    file = Counting(data)
    decoder = tilefit.Decoder(file)
    assert file.count == 2000 < len(data) / 16
    before = file.count
    assert np.array_equal(decoder.read_region(192, 192, 64, 64), picture[192:, 192:])
    # One tile of sixteen.
    assert 0 < file.count - before < len(data) / 12
    before = file.count
    assert np.array_equal(decoder.read_region(200, 200, 9, 9), picture[200:209, 200:209])
    assert file.count == before
    assert np.array_equal(decoder.read(), picture)
    assert file.count <= len(data) + 2000


def test_tiles_are_forgotten_when_they_are_many(tiled: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilefit._decode.KEPT", 1000)
    monkeypatch.setattr("tilefit._decode.FIRST_READ", 2000)
    data, picture = tiled
    file = Counting(data)
    decoder = tilefit.Decoder(file)
    for _ in range(3):
        before = file.count
        assert np.array_equal(decoder.read_region(70, 70, 9, 9), picture[70:79, 70:79])
    assert file.count > before


def test_a_long_header_is_read_in_steps(monkeypatch: pytest.MonkeyPatch, tiled: Tiled) -> None:
    monkeypatch.setattr("tilefit._decode.FIRST_READ", 16)
    data, picture = tiled
    file = Counting(data)
    decoder = tilefit.Decoder(file)
    assert file.count < 2 * (decoder.info.header_bytes + decoder.info.weights_bytes + decoder.info.metadata_bytes) + 16
    assert np.array_equal(decoder.read_region(0, 0, 5, 5), picture[:5, :5])


def test_paths_bytes_and_file_objects(tiled: Tiled, tmp_path: Path) -> None:
    data, picture = tiled
    path = tmp_path / "a.tfit"
    path.write_bytes(data)
    with open(path, "rb") as file:
        for source in [path, str(path), data, bytearray(data), memoryview(data), file, io.BytesIO(data)]:
            with tilefit.Decoder(source) as decoder:
                assert np.array_equal(decoder.read_region(9, 8, 7, 6), picture[8:14, 9:16])
                decoder.verify()
        assert not file.closed
    with pytest.raises(ValueError, match="closed"):
        with tilefit.Decoder(path) as decoder:
            pass
        decoder.read()
    with pytest.raises(FileNotFoundError):
        tilefit.Decoder(tmp_path / "b.tfit")


def test_threads_may_share_a_decoder(tiled: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilefit._decode.KEPT", 1000)
    monkeypatch.setattr("tilefit._decode.FIRST_READ", 2000)
    data, picture = tiled
    for source in (data, io.BytesIO(data)):
        decoder = tilefit.Decoder(source, threads=1)
        wrong = []

        def work(seed: int, decoder: tilefit.Decoder = decoder) -> None:
            random = np.random.default_rng(seed)
            for _ in range(6):
                x, y = (int(v) for v in random.integers(0, 224, 2))
                if not np.array_equal(decoder.read_region(x, y, 32, 32), picture[y : y + 32, x : x + 32]):
                    wrong.append((x, y))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong


def failure(call: Any, *args: Any, **kwargs: Any) -> tilefit.TilefitError:
    with pytest.raises(tilefit.TilefitError) as e:
        call(*args, **kwargs)
    return e.value


def test_limits(tiled: Tiled) -> None:
    data, picture = tiled
    assert failure(tilefit.decode, data, max_pixels=256 * 256 - 1).kind == "pixel_limit"
    assert failure(tilefit.decode, data, max_memory=256 * 256).kind == "memory_limit"
    assert failure(tilefit.decode, data, max_work=1000).kind == "work_limit"
    assert failure(tilefit.Decoder(data, max_pixels=99).read_region, 0, 0, 10, 10).kind == "pixel_limit"
    assert tilefit.decode_region(data, 0, 0, 10, 10, max_pixels=100).shape == (10, 10, 3)


def test_wrong_arguments(tiled: Tiled) -> None:
    data, _ = tiled
    assert failure(tilefit.decode, data, image=1).argument == "image"
    assert failure(tilefit.decode, data, image=-1).argument == "image"
    assert failure(tilefit.decode, data, scale=3).argument == "scale"
    assert failure(tilefit.decode, data, threads=0).argument == "threads"
    assert failure(tilefit.decode_region, data, 250, 0, 7, 1).argument == "region"
    assert failure(tilefit.decode_region, data, 0, 0, 0, 1).argument == "region"
    assert failure(tilefit.decode_region, data, -1, 0, 5, 1).argument == "x"


def test_damage_is_an_error_and_never_a_crash(tiled: Tiled) -> None:
    data, _ = tiled
    assert failure(tilefit.decode, b"").kind in ("format", "truncated")
    assert failure(tilefit.decode, b"\x89PNG\r\n\x1a\n" + bytes(100)).kind == "format"
    assert failure(tilefit.decode, data[:40]).kind == "truncated"
    assert failure(tilefit.decode, data[:-1]).kind == "format"
    assert failure(tilefit.decode, data + b"x").kind == "format"
    spoiled = bytearray(data)
    spoiled[-1] ^= 1
    assert failure(tilefit.decode, spoiled).kind == "format"
    small = tilefit.encode(smooth(20, 20), lossless=True)
    random = np.random.default_rng(1)
    for at in random.integers(0, len(small), 200):
        spoiled = bytearray(small)
        spoiled[at] ^= 1 << int(random.integers(8))
        try:
            tilefit.decode(spoiled, max_pixels=1 << 20)
        except tilefit.TilefitError as e:
            assert e.kind in ("format", "truncated", "unsupported", "pixel_limit", "memory_limit", "work_limit")


def test_a_file_that_becomes_shorter_is_an_error(tiled: Tiled, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = tiled
    monkeypatch.setattr("tilefit._decode.FIRST_READ", 2000)
    file = io.BytesIO(data)
    decoder = tilefit.Decoder(file)
    file.truncate(decoder.info.header_bytes + 3000)
    assert failure(decoder.read).kind == "io"


def test_errors_survive_a_pickle() -> None:
    e = failure(tilefit.encode, np.zeros((4, 4), np.uint8), effort=99)
    back = pickle.loads(pickle.dumps(e))
    assert isinstance(back, ValueError)
    assert (str(back), back.kind, back.argument) == (str(e), "argument", "effort")


def test_metadata_comes_back(tiled: Tiled) -> None:
    data, _ = tiled
    info = tilefit.info(data)
    assert [m.kind for m in info.metadata] == ["icc", "xmp"]
    assert (info.find("icc"), info.find("xmp"), info.find("exif")) == (b"profile", b"<x/>", None)
    pictures = [smooth(9, 9), smooth(9, 9, seed=1)]
    exif = b"II*\0\x08\0\0\0\0\0"
    items = [
        tilefit.Metadata("exif", b"Exif\0\0" + exif, 1),
        tilefit.Metadata("text", b"a", 0),
        tilefit.Metadata("text", b"b", 0),
        tilefit.Metadata("77", b"?", 0),
    ]
    group = tilefit.info(tilefit.encode(pictures, lossless=True, metadata=items))
    assert group.find("exif") is None and group.find("exif", 1) == exif
    assert [m.data for m in group.metadata if m.kind == "text"] == [b"a", b"b"]
    assert group.find("77") == b"?"
    again = tilefit.info(tilefit.encode(pictures, lossless=True, metadata=group.metadata))
    assert again.metadata == group.metadata


def test_a_profile_that_inflates_without_end_is_left_out() -> None:
    import zlib

    bomb = zlib.compress(bytes((1 << 24) + 1))
    data = _with_raw_profile(bomb)
    assert tilefit.info(data).metadata == ()
    assert tilefit.info(_with_raw_profile(b"no stream")).metadata == ()
    assert tilefit.info(_with_raw_profile(b"\0old profile")).find("icc") == b"\0old profile"


def _with_raw_profile(stored: bytes) -> bytes:
    """A file whose item of kind 1 has these bytes; `encode` would deflate them."""
    return tilefit.encode(smooth(5, 5), lossless=True, metadata=[tilefit.Metadata("1", stored)])


def test_info_adds_up(tiled: Tiled, tmp_path: Path) -> None:
    data, _ = tiled
    info = tilefit.info(data)
    assert info.file_bytes == len(data) == info.header_bytes + info.weights_bytes + info.codes_bytes + info.metadata_bytes
    assert (info.model, info.tile, info.tiles, info.version) == ("lossless", 64, 16, 1)
    assert 0 < info.decode_memory_bytes < 1 << 30 and info.decode_work > 0
    (tmp_path / "a.tfit").write_bytes(data)
    assert tilefit.info(tmp_path / "a.tfit") == info
