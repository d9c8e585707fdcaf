"""Numbers with units, and text that cannot break the screen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow.cli import terminal


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, "–"),
        (0, "0.0 ms"),
        (9.94, "9.9 ms"),
        (12.4, "12 ms"),
        (1_000, "1.0 s"),
        (90_000, "1.5 min"),
        (5_400_000, "1.5 h"),
        (129_600_000, "1.5 d"),
    ],
)
def test_durations_are_told_in_the_unit_a_person_would_use(ms, said):
    assert terminal.duration(ms) == said


@pytest.mark.parametrize(
    ("usd", "said"),
    [(None, "–"), (0.0, "$0.00"), (0.00042, "$0.0004"), (1.5, "$1.50"), (1234.5, "$1,234.50")],
)
def test_small_sums_keep_four_digits(usd, said):
    assert terminal.cost(usd) == said


@pytest.mark.parametrize(
    ("engagement_id", "short"),
    [
        ("01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e", "4f1c09d2ab7e"),
        ("order-42", "order-42"),
        ("an-id-somebody-gave", "an-id-somebo"),
    ],
)
def test_short_ids_are_the_end_of_a_uuid_and_the_beginning_of_others(engagement_id, short):
    assert terminal.short_id(engagement_id) == short
    assert engagement_id.startswith(short) or engagement_id.endswith(short)


@given(st.text())
def test_nothing_shown_can_move_the_cursor(value):
    shown = terminal.plain(value)
    kinds = {unicodedata.category(character) for character in shown if character != "\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(shown) == len(value)
