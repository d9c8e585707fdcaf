"""One wrapped run of a graph: opens its turn at the stream's first piece, closes it at its end.

Around each piece the turn's context and scope are put in place and taken away again, in the same
task; between two pieces the consumer's own stand. This module never looks into a piece.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphBubbleUp, ParentCommand

from spanflow.capture import scope as scopes
from spanflow.capture.events import error_event
from spanflow.capture.inside import Inside, Lending
from spanflow.capture.payload import clean
from spanflow.capture.turn import Turn
from spanflow.guard import report
from spanflow.instrument.calls import places

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from spanflow.capture.frame import Nested
    from spanflow.instrument.opening import Opening

__all__ = ["astreamed", "streamed"]


class _Run:
    """Opens a run's frame at the first piece and closes it however the stream ends."""

    __slots__ = ("_frame", "_inside", "_opening")

    def __init__(self, run: Opening) -> None:
        self._opening = run
        self._frame: Nested | Turn | None = None
        self._inside: Inside = Inside(scopes.OFF, None)

    def open(self, lineage: Any) -> None:
        """Open the turn, or the nested graph; a failure of ours leaves the run uncaptured."""
        try:
            frame = self._opening.open(lineage)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.open", error)
            return
        if frame is not None:
            self._frame = frame
            self._inside = Lending(frame.scope, frame.context)

    def __del__(self) -> None:
        """Close what nobody will: an asynchronous stream that outlived its event loop."""
        if self._frame is not None and not self._frame.ended:
            self.close("left")

    def inside(self) -> Inside:
        """Return the context manager that puts this run's scope and context in place."""
        return self._inside

    def close(self, outcome: str, error: BaseException | None = None) -> None:
        """Close the frame and forget its runs."""
        frame = self._frame
        if frame is None:
            return
        try:
            if frame.paused and outcome in ("completed", "left"):
                outcome = "paused"
            if isinstance(frame, Turn):
                _blame(frame, error)
                frame.close(outcome, error)
                self._opening.closed(frame, outcome)
            else:
                frame.close(outcome, error)
        except Exception as problem:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.close", problem)
        finally:
            for run_id in frame.runs:
                places.pop(run_id, None)
            frame.runs.clear()


def _blame(turn: Turn, error: BaseException | None) -> None:
    """Give a timeout to the step that ran out of time: its attempt only saw a cancellation."""
    name = getattr(error, "node", None)
    if error is None or not isinstance(name, str):
        return
    for step in list(turn.open.values()):
        if (
            step.parked
            and step.status == "cancelled"
            and step.path.rpartition("/")[2] == clean(name)
        ):
            step.status, step.error = "failed", error
            step.add_event(
                error_event(error, step.ended_ns, turn.runtime.payload_bytes, step.attempts)
            )


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, GeneratorExit):
        return "left"
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return "cancelled"
    if isinstance(error, ParentCommand):  # a graph that hands over to its parent has done its work
        return "completed"
    if isinstance(error, GraphBubbleUp):
        return "paused"
    return "failed"


def streamed(inner: Any, run: Opening) -> Generator[Any, Any, Any]:
    """Yield what `inner` yields, with the turn around each piece."""
    turn = _Run(run)
    turn.open(run.find())
    try:
        while True:
            with turn.inside():
                try:
                    piece = next(inner)
                except StopIteration:
                    break
            yield piece
    except BaseException as error:
        try:
            with turn.inside():
                inner.close()
        finally:
            turn.close(_outcome_of(error), error)
        raise
    turn.close("completed")


async def astreamed(inner: Any, run: Opening) -> AsyncGenerator[Any, Any]:
    """Yield what `inner` yields, with the turn around each piece."""
    turn = _Run(run)
    turn.open(await run.afind())
    try:
        while True:
            with turn.inside():
                try:
                    piece = await anext(inner)
                except StopAsyncIteration:
                    break
            yield piece
    except BaseException as error:
        try:
            with turn.inside():
                await inner.aclose()
        finally:
            turn.close(_outcome_of(error), error)
        raise
    turn.close("completed")
