"""Digests of real ledgers: same, extended, and that nothing else goes unseen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanflow.errors import LedgerError
from spanflow.ledger import digest as forms
from spanflow.ledger import recount
from spanflow.ledger.fields import FIELDS
from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh
from spanflow.ledger.retention import forget
from spanflow.ledger.store import migrations
from spanflow.query.proof import digest_of, verdict_on

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
GRAPH = {"kind": "graph", "graph_version": "g1", "name": "g", "nodes": [{"id": "a"}], "edges": []}


def journey(make, engagement="e1", first=1, **fields):
    """Two turns, nested steps, calls of two instrumentations, a tool, events, a graph."""
    same = {"engagement_id": engagement, "trace": first}
    turn, again = first, first + 50
    return [
        GRAPH,
        make.step(
            turn + 1,
            "plan",
            turn=turn,
            goal="paid",
            events=[{"kind": "error", "name": "E", "at_ns": make.T0}],
            tools_available=["a", "b"],
            **same,
        ),
        make.step(turn + 2, "ask", turn=turn, at=1, parent_step_id=turn + 1, **same),
        make.llm(turn + 3, turn + 2, (5, 6), turn=turn, cost_usd=0.25, response_id="r", **same),
        make.llm(
            turn + 4,
            turn + 2,
            (5, 6),
            turn=turn,
            scope="other",
            response_id="r",
            **same,
        ),
        make.tool(turn + 5, turn + 2, turn=turn, arguments='{"x": 1}', **same),
        make.record("span", turn + 6, turn=turn, name="http", attributes={"n": 1.5}, **same),
        make.turn(
            turn,
            until=30,
            user_id="u",
            metadata={"tier": "gold", "n": 1},
            goals=["paid"],
            graph_version="g1",
            **same | fields,
        ),
        make.step(again + 1, "ask", turn=again, at=100, **same),
        make.turn(again, at=100, until=120, user_id="u", **same),
    ]


@pytest.fixture(scope="module")
def recorded(make, tmp_path_factory):
    """A ledger of three engagements, one of them cut off by the death of its process."""
    ledger = tmp_path_factory.mktemp("ledger") / "traces.duckdb"
    make.write(ledger, [*journey(make), *journey(make, "e2", 1_001)])
    journal = Journal(ledger)
    same = {"engagement_id": "e3", "trace": 3_001}
    journal.append(make.turn(3_001, phase="start", **same))
    journal.append(make.step(3_002, "a", turn=3_001, phase="start", **same))
    journal.close()
    refresh(ledger)
    return ledger


@pytest.fixture(scope="module")
def digested(recorded):
    """A digest of the first of them."""
    return digest_of(recorded, "e1")


@pytest.fixture
def copied(recorded, tmp_path):
    """The published file alone, to do with as one likes."""
    return shutil.copy(recorded, tmp_path / "traces.duckdb")


def tamper(file: Path, *statements: str) -> int:
    """Change a published file; return how many rows the last statement changed."""
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        return connection.fetchone()[0]


def test_a_digest_is_the_same_whenever_it_is_read(recorded, copied, make):
    before = digest_of(recorded, "e1")
    assert verdict_on(recorded, "e1", before) == "same"
    assert digest_of(recorded, "e1") == before
    assert digest_of(copied, "e1") == before
    code = "import sys; from spanflow.query.proof import digest_of; print(digest_of(*sys.argv[1:]))"
    told = subprocess.run(
        [sys.executable, "-c", code, str(copied), "e1"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == before


def test_neither_repetition_nor_purging_of_others_nor_order_changes_a_digest(ledger, make):
    journal = Journal(ledger)
    for one in [*journey(make), *journey(make, "e2", 1_001)]:
        journal.append(one)
    journal.seal()
    refresh(ledger)
    before = digest_of(ledger, "e1")
    for one in reversed(journey(make)):
        journal.append(one)
    journal.seal()
    refresh(ledger)
    assert digest_of(ledger, "e1") == before
    forget(ledger, engagement_id="e2")
    assert digest_of(ledger, "e1") == before
    journal.close()


def test_what_comes_late_extends(ledger, make):
    make.write(ledger, journey(make))
    refresh(ledger)
    before = digest_of(ledger, "e1")
    same = {"engagement_id": "e1", "trace": 1}
    # Another's report of a call there is: it changes which one counts, and no fact of either.
    make.write(ledger, [make.llm(30, 3, (5, 6), turn=1, scope="third", response_id="r", **same)])
    assert verdict_on(ledger, "e1", before) == "extended"
    after = digest_of(ledger, "e1")
    make.write(ledger, [make.turn(90, at=200, graph_version="g2", **same)])
    assert verdict_on(ledger, "e1", before) == verdict_on(ledger, "e1", after) == "extended"
    after = digest_of(ledger, "e1")
    make.write(ledger, [GRAPH | {"graph_version": "g2"}])
    assert verdict_on(ledger, "e1", after) == "extended"


def test_what_began_may_end_or_be_cut_off_and_nothing_else(ledger, make):
    journal = Journal(ledger)
    journal.append(make.turn(phase="start", user_id="u"))
    journal.append(make.step(2, "a", phase="start"))
    journal.seal()
    refresh(ledger)
    begun = digest_of(ledger, "e1")
    journal.close()
    refresh(ledger)
    cut_off = digest_of(ledger, "e1")
    assert verdict_on(ledger, "e1", begun) == "extended"
    make.write(ledger, [make.step(2, "a", until=5, attributes={"n": 1}), make.turn(until=9)])
    refresh(ledger)
    assert verdict_on(ledger, "e1", begun) == verdict_on(ledger, "e1", cut_off) == "extended"
    ended = digest_of(ledger, "e1")
    make.write(ledger, [make.step(2, "a", until=5, source="exporter", agent_name="late")])
    refresh(ledger)
    assert verdict_on(ledger, "e1", ended) == "altered", "a fact was added to a span that had ended"


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE records SET metadata = \'{"n":1,"tier":"golf"}\' WHERE metadata IS NOT NULL',
        "UPDATE records SET input_tokens = 7 WHERE input_tokens = 5",
        "UPDATE records SET attributes = '{\"n\":1.5,\"m\":0}' WHERE kind = 'span'",
        "UPDATE records SET error_message = 'x' WHERE kind = 'tool'",
        "UPDATE records SET engagement_id = 'e2', turn_id = '00000000000003e9' WHERE kind = 'span'",
        "UPDATE records SET turn_id = NULL, engagement_id = NULL WHERE kind = 'tool'",
        "DELETE FROM records WHERE kind = 'tool'",
        "INSERT INTO records FROM records WHERE kind = 'tool'",
        "INSERT INTO records SELECT * REPLACE ('x' AS turn_id) FROM records WHERE kind = 'step'",
        "UPDATE records SET counted = NOT counted WHERE kind = 'llm'",
        "UPDATE records SET cost_usd = 1e300 WHERE kind = 'llm'",
        "UPDATE records SET used_input_tokens = 50 WHERE kind = 'step'",
        "UPDATE records SET step_name = 'other' WHERE kind = 'tool'",
        "UPDATE records SET errors = errors + 1 WHERE kind = 'step'",
        "UPDATE records SET at_ns = at_ns + 1 WHERE kind = 'tool'",
        "UPDATE records SET events = '{}' WHERE kind = 'step'",
        "UPDATE turn_facts SET outcome = 'failed'",
        "UPDATE turn_facts SET total_tokens = 1",
        "UPDATE turn_facts SET engagement_id = 'e2'",
        "INSERT INTO turn_facts FROM turn_facts",
        "DELETE FROM turn_facts",
        "UPDATE engagement_facts SET user_id = 'somebody'",
        "DELETE FROM engagement_facts",
        "UPDATE graph_versions SET nodes = '[]'",
        "DELETE FROM graph_versions",
        "INSERT INTO graph_versions FROM graph_versions",
    ],
)
def test_every_alteration_is_seen(copied, statement):
    before = digest_of(copied, "e1")
    assert tamper(copied, statement) > 0
    assert verdict_on(copied, "e1", before) == "altered"


def test_a_process_that_is_no_longer_gone_is_an_alteration(copied):
    before = digest_of(copied, "e3")
    assert tamper(copied, "DELETE FROM processes") == 1
    assert verdict_on(copied, "e3", before) == "altered"


@SETTINGS
@given(data=st.data())
def test_any_cell_that_is_changed_is_seen(recorded, digested, tmp_path, data):
    file = shutil.copy(recorded, tmp_path / "traces.duckdb")
    table = data.draw(st.sampled_from(["records", "turn_facts", "engagement_facts"]))
    with duckdb.connect(str(file)) as connection:
        columns = connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $1 "
            "AND column_name <> 'revision'",
            [table],
        ).fetchall()
        name, kind = data.draw(st.sampled_from(columns))
        rows = connection.execute(
            f"SELECT rowid, {name} FROM {table} WHERE engagement_id = 'e1'"
        ).fetchall()
        row_id, value = data.draw(st.sampled_from(rows))
        new = data.draw(VALUES[kind].filter(lambda drawn: drawn != value))
        connection.execute(f"UPDATE {table} SET {name} = $1 WHERE rowid = $2", [new, row_id])
    assert verdict_on(file, "e1", digested) == "altered", (table, name, value, new)


VALUES = {
    "VARCHAR": st.sampled_from(["", "x", "e2"]),
    "JSON": st.sampled_from(["null", "[]", "{}", '["x"]']),
    "BIGINT": st.integers(-3, 2**62),
    "DOUBLE": st.floats(allow_nan=False, width=32),
    "BOOLEAN": st.booleans(),
}


LATE = st.lists(
    st.tuples(
        st.sampled_from(["step", "llm", "tool", "span", "turn"]),
        st.integers(200, 260),
        st.sampled_from([1, 51, 300]),
        st.integers(-10, 500),
        st.sampled_from([None, 2, 3, 52]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda drawn: drawn[1],
)


# Several journeys in each ledger: it is the ingests that take time.
@settings(SETTINGS, max_examples=4)
@given(several=st.lists(LATE, min_size=4, max_size=6))
def test_whatever_comes_late_extends(make, tmp_path, several):
    folder = tmp_path / os.urandom(8).hex()
    ledger = folder / "traces.duckdb"
    firsts = {f"e{nth}": nth * 1_000 for nth in range(len(several))}
    for engagement, first in firsts.items():
        make.write(ledger, journey(make, engagement, first + 1))
    refresh(ledger)
    before = {engagement: digest_of(ledger, engagement) for engagement in firsts}
    for (engagement, first), late in zip(firsts.items(), several, strict=True):
        same = {"engagement_id": engagement, "trace": first + 1}
        records = [
            make.turn(first + span, at=at, **same)
            if kind == "turn"
            else make.record(
                kind,
                first + span,
                turn=first + turn,
                at=at,
                step_id=step and first + step,
                status="ok",
                input_tokens=3,
                **same,
            )
            for kind, span, turn, at, step in late
        ]
        make.write(ledger, records)
    refresh(ledger)
    verdicts = {one: verdict_on(ledger, one, digest) for one, digest in before.items()}
    assert verdicts == dict.fromkeys(firsts, "extended")


def test_columns_that_a_later_version_adds_change_no_digest(copied, monkeypatch):
    before = digest_of(copied, "e1")
    later = "ALTER TABLE records ADD COLUMN colour VARCHAR"
    with duckdb.connect(str(copied)) as connection:
        connection.execute(later)
    monkeypatch.setitem(FIELDS, "colour", "VARCHAR")
    monkeypatch.setattr(recount, "migrations", lambda: (*migrations(), ("9999_later.sql", later)))
    assert digest_of(copied, "e1") == before
    tamper(copied, "UPDATE records SET colour = 'red' WHERE kind = 'tool'")
    assert verdict_on(copied, "e1", before) == "altered"


def test_a_later_form_still_verifies_a_digest_of_the_first(copied, monkeypatch):
    before = digest_of(copied, "e1")
    second = forms.Form(leaf=lambda *_: b"2" * 16, begun=lambda *_: b"3" * 16)
    monkeypatch.setitem(forms.FORMS, 2, second)
    monkeypatch.setattr("spanflow.query.proof.CURRENT", 2)
    assert digest_of(copied, "e1").startswith("spanflow-digest-2:")
    assert verdict_on(copied, "e1", before) == "same"
    tamper(copied, "UPDATE records SET name = 'x' WHERE kind = 'tool'")
    assert verdict_on(copied, "e1", before) == "altered"


def test_a_question_that_makes_no_sense_is_answered_with_the_next_step(copied):
    with pytest.raises(LedgerError, match="no engagement nobody"):
        digest_of(copied, "nobody")
    with pytest.raises(LedgerError, match="of e1, not of e2"):
        verdict_on(copied, "e2", digest_of(copied, "e1"))
