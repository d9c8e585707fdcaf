"""A streamed answer of LiteLLM's, as its caller sees it: the same object, which ends its call.

Between two pieces the context is the consumer's own. Whoever leaves a stream ends its call too, at
the latest when nobody holds the stream any more.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

import wrapt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from spanflow.instrument.tries import Going

__all__ = ["AnswerStream", "is_stream"]


def is_stream(answer: Any) -> bool:
    """Whether an answer comes in pieces."""
    # Its class is asked for ``__next__``: a whole answer iterates too, over its fields.
    kind = cast("type[Any]", type(answer))
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


class AnswerStream(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument, reportUntypedBaseClass]
    """The stream itself, with a look at each piece; everything else is the stream's own."""

    def __init__(self, stream: Any, going: Going) -> None:
        super().__init__(stream)  # pyright: ignore[reportUnknownMemberType]
        self._self_stream = stream
        self._self_going = going
        self._self_left = weakref.finalize(self, going.left, stream)

    def __iter__(self) -> Iterator[Any]:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next piece."""
        with self._self_going.inside():
            try:
                piece = next(self._self_stream)
            except StopIteration:
                self._end(None)
                raise
            except BaseException as error:
                self._end(error)
                raise
        self._self_going.saw(piece)
        return piece

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next piece."""
        with self._self_going.inside():
            try:
                piece = await anext(self._self_stream)
            except StopAsyncIteration:
                self._end(None)
                raise
            except BaseException as error:
                self._end(error)
                raise
        self._self_going.saw(piece)
        return piece

    def close(self) -> None:
        """Close the stream, where it can be closed, and end the call."""
        try:
            close = getattr(self._self_stream, "close", None)
            if close is not None:
                close()
        finally:
            self._self_left()

    async def aclose(self) -> None:
        """Close the stream, where it can be closed, and end the call."""
        try:
            close = getattr(self._self_stream, "aclose", None)
            if close is not None:
                await close()
        finally:
            self._self_left()

    def _end(self, error: BaseException | None) -> None:
        if self._self_left.detach() is not None:
            self._self_going.streamed(self._self_stream, error)
