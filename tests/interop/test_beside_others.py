"""A graph beside others who report its calls: tokens count once and steps stay right."""

from __future__ import annotations

from collections import defaultdict

import pytest
from instrumentors import GRAPH

BESIDE = GRAPH
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]

TOKENS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "reasoning_tokens",
)


def test_the_others_were_there(outcome):
    beside, _, ledger = outcome
    scopes = ledger.sql("SELECT DISTINCT scope FROM records WHERE kind = 'llm'").fetchall()
    assert {scope for (scope,) in scopes} == beside.scopes


def test_steps_stay_right(outcome):
    _, books, ledger = outcome
    found = defaultdict(dict)
    rows = ledger.sql(
        """
        SELECT engagements.name, path, count(*), bool_and(steps.status = 'completed')
        FROM steps JOIN engagements USING (engagement_id) GROUP BY ALL
        """
    )
    for run, path, times, completed in rows.fetchall():
        assert completed, (run, path)
        found[run][path] = times
    assert found == {run: book["steps"] for run, book in books.items()}


def test_a_retried_step_is_one_step_of_two_attempts(outcome):
    _, books, ledger = outcome
    attempts = ledger.sql("SELECT attempts FROM steps WHERE path = 'plan'").fetchall()
    assert attempts == [(2,)] * len(books)


def test_tokens_count_once_where_they_were_spent(outcome):
    beside, books, ledger = outcome
    kept = [field for field in TOKENS if field not in beside.unreported]
    sums = ", ".join(f"coalesce(sum(llm_calls.{field}), 0)" for field in kept)
    rows = ledger.sql(
        f"""
        SELECT engagements.name, path, count(*), {sums}
        FROM llm_calls
        JOIN steps USING (step_id)
        JOIN engagements ON engagements.engagement_id = steps.engagement_id
        WHERE counted GROUP BY ALL
        """
    ).fetchall()
    found = defaultdict(dict)
    for run, path, calls, *tokens in rows:
        found[run][path] = (calls, *map(int, tokens))
    assert found == {
        run: {
            path: (book["calls"][path], *(spent.get(field, 0) for field in kept))
            for path, spent in book["tokens"].items()
        }
        for run, book in books.items()
    }


def test_totals_of_engagements_and_steps_agree_with_the_app(outcome):
    _, books, ledger = outcome
    rows = ledger.sql(
        """
        SELECT name, input_tokens, output_tokens, total_tokens, llm_calls, tool_calls,
               calls_without_usage
        FROM engagements
        """
    ).fetchall()
    assert {run: numbers for run, *numbers in rows} == {
        run: [
            *(sum(spent[field] for spent in book["tokens"].values()) for field in TOKENS[:3]),
            sum(book["calls"].values()),
            book["tools"],
            0,
        ]
        for run, book in books.items()
    }
    nested = ledger.sql("SELECT DISTINCT total_tokens FROM steps WHERE path = 'check'").fetchall()
    assert nested == [(10,)]


def test_calls_know_their_model(outcome):
    _, _, ledger = outcome
    assert ledger.sql("SELECT DISTINCT model FROM llm_calls").fetchall() == [("gpt-4o-mini",)]


def test_nothing_that_was_said_is_kept_unless_asked_for(outcome):
    _, _, ledger = outcome
    rows = ledger.sql("SELECT * FROM records").fetchall()
    assert rows
    assert not [row for row in rows if "shall we live" in str(row) or "Shibuya" in str(row)]


def test_spans_ledger_and_frameworks_agree(outcome):
    beside, _, ledger = outcome
    reasons = ledger.sql("SELECT DISTINCT reason FROM usage_conflicts").fetchall()
    assert {reason for (reason,) in reasons} <= beside.conflicts
