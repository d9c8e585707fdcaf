"""A graph that calls a provider's client, beside instrumentors of the client and the framework."""

from __future__ import annotations

import pytest
from instrumentors import PROVIDER

BESIDE = PROVIDER
pytestmark = [pytest.mark.interop, pytest.mark.timeout(900)]


def test_everybody_expected_reported_calls(outcome):
    beside, _, ledger = outcome
    found = ledger.sql("SELECT DISTINCT scope FROM records WHERE kind = 'llm'").fetchall()
    assert {scope for (scope,) in found} == beside.scopes


def test_what_the_provider_answered_counts_once(outcome):
    _, books, ledger = outcome
    rows = ledger.sql(
        """
        SELECT engagements.name, count(*), sum(llm_calls.input_tokens), sum(llm_calls.output_tokens)
        FROM llm_calls
        JOIN steps USING (step_id)
        JOIN engagements ON engagements.engagement_id = steps.engagement_id
        WHERE counted AND path = 'ask' GROUP BY ALL
        """
    ).fetchall()
    assert {run: numbers for run, *numbers in rows} == {
        run: [book["calls"], book["input_tokens"], book["output_tokens"]]
        for run, book in books.items()
    }


def test_totals_of_engagements_agree_with_the_provider(outcome):
    _, books, ledger = outcome
    rows = ledger.sql("SELECT name, llm_calls, input_tokens, output_tokens FROM engagements")
    assert {run: numbers for run, *numbers in rows.fetchall()} == {
        run: [book["calls"], book["input_tokens"], book["output_tokens"]]
        for run, book in books.items()
    }


def test_what_does_not_count_says_why(outcome):
    _, _, ledger = outcome
    rows = ledger.sql("SELECT DISTINCT not_counted_because FROM llm_calls WHERE NOT counted")
    assert {because for (because,) in rows.fetchall()} <= {"nested", "duplicate"}


def test_spans_ledger_and_frameworks_agree(outcome):
    beside, _, ledger = outcome
    reasons = ledger.sql("SELECT DISTINCT reason FROM usage_conflicts").fetchall()
    assert {reason for (reason,) in reasons} <= beside.conflicts
