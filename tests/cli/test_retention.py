"""`spanflow purge` and `spanflow forget`, as a person types them."""

from __future__ import annotations

import io
import json
import sys

import pytest

from spanflow.query.journeys import connect


@pytest.fixture
def typing(monkeypatch):
    """Sit at a terminal and type an answer."""

    def typed(answer: str) -> None:
        stdin = io.StringIO(f"{answer}\n")
        stdin.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", stdin)

    return typed


def ids(ledger) -> set[str]:
    with connect(ledger) as opened:
        return {one.engagement_id for one in opened.engagements()}


def test_purge_tells_what_would_go_and_what_went(spanflow, ledger):
    before = ids(ledger)
    told = spanflow("purge", "--older-than", "0s", "--dry-run", "--ledger", ledger)
    assert (told.code, told.err) == (0, "")
    assert "would go" in told.lines[0]
    assert ids(ledger) == before
    dry = json.loads(
        spanflow("purge", "--older-than", "0s", "--dry-run", "--json", "--ledger", ledger).out
    )
    assert dry["dry_run"] is True
    assert 0 < len(dry["engagements"]) < len(before)
    done = spanflow("purge", "--older-than", "0s", "--ledger", ledger)
    assert done.code == 0
    assert done.lines[0].endswith("erased.")
    assert all(engagement_id in done.out for engagement_id in dry["engagements"])
    assert "MB" in done.lines[-1]
    assert max(map(len, done.lines)) <= 80
    assert ids(ledger) == before - set(dry["engagements"])


@pytest.mark.parametrize("window", ["soon", "-3d"])
def test_a_wrong_window_is_told_in_one_line(spanflow, ledger, window):
    told = spanflow("purge", "--older-than", window, "--ledger", ledger)
    assert told.code == 1
    assert told.out == ""
    assert "90" in told.err


def test_a_window_must_be_given(spanflow, ledger):
    assert spanflow("purge", "--ledger", ledger).code == 2


def test_forget_asks_at_a_terminal(spanflow, ledger, typing):
    with connect(ledger) as opened:
        [one, *_] = opened.engagements()
    typing("n")
    refused = spanflow("forget", "--engagement", one.engagement_id, "--ledger", ledger)
    assert refused.code == 1
    assert "for good?" in refused.err
    assert one.engagement_id in ids(ledger)
    typing("y")
    assert spanflow("forget", "--engagement", one.engagement_id, "--ledger", ledger).code == 0
    assert one.engagement_id not in ids(ledger)


def test_forget_does_not_ask_where_nobody_can_answer_or_was_told_not_to(spanflow, ledger, typing):
    first, second, *_ = sorted(ids(ledger))
    told = spanflow("forget", "--engagement", first[:-1], "--ledger", ledger)
    assert (told.code, told.err) == (0, "")
    typing("n")
    assert spanflow("forget", "--engagement", second, "--yes", "--ledger", ledger).code == 0
    assert not {first, second} & ids(ledger)


def test_forget_a_user(spanflow, ledger):
    with connect(ledger) as opened:
        users = {one.user_id: one.engagement_id for one in opened.engagements() if one.user_id}
    user, engagement_id = next(iter(users.items()))
    told = json.loads(spanflow("forget", "--user", user, "--json", "--ledger", ledger).out)
    assert engagement_id in told["engagements"]
    assert engagement_id not in ids(ledger)
    again = spanflow("forget", "--user", user, "--ledger", ledger)
    assert (again.code, again.lines[0]) == (0, "0 engagements, 0 spans erased.")


def test_forget_needs_one_name(spanflow, ledger):
    assert spanflow("forget", "--ledger", ledger).code == 2
    both = ("--user", "u", "--engagement", "e")
    assert spanflow("forget", *both, "--ledger", ledger).code == 2
    told = spanflow("forget", "--engagement", "nobody", "--ledger", ledger)
    assert told.code == 1
    assert "nobody" in told.err


def test_a_ledger_forgets_what_it_shows(ledger):
    """The object in hand must not go on showing what was erased."""
    with connect(ledger) as opened:
        [one, *_] = opened.engagements()
        digest = opened.digest(one.engagement_id)
        assert opened.verify(one.engagement_id, digest) == "same"
        assert opened.forget(engagement_id=one.engagement_id).engagements == (one.engagement_id,)
        assert one.engagement_id not in {other.engagement_id for other in opened.engagements()}
        assert opened.purge("90d", dry_run=True).dry_run
