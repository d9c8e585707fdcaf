"""Something of an app's own that goes on for a while: a ``with`` block, or the pieces of a stream.

A block opens when it is entered, stands around its code in the same task, and ends however that
ends. It never raises into the app and never swallows what the app raises. What kind of thing it is
is for its subclasses to say.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from spanflow.guard import report
from spanflow.instrument.plain import gate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from spanflow.capture.runtime import Runtime

__all__ = ["NOWHERE", "Block", "Standing"]

NOWHERE: AbstractContextManager[None] = nullcontext()
"""What puts nothing in place."""


class Standing:
    """What stands around code: a ``with`` block, sync or async, or the pieces of a stream."""

    __slots__ = ("_entered",)

    site = "standing"
    """Where its own errors are counted."""

    def __init__(self) -> None:
        self._entered: AbstractContextManager[None] | None = None

    def begin(self) -> None:
        """Begin without entering; :meth:`inside` stands for it, piece by piece."""
        raise NotImplementedError

    def inside(self) -> AbstractContextManager[None]:
        """Return what puts it in place around some code of the same task."""
        raise NotImplementedError

    def end(self, error: BaseException | None = None) -> None:
        """End it, with what was raised inside, control flow included."""
        raise NotImplementedError

    def streamed(self, attributes: Mapping[str, Any]) -> None:
        """Hear how the function streamed that this stands around, before it ends."""
        raise NotImplementedError

    def took(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Hear what the function was called with that this stands around."""

    def saw(self, piece: Any) -> None:
        """Hear a piece of what that function streams."""

    def gave(self, result: Any) -> None:
        """Hear what that function returned."""

    def __enter__(self) -> Self:
        """Begin, and put it in place around the code of the block."""
        self.begin()
        self._entered = self.inside()
        self._entered.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; what was raised goes on."""
        entered, self._entered = self._entered, None
        if entered is not None:
            entered.__exit__(kind, error, trace)
        self.end(error)

    async def __aenter__(self) -> Self:
        """Begin."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; what was raised goes on."""
        self.__exit__(kind, error, trace)


class Block(Standing):
    """A ``with`` block, sync or async, that opens something of the agent's as it is entered."""

    __slots__ = ("_inside",)

    site = "block"

    def __init__(self) -> None:
        super().__init__()
        self._inside: AbstractContextManager[None] | None = None

    def _open(self, runtime: Runtime) -> AbstractContextManager[None] | None:
        """Begin; return what puts it in place around code, or None where it is nothing of its own.

        Args:
            runtime: Whom the capture serves.
        """
        raise NotImplementedError

    def _close(self, error: BaseException | None) -> None:
        """End, with what was raised inside."""
        raise NotImplementedError

    def _tell(self, attributes: Mapping[str, Any]) -> None:
        """Say more of what is open."""

    def streamed(self, attributes: Mapping[str, Any]) -> None:
        """Hear how the function streamed, before the block ends."""
        if self._inside is None:
            return
        try:
            self._tell(attributes)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report(self.site, error)

    def begin(self) -> None:
        """Open the block without entering it; :meth:`inside` stands for it, piece by piece."""
        self._inside = None
        try:
            served = gate.runtime()
            if served is not None:
                from spanflow.capture.inside import clear_away

                clear_away()
                self._inside = self._open(served)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report(self.site, error)

    def inside(self) -> AbstractContextManager[None]:
        """Return what puts the block in place around some code of the same task."""
        return self._inside or NOWHERE

    def end(self, error: BaseException | None = None) -> None:
        """End the block.

        Args:
            error: What was raised inside it, control flow included.
        """
        if self._inside is None:
            return
        self._inside = None
        try:
            self._close(error)
        except Exception as problem:  # noqa: BLE001 - the fail-open boundary
            report(self.site, problem)
