"""Questions in Python answer what the macros in the file answer, cell by cell."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import pytest

from spanflow.errors import LedgerError
from spanflow.query import rows
from spanflow.query.engine import Result
from spanflow.query.journeys import connect
from spanflow.query.questions import Questions

NOON = datetime(2026, 11, 18, 12)  # noqa: DTZ001 - a time of the ledger's
AT = "TIMESTAMP '2026-11-18 12:00:00'"
NEVER_IDLE = timedelta(days=3650)

QUESTIONS = {
    "funnel(['intake', 'search', 'confirm', '検索🔍[/]'])": (
        lambda ledger, **chosen: ledger.funnel(
            ["intake", "search", "confirm", "検索🔍[/]"], **chosen
        )
    ),
    "funnel(['intake', 'confirm', 'submitted'], ordered := true)": (
        lambda ledger, **chosen: ledger.funnel(
            ["intake", "confirm", "submitted"], ordered=True, **chosen
        )
    ),
    "funnel(['intake', 'submitted'], within := INTERVAL 1 SECOND)": (
        lambda ledger, **chosen: ledger.funnel(
            ["intake", "submitted"], within=timedelta(seconds=1), **chosen
        )
    ),
    "funnel_engagements(['intake', 'search'])": (
        lambda ledger, **chosen: ledger.funnel(["intake", "search"], **chosen).engagements()
    ),
    "journeys()": lambda ledger, **chosen: ledger.journeys(**chosen),
    "journeys(status := 'completed', reached := 'confirm')": (
        lambda ledger, **chosen: ledger.journeys(status="completed", reached="confirm", **chosen)
    ),
    "paths()": lambda ledger, **chosen: ledger.paths(**chosen),
    "paths(depth := 2, nested := true)": (
        lambda ledger, **chosen: ledger.paths(depth=2, nested=True, **chosen)
    ),
    "drop_offs()": lambda ledger, **chosen: ledger.drop_offs(**chosen),
    "step_stats()": lambda ledger, **chosen: ledger.step_stats(**chosen),
    "usage_by('model')": lambda ledger, **chosen: ledger.usage_by("model", **chosen),
    "usage_by('day', split := 'plan')": (
        lambda ledger, **chosen: ledger.usage_by("day", split="plan", **chosen)
    ),
    "cohorts()": lambda ledger, **chosen: ledger.cohorts(**chosen),
    "retention(by := 'day')": lambda ledger, **chosen: ledger.retention("day", **chosen),
    "compare({'plan': 'pro'}, {'service_name': 'desk'})": (
        lambda ledger, **chosen: ledger.compare({"plan": "pro"}, {"service_name": "desk"}, **chosen)
    ),
    "engagements_by('user_id')": lambda ledger, **chosen: ledger.group_by("user_id", **chosen),
}
CHOSEN = {
    "": {},
    f"as_of := {AT}, idle_after := INTERVAL 1 MINUTE": {
        "as_of": NOON,
        "idle_after": timedelta(minutes=1),
    },
    "since := TIMESTAMP '2026-11-18 11:08:00', until := TIMESTAMP '2026-11-18 11:10:30'": {
        "since": datetime(2026, 11, 18, 11, 8, tzinfo=UTC),
        "until": datetime(2026, 11, 18, 11, 10, 30, tzinfo=UTC),
    },
    "name := 'booking', user_id := 'u1', metadata := {'tries': 1}": {
        "name": "booking",
        "user_id": "u1",
        "metadata": {"tries": 1},
    },
}


def told(answer):
    """The rows as the database tells them."""
    return [tuple(row.model_dump().values()) for row in answer]


def plain(row):
    """A row of the plain client, in the rows' own types."""
    return tuple(
        json.loads(value)
        if isinstance(value, str) and value.startswith("{")
        else tuple(value)
        if isinstance(value, list)
        else value
        for value in row
    )


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_answers_what_its_macro_answers(ledger, question):
    ask = QUESTIONS[question]
    with connect(ledger) as opened, duckdb.connect(str(ledger), read_only=True) as bare:
        for words, chosen in CHOSEN.items():
            said = ", ".join(filter(None, [question[:-1].rstrip("("), words]))
            if question.endswith("()"):
                said = f"{question[:-1]}{words}"
            cursor = bare.execute(f"FROM {said})")
            answer = ask(opened, **chosen)
            assert answer.columns == tuple(column[0] for column in cursor.description)
            assert told(answer) == [plain(row) for row in cursor.fetchall()], words


def test_there_is_something_to_compare(ledger):
    with connect(ledger) as opened:
        empty = [name for name, ask in QUESTIONS.items() if not len(ask(opened, as_of=NOON))]
    assert empty == []


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"tries": 1}, {"01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e"}),
        ({"tries": "1"}, {"order-[bold]7"}),
        ({"tries": True}, {"01936c2a-9000-7c11-9b7e-000000000003"}),
        ({"nothing": None}, {"01936c2a-9000-7c11-9b7e-000000000003"}),
        ({"plan": "pro", "a/b": "deep"}, {"01936c2a-7f3e-7c11-9b7e-4f1c09d2ab7e"}),
        ({"plan": None}, set()),
    ],
)
def test_metadata_is_compared_with_its_type(ledger, metadata, found):
    with connect(ledger) as opened:
        assert {row.engagement_id for row in opened.journeys(metadata=metadata)} == found


def test_times_without_a_zone_are_utc_and_others_are_converted(ledger):
    naive = datetime(2026, 11, 18, 11, 8)  # noqa: DTZ001 - that is the point
    tokyo = datetime(2026, 11, 18, 20, 8, tzinfo=timezone(timedelta(hours=9)))
    with connect(ledger) as opened:
        everyone = opened.journeys(as_of=NOON)
        assert len(opened.journeys(since=naive, as_of=NOON)) == 2
        assert told(opened.journeys(since=tokyo)) == told(opened.journeys(since=naive))
        assert told(opened.journeys(until=tokyo)) == told(opened.journeys(until=naive))
    assert len(everyone) == 3


def test_rows_have_fields_and_are_frozen(ledger):
    with connect(ledger) as opened:
        funnel = opened.funnel(["intake", "search"], as_of=NOON)
        journey = opened.journeys(user_id="u1", status="completed")[0]
    assert [row.step for row in funnel] == ["intake", "search"]
    assert funnel[0].reached == 2
    assert funnel[-1:] == (funnel[1],)
    with connect(ledger) as opened:
        assert opened.funnel(["intake", "search"], as_of=NOON) == funnel
    assert isinstance(funnel[0], rows.FunnelStep)
    assert journey.metadata == {"plan": "pro", "tries": 1, "a/b": "deep"}
    assert journey.path[:2] == ("intake", "search")
    with pytest.raises(ValueError, match="frozen"):
        funnel[0].reached = 7


def test_every_number_of_a_funnel_leads_to_its_engagements(ledger):
    outcomes = ("advanced", "waiting", "active", "failed", "interrupted", "dropped")
    with connect(ledger) as opened:
        for idle_after in (timedelta(0), NEVER_IDLE):
            funnel = opened.funnel(
                ["intake", "search", "confirm", "検索🔍[/]"], as_of=NOON, idle_after=idle_after
            )
            for row in funnel:
                assert len(funnel.engagements(row.step)) == row.reached
                for outcome in outcomes:
                    behind = funnel.engagements(row.step, outcome)
                    assert len(behind) == getattr(row, outcome)
                    assert {one.outcome for one in behind} <= {outcome}
            failed = funnel.engagements("検索🔍[/]", "failed")
    assert [one.engagement_id for one in failed] == ["order-[bold]7"]
    assert len(failed[0].trace_id) == 32


def test_a_step_is_found_by_the_name_it_was_asked_for(ledger):
    with connect(ledger) as opened:
        funnel = opened.funnel(["intake", "look_up"])
        assert funnel[1].step == "search/look_up"
        assert told(funnel.engagements("look_up")) == told(funnel.engagements("search/look_up"))
        assert len(funnel.engagements("look_up")) == funnel[1].reached == 1
        with pytest.raises(LedgerError, match="no step 'pay'; it has intake, search/look_up"):
            funnel.engagements("pay")
        with pytest.raises(LedgerError, match="'lost' is none of advanced"):
            funnel.engagements("intake", "lost")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda ledger: ledger.funnel("intake"), "a list of steps"),
        (lambda ledger: ledger.funnel([]), "a list of steps"),
        (lambda ledger: ledger.journeys(since="monday"), "since='monday' is no datetime"),
        (lambda ledger: ledger.paths(idle_after=30), "idle_after=30 is no timedelta"),
        (lambda ledger: ledger.paths(depth=0), "depth=0 shows nothing"),
        (lambda ledger: ledger.funnel(["a"], within=timedelta(-1)), "within="),
        (lambda ledger: ledger.paths(metadata={"tags": ["a"]}), "tags=.* cannot be compared"),
        (lambda ledger: ledger.paths(metadata={"x": float("nan")}), "x=nan cannot be compared"),
        (lambda ledger: ledger.compare("a", {}), "a='a' is no mapping"),
    ],
)
def test_what_is_wrongly_asked_is_refused_with_its_name(ledger, wrong, said):
    with connect(ledger) as opened, pytest.raises(LedgerError, match=said):
        wrong(opened)


def test_a_filter_there_is_not_is_a_mistake_in_the_program(ledger):
    with connect(ledger) as opened, pytest.raises(TypeError, match=r"unexpected .* session"):
        opened.journeys(session="s1")


def test_texts_are_values_whatever_is_in_them(ledger):
    nasty = "'); DROP TABLE records; --\x00\"'{}"
    with connect(ledger) as opened:
        assert opened.funnel([nasty], user_id=nasty, metadata={nasty: nasty})[0].reached == 0
        assert len(opened.usage_by(nasty, as_of=NOON)) >= 1
        assert len(opened.journeys(name=nasty)) == 0
        assert len(opened.journeys(as_of=NOON)) == 3


class Telling:
    """An engine that notes what it is asked, and answers with what it was given."""

    def __init__(self, *told):
        self.told, self.asked = told, []

    def ask(self, question, arguments):
        self.asked.append((question, dict(arguments)))
        return Result(tuple(rows.FunnelStep.model_fields), list(self.told))


def test_an_engine_is_asked_with_plain_values_and_only_those_given():
    engine = Telling()
    questions = Questions(engine)
    tokyo = datetime(2026, 11, 18, 20, 8, tzinfo=timezone(timedelta(hours=9)))
    questions.funnel(("a", "b"), within=timedelta(hours=1), since=tokyo, name=None)
    questions.usage_by("model", metadata={"n": 1, "none": None})
    questions.compare({"since": tokyo}, {}, idle_after=timedelta(minutes=1))
    naive = datetime(2026, 11, 18, 11, 8)  # noqa: DTZ001 - what an engine gets
    assert engine.asked == [
        ("funnel", {"steps": ["a", "b"], "within": timedelta(hours=1), "since": naive}),
        ("usage_by", {"by": "model", "metadata": {"n": 1, "none": None}}),
        ("compare", {"a": {"since": naive}, "b": {}, "idle_after": timedelta(minutes=1)}),
    ]


def test_whatever_engine_answers_the_rows_are_the_same():
    told = (1, "a", 2, 3, 1, 0, 0, 0, 0, 1, 0.5, None, *[None] * 11)
    funnel = Questions(Telling(told)).funnel(["a"])
    assert (funnel[0].step, funnel[0].reached, funnel[0].conversion_rate) == ("a", 2, 0.5)
    assert funnel[0].total_tokens is None
