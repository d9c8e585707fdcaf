"""`spanflow funnel`: what a person sees in 80 columns, and what helps who mistypes a step."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len

AT = ("--as-of", "2026-11-18T12:00")


def lines(answer):
    return [line.rstrip() for line in answer.lines]


def test_a_funnel_fits_80_columns(spanflow, ledger):
    answer = spanflow("funnel", "intake", "search", "confirm", "検索🔍[/]", "--ledger", ledger, *AT)
    assert (answer.code, answer.err) == (0, "")
    assert lines(answer) == [
        "step                     reached  active  failed  dropped  kept  to next  tokens",
        "intake     ████████████        2       1       0        0  100%    50.0%      40",
        "search     ██████              1       0       0        0  100%     100%      84",
        "confirm    ██████              1       0       0        0  100%       0%       0",
        "検索🔍[/]  ██████              1       0       1        0     –        –       2",
    ]
    assert max(map(cell_len, answer.lines)) <= 80


def test_without_steps_it_is_the_path_that_most_completed_took(spanflow, ledger):
    answer = spanflow("funnel", "--ledger", ledger, *AT)
    assert [line.split()[0] for line in answer.lines[1:]] == [
        "intake",
        "search",
        "confirm",
        "submitted",
    ]
    assert answer.err == "The usual path: spanflow funnel intake search confirm submitted\n"


def test_without_any_step_it_says_where_to_look(spanflow, ledger):
    answer = spanflow("funnel", "--ledger", ledger, "--user", "nobody")
    assert answer.code == 1
    assert "No steps were recorded" in answer.err
    assert "`spanflow ls`" in answer.err


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("confrim", "Nobody ever reached 'confrim'. Did you mean confirm?"),
        ("lookup", "Nobody ever reached 'lookup'. Did you mean search/look_up?"),
        ("zzz", "Nobody ever reached 'zzz'. Steps there are: confirm, intake, search, "),
    ],
)
def test_a_step_that_nobody_ever_reached_is_told_with_what_there_is(spanflow, ledger, step, said):
    answer = spanflow("funnel", "intake", step, "--ledger", ledger)
    assert answer.code == 0
    assert answer.err.startswith(said)
    assert answer.lines[2].split()[:2] == [step, "0"]


def test_a_step_that_only_others_reached_is_no_mistake(spanflow, ledger):
    answer = spanflow("funnel", "confirm", "--where", 'tries="1"', "--ledger", ledger)
    assert (answer.err, answer.lines[1].split()[:2]) == ("", ["confirm", "0"])


def test_order_and_window_and_silence_are_given_on(spanflow, ledger):
    def reached(*options):
        answer = spanflow(
            "funnel", "confirm", "intake", "--json", "--ledger", ledger, *options, *AT
        )
        return [row["reached"] for row in json.loads(answer.out)]

    assert reached() == [1, 2]
    assert reached("--ordered") == [1, 0]
    assert reached("--within", "1h") == [1, 0]
    backwards = spanflow(
        *("funnel", "intake", "submitted", "--within", "1m", "--json", "--ledger", ledger), *AT
    )
    assert [row["reached"] for row in json.loads(backwards.out)] == [2, 0]
    longer = spanflow(
        *("funnel", "intake", "submitted", "--within", "10m", "--json", "--ledger", ledger), *AT
    )
    assert [row["reached"] for row in json.loads(longer.out)] == [2, 1]


def test_a_wrong_window_is_told(spanflow, ledger):
    answer = spanflow("funnel", "intake", "--within", "soon", "--ledger", ledger)
    assert answer.code == 2
    assert "'soon' is no duration; write it like" in " ".join(answer.err.split())
