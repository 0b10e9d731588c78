from collections.abc import Callable, Sequence
from typing import Any, final

__all__ = ["Decoder", "__version__", "encode"]

__version__: str

def encode(
    arrays: Sequence[dict[str, Any]],
    options: dict[str, Any],
    metadata: Sequence[tuple[int, int, bytes]],
    progress: Callable[[int, int, float, float | None, float | None], object] | None,
) -> bytes: ...
@final
class Decoder:
    def __new__(
        cls,
        beginning: bytes,
        length: int,
        max_pixels: int | None,
        max_memory: int | None,
        max_work: int | None,
    ) -> Decoder: ...
    def missing(
        self, image: int, scale: int, region: tuple[int, int, int, int] | None, gap: int
    ) -> list[tuple[int, int]]: ...
    def supply(self, offset: int, bytes: bytes) -> None: ...
    def forget(self) -> None: ...
    def decode(
        self, image: int, scale: int, region: tuple[int, int, int, int] | None, threads: int | None
    ) -> bytearray: ...
    def metadata(self) -> list[tuple[int, int, bytes]]: ...
    def info(self) -> dict[str, Any]: ...
