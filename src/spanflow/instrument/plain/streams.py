"""One call of a generator function: its pieces are counted, and it ends however it is left.

Around each piece its block stands in place; between two pieces the consumer's own context does.
What runs the generator is not here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from spanflow import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from spanflow.instrument.plain.block import Standing

__all__ = ["Stream"]


class Stream:
    """The block around a generator's call, open from the first piece asked for until the end.

    Args:
        block: What the call is; None where nothing is captured.
    """

    __slots__ = ("_block", "_chunks", "_first_ms", "_place", "_started_ns")

    def __init__(self, block: Standing | None) -> None:
        self._block = block
        self._chunks = 0
        self._first_ms: float | None = None
        self._place: AbstractContextManager[None] | None = None
        if block is not None:
            self._started_ns = time.perf_counter_ns()
            block.begin()
            inside = block.inside()
            piecewise = getattr(inside, "piecewise", None)
            self._place = piecewise() if piecewise is not None else inside

    def __enter__(self) -> None:
        """Stand around the code that makes a piece."""
        if self._place is not None:
            self._place.__enter__()

    def __exit__(self, *raised: object) -> None:
        """Give the consumer's own context back."""
        if self._place is not None:
            self._place.__exit__(None, None, None)

    def took(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Hear what the generator function was called with."""
        if self._block is not None:
            self._block.took(function, args, kwargs)

    def saw(self, piece: Any) -> None:
        """Count a piece."""
        if self._block is None:
            return
        self._chunks += 1
        if self._first_ms is None:
            self._first_ms = (time.perf_counter_ns() - self._started_ns) / 1e6
        self._block.saw(piece)

    def end(self, error: BaseException | None = None) -> None:
        """End the call, once."""
        block, self._block = self._block, None
        if block is None:
            return
        told: dict[str, Any] = {semconv.STREAM_CHUNKS: self._chunks}
        if self._first_ms is not None:
            told[semconv.STREAM_FIRST_CHUNK_MS] = self._first_ms
        block.streamed(told)
        block.end(error)

    def __del__(self) -> None:
        """End what nobody can go on with, where not even the loop could close it."""
        if getattr(self, "_block", None) is not None:
            self.end(GeneratorExit())
