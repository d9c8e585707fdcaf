"""What names a step or an engagement that is not there: dropped and counted, and nobody is hurt."""

from __future__ import annotations

import pytest

import spanflow
from spanflow import guard

TELL = {
    "log": lambda **at: spanflow.log("x", **at),
    "error": lambda **at: spanflow.error(ValueError("x"), **at),
    "extraction": lambda **at: spanflow.extraction("S", {}, **at),
    "tool_call": lambda **at: spanflow.tool_call("t", result=1, **at),
    "llm_call": lambda **at: spanflow.llm_call("m", input_tokens=1, **at),
    "pause": lambda **at: spanflow.pause("x", **at),
}
WRONG = [{"step_id": "00000000000000aa"}, {"step_id": ""}, {"engagement_id": "nobody's"}]


@pytest.mark.parametrize("function", TELL)
@pytest.mark.parametrize("at", WRONG)
def test_what_is_told_of_nobody_is_dropped_and_counted(flow, function, at):
    with spanflow.engagement("search", user_id="ada"), spanflow.step("look"):
        TELL[function](**at)
    assert guard.counts() == {f"api.{function}": 1}
    assert flow.sql("SELECT status, turns, steps, errors, llm_calls FROM engagements") == [
        ("completed", 1, 1, 0, 0)
    ]
    assert flow.sql("SELECT count(*) FROM events") == [(0,)]
    assert flow.sql("SELECT count(*) FROM tool_calls") == [(0,)]
    assert flow.sql("SELECT reached FROM funnel(['look'])") == [(1,)]
    assert flow.sql("SELECT * FROM retention()")


def test_a_step_that_has_ended_is_there_no_more(flow):
    with spanflow.engagement("search"):
        with spanflow.step("look") as step:
            pass
        spanflow.log("late", step_id=step.step_id)
    assert guard.counts() == {"api.log": 1}
    assert flow.sql("SELECT count(*) FROM events") == [(0,)]
