"""`spanflow audit`, as a person or a nightly job runs it."""

from __future__ import annotations

import json

import duckdb
import pytest

from spanflow.ledger.audit import default_log
from spanflow.ledger.places import Places


@pytest.fixture
def audited(spanflow, ledger):
    told = spanflow("audit", "--ledger", ledger)
    assert (told.code, told.err) == (0, "")
    assert "added; the log knows" in told.lines[0]
    return ledger


def test_audit_and_verify_and_anchor_agree(spanflow, audited):
    head = spanflow("audit", "--anchor", "--ledger", audited).out.strip()
    assert len(head) == 64
    told = spanflow("audit", "--verify", "--head", head, "--ledger", audited)
    assert told.code == 0
    assert "same" in told.lines[0]
    assert told.lines[-1] == f"head {head}"
    found = json.loads(spanflow("audit", "--verify", "--json", "--ledger", audited).out)
    assert (found["head"], found["is_clean"], found["broken"]) == (head, True, [])
    assert json.loads(spanflow("audit", "--json", "--ledger", audited).out)["written"] == 0


def test_an_alteration_fails_the_check(spanflow, audited):
    [engagement_id, *_] = json.loads(
        spanflow("audit", "--verify", "--json", "--ledger", audited).out
    )["engagements"]
    with duckdb.connect(str(Places.of(audited).store)) as connection:
        connection.execute(
            "UPDATE records SET name = 'x' WHERE engagement_id = $1", [engagement_id]
        )
        connection.execute("UPDATE meta SET revision = revision + 1")
    told = spanflow("audit", "--verify", "--ledger", audited)
    assert told.code == 1
    assert f"altered   {engagement_id}" in told.lines
    as_json = spanflow("audit", "--verify", "--json", "--ledger", audited)
    assert as_json.code == 1
    assert json.loads(as_json.out)["engagements"][engagement_id] == "altered"


def test_a_broken_log_fails_the_check(spanflow, audited):
    log = default_log(audited)
    log.write_bytes(log.read_bytes().replace(b'"new"', b'"old"', 1))
    told = spanflow("audit", "--verify", "--ledger", audited)
    assert (told.code, told.lines[0]) == (1, "Line 1 was edited.")
    assert spanflow("audit", "--anchor", "--ledger", audited).code == 1
    cut = spanflow("audit", "--verify", "--head", "f" * 64, "--ledger", audited)
    assert cut.code == 1


def test_the_log_may_lie_elsewhere(spanflow, ledger, tmp_path):
    log = tmp_path / "elsewhere.ndjson"
    assert spanflow("audit", "--log", log, "--ledger", ledger).code == 0
    assert log.exists()
    assert not default_log(ledger).exists()
    assert spanflow("audit", "--verify", "--log", log, "--ledger", ledger).code == 0
    told = spanflow("audit", "--verify", "--ledger", ledger)
    assert told.code == 1
    assert "no audit log" in told.err


@pytest.mark.parametrize("options", [("--anchor", "--verify"), ("--head", "f" * 64)])
def test_options_that_make_no_sense_together_are_told(spanflow, ledger, options):
    assert spanflow("audit", *options, "--ledger", ledger).code == 2
