"""Arrays of every kind, there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import psnr, smooth

import tilefit

KINDS = [(None, 8), (1, 8), (2, 8), (3, 8), (4, 8), (5, 8), (16, 8), (None, 9), (3, 10), (4, 12), (2, 16), (3, 16), (7, 16)]


@pytest.mark.parametrize(("channels", "depth"), KINDS)
def test_every_kind_comes_back_without_loss(channels: int | None, depth: int) -> None:
    picture = smooth(33, 47, channels, depth)
    data = tilefit.encode(picture, lossless=True, depth=depth)
    info = tilefit.info(data)
    back = tilefit.decode(data)
    assert (info.channels, info.depth, info.alpha) == (channels or 1, depth, channels in (2, 4))
    assert back.dtype == picture.dtype == info.dtype
    # One channel has no axis.
    assert back.shape == info.shape == (picture.shape if channels != 1 else picture.shape[:2])
    assert np.array_equal(back, picture.reshape(back.shape))
    assert back.flags.writeable


def test_alpha_can_be_chosen() -> None:
    picture = smooth(20, 20, 4)
    assert tilefit.info(tilefit.encode(picture, lossless=True)).alpha
    assert not tilefit.info(tilefit.encode(picture, lossless=True, alpha=False)).alpha
    assert tilefit.info(tilefit.encode(picture[..., :3], lossless=True, alpha=True)).alpha


def test_views_and_other_byte_orders_are_read_as_they_look() -> None:
    picture = smooth(40, 60, 3, 16)
    for view in [picture[::2, ::-3], picture.transpose(1, 0, 2), picture.astype(">u2"), np.asfortranarray(picture)]:
        assert np.array_equal(tilefit.decode(tilefit.encode(view, lossless=True)), view)
    frozen = picture.copy()
    frozen.setflags(write=False)
    assert np.array_equal(tilefit.decode(tilefit.encode(frozen, lossless=True)), frozen)


def test_a_fit_is_near_and_small() -> None:
    picture = smooth(96, 128, 3)
    data = tilefit.encode(picture, quality=60, effort=1, tune="psnr")
    assert psnr(tilefit.decode(data), picture) > 34
    assert len(data) < picture.nbytes / 20


def test_options_reach_the_encoder() -> None:
    picture = smooth(64, 64)
    near = tilefit.decode(tilefit.encode(picture, max_error=3))
    assert 0 < np.abs(near.astype(int) - picture).max() <= 3
    small, large = (tilefit.encode(picture, quality=q, effort=1, model="pyramid") for q in (20, 80))
    assert len(small) < len(large)
    assert len(tilefit.encode(picture, target_size=2500, effort=1)) <= 2500
    assert psnr(tilefit.decode(tilefit.encode(picture, target_psnr=33, effort=1)), picture) >= 33
    assert tilefit.info(tilefit.encode(picture, effort=1, model="gdn", lambda_=0.001)).model == "gdn"
    seen = tilefit.encode(picture, target_ssimulacra2=50, effort=1, model="pyramid")
    assert tilefit.info(seen).visual
    assert not tilefit.info(tilefit.encode(picture, quality=50, effort=1, model="pyramid", tune="psnr")).visual
    first = tilefit.encode(picture, effort=1, tune="visual", seed=1, threads=1)
    assert first == tilefit.encode(picture, effort=1, tune="visual", seed=1, threads=2)
    assert first != tilefit.encode(picture, effort=1, tune="psnr", seed=1)


def test_a_list_is_a_group() -> None:
    pictures = [smooth(30 + i, 40, 3, seed=i) for i in range(3)]
    data = tilefit.encode(pictures, lossless=True)
    with tilefit.Decoder(data) as decoder:
        assert len(decoder) == 3
        assert [i.height for i in decoder.info.images] == [30, 31, 32]
        for picture, back in zip(pictures, decoder):
            assert np.array_equal(picture, back)
    assert np.array_equal(tilefit.decode(data, image=2), pictures[2])


def kind_of(*args: Any, **kwargs: Any) -> tuple[str, str | None, str]:
    with pytest.raises(tilefit.TilefitError) as e:
        tilefit.encode(*args, **kwargs)
    return e.value.kind, e.value.argument, str(e.value)


def test_what_cannot_be_coded_is_refused_with_a_reason() -> None:
    picture = smooth(16, 16)
    for dtype in (np.float32, np.float64, np.float16):
        kind, argument, message = kind_of(picture.astype(dtype))
        assert (kind, argument) == ("argument", "array")
        assert np.dtype(dtype).name in message and "uint8 or uint16" in message and "np.rint" in message
    for dtype in (np.int8, np.int32, np.uint32, bool, complex):
        assert "expected uint8 or uint16" in kind_of(picture.astype(dtype))[2]
    assert "height x width" in kind_of(np.zeros(5, np.uint8))[2]
    assert "height x width" in kind_of(np.zeros((1, 2, 3, 4), np.uint8))[2]
    assert "17 channels" in kind_of(np.zeros((4, 4, 17), np.uint8))[2]
    assert "no pixels" in kind_of(np.zeros((0, 4), np.uint8))[2]
    assert "at least one picture" in kind_of([])[2]
    assert kind_of(picture, depth=10)[1] == "depth"
    assert kind_of(picture.astype(np.uint16), depth=8)[1] == "depth"
    assert "the largest of 9 bits" in kind_of(np.full((4, 4), 512, np.uint16), depth=9)[2]
    assert kind_of([picture, smooth(16, 16, 3)])[1] == "pictures"


def test_wrong_options_are_refused_by_their_names() -> None:
    picture = smooth(16, 16)
    assert kind_of(picture, effort=10)[1] == "effort"
    assert kind_of(picture, tile=65)[1] == "tile"
    assert kind_of(picture, tune="beauty")[1] == "tune"
    assert kind_of(picture, model="jpeg")[1] == "model"
    assert kind_of(picture, threads=0)[1] == "threads"
    assert kind_of(picture, quality=101)[1] == "target"
    assert kind_of(picture, max_error=-1)[1] == "max_error"
    assert kind_of(picture, target_size=1.5)[1] == "target_size"
    assert kind_of(picture, time_limit=-1)[1] == "time_limit"
    assert "quality, lossless: choose one" in kind_of(picture, quality=50, lossless=True)[2]
    assert kind_of(picture, target_size=3, effort=1)[0] == "target"
    assert kind_of(picture, effort=1, max_memory=10)[0] == "memory_limit"
    assert kind_of(picture, metadata={"colour": b""})[1] == "metadata"
