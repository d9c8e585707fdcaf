"""What was never a record, or only half of one, costs nothing but itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanflow.ledger.fields import FIELDS
from spanflow.ledger.ingest import ingest
from spanflow.ledger.journal import Journal

VIEWS = (
    "engagements",
    "turns",
    "steps",
    "llm_calls",
    "tool_calls",
    "events",
    "waits",
    "transitions",
    "spans",
)

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(
        [
            "end",
            "start",
            "turn",
            "step",
            "llm",
            "tool",
            "failed",
            "waiting",
            "9" * 30,
            "1e400",
            "\x00",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "name", "at_ns", "payload", "k"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
ODD_RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "trace_id": st.just("a" * 32) | ODD,
            "span_id": st.sampled_from(["1" * 16, "2" * 16, "3" * 16]) | ODD,
            "kind": st.sampled_from(["turn", "step", "llm", "tool", "graph"]) | ODD,
        },
        optional={
            name: st.sampled_from(["1" * 16, "2" * 16, "e"]) | ODD if name.endswith("_id") else ODD
            for name in FIELDS
            if name not in ("trace_id", "span_id", "kind")
        },
    ),
    max_size=15,
)


def read_everything(ledger: Path) -> None:
    with duckdb.connect(f"{ledger}.d/store.duckdb", read_only=True) as connection:
        for view in VIEWS:
            connection.execute(f"FROM {view}").fetchall()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=ODD_RECORDS, second=ODD_RECORDS, noise=st.binary(max_size=30))
def test_no_value_anywhere_stops_an_ingest_or_a_view(make, first, second, noise):
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "l.duckdb")
        journal = Journal(ledger)
        for records in (first, second):
            for one in records:
                assert journal.append(one)
            journal.append(make.turn(77))
            [segment] = journal.directory.glob("*.open")
            with segment.open("ab") as disturbed:
                disturbed.write(noise + b"\n")
            report = ingest(ledger)
            assert report is not None
            assert report.quarantined == 0
            read_everything(ledger)
        with duckdb.connect(f"{ledger}.d/store.duckdb", read_only=True) as connection:
            found = connection.execute(
                "SELECT count(*) FROM turns WHERE turn_id = ?", [make.ident(77)]
            ).fetchall()
        assert found == [(1,)]
        journal.close()


TOLD = st.tuples(
    st.text(),
    st.dictionaries(
        st.text(max_size=5), st.none() | st.booleans() | st.integers(-9, 9) | st.text(), max_size=4
    ),
)


# Many in each ledger: it is the ingest that takes time.
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(several=st.lists(TOLD, min_size=5, max_size=15))
def test_text_and_metadata_come_back_equal(make, several):
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "l.duckdb")
        told = [
            make.turn(nth, trace=nth, at=nth, engagement_id=f"e{nth}", name=name, metadata=metadata)
            for nth, (name, metadata) in enumerate(several, 1)
        ]
        make.write(ledger, told)
        rows = make.ask(ledger, "SELECT name, metadata FROM engagements ORDER BY started_at")
        assert [(row["name"], orjson.loads(row["metadata"])) for row in rows] == several


def test_wide_names_and_nul_come_back_equal(ledger, make):
    make.write(
        ledger, [make.turn(name="エンゲージ🎌"), make.step(2, "a\0b"), make.tool(3, 2, "検索🔍")]
    )
    assert make.ask(ledger, "SELECT name FROM engagements") == [{"name": "エンゲージ🎌"}]
    assert make.ask(ledger, "SELECT name, step_name FROM tool_calls") == [
        {"name": "検索🔍", "step_name": "a\0b"}
    ]


def test_refused_numbers_become_unknown(ledger, make):
    make.write(
        ledger,
        [
            make.turn(),
            make.step(2, "a"),
            make.llm(3, 2, (-5, 3)),
            make.llm(4, 2, (10**15, 1), cost_usd=-1.0),
        ],
    )
    query = (
        "SELECT input_tokens, output_tokens, total_tokens, cost_usd FROM llm_calls ORDER BY span_id"
    )
    assert [tuple(row.values()) for row in make.ask(ledger, query)] == [
        (None, 3, None, None),
        (None, 1, None, None),
    ]
    assert make.ask(ledger, "SELECT input_tokens, output_tokens FROM engagements") == [
        {"input_tokens": None, "output_tokens": 4}
    ]
