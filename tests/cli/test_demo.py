"""The demo: a real crowd through the real capture path, and a comparison that can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from spanflow.cli.crowd import User, Visit, crowd
from spanflow.cli.demo import load_example, simulate
from spanflow.cli.recorded import found_in
from spanflow.cli.truth import differences, expected
from spanflow.query.journeys import connect

if TYPE_CHECKING:
    from pathlib import Path

USERS = 12


def demo(folder: Path, *arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    program = f"{prelude}\nfrom spanflow.cli import main; main()"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "SPANFLOW_"))
    }
    return subprocess.run(
        [sys.executable, "-c", program, "demo", "--users", str(USERS), *arguments],
        cwd=folder,
        env={**inherited, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder)


def test_the_ledger_agrees_with_the_truth_in_every_cell(shown):
    _, done = shown
    assert done.returncode == 0, done.stderr
    assert (
        f"Every number agrees with what the {USERS} users and their agent really did."
        in done.stdout
    )


def test_it_prints_statuses_steps_and_tokens_in_80_columns(shown):
    _, done = shown
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for beginning in (
        "status ",
        "completed ",
        "step ",
        "intake ",
        "submitted ",
        "model ",
        "desk-large",
    ):
        assert any(line.startswith(beginning) for line in lines), beginning


def test_its_ledger_can_be_looked_at(shown):
    folder, _ = shown
    with connect(folder / "traces.duckdb") as ledger:
        found = ledger.engagements(limit=None)
        assert len(found) == USERS
        assert {one.name for one in found} == {"booking"}


def test_a_second_run_into_the_same_ledger_agrees_too(shown):
    folder, _ = shown
    done = demo(folder, "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["users"], told["differences"]) == (USERS, [])
    assert sum(row["now"] for row in told["statuses"]) == USERS
    assert done.stderr == ""


def test_a_tampered_truth_fails_and_names_the_cell(tmp_path):
    # The agent's log claims one more token for every reply than its models reported.
    tamper = """
import spanflow.cli.crowd as crowd
def emit(self, record, really=crowd.Witness.emit):
    if record.booking["did"] == "reply":
        record.booking["input_tokens"] += 1
    really(self, record)
crowd.Witness.emit = emit
"""
    done = demo(tmp_path, prelude=tamper)
    assert done.returncode == 1
    assert "user-0001: engagement: input_tokens is " in done.stderr
    assert "The ledger differs from the truth in " in done.stderr
    assert "Every number agrees" not in done.stdout


def test_every_kind_of_ending_is_in_the_default_crowd():
    users = list(crowd(200, 7))
    assert any(user.closes_tab for user in users)
    assert any(user.greets_first and not user.answers_question for user in users)
    assert any(not user.answers for user in users)
    assert any(user.by_async for user in users)
    assert any("human" in user.request for user in users)


def test_a_crowd_is_the_same_again_for_the_same_seed():
    assert list(crowd(20, 7)) == list(crowd(20, 7))
    assert list(crowd(20, 7)) != list(crowd(20, 8))


def test_truth_is_the_same_again_for_the_same_seed():
    example = load_example()
    first, second = (
        [expected(visit) for visit in simulate(example, "s", users=6, seed=1, quiet=True)]
        for _ in range(2)
    )
    assert first == second


def test_differences_name_what_is_wrong_missing_and_too_much():
    about = ("engagement", "status")
    assert differences("u", {about: "paused"}, {about: "paused"}) == []
    assert differences("u", {about: "paused"}, {about: "failed"}) == [
        "u: engagement: status is 'failed', not 'paused'"
    ]
    assert differences("u", {about: 1}, {}) == ["u: engagement: status is 'missing', not 1"]
    assert differences("u", {}, {about: 1}) == ["u: engagement: status is 1, not 'missing'"]


def test_a_user_the_ledger_does_not_know_differs_in_every_cell(ledger):
    user = User(
        name="nobody",
        tier="free",
        request="A room in Ueno, 1 nights, up to 9000 yen.",
        greets_first=False,
        answers_question=True,
        closes_tab=False,
        answers=(),
        retries=0,
        says_thanks=False,
        trouble=0,
        by_async=False,
    )
    visit = Visit(user, [{"did": "ended", "name": "paused", "kind": "new"}])
    wanted = expected(visit)
    with connect(ledger) as opened:
        found = found_in(opened, "no such session")
    assert found == {}
    assert len(differences("nobody", wanted, found.get("nobody", {}))) == len(wanted)
