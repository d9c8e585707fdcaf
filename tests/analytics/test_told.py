"""Questions whose answers are known by heart, and questions that are refused."""

from __future__ import annotations

import json

import duckdb
import pytest

FIVE = ["intake", "selection", "comparison", "application", "submitted"]
J = {
    "e1": ("u1", FIVE),
    "e2": ("u2", ["intake", "selection", "application", "submitted"]),
    "e3": ("u3", ["intake", "selection"]),
    "e4": ("u1", ["intake"]),
}


def journey(make, number, engagement, steps, **fields):
    """Return the records of one turn through some steps, 5 ms and 15 tokens each."""
    about = {"engagement_id": engagement, "trace": number}
    until = len(steps) * 5
    yield make.turn(number, until=until, goals=["submitted"], **about, **fields)
    for nth, name in enumerate(steps):
        span = number + 2 * nth + 1
        given = {"turn": number, "at": nth * 5, **about}
        goal = {"goal": name} if name == "submitted" else {}
        yield make.step(span, name, until=nth * 5 + 5, superstep=nth, **given, **goal)
        yield make.llm(span + 1, span, (10, 5), total_tokens=15, cost_usd=0.25, **given)


@pytest.fixture
def told(ledger, make):
    for nth, (engagement, (user, steps)) in enumerate(J.items()):
        make.write(
            ledger,
            [*journey(make, nth * 100 + 1, engagement, steps, user_id=user, session_id="s")],
        )
    return lambda question: make.ask(ledger, f"FROM {question}")


def of(rows, name):
    return [row[name] for row in rows]


def test_four_journeys_through_five_steps(told):
    rows = told(f"funnel({FIVE})")
    assert of(rows, "step") == FIVE
    assert of(rows, "reached") == [4, 3, 1, 2, 2]
    assert of(rows, "dropped") == [1, 1, 0, 0, 0]
    assert of(rows, "conversion_rate") == [0.75, pytest.approx(2 / 3), 1, 1, None]
    assert of(rows, "step_rate") == [0.75, pytest.approx(1 / 3), 1, 1, None]
    assert of(rows, "total_tokens") == [60, 45, 15, 30, 30]
    assert of(rows, "cost_usd") == [1.0, 0.75, 0.25, 0.5, 0.5]
    assert of(rows, "avg_working_ms") == of(rows, "p95_working_ms") == [5.0] * 5
    assert of(rows, "p50_waiting_ms") == [None] * 5


def test_the_other_answers_about_them(told):
    [whole] = told("engagements_by('session_id')")
    assert (whole["key"], whole["engagements"], whole["total_tokens"]) == ("s", 4, 180)
    assert [(row["path"], row["engagements"]) for row in told("paths(depth := 2)")] == [
        (["intake", "selection", "…"], 2),
        (["intake"], 1),
        (["intake", "selection"], 1),
    ]
    left = {row["step"]: (row["engagements"], row["of_reached"]) for row in told("drop_offs()")}
    assert left == {"intake": (1, 0.25), "selection": (1, pytest.approx(1 / 3))}
    [row] = told("cohorts(by := 'month')")
    assert (row["users"], row["engagements"], row["completed"]) == (3, 4, 2)
    assert [tuple(row.values())[1:] for row in told("retention()")] == [(0, 3, 3, 1.0)]
    compared = {row["metric"]: row for row in told("compare({'user_id': 'u1'}, {'user_id': 'u2'})")}
    assert compared["engagements"]["a"] == 2
    assert compared["completion_rate"]["difference"] == 0.5
    assert compared["tokens_per_engagement"]["a"] == 45
    assert told("usage_by('step')")[0]["key"] == "intake"


def test_within_a_time_a_later_beginning_may_be_the_better_one(ledger, make):
    steps = [("a", 0), ("b", 50), ("a", 100), ("b", 105), ("c", 110)]
    make.write(
        ledger,
        [
            make.turn(1, until=200),
            *(
                make.step(nth + 2, name, turn=1, at=at, superstep=nth)
                for nth, (name, at) in enumerate(steps)
            ),
        ],
    )

    def reached(within_ms):
        question = f"funnel(['a', 'b', 'c'], within := INTERVAL {within_ms} MILLISECOND)"
        return of(make.ask(ledger, f"FROM {question}"), "reached")

    assert [reached(ms) for ms in (4, 5, 9, 10)] == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]


def test_nobody_reached_what_nobody_knows(told):
    [row] = told("funnel(['nowhere'])")
    assert (row["step"], row["reached"], row["visits"], row["total_tokens"]) == ("nowhere", 0, 0, 0)
    assert (row["conversion_rate"], row["step_rate"], row["avg_working_ms"]) == (None, None, None)


def test_a_name_that_several_steps_have_is_refused_and_they_are_named(told, ledger, make):
    make.write(
        ledger,
        [
            make.turn(901, engagement_id="e9"),
            make.step(902, "look", path="sub/look", turn=901, engagement_id="e9"),
            make.step(903, "look", path="other/look", turn=901, engagement_id="e9"),
        ],
    )
    for question in ("funnel(['look'])", "funnel_engagements(['intake', 'look'])"):
        with pytest.raises(duckdb.Error, match=r"other/look.*sub/look"):
            told(question)
    assert [row["reached"] for row in told("funnel(['sub/look', 'other/look'])")] == [1, 1]
    make.write(ledger, [make.step(904, "look", turn=901, engagement_id="e9")])
    [row] = told("funnel(['look'])")
    assert (row["step"], row["reached"]) == ("look", 1)


@pytest.mark.parametrize(
    "macro", ["funnel(['intake'], {})", "journeys({})", "usage_by('model', {})"]
)
@pytest.mark.parametrize("metadata", ["'pro'", "'[1]'", "'{'"])
def test_metadata_that_is_no_object_is_refused(told, macro, metadata):
    with pytest.raises(duckdb.Error):
        told(macro.format(f"metadata := {metadata}"))


STORED = [None, {}, {"k": 1}, {"k": "1"}, {"k": True}, {"k": None}, {"k": [1]}, {"k": {"a": 1}}]


@pytest.mark.parametrize("wanted", [*filter(None, STORED), {"k": 1.0}, {"k": 0}], ids=str)
def test_metadata_is_compared_with_its_types(ledger, make, wanted):
    for nth, metadata in enumerate(STORED):
        make.write(
            ledger, [make.turn(nth + 1, engagement_id=f"e{nth}", metadata=metadata, trace=nth + 1)]
        )
    found = make.ask(ledger, f"FROM journeys(metadata := '{json.dumps(wanted)}')")
    same = [
        one
        for one in STORED
        if one and one == wanted and isinstance(one["k"], bool) == isinstance(wanted["k"], bool)
    ]
    assert [json.loads(row["metadata"]) for row in found] == same


@pytest.mark.parametrize("question", ["cohorts(by := 'decade')", "retention(by := 'x')"])
def test_a_period_that_nobody_knows_is_refused(told, question):
    with pytest.raises(duckdb.Error, match="week"):
        told(question)


def test_no_journeys_at_all(ledger, make):
    make.write(ledger, [make.llm(1, None, (1, 1), turn=None, caller="app.main")])
    for question in (
        "journeys()", "paths()", "drop_offs()", "step_stats()", "cohorts()", "retention()",
        "engagements_by('user_id')", "funnel_engagements(['a'])",
    ):  # fmt: skip
        assert make.ask(ledger, f"FROM {question}") == [], question
    [row] = make.ask(ledger, "FROM funnel(['a'])")
    assert (row["reached"], row["conversion_rate"]) == (0, None)
    compared = make.ask(ledger, "FROM compare({'name': 'a'}, {'name': 'b'})")
    assert {row["metric"]: row["a"] for row in compared}["engagements"] == 0
    [row] = make.ask(ledger, "FROM usage_by('caller')")
    assert (row["key"], row["calls"]) == ("app.main", 1)


@pytest.mark.parametrize(
    "step", ["it's", 'say "so"', "検索🔍", "a.b", "x;DROP TABLE records", "%", "a" * 300, ""]
)
def test_a_step_may_be_called_anything(ledger, make, step):
    make.write(ledger, [make.turn(1), make.step(2, step, turn=1)])
    quoted = step.replace("'", "''")
    [row] = make.ask(ledger, f"FROM funnel(['{quoted}'])")
    assert (row["step"], row["reached"]) == (step, 1)


@pytest.mark.parametrize("key", ["it's", "a.b", "a/b~c", '"', "$", "é", ""])
def test_a_key_of_metadata_may_be_called_anything(ledger, make, key):
    make.write(ledger, [make.turn(1, metadata={key: "x"}), make.step(2, "a", turn=1)])
    quoted = key.replace("'", "''")
    [row] = make.ask(ledger, f"FROM engagements_by('{quoted}')")
    assert (row["key"], row["engagements"]) == ("x", 1)
