"""What the panels show of four journeys whose numbers are known by heart."""

from __future__ import annotations

import duckdb
import pytest
from dashboards import grafana

from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh

LEDGER = "motherduck-duckdb-datasource"
T0_MS = 1_790_000_000_000
FIVE = ["intake", "selection", "comparison", "application", "submitted"]
JOURNEYS = [
    ("u1", FIVE),
    ("u2", ["intake", "selection", "application", "submitted"]),
    ("u3", ["intake", "selection"]),
    ("u1", ["intake"]),
]


def _records(number, user, steps):
    """The records of one turn through some steps, 5 ms and 15 tokens each."""

    def record(kind, span, begin_ms, end_ms, **fields):
        return {
            "source": "capture",
            "phase": "end",
            "kind": kind,
            "trace_id": f"{number:032x}",
            "span_id": f"{span:016x}",
            "engagement_id": f"e{number}",
            "turn_id": f"{number * 100:016x}",
            "started_ns": (T0_MS + begin_ms) * 1_000_000,
            "ended_ns": (T0_MS + end_ms) * 1_000_000,
            **fields,
        }

    about = {"name": "booking", "turn_kind": "new", "user_id": user, "goals": ["submitted"]}
    yield record("turn", number * 100, 0, 5 * len(steps), status="completed", **about)
    for nth, name in enumerate(steps):
        span, when = number * 100 + 2 * nth + 1, (5 * nth, 5 * nth + 5)
        goal = {"goal": name} if name == "submitted" else {}
        given = {"name": name, "path": name, "status": "completed", "superstep": nth}
        yield record("step", span, *when, **given, **goal)
        spent = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cost_usd": 0.25}
        at = {"step_id": f"{span:016x}", "parent_span_id": f"{span:016x}"}
        call = {"status": "ok", "model": "m", "operation": "chat", "scope": "spanflow"}
        yield record("llm", span + 1, *when, **spent, **at, **call)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    ledger = tmp_path_factory.mktemp("four") / "traces.duckdb"
    journal = Journal(ledger)
    for number, (user, steps) in enumerate(JOURNEYS, start=1):
        for record in _records(number, user, steps):
            assert journal.append(record)
    journal.seal()
    refresh(ledger)
    variables = {
        "__from": str(T0_MS - 1_000),
        "__to": str(T0_MS + 3_600_000),
        "__interval_ms": "60000",
        "engagement": grafana.ALL,
        "step": grafana.ALL,
        "metadata_key": "tier",
        "steps": FIVE,
    }
    with duckdb.connect(str(ledger), read_only=True) as connection:
        yield grafana.Asked(connection, variables)
    journal.close()


def _shown(four, title):
    found = [q for q in grafana.queries(LEDGER) if q.title == title and q.target["refId"] == "A"]
    columns, rows = four.shown(found[0].target["rawSql"])
    names = [name for name, _ in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _column(rows, name):
    return [row[name] for row in rows]


@pytest.mark.parametrize("query", grafana.queries(LEDGER), ids=lambda query: query.id)
def test_no_panel_fails(query, four):
    columns, _ = four.shown(query.target["rawSql"])
    assert columns


def test_the_funnel(four):
    rows = _shown(four, "Funnel in numbers")
    assert _column(rows, "step") == FIVE
    assert _column(rows, "reached") == [4, 3, 1, 2, 2]
    assert _column(rows, "dropped") == [1, 1, 0, 0, 0]
    assert _column(rows, "conversion_rate") == [0.75, pytest.approx(2 / 3), 1, 1, None]
    assert _column(rows, "total_tokens") == [60, 45, 15, 30, 30]
    assert _column(rows, "cost_usd") == [1.0, 0.75, 0.25, 0.5, 0.5]
    assert _column(rows, "p50_working_ms") == [5.0] * 5
    assert _column(_shown(four, "Engagements that reached each step"), "reached") == [4, 3, 1, 2, 2]


def test_engagements_by_status(four):
    [told] = _shown(four, "Engagements that began in this range")
    assert (told["engagements"], told["completed"], told["abandoned"]) == (4, 0.5, 0.5)
    assert (told["failed"], told["open_waits"]) == (0, 0)
    assert told["returning_users"] == pytest.approx(1 / 3)
    [over_time] = _shown(four, "Engagements by status")
    assert (over_time["completed"], over_time["abandoned"]) == (2, 2)


def test_drop_off_points(four):
    rows = _shown(four, "Drop-off points")
    assert {row["step"]: row["abandoned"] for row in rows} == {"intake": 1, "selection": 1}


def test_tokens_and_cost_by_step_and_model(four):
    by_step = {row["step"]: row for row in _shown(four, "By step")}
    assert {step: row["total_tokens"] for step, row in by_step.items()} == {
        "intake": 60,
        "selection": 45,
        "comparison": 15,
        "application": 30,
        "submitted": 30,
    }
    [model] = _shown(four, "By model")
    assert (model["calls"], model["total_tokens"], model["cost_usd"]) == (12, 180, 3.0)


def test_step_times(four):
    rows = _shown(four, "Working time of visits")
    assert _column(rows, "p50") == _column(rows, "p95") == [5.0] * 5
