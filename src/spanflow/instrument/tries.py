"""A call of LiteLLM's that is going on, and each try of it; how often it was tried, how it ended.

It holds what the functions of :mod:`spanflow.instrument.litellm` begin, and decides nothing about
what begins a call.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from spanflow.capture.payload import clean
from spanflow.guard import guarded, report
from spanflow.instrument import completions
from spanflow.instrument.answers import AnswerStream, is_stream
from spanflow.instrument.endings import status_of
from spanflow.spending import Usage

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from spanflow.capture.call import OpenCall

__all__ = ["Going", "Try", "here"]

_SPAN_WRITERS = {
    "agentops",
    "arize",
    "arize_phoenix",
    "langfuse_otel",
    "levo",
    "otel",
    "weave_otel",
}
"""LiteLLM's callbacks that write OpenTelemetry spans, by the names they are asked for."""


class Going:
    """A call of the user's that is going on: where it is told, and how often it was tried."""

    def __init__(self, call: OpenCall, *, is_own: bool, is_tried_inside: bool, limit: int) -> None:
        self.call = call
        self._is_tried_inside = is_tried_inside
        self._is_own = is_own
        self._is_current = is_own and not _writes_spans()
        self._limit = limit
        self._tries = 0
        self._asked: str | None = None
        self._error: str | None = None
        self._pieces: completions.Pieces | None = None

    def inside(self) -> Inside:
        """Make this what the running code belongs to, for a block in one task."""
        return Inside(self, self.call.context if self._is_current else None)

    def next_try(self, asked: str | None) -> Try | None:
        """Return the try that LiteLLM begins by calling itself; None where that is no new one."""
        if not self._is_tried_inside:
            return None
        self.trying(asked)
        return Try(self)

    def trying(self, asked: str | None) -> None:
        """Note that it is tried, once more perhaps, by asking a model or a group of models."""
        self._tries += 1
        if self._tries > 1:
            told: dict[str, Any] = {"attempt": self._tries, "error_type": self._error}
            if asked == self._asked:
                self.call.note("retry", told | {"model": asked})
            else:
                self.call.note("fallback", told | {"from": self._asked, "to": asked})
        self._asked, self._error = asked, None

    def failed(self, error: BaseException) -> None:
        """Remember how a try ended."""
        self._error = clean(type(error).__name__)

    def tried_by_itself(self, asked: str | None, error: BaseException | None) -> None:
        """Note the first try, which nobody saw begin, now that LiteLLM begins to repeat it."""
        if self._tries == 0:
            self.trying(asked)
        if error is not None:
            self.failed(error)

    def answered(self, answer: Any) -> Any:
        """End the call with its answer, or when a streamed one has ended.

        Returns:
            What its caller gets.
        """
        try:
            if is_stream(answer):
                captures = self._is_own and self.call.captures_content
                self._pieces = completions.Pieces(captures_content=captures, limit=self._limit)
                return AnswerStream(answer, self)
            if completions.is_cached(answer):
                self.call.note("cache.hit", completions.saved_by(answer))
            if self._is_own:
                self.call.end(completions.describe_answer(self.call, answer, self._limit))
            else:
                usage = completions.spent_on(answer)
                self.call.answered_inside(usage, *completions.answered_by(answer))
        except Exception as problem:  # noqa: BLE001 - the fail-open boundary
            self._end_unknown()
            report("litellm.answered", problem)
        return answer

    @guarded("litellm.raised")
    def raised(self, error: BaseException) -> None:
        """End the call with an error."""
        if not self._is_own:
            return
        provider = getattr(error, "llm_provider", None)
        if isinstance(provider, str) and provider:
            self.call.say_who_answered(completions.provider_asked(None, provider), None)
        self.call.end(Usage(), error, status=status_of(error))

    @guarded("litellm.saw")
    def saw(self, piece: Any) -> None:
        """Look at a piece of a streamed answer."""
        if self._pieces is not None:
            if self._is_own:
                self.call.first_token()
            self._pieces.see(piece)

    @guarded("litellm.streamed")
    def streamed(self, stream: Any, error: BaseException | None) -> None:
        """End the call with its stream."""
        self._streamed(stream, error, status_of(error))

    @guarded("litellm.left")
    def left(self, stream: Any) -> None:
        """End the call whose stream nobody read to its end."""
        self._streamed(stream, None, "cancelled")

    def _streamed(self, stream: Any, error: BaseException | None, status: str | None) -> None:
        pieces = self._pieces
        if pieces is None:
            return
        try:
            if pieces.is_cached(stream):
                self.call.note("cache.hit", {})
            if self._is_own:
                self.call.end(pieces.describe(self.call, stream), error, status=status)
            else:
                self.call.answered_inside(pieces.spent(stream), *pieces.answered_by())
        finally:
            self._end_unknown(error, status)

    def _end_unknown(self, error: BaseException | None = None, status: str | None = None) -> None:
        """End a call of ours that has not ended, though its answer could not be read."""
        if self._is_own and not self.call.ended:
            self.call.end(Usage(), error, status=status)


class Try:
    """One try of a call: whatever LiteLLM calls within it is part of it."""

    def __init__(self, going: Going) -> None:
        self.going = going

    def inside(self) -> Inside:
        """Make this what the running code belongs to, for a block in one task."""
        return Inside(self, None)

    def answered(self, answer: Any) -> Any:
        """Return what LiteLLM gets for it."""
        return answer

    def raised(self, error: BaseException) -> None:
        """Remember how it ended."""
        self.going.failed(error)


here: ContextVar[Going | Try | None] = ContextVar("spanflow_litellm", default=None)


class Inside:
    """A block of code that belongs to a call, or to one try of it."""

    __slots__ = ("_context", "_here", "_kept", "_token")

    def __init__(self, here: Going | Try, context: Context | None) -> None:
        self._here = here
        self._context = context

    def __enter__(self) -> None:
        self._token = here.set(self._here)
        self._kept = None if self._context is None else otel_context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            otel_context.detach(self._kept)
        here.reset(self._token)


def _writes_spans() -> bool:
    """Whether a callback of LiteLLM's tells of its calls in spans.

    It makes its own, and writes on the current one, after the answer is given: what is current then
    must not be a span that has ended.
    """
    litellm: Any = sys.modules["litellm"]
    return any(
        told in _SPAN_WRITERS
        if isinstance(told, str)
        else any("OpenTelemetry" in base.__name__ for base in type(told).__mro__)
        for name in ("callbacks", "success_callback")
        for told in getattr(litellm, name, None) or ()
    )
