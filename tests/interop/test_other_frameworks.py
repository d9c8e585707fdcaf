"""Agents of other frameworks, told by other people's spans alone: the ledger agrees with them."""

from __future__ import annotations

from collections import defaultdict

import pytest
from instrumentors import AGENTS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=AGENTS, ids=lambda beside: beside.name)
def outcome(request, run_beside):
    """The app's own books, and the ledger."""
    return run_beside(request.param)


def test_each_run_is_an_engagement(outcome):
    books, ledger = outcome
    rows = ledger.sql("SELECT name, status, turns FROM engagements").fetchall()
    assert sorted(rows) == sorted((run, book["status"], 1) for run, book in books.items())


def test_each_agent_is_a_step_in_its_place(outcome):
    books, ledger = outcome
    found = defaultdict(dict)
    rows = ledger.sql(
        """
        SELECT engagements.name, steps.path, steps.status, steps.agent_name
        FROM steps JOIN engagements USING (engagement_id)
        """
    )
    for run, path, status, agent in rows.fetchall():
        assert path not in found[run]
        assert agent == path.rpartition("/")[2]
        found[run][path] = status
    assert found == {run: book["steps"] for run, book in books.items()}


def test_inner_agents_stand_inside_outer_ones(outcome):
    _, ledger = outcome
    wrong = ledger.sql(
        """
        SELECT i.path, o.path
        FROM steps i LEFT JOIN steps o ON o.step_id = i.parent_step_id
        WHERE i.path != concat_ws('/', o.path, i.name)
        """
    )
    assert wrong.fetchall() == []


def test_calls_count_once_where_they_were_made(outcome):
    books, ledger = outcome
    rows = ledger.sql(
        """
        SELECT engagements.name, steps.path, called.*
        FROM (
            SELECT step_id, count(*), sum(input_tokens), sum(output_tokens), 0
            FROM llm_calls WHERE counted GROUP BY ALL
            UNION ALL
            SELECT step_id, 0, NULL, NULL, count(*) FROM tool_calls GROUP BY ALL
        ) called(step_id, llm_calls, input_tokens, output_tokens, tool_calls)
        LEFT JOIN steps USING (step_id)
        LEFT JOIN engagements USING (engagement_id)
        """
    )
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for run, path, _, *numbers in rows.fetchall():
        kinds = ("llm_calls", "input_tokens", "output_tokens", "tool_calls")
        for kind, number in zip(kinds, numbers, strict=True):
            if number:
                found[run][path][kind] += int(number)
    assert found == {run: book["spent"] for run, book in books.items()}


def test_totals_of_engagements_agree_with_the_app(outcome):
    books, ledger = outcome
    kinds = ("llm_calls", "tool_calls", "input_tokens", "output_tokens")
    rows = ledger.sql(f"SELECT name, {', '.join(kinds)} FROM engagements").fetchall()
    assert {run: [number or 0 for number in numbers] for run, *numbers in rows} == {
        run: [sum(spent.get(kind, 0) for spent in book["spent"].values()) for kind in kinds]
        for run, book in books.items()
    }


def test_a_failure_says_what_it_was(outcome):
    _, ledger = outcome
    rows = ledger.sql(
        "SELECT error_type, error_message LIKE 'no way%' FROM steps WHERE status = 'failed'"
    )
    assert rows.fetchall() == [("LookupError", True)]
    assert ledger.sql("SELECT sum(errors)::INT FROM engagements").fetchall() == [(1,)]


def test_nothing_that_was_said_is_kept_unless_asked_for(outcome):
    _, ledger = outcome
    rows = ledger.sql("SELECT * EXCLUDE (error_message, events) FROM records").fetchall()
    assert rows
    assert not [row for row in rows if "of the moat" in str(row) or "Shibuya" in str(row)]


def test_spans_and_ledger_agree(outcome):
    _, ledger = outcome
    # A tool that is cancelled ends after the agent that called it; a failed call spent who knows.
    reasons = ledger.sql("SELECT DISTINCT reason FROM usage_conflicts").fetchall()
    assert {reason for (reason,) in reasons} <= {"late_span", "missing_usage"}
