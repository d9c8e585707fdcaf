"""Reading journeys out of a real ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from spanflow.errors import LedgerError, LedgerNotFoundError
from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh
from spanflow.model import LlmCall, ToolCall
from spanflow.query.journeys import connect

if TYPE_CHECKING:
    from pathlib import Path

BOOKING = "01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e"
ORDER = "order-[bold]7"
RUNNING = "01936c2a-9000-7c11-9b7e-000000000003"


def ids(found):
    return [one.engagement_id for one in found]


def test_engagements_are_listed_newest_first(ledger: Path):
    with connect(ledger) as opened:
        assert ids(opened.engagements()) == [RUNNING, ORDER, BOOKING]
        assert ids(opened.engagements(limit=2)) == [RUNNING, ORDER]
        assert ids(opened.engagements(limit=None)) == [RUNNING, ORDER, BOOKING]
        assert ids(opened.engagements(status="failed")) == [ORDER]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"user_id": "u1"}, [RUNNING, BOOKING]),
        ({"user_id": 1}, []),
        ({"user_id": "u1", "session_id": "s1"}, [BOOKING]),
        ({"tries": 1}, [BOOKING]),
        ({"tries": "1"}, [ORDER]),
        ({"tries": True}, [RUNNING]),
        ({"a/b": "deep"}, [BOOKING]),
        ({"nothing": None}, [RUNNING]),
        ({"plan": "pro"}, [BOOKING]),
    ],
)
def test_engagements_are_filtered_strictly(ledger: Path, where, found):
    with connect(ledger) as opened:
        assert ids(opened.engagements(where)) == found


def test_an_engagement_has_its_columns_as_fields(ledger: Path):
    with connect(ledger) as opened:
        one = opened.engagement(BOOKING)
    assert (one.name, one.status, one.goal, one.dropped_at) == (
        "booking",
        "completed",
        "submitted",
        None,
    )
    assert one.metadata == {"plan": "pro", "tries": 1, "a/b": "deep"}
    assert (one.turns, one.steps, one.llm_calls, one.tool_calls, one.errors) == (2, 7, 2, 2, 1)
    assert (one.usage.input_tokens, one.usage.output_tokens, one.usage.total_tokens) == (
        94,
        30,
        124,
    )
    assert (one.working_ms, one.waiting_ms) == (80.0, 179_930.0)
    assert one.started_at is not None
    assert one.started_at.tzinfo is None


def outline(steps):
    return [[step.path, step.status, outline(step.steps)] for step in steps]


def test_an_engagement_comes_with_its_whole_tree(ledger: Path):
    with connect(ledger) as opened:
        first, second = opened.engagement(BOOKING).history
    assert [(turn.kind, turn.outcome) for turn in (first, second)] == [
        ("new", "paused"),
        ("resume", "completed"),
    ]
    assert second.previous_turn_id == first.turn_id
    assert outline(first.steps) == [
        ["intake", "completed", []],
        [
            "search",
            "completed",
            [["search/think", "completed", []], ["search/look_up", "completed", []]],
        ],
        ["confirm", "waiting", []],
    ]
    assert outline(second.steps) == [
        ["confirm", "completed", []],
        ["submitted", "completed", []],
    ]


def test_calls_events_and_waits_stand_where_they_happened(ledger: Path):
    with connect(ledger) as opened:
        first = opened.engagement(BOOKING).history[0]
    intake, search, confirm = first.steps
    look_up = search.steps[1]
    [chat] = intake.calls
    assert isinstance(chat, LlmCall)
    assert (chat.model, chat.usage.total_tokens, chat.usage.cache_read_tokens) == (
        "desk-large",
        40,
        8,
    )
    failed, answered = look_up.calls
    assert isinstance(failed, ToolCall)
    assert isinstance(answered, ToolCall)
    assert (failed.status, failed.error_type, failed.arguments) == (
        "error",
        "ServiceTimeoutError",
        None,
    )
    assert (answered.arguments, answered.result) == ({"area": "Ueno"}, ["Park Side"])
    assert [(event.kind, event.name) for event in look_up.events] == [
        ("error", "ServiceTimeoutError")
    ]
    assert (look_up.attempts, look_up.tools_available) == (2, ("search_rooms",))
    assert search.usage.total_tokens == 84
    [wait] = confirm.waits
    assert (wait.label, wait.waited_ms, wait.is_open) == (
        "confirmation",
        179_935.0,
        False,
    )


def test_unknown_tokens_are_none(ledger: Path):
    with connect(ledger) as opened:
        one = opened.engagement(RUNNING)
    assert one.usage.total_tokens is None
    assert one.calls_without_usage == 1
    assert one.history[0].outcome is None
    assert one.history[0].steps[0].status == "running"


@pytest.mark.parametrize("part", [BOOKING, "01936c2a-7", "4f1c09d2ab7e", "ab7e"])
def test_a_unique_beginning_or_end_names_an_engagement(ledger: Path, part):
    with connect(ledger) as opened:
        assert opened.engagement(part).engagement_id == BOOKING


def test_an_id_that_is_the_beginning_of_another_still_names_its_own(tmp_path: Path):
    path = tmp_path / "t.duckdb"
    journal = Journal(path)
    for number, engagement in enumerate(("order-1", "order-10")):
        turn = f"{number:016x}"
        journal.append(
            {
                "source": "capture",
                "phase": "end",
                "kind": "turn",
                "trace_id": "0" * 32,
                "span_id": turn,
                "turn_id": turn,
                "engagement_id": engagement,
                "started_ns": 1,
                "ended_ns": 2,
                "status": "completed",
            }
        )
    journal.close()
    with connect(path) as opened:
        assert opened.engagement("order-1").engagement_id == "order-1"
        with pytest.raises(LedgerError, match=r"order-1, order-10\. Give more"):
            opened.engagement("order")


def test_no_such_engagement_says_how_to_find_one(ledger: Path):
    with connect(ledger) as opened, pytest.raises(LedgerError, match="spanflow ls"):
        opened.engagement("zzz")


def test_sql_returns_columns_rows_and_dicts(ledger: Path):
    with connect(ledger) as opened:
        result = opened.sql("SELECT name, turns FROM engagements WHERE status = ?", ["completed"])
        assert (result.columns, result.rows, len(result)) == (
            ("name", "turns"),
            [("booking", 2)],
            1,
        )
        assert list(result) == [{"name": "booking", "turns": 2}]
        assert opened.sql("SELECT $n AS n", {"n": 3}).rows == [(3,)]


@pytest.mark.parametrize(
    "query", ["DELETE FROM records", "CREATE TABLE x (a INT)", "DROP VIEW turns"]
)
def test_sql_cannot_change_the_ledger(ledger: Path, query):
    with connect(ledger) as opened, pytest.raises(LedgerError, match="read-only"):
        opened.sql(query)


def test_a_wrong_query_is_told_in_one_line(ledger: Path):
    with connect(ledger) as opened, pytest.raises(LedgerError) as caught:
        opened.sql("SELECT\nnope FROM engagements")
    assert "\n" not in str(caught.value)
    assert "nope" in str(caught.value)


def test_a_missing_ledger_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(LedgerNotFoundError, match=r"spanflow run app\.py"):
        connect(tmp_path / "none.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(LedgerError, match=r"notes\.txt cannot be read as a ledger"):
        connect(tmp_path / "notes.txt")


def test_without_a_path_the_variable_names_the_ledger(ledger: Path, monkeypatch):
    monkeypatch.setenv("SPANFLOW_LEDGER", str(ledger))
    with connect() as opened:
        assert opened.path == ledger
    monkeypatch.delenv("SPANFLOW_LEDGER")
    with pytest.raises(LedgerNotFoundError, match="SPANFLOW_LEDGER"):
        connect()


def test_a_new_connection_shows_what_was_published_while_an_old_one_is_open(ledger: Path):
    journal = Journal(ledger)
    with connect(ledger) as old:
        journal.append(
            {
                "source": "capture",
                "phase": "end",
                "kind": "turn",
                "trace_id": "f" * 32,
                "span_id": "f" * 16,
                "turn_id": "f" * 16,
                "engagement_id": "late",
                "started_ns": 1,
                "ended_ns": 2,
                "status": "completed",
            }
        )
        journal.close()
        with connect(ledger) as new:
            assert len(new.engagements()) == 4
        assert len(old.engagements()) == 3


def test_a_ledger_copied_alone_can_be_read(ledger: Path, tmp_path: Path):
    refresh(ledger)
    alone = tmp_path / "elsewhere" / "it's mine.duckdb"
    alone.parent.mkdir()
    ledger.replace(alone)
    with connect(alone) as opened:
        assert len(opened.engagements()) == 3


def test_steps_that_name_each_other_as_parent_are_still_shown(tmp_path: Path):
    path = tmp_path / "t.duckdb"
    journal = Journal(path)
    shared = {"source": "capture", "phase": "end", "trace_id": "0" * 32, "engagement_id": "e"}
    shared |= {"turn_id": "1" * 16, "started_ns": 1, "ended_ns": 2, "status": "completed"}
    journal.append({**shared, "kind": "turn", "span_id": "1" * 16})
    for own, parent in (("a", "b"), ("b", "a"), ("c", "c"), ("d", "lost")):
        step = {"kind": "step", "span_id": own * 16, "step_id": own * 16, "name": own}
        journal.append({**shared, **step, "parent_step_id": parent * 16})
    journal.close()
    with connect(path) as opened:
        shown = json.dumps(outline(opened.engagement("e").history[0].steps))
    assert sorted(name for name in "abcd" if f'"{name}"' in shown) == ["a", "b", "c", "d"]


def test_the_models_hold_what_the_views_have(ledger: Path):
    from spanflow.model import Engagement, Event, Repeated, Step, TokenUsage, Turn, Wait

    made_here = {"usage", "repeated", "history", "waits", "calls", "events"}
    views = {
        "engagements": Engagement,
        "turns": Turn,
        "steps": Step,
        "llm_calls": LlmCall,
        "tool_calls": ToolCall,
        "events": Event,
        "waits": Wait,
    }
    with connect(ledger) as opened:
        for view, model in views.items():
            columns = set(opened.sql(f"FROM {view} LIMIT 0").columns)
            wanted = set(model.model_fields) - made_here
            if model in {Turn, Step}:
                wanted -= {"steps"}
            if "usage" in model.model_fields:
                wanted |= set(TokenUsage.model_fields)
            if "repeated" in model.model_fields:
                wanted |= set(Repeated.model_fields)
            assert wanted - columns == set(), view
