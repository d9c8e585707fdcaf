"""What a span's records say together, in any order, number and company."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanflow.ledger.ingest import ingest
from spanflow.ledger.places import Places

IDS = st.sampled_from([f"{n:016x}" for n in range(1, 7)])
SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.sampled_from(["a" * 32, "b" * 32]),
        "span_id": IDS,
        "kind": st.sampled_from(["turn", "step", "step", "llm", "llm", "tool", "span"]),
        "source": st.sampled_from(["capture", "exporter", "otlp"]),
        "phase": st.sampled_from(["start", "end"]),
        "started_ns": st.just(1_790_000_000_000_000_000),
    },
    optional={
        "turn_id": IDS,
        "step_id": IDS,
        "parent_step_id": IDS,
        "parent_span_id": IDS,
        "engagement_id": st.sampled_from(["e1", "e2"]),
        "ended_ns": st.integers(1_790_000_000_000_000_000, 1_790_000_000_000_000_009),
        "status": st.sampled_from(["completed", "failed", "waiting", "paused", "ok"]),
        "name": st.sampled_from(["a", "b"]),
        "path": st.sampled_from(["a", "b", "b/c"]),
        "goal": st.just("g"),
        "goals": st.just(["g"]),
        "model": st.sampled_from(["m", "n"]),
        "scope": st.sampled_from(["x", "y"]),
        "input_tokens": st.integers(0, 9),
        "output_tokens": st.integers(0, 9),
        "cost_usd": st.sampled_from([0.1, 0.2, 1e-7]),
        "superstep": st.integers(0, 3),
        "attributes": st.just({"k": 1}),
        "events": st.just([{"kind": "error", "name": "E", "at_ns": 5}]),
    },
)


def contents(ledger: Path) -> dict[str, list[tuple[Any, ...]]]:
    with duckdb.connect(f"{ledger}.d/store.duckdb", read_only=True) as connection:
        return {
            table: sorted(connection.execute(query).fetchall(), key=repr)
            for table, query in {
                "records": "SELECT * EXCLUDE (revision) FROM records",
                "turn_facts": "FROM turn_facts",
                "partials": "FROM partials",
                "engagements": "FROM engagements",
                "steps": "FROM steps",
                "events": "FROM events",
                "graphs": "FROM graphs",
            }.items()
        }


def store(ledger: Path, rounds: list[list[dict[str, Any]]]) -> None:
    """Ingest each round by itself, as segments of one process that is gone."""
    places = Places.of(ledger)
    places.make()
    process = "00000000-1-1-00000000"
    for number, records in enumerate(rounds):
        lines = [orjson.dumps({**record, "process_id": process}) + b"\n" for record in records]
        segment = places.journal / f"{number:020d}-{process}-{number}.ndjson"
        segment.write_bytes(b"".join(lines))
        assert ingest(ledger) is not None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), records=st.lists(SPANS, max_size=12))
def test_any_order_repetition_and_number_of_ingests_gives_the_same_rows(data, records):
    again = data.draw(st.lists(st.sampled_from(records), max_size=4)) if records else []
    shuffled = data.draw(st.permutations(records + again))
    cut = data.draw(st.integers(0, len(shuffled)))
    cut_again = data.draw(st.integers(cut, len(shuffled)))
    with tempfile.TemporaryDirectory() as folder:
        once, pieces = Path(folder, "once.duckdb"), Path(folder, "pieces.duckdb")
        store(once, [records])
        store(pieces, [shuffled[:cut], shuffled[cut:cut_again], shuffled[cut_again:]])
        if records:
            assert contents(once) == contents(pieces)
