"""Processes killed at any moment: whatever had ended is there once, whatever had begun is known."""

from __future__ import annotations

import kills
import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_kills_of_writers_and_ingesters_lose_and_double_nothing(ledger):
    outcome = kills.run(ledger, 110)
    assert outcome.kills >= 100
    assert (outcome.lost, outcome.doubled, outcome.wrong) == ([], 0, [])
    assert outcome.promised > 1000
    assert outcome.interrupted > 20, "the kills must meet engagements that are open"
    assert outcome.reader_errors == []
    assert outcome.publications > 0
    assert outcome.reads > 0, "while all this goes on"
