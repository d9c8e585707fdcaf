"""Metrics through the user's own meter provider say what the ledger says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, calling, chain, llm
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from opentelemetry import metrics
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

import spanflow
from spanflow import guard
from spanflow.capture.metering import Meters, meters
from spanflow.ledger import backlog
from spanflow.ledger.journal import journal_for, journals_of
from spanflow.spending import Call, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Flow

DELTA = AggregationTemporality.DELTA
IDS = ("id", "trace", "span", "user", "session", "conversation")


@pytest.fixture(scope="session")
def reader() -> InMemoryMetricReader:
    """What reads the one meter provider that this process may have."""
    made = InMemoryMetricReader(preferred_temporality={Counter: DELTA, Histogram: DELTA})
    metrics.set_meter_provider(MeterProvider([made]))
    return made


@pytest.fixture
def measured(reader: InMemoryMetricReader) -> Iterator[Callable[[], dict[str, dict[Any, Any]]]]:
    """Return what was measured in this test: sums, or counts of histograms, by attributes."""
    reader.get_metrics_data()

    def read() -> dict[str, dict[Any, Any]]:
        data = reader.get_metrics_data()
        return {
            metric.name: {
                tuple(sorted(dict(point.attributes or {}).items())): getattr(
                    point, "count", getattr(point, "value", None)
                )
                for point in metric.data.data_points
            }
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            if scope.scope.name == "spanflow"
            for metric in scope.metrics
            if metric.name.startswith("spanflow.")
        }

    return read


def waits(state: State) -> State:
    return {"log": [str(interrupt({"awaiting": "confirmation"}))]}


def fails(state: State) -> State:
    msg = "out of tickets"
    raise RuntimeError(msg)


def test_metrics_equal_the_ledger(
    flow: Flow, measured: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever other tests of this process have named already.
    monkeypatch.setattr("spanflow.capture.metering._MOST_VALUES", 1_000_000)
    thread: Any = {"configurable": {"thread_id": "1"}, "run_name": "booking"}
    graph = chain("a", "b", a=calling(llm(10, 20)), b=waits)
    graph.checkpointer = InMemorySaver()
    graph.invoke({"log": []}, thread)
    graph.invoke(Command(resume="yes"), thread)
    with pytest.raises(RuntimeError):
        chain("c", c=fails).invoke({"log": []}, {"run_name": "failing"})
    llm(1, 2).invoke("outside any engagement")
    found = measured()
    assert found["spanflow.turns"] == {
        (
            ("spanflow.engagement.name", name),
            ("spanflow.turn.kind", kind),
            ("spanflow.turn.outcome", outcome),
        ): count
        for name, kind, outcome, count in flow.sql(
            "SELECT name, kind, outcome, count(*) FROM turns GROUP BY ALL"
        )
    }
    assert found["spanflow.turn.duration"] == {
        (("spanflow.engagement.name", name), ("spanflow.turn.outcome", outcome)): count
        for name, outcome, count in flow.sql(
            "SELECT name, outcome, count(*) FROM turns GROUP BY ALL"
        )
    }
    assert found["spanflow.step.duration"] == {
        (("spanflow.step.path", path), ("spanflow.step.status", status)): count
        for path, status, count in flow.sql("SELECT path, status, count(*) FROM steps GROUP BY ALL")
    }
    assert sum(found["spanflow.wait.duration"].values()) == 1
    tokens = found["spanflow.usage.tokens"]
    [(given, produced)] = flow.sql("SELECT sum(input_tokens), sum(output_tokens) FROM llm_calls")
    assert (given, produced) == (11, 22)
    model = ("gen_ai.response.model", "fake-1")
    assert tokens == {
        (model, ("gen_ai.token.type", "input")): given,
        (model, ("gen_ai.token.type", "output")): produced,
    }
    keys = {key for points in found.values() for point in points for key, _ in point}
    assert not [key for key in keys if key.rpartition(".")[2] in IDS]


def test_what_counts_twice_in_spans_counts_once(measured: Callable[[], Any]) -> None:
    from spanflow.capture.usage import CallLog
    from spanflow.spending import Totals

    log, totals = CallLog(), Totals()
    for span, parent, scope in (("a", None, "spanflow"), ("b", "a", "other")):
        spent = Usage.of(input_tokens=5, output_tokens=7, cost_usd=0.25)
        log.add(Call(span, parent, scope, None, "m", None, 1, 2, spent))
    log.settle(None, totals)
    found = measured()
    assert sum(found["spanflow.usage.tokens"].values()) == totals.total_tokens == 12
    assert found["spanflow.usage.cost"] == {(("gen_ai.response.model", "m"),): 0.25}


def test_errors_of_our_own_are_measured(measured: Callable[[], Any]) -> None:
    assert meters() is not None
    guard.diagnose("usage.refused", "a model reported an impossible number of tokens")
    key = (("spanflow.internal.site", "usage.refused"),)
    assert measured()["spanflow.internal.errors"][key] == 1


def test_what_waits_in_the_journal_and_what_is_lost_is_measured(
    flow: Flow, measured: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests' journals of this process have their own backlog.
    monkeypatch.setattr(backlog, "all_journals", lambda: journals_of(flow.ledger))
    before = measured()["spanflow.journal.lost_records"][()]
    chain("a").invoke({"log": []})
    lag_s = measured()["spanflow.journal.lag"][()]
    assert 0 < lag_s < 600
    assert flow.one("SELECT count(*) FROM turns") == 1
    journal = journal_for(flow.ledger)
    assert measured()["spanflow.journal.lag"][()] == 0
    chain("a").invoke({"log": []})
    for segment in journal.directory.glob("*.open"):
        segment.unlink()
    guard.set_strict(False)
    journal.seal()
    lost = measured()["spanflow.journal.lost_records"][()] - before
    assert lost == journal.lost > 0


def test_attributes_are_bounded(reader: InMemoryMetricReader, measured: Callable[[], Any]) -> None:
    made = Meters()
    for number in range(1_000):
        spent = Usage.of(input_tokens=1, output_tokens=1)
        made.spent(Call(str(number), None, "s", None, f"model {number}", None, 1, 2, spent))
    tokens = measured()["spanflow.usage.tokens"]
    assert len(tokens) == 2 * 201
    assert sum(tokens.values()) == 2_000


def test_a_broken_meter_never_reaches_the_run(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        msg = "no"
        raise ValueError(msg)

    guard.set_strict(False)
    monkeypatch.setattr(Meters, "saw", broken)
    monkeypatch.setattr(Meters, "spent", broken)
    chain("a", a=calling(llm(1, 2))).invoke({"log": []})
    assert flow.sql("SELECT total_tokens FROM turns") == [(3,)]
    assert guard.counts()["runtime.metering"] > 0


def test_a_clock_that_is_set_back_makes_no_negative_time(
    flow: Flow,
    measured: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = time.time_ns
    with spanflow.engagement("set back"), spanflow.step("set back"):
        monkeypatch.setattr(time, "time_ns", lambda: now() - 3_600_000_000_000)
    monkeypatch.undo()
    found = measured()
    for metric in ("spanflow.turn.duration", "spanflow.step.duration"):
        assert list(found[metric].values()) == [1]
    assert not caplog.records
    assert flow.sql("SELECT duration_ms FROM steps") == [(0.0,)]
