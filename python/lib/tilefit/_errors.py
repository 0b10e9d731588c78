"""The package's exception."""

from __future__ import annotations


class TilefitError(ValueError):
    """What the codec refuses or cannot do. Its text is one line.

    ``kind`` tells programs what happened:

    ================ ==================================================================================
    ``argument``     an argument is not valid; ``argument`` has its name, if it is known
    ``target``       a quality, a size or a time limit cannot be reached
    ``format``       the bytes are not a file of this format, or they are damaged
    ``truncated``    the bytes end within the header
    ``unsupported``  a version, a model family or a feature that this version does not have
    ``pixel_limit``  more pixels than ``max_pixels``
    ``memory_limit`` more memory is needed than ``max_memory``, or it could not be had
    ``work_limit``   more multiplications than ``max_work``
    ``io``           bytes could not be read
    ================ ==================================================================================

    >>> import tilefit
    >>> try:
    ...     tilefit.decode(b"not a picture")
    ... except tilefit.TilefitError as e:
    ...     print(e.kind)
    format
    """

    def __init__(self, message: str, kind: str = "argument", argument: str | None = None) -> None:
        # All of them, so that a copy or a pickle has them too.
        super().__init__(message, kind, argument)
        self.kind = kind
        self.argument = argument

    def __str__(self) -> str:
        return str(self.args[0])
