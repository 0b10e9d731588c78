"""The examples in the docstrings, and what the package promises about itself."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import tilefit

MODULES = ["", "_errors", "_encode", "_decode", "pillow", "imageio", "numcodecs"]
NEEDS = {"pillow": "PIL", "imageio": "imageio", "numcodecs": "zarr"}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(f"tilefit.{name}".rstrip("."))
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


def test_everything_public_is_documented() -> None:
    for name in tilefit.__all__:
        thing = getattr(tilefit, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
    text = inspect.getdoc(tilefit.encode) or ""
    for name in inspect.signature(tilefit.encode).parameters:
        assert f":param {name}:" in text, name


def test_the_page_works_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the Python of docs/python.md from top to bottom in one folder."""
    page = Path(__file__).parents[2] / "docs" / "python.md"
    if not page.exists():
        pytest.skip("only in the repository")
    for name in NEEDS.values():
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


def test_the_version_is_that_of_the_library() -> None:
    manifest = Path(__file__).parents[2] / "Cargo.toml"
    if not manifest.exists():
        pytest.skip("only in the repository")
    found = re.search(r'^version = "(.*)"', manifest.read_text(), re.M)
    assert found and found[1] == tilefit.__version__
