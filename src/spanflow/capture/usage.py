"""The calls made in one place (a step, or a turn outside any step) and what they add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanflow import semconv
from spanflow.capture.metering import meters
from spanflow.guard import report
from spanflow.tally import judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from spanflow.spending import Call, Totals

__all__ = ["CallLog", "measure", "usage_attributes"]

_MOST_PARENTS = 10_000
"""Parents remembered of others' spans in one place; past that, nesting is left to the ledger."""
_MOST_SETTLED = 10_000
"""Calls remembered of a turn's steps; past that, reports without a step are left to the ledger."""


class _Reported:
    """Reports of calls of one kind, and the calls that other places have counted already."""

    __slots__ = ("calls", "scopes", "settled")

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.scopes: set[str] = set()
        self.settled: list[Call] = []

    def add(self, call: Call) -> None:
        self.calls.append(call)
        self.scopes.add(call.scope)

    def counted(self, parents: Mapping[str, str | None]) -> list[Call]:
        """Return the calls that count, and forget all."""
        calls, settled, scopes = self.calls, self.settled, len(self.scopes)
        if not calls:
            return []
        self.calls, self.settled, self.scopes = [], [], set()
        if scopes > 1 or settled or any(call.parent_span_id in parents for call in calls):
            verdicts = judge([*calls, *settled], parents)
            # What a step has counted stays there, even where a report without a step knows more.
            taken = {verdicts[call.span_id].counted_by for call in settled}
            return [
                call
                for call in calls
                if verdicts[call.span_id].counted and call.span_id not in taken
            ]
        return calls


class CallLog:
    """Calls reported from one place, by whoever reported them; judged once, as the place closes."""

    __slots__ = ("_around", "_calls", "_parents", "_tools")

    def __init__(self) -> None:
        self._around: dict[str, tuple[str, ...]] = {}
        self._calls = _Reported()
        self._tools = _Reported()
        self._parents: dict[str, str | None] = {}

    def reported(self, kind: str) -> list[Call]:
        """Return the calls (``llm``, else of tools) that were reported so far.

        Of a turn's own log, those that its steps have counted come too.
        """
        reported = self._calls if kind == "llm" else self._tools
        return [*reported.calls, *reported.settled]

    def reported_within(self, kind: str, step_id: str) -> list[Call]:
        """Return the calls that were counted in steps inside a step, of a turn's own log.

        Args:
            kind: ``llm``, else of tools.
            step_id: The step around them.
        """
        return [
            call
            for call in self.reported(kind)
            if call.step_id is not None and step_id in self._around.get(call.step_id, ())
        ]

    def add(self, call: Call) -> None:
        """Take in one inference call."""
        self._calls.add(call)
        self._parents[call.span_id] = call.parent_span_id

    def add_tool(self, call: Call) -> None:
        """Take in one call of a tool.

        Its `model` is the tool and its `response_id` the call's id. It has no parent: tools may
        call tools, and both happened.
        """
        self._tools.add(call)

    def add_parent(self, span_id: str, parent_span_id: str | None) -> None:
        """Remember whose child a span is, so that a nested call is known as one."""
        if len(self._parents) < _MOST_PARENTS:
            self._parents[span_id] = parent_span_id

    def told_within(self, span_id: str, since_ns: int) -> int:
        """Return how many calls inside a span, which began at `since_ns`, told what they spent."""
        found = 0
        for call in reversed(self._calls.calls):
            if call.ended_ns < since_ns:
                break
            found += call.usage.known and self._is_within(call.parent_span_id, span_id)
        return found

    def _is_within(self, at: str | None, span_id: str) -> bool:
        seen: set[str] = set()
        while at is not None and at != span_id and at not in seen:
            seen.add(at)
            at = self._parents.get(at)
        return at == span_id

    def settle(self, turn: CallLog | None, *into: Totals) -> None:
        """Add what counts to each of `into`, and forget it.

        Args:
            turn: The turn's own log, for a step's. It keeps what counted here: who makes spans
                after the fact (LangSmith) knows the turn and no step.
            into: What to add to.
        """
        calls = self._calls.counted(self._parents)
        tools = self._tools.counted({})
        measure(calls)
        for totals in into:
            for call in calls:
                totals.add(call.usage)
            totals.tool_calls += len(tools)
        self._parents.clear()
        if turn is not None:
            turn.remember(calls, tools)

    def place(self, step_id: str, around: tuple[str, ...]) -> None:
        """Learn, as a turn's own log, which steps a step with calls of its own stands in."""
        if len(self._around) < _MOST_SETTLED:
            self._around[step_id] = around

    def remember(self, calls: list[Call], tools: list[Call]) -> None:
        """Keep what counted in one of the turn's steps, to know a report without a step by it."""
        for reported, settled in ((self._calls, calls), (self._tools, tools)):
            if len(reported.settled) < _MOST_SETTLED:
                reported.settled += settled


def measure(calls: list[Call]) -> None:
    """Measure what calls that count have spent."""
    found = meters()
    try:
        if found is not None:
            for call in calls:
                found.spent(call)
    except Exception as error:  # noqa: BLE001 - somebody's metrics
        report("usage.metering", error)


def usage_attributes(totals: Totals) -> dict[str, AttributeValue]:
    """Return what calls add up to as span attributes; none for no calls, and no unknown ones."""
    if not totals.llm_calls and not totals.tool_calls:
        return {}
    return {
        semconv.USAGE_PREFIX + key: value
        for key, value in totals.as_dict().items()
        if value is not None
    }
