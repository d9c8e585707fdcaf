"""The calls made in one place (a step, or a turn outside any step) and what they add up to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanflow import semconv
from spanflow.capture.metering import meters
from spanflow.guard import report
from spanflow.tally import Totals, judge

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from spanflow.tally import Call

__all__ = ["CallLog", "measure", "usage_attributes"]

_MOST_PARENTS = 10_000
"""Parents remembered of others' spans in one place; past that, nesting is left to the ledger."""


class CallLog:
    """Calls reported from one place, by whoever reported them; judged once, as the place closes."""

    __slots__ = ("_calls", "_parents", "_scopes", "tool_calls")

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._parents: dict[str, str | None] = {}
        self._scopes: set[str] = set()
        self.tool_calls = 0

    def add(self, call: Call) -> None:
        """Take in one inference call."""
        self._calls.append(call)
        self._scopes.add(call.scope)
        self._parents[call.span_id] = call.parent_span_id

    def add_parent(self, span_id: str, parent_span_id: str | None) -> None:
        """Remember whose child a span is, so that a nested call is known as one."""
        if len(self._parents) < _MOST_PARENTS:
            self._parents[span_id] = parent_span_id

    def settle(self, *into: Totals) -> None:
        """Add what counts to each of `into`, and forget it."""
        calls, self._calls = self._calls, []
        tools, self.tool_calls = self.tool_calls, 0
        if not calls and not tools:
            return
        if len(self._scopes) > 1 or any(call.parent_span_id in self._parents for call in calls):
            verdicts = judge(calls, self._parents)
            calls = [call for call in calls if verdicts[call.span_id].counted]
        measure(calls)
        for totals in into:
            for call in calls:
                totals.add(call.usage)
            totals.tool_calls += tools
        self._parents.clear()
        self._scopes.clear()


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
