"""What was done again: replays, retries and forks, call by call and as sums, counted slowly."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oldest import OLDEST

from spanflow.ledger.gather import ingest
from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh
from spanflow.ledger.retention import forget
from spanflow.query.proof import digest_of, verdict_on

SUMS = "replayed_tokens, retried_tokens, forked_tokens"


def turn(make, number, at, kind, **fields):
    return make.turn(number, at=at, until=at + 50, turn_kind=kind, on_thread=True, **fields)


def node(make, number, in_turn, at, execution, **fields):
    return make.step(
        number, "q", turn=in_turn, at=at, until=at + 40, execution_id=execution, visit=1, **fields
    )


def asked_twice(make):
    """A call before each of two pauses in one node, and the answer after them."""
    return [
        turn(make, 10, 0, "new", status="paused"),
        node(make, 11, 10, 0, "x", status="waiting"),
        make.llm(12, 11, (20, 10), turn=10, at=1, cost_usd=0.5),
        turn(make, 20, 100, "resume", status="paused"),
        node(make, 21, 20, 100, "x", status="waiting"),
        make.llm(22, 21, (20, 10), turn=20, at=101, cost_usd=0.5),
        make.llm(23, 21, (20, 10), turn=20, at=103, cost_usd=0.5),
        turn(make, 30, 200, "resume"),
        node(make, 31, 30, 200, "x"),
        make.llm(32, 31, (20, 10), turn=30, at=201, cost_usd=0.5),
        make.llm(33, 31, (20, 10), turn=30, at=203, cost_usd=0.5),
        make.step(34, "done", turn=30, at=245, until=249, execution_id="y", visit=1),
    ]


def rows(make, ledger, query):
    return [tuple(row.values()) for row in make.ask(ledger, query)]


def test_a_resumed_node_replays_what_it_had_done(ledger, make):
    make.write(ledger, asked_twice(make))
    assert rows(
        make, ledger, "SELECT total_tokens, replayed_tokens, replayed_cost_usd FROM engagements"
    ) == [(150, 90, 1.5)]
    assert rows(make, ledger, f"SELECT {SUMS} FROM turns ORDER BY started_at") == [
        (0, 0, 0),
        (30, 0, 0),
        (60, 0, 0),
    ]
    assert rows(
        make, ledger, "SELECT name, visit, replayed, replayed_tokens FROM steps ORDER BY started_at"
    ) == [("q", 1, False, 0), ("q", 1, True, 30), ("q", 1, True, 60), ("done", 1, False, 0)]
    assert rows(make, ledger, "SELECT repeats, replayed FROM llm_calls ORDER BY started_at") == [
        (None, False),
        ("replay", True),
        (None, False),
        ("replay", True),
        ("replay", True),
    ]


@pytest.mark.parametrize("ended", ["failed", "cancelled", None])
def test_what_was_cut_off_is_tried_again_whole(ledger, make, ended):
    cut = {"status": ended} if ended else {"phase": "start"}
    make.write(
        ledger,
        [
            turn(make, 10, 0, "new", status="failed"),
            node(make, 11, 10, 0, "x", **cut),
            make.tool(12, 11, turn=10, at=1),
            turn(make, 20, 100, "retry"),
            node(make, 21, 20, 100, "x"),
            make.tool(22, 21, turn=20, at=101),
            make.llm(23, 21, (3, 4), turn=20, at=103),
        ],
    )
    assert rows(make, ledger, f"SELECT {SUMS}, retried_cost_usd FROM engagements") == [
        (0, 7, 0, None)
    ]
    assert rows(make, ledger, "SELECT repeats FROM tool_calls ORDER BY started_at") == [
        (None,),
        ("retry",),
    ]


def test_later_attempts_and_forks_are_told_of_one_turn_alone(ledger, make):
    make.write(
        ledger,
        [
            turn(make, 10, 0, "new"),
            make.step(15, "outer", turn=10, at=0, until=50),
            node(make, 11, 10, 0, "x", attempts=2, parent_step_id=15),
            make.llm(12, 11, (1, 1), turn=10, at=1),
            make.llm(13, 11, (2, 2), turn=10, at=2, attempt=2),
            turn(make, 20, 100, "fork", origin_turn_id=make.ident(10), origin_superstep=3),
            make.step(21, "q", turn=20, at=101, execution_id="x"),
            make.llm(22, 21, (5, 5), turn=20, at=101),
            make.llm(23, 21, turn=20, at=102),
        ],
    )
    assert rows(make, ledger, f"SELECT {SUMS} FROM turns ORDER BY started_at") == [
        (0, 4, 0),
        (0, 0, 10),
    ]
    assert rows(make, ledger, f"SELECT name, {SUMS} FROM steps ORDER BY step_id") == [
        ("q", 0, 4, 0),
        ("outer", 0, 4, 0),
        ("q", 0, 0, 10),
    ]
    # Which step it left from is known when that step is.
    make.write(ledger, [make.step(16, "last", turn=10, at=40, superstep=3)])
    assert rows(make, ledger, "SELECT origin_step_id FROM turns WHERE kind = 'fork'") == [
        (make.ident(16),)
    ]


def test_a_turn_that_comes_between_parts_a_chain_and_leaving_it_mends_it(ledger, make):
    records = asked_twice(make)
    make.write(ledger, records[3:])
    assert rows(make, ledger, f"SELECT {SUMS} FROM engagements") == [(60, 0, 0)]
    make.write(ledger, records[:3])
    assert rows(make, ledger, f"SELECT {SUMS} FROM engagements") == [(90, 0, 0)]
    make.write(ledger, [turn(make, 40, 60, "message")])
    assert rows(make, ledger, f"SELECT {SUMS} FROM engagements") == [(60, 0, 0)]
    assert verdict_on(ledger, "e1", digest_of(ledger, "e1")) == "same"


def test_who_does_not_know_the_tokens_does_not_say_zero(ledger, make):
    records = asked_twice(make)[:5]
    make.write(ledger, [*records, make.llm(22, 21, turn=20, at=101)])
    for view in ("engagements", "turns WHERE kind = 'resume'", "steps WHERE step_id LIKE '%15'"):
        assert rows(make, ledger, f"SELECT {SUMS}, replayed_cost_usd FROM {view}") == [
            (None, 0, 0, None)
        ], view


def test_an_older_ledger_says_the_same_once_it_is_brought_up_to_date(ledger, make, tmp_path):
    old = tmp_path / "old.duckdb"
    asked = {"kind": "wait", "name": "wait", "at_ns": make.T0, "payload": {"id": "i"}}
    records = [
        turn(make, 10, 0, "new", status="paused"),
        make.step(11, "q", turn=10, at=0, until=50, status="waiting", events=[asked]),
        turn(make, 20, 100, "resume"),
        turn(make, 30, 200, "fork"),
        make.step(31, "q", turn=30, at=200),
        make.llm(32, 31, (2, 3), turn=30, at=201),
    ]
    make.write(ledger, records)
    refresh(ledger)
    with duckdb.connect(str(old), config={"storage_compatibility_version": "v1.4.0"}) as made:
        made.execute("CREATE TABLE migrations (name VARCHAR NOT NULL, applied_at TIMESTAMP)")
        for name, script in OLDEST:
            made.execute(script)
            made.execute("INSERT INTO migrations VALUES (?, TIMESTAMP '2026-01-01')", [name])
        made.execute(f"ATTACH '{ledger}' AS source (READ_ONLY)")
        for table in ("records", "turn_facts"):
            columns = ", ".join(row[0] for row in made.execute(f"DESCRIBE {table}").fetchall())
            made.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM source.{table}")
    before = digest_of(ledger, "e1")
    assert verdict_on(old, "e1", before) == "same"
    make.write(old, [make.turn(90, at=900, engagement_id="e2")])
    for view in ("turns", "waits", "engagements"):
        query = f"SELECT * FROM {view} WHERE engagement_id = 'e1' ORDER BY ALL"
        assert make.ask(old, query) == make.ask(ledger, query), view
    assert rows(make, old, "SELECT resolution FROM waits") == [("answered",)]
    make.close(old)


def test_erasing_one_engagement_leaves_the_journey_of_another(ledger, make):
    same = {"engagement_id": "e2"}
    make.write(
        ledger, [*asked_twice(make), make.turn(90, **same), make.step(91, "a", turn=90, **same)]
    )
    assert rows(make, ledger, f"SELECT {SUMS} FROM engagements WHERE engagement_id='e1'") == [
        (90, 0, 0)
    ]
    kept = digest_of(ledger, "e1")
    forget(ledger, engagement_id="e2")
    assert verdict_on(ledger, "e1", kept) == "same"
    assert len(rows(make, ledger, "FROM waits")) == 2
    forget(ledger, engagement_id="e1")
    assert rows(make, ledger, "FROM wait_facts") == []


EXECUTIONS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y"]),
        st.sampled_from(["completed", "waiting", "failed", "cancelled", None]),
        st.lists(
            st.tuples(st.sampled_from(["llm", "tool"]), st.sampled_from([None, 2])), max_size=3
        ),
    ),
    max_size=2,
    # A task runs once in a turn, all its attempts together.
    unique_by=lambda drawn: drawn[0],
)
JOURNEY = st.lists(
    st.tuples(st.sampled_from(["new", "message", "resume", "retry", "fork"]), EXECUTIONS),
    min_size=1,
    max_size=5,
)


def recorded(make, journey):
    """The records of a journey, and what each call should be said to repeat."""
    records, wanted = [], {}
    before: dict[str, tuple[str | None, int]] = {}
    number = 0
    for at, (kind, executions) in enumerate(journey):
        number += 100
        in_turn, begun = number, at * 1000
        if kind not in ("resume", "retry"):
            before = {}
        records.append(
            make.turn(in_turn, at=begun, until=begun + 900, turn_kind=kind, status="paused")
        )
        for nth, (execution, status, calls) in enumerate(executions):
            step, start = number + 1 + nth * 10, begun + 1 + nth * 100
            ended = {"status": status} if status else {"phase": "start"}
            attempts = max((attempt or 1 for _, attempt in calls), default=1)
            records.append(
                make.step(
                    step, "q", turn=in_turn, at=start, until=start + 90, execution_id=execution,
                    attempts=attempts, **ended,
                )
            )  # fmt: skip
            status_before, calls_before = before.get(execution, (None, -1))
            for place, (call, attempt) in enumerate(calls):
                span = step + 1 + place
                made = {"turn": in_turn, "at": start + 1 + place * 2} | (
                    {"attempt": attempt} if attempt else {}
                )
                records.append(
                    make.llm(span, step, (1, 1), **made)
                    if call == "llm"
                    else make.tool(span, step, **made)
                )
                cut = calls_before >= 0 and status_before != "waiting"
                replayed = status_before == "waiting" and place < calls_before
                wanted[make.ident(span)] = (
                    "fork"
                    if kind == "fork"
                    else "retry"
                    if attempt or cut
                    else "replay"
                    if replayed
                    else None
                )
            # Only the attempt that paused is repeated.
            before[execution] = (status, sum((attempt or 1) == attempts for _, attempt in calls))
    return records, wanted


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(journey=JOURNEY, data=st.data())
def test_any_journey_in_any_order_repeats_what_a_slow_count_says(make, journey, data):
    records, wanted = recorded(make, journey)
    shuffled = data.draw(st.permutations(records))
    cuts = data.draw(st.lists(st.integers(0, len(records)), max_size=3).map(sorted))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "t.duckdb")
        journal = Journal(ledger)
        for low, high in zip([0, *cuts], [*cuts, len(records)], strict=True):
            for one in shuffled[low:high]:
                journal.append(one)
            journal.seal()
            ingest(ledger)
        refresh(ledger)
        with duckdb.connect(str(ledger), read_only=True) as opened:
            calls = "SELECT span_id, repeats FROM {} "
            both = f"{calls.format('llm_calls')} UNION ALL {calls.format('tool_calls')}"
            assert dict(opened.execute(both).fetchall()) == wanted
            spent = defaultdict(int)
            for repeats, tokens in opened.execute(
                "SELECT repeats, total_tokens FROM llm_calls"
            ).fetchall():
                spent[repeats] += tokens
            sums = (spent["replay"], spent["retry"], spent["fork"])
            assert opened.execute(f"SELECT {SUMS} FROM engagements").fetchall() == [sums]
            of_steps = ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS.split(", "))
            assert opened.execute(f"SELECT {of_steps} FROM steps").fetchall() == [sums]
        assert verdict_on(ledger, "e1", digest_of(ledger, "e1")) == "same"
        journal.close()
