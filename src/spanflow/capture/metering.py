"""Metrics of turns, steps, waits and usage, through the user's own meter provider.

They are made of the very records that the ledger gets, and of the calls that count as a step or
turn settles them, so that both say the same. No attribute is an id, and none takes more than a few
hundred values. What several turns make of an engagement is the ledger's to tell.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics

from spanflow import guard, semconv
from spanflow.ledger import backlog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, Observation

    from spanflow.spending import Call

__all__ = ["Meters", "meters"]

_METER: Final = "spanflow"
_MOST_VALUES: Final = 200
"""Values of one attribute; whatever comes after them is `other`."""
_OTHER: Final = "other"
_MOST_WAITS: Final = 10_000
"""Pauses remembered; an engagement that is never resumed must not fill the memory."""
_SECONDS: Final = (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
_WAIT_SECONDS: Final = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400, 604_800)


class _Values:
    """The values of one attribute: the first few hundred as they are."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def bounded(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= _MOST_VALUES:
            return _OTHER
        self._known.add(value)
        return value


class Meters:
    """The instruments; where nobody set up a meter provider they do nothing."""

    def __init__(self) -> None:
        meter = metrics.get_meter(_METER)
        self._turns = meter.create_counter(
            semconv.METRIC_TURNS, "{turn}", "Turns that have ended, by kind and outcome."
        )
        self._turn_s = meter.create_histogram(
            semconv.METRIC_TURN_DURATION,
            "s",
            "How long turns took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._step_s = meter.create_histogram(
            semconv.METRIC_STEP_DURATION,
            "s",
            "How long steps took, all attempts together.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._wait_s = meter.create_histogram(
            semconv.METRIC_WAIT_DURATION,
            "s",
            "From a pause to its resumption in the same process.",
            explicit_bucket_boundaries_advisory=_WAIT_SECONDS,
        )
        self._tokens = meter.create_counter(
            semconv.METRIC_USAGE_TOKENS, "{token}", "Tokens of calls that count."
        )
        self._cost = meter.create_counter(
            semconv.METRIC_USAGE_COST, "USD", "Reported cost of calls that count."
        )
        meter.create_observable_counter(
            semconv.METRIC_INTERNAL_ERRORS,
            [_internal_errors],
            "{error}",
            "Errors of spanflow's own, and malformed data it was handed.",
        )
        meter.create_observable_counter(
            semconv.METRIC_JOURNAL_LOST,
            [lambda _: [metrics.Observation(backlog.lost_records())]],
            "{record}",
            "Records that could not be written to the journal.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_JOURNAL_LAG,
            [lambda _: [metrics.Observation(backlog.lag_s(time.time_ns()))]],
            "s",
            "Age of the oldest records that are not in the ledger yet.",
        )
        self._names, self._paths, self._models = _Values(), _Values(), _Values()
        self._paused: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.RLock()  # the collector may close an abandoned run in here

    def saw(self, record: Mapping[str, Any]) -> None:
        """Measure what a record says has ended."""
        kind = record.get("kind")
        if kind == "step":
            if record["phase"] == "end":
                self._step_s.record(
                    _seconds(record),
                    {
                        semconv.STEP_PATH: self._paths.bounded(record.get("path") or ""),
                        semconv.STEP_STATUS: record.get("status") or "",
                    },
                )
        elif kind == "turn":
            self._saw_turn(record)

    def spent(self, call: Call) -> None:
        """Measure what a call that counts has spent."""
        usage = call.usage
        model = (
            {}
            if not call.model
            else {semconv.GEN_AI_RESPONSE_MODEL: self._models.bounded(call.model)}
        )
        if usage.input_tokens:
            self._tokens.add(usage.input_tokens, {**model, semconv.GEN_AI_TOKEN_TYPE: "input"})
        if usage.output_tokens:
            self._tokens.add(usage.output_tokens, {**model, semconv.GEN_AI_TOKEN_TYPE: "output"})
        if usage.cost_usd:
            self._cost.add(usage.cost_usd, model)

    def _saw_turn(self, record: Mapping[str, Any]) -> None:
        engagement_id = record.get("engagement_id") or ""
        name = {semconv.ENGAGEMENT_NAME: self._names.bounded(record.get("name") or "")}
        if record["phase"] == "start":
            if record.get("turn_kind") == "remote":
                return  # it runs beside the turn whose pause is meant
            with self._lock:
                paused_ns = self._paused.pop(engagement_id, None)
            if paused_ns is not None and record.get("turn_kind") == "resume":
                waited_ns = max(0, record["started_ns"] - paused_ns)
                self._wait_s.record(waited_ns / 1e9, name)
            return
        outcome = record.get("status") or ""
        if outcome == "paused" and record.get("turn_kind") != "remote":
            with self._lock:
                self._paused[engagement_id] = record["ended_ns"]
                if len(self._paused) > _MOST_WAITS:
                    self._paused.popitem(last=False)
        told = {**name, semconv.TURN_OUTCOME: outcome}
        self._turns.add(1, {**told, semconv.TURN_KIND: record.get("turn_kind") or ""})
        self._turn_s.record(_seconds(record), told)


def _seconds(record: Mapping[str, Any]) -> float:
    """Return how long something took; where the clock was set back meanwhile, no time at all."""
    return max(0, record["ended_ns"] - record["started_ns"]) / 1e9


def _internal_errors(_: CallbackOptions) -> Iterable[Observation]:
    return [
        metrics.Observation(count, {semconv.INTERNAL_SITE: site})
        for site, count in guard.counts().items()
    ]


class _Process:
    """The instruments of this process: made once, as a meter gives each of them only once."""

    made: Meters | None = None


def meters() -> Meters | None:
    """Return the instruments; None where the user has said that there are to be no metrics."""
    if isinstance(metrics.get_meter_provider(), metrics.NoOpMeterProvider):
        return None
    if _Process.made is None:
        _Process.made = Meters()
    return _Process.made
