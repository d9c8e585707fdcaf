"""What an app says of its own run: log lines, errors, goals, extractions, giving up."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, ValidationError

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


def told(flow: Flow, kind: str) -> list[tuple[str, Any]]:
    """Name and payload of all events of a kind, as spans and records both have them."""
    on_spans: list[tuple[str, Any]] = []
    for span in sorted(flow.spans, key=lambda span: span.start_time or 0):
        for event in span.events:
            attributes = event.attributes or {}
            if attributes.get("spanflow.event.kind") == kind:
                payload = attributes.get("spanflow.event.payload", "null")
                on_spans.append((event.name, json.loads(str(payload))))
    rows = flow.sql(f"SELECT name, payload FROM events WHERE kind = '{kind}' ORDER BY occurred_at")
    assert sorted([(name, json.loads(payload or "null")) for name, payload in rows], key=repr) == (
        sorted(on_spans, key=repr)
    )
    return [(name, json.loads(payload or "null")) for name, payload in rows]


def giving_up(*reasons: Any) -> Any:
    def node(state: State) -> State:
        for reason in reasons:
            spanflow.gave_up(*reason)
        return {"log": ["x"]}

    return node


def test_giving_up_is_an_event_of_the_turn(flow: Flow) -> None:
    chain("a", "b", a=giving_up(("too expensive",), ())).invoke({"log": []})
    assert [payload for _, payload in told(flow, "gave_up")] == [{"reason": "too expensive"}, None]
    assert flow.sql("SELECT DISTINCT step_id FROM events WHERE kind = 'gave_up'") == [(None,)]
    assert flow.sql("SELECT status, abandon_reason FROM engagements") == [("abandoned", "gave_up")]


def test_giving_up_in_plain_code(flow: Flow) -> None:
    with spanflow.engagement("x", id="1") as e:
        with spanflow.step("offer"):
            spanflow.gave_up("no")
        with spanflow.step("farewell"):
            pass
    with spanflow.engagement("x", id="2"):
        spanflow.gave_up("other", engagement_id="1")
        spanflow.gave_up()
        spanflow.goal("sold")
    assert e.engagement_id == "1"
    assert flow.sql(
        "SELECT engagement_id, status, dropped_at, abandon_reason FROM engagements ORDER BY ALL"
    ) == [("1", "abandoned", "farewell", "gave_up"), ("2", "completed", None, None)]
    assert guard.counts() == {"api.gave_up": 1}  # of an engagement that is not open any more


async def test_a_mark_deep_inside_is_the_turns(flow: Flow) -> None:
    async def node(state: State) -> State:
        await asyncio.to_thread(spanflow.gave_up, "from a thread")
        return {"log": []}

    builder = StateGraph(State)
    builder.add_node("sub", chain("deep", deep=node))
    builder.add_edge(START, "sub")
    await builder.compile().ainvoke({"log": []})
    assert told(flow, "gave_up") == [("gave_up", {"reason": "from a thread"})]


@pytest.mark.parametrize("reason", ["", "\0\ud800é", "🙈" * 9_999, "\x01" * 9_999, 7, object()])
def test_any_reason_will_do(flow: Flow, reason: Any) -> None:
    chain("a", a=giving_up((reason,))).invoke({"log": []})
    [(_, payload)] = told(flow, "gave_up")
    assert isinstance(payload["reason"], str)
    assert len(payload["reason"]) <= 256


def test_what_is_told_is_redacted(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(redact="email")
    mail = "jane.doe@example.com"

    class Contact(BaseModel):
        mail: str

    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        spanflow.gave_up(f"asked {mail}")
        spanflow.log(f"sent to {mail}", to=mail, deep=[{"to": mail}])
        spanflow.error(ValueError(f"no such {mail}"))
        spanflow.extraction(Contact, Contact(mail=mail))
        spanflow.extraction(f"of {mail}", {"a": 1}, valid=False, error=ValueError(mail))
        spanflow.goal(f"reached {mail}")
        spanflow.pause(f"answer of {mail}")
    flow.sql("FROM meta")
    written = b"".join(p.read_bytes() for p in flow.ledger.parent.rglob("*") if p.is_file())
    assert b"jane.doe" not in written
    assert "jane.doe" not in "".join(span.to_json() for span in flow.spans)
    assert flow.one("SELECT count(*) FROM events") == 7


def test_log_lines_in_the_order_they_were_told(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"):
        spanflow.log("of the turn")
        with spanflow.step("a"):
            spanflow.log("offer shown", price_usd=95, name="Park", step="s", 検索="🔍")
            with spanflow.agent("planner"):
                spanflow.log("inside an agent")
    assert told(flow, "log") == [
        ("of the turn", None),
        ("offer shown", {"price_usd": 95, "name": "Park", "step": "s", "検索": "🔍"}),
        ("inside an agent", None),
    ]
    assert flow.sql(
        "SELECT e.name, s.path FROM events e LEFT JOIN steps s USING (step_id) ORDER BY occurred_at"
    ) == [("of the turn", None), ("offer shown", "a"), ("inside an agent", "a")]


def test_an_error_that_was_dealt_with(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        try:
            raise TimeoutError("no answer from the desk")  # noqa: EM101, TRY003, TRY301
        except TimeoutError as error:
            spanflow.error(error)
    assert flow.sql("SELECT status, errors, dropped_at FROM engagements") == [
        ("completed", 1, None)
    ]
    assert flow.steps() == [("a", "completed")]
    name, payload = flow.sql("SELECT name, payload FROM events WHERE kind = 'error'")[0]
    told = json.loads(payload)
    assert (name, told["message"], told["attempt"]) == (
        "TimeoutError",
        "no answer from the desk",
        1,
    )
    assert "raise TimeoutError" in told["stack"]
    [step] = flow.named("step a")
    assert step.status.status_code.name == "UNSET"
    [event] = step.events
    assert (event.attributes or {})["exception.type"] == "TimeoutError"


def test_goals_by_name_are_reached_once(flow: Flow) -> None:
    with spanflow.engagement("x", id="1", goals=["submitted", "paid"]):
        with spanflow.step("form"):
            spanflow.goal("submitted")
            spanflow.goal("submitted")
        spanflow.goal("bonus")
    assert flow.sql("SELECT status, goal FROM engagements") == [("completed", "submitted")]
    assert told(flow, "goal") == [
        ("submitted", {"step": "form"}),
        ("submitted", {"step": "form"}),
        ("bonus", None),
    ]
    [turn] = flow.named("invoke_workflow x")
    assert turn.attributes is not None
    assert turn.attributes["spanflow.turn.goals"] == ("submitted", "paid", "bonus")
    assert turn.attributes["spanflow.turn.goals_reached"] == ("submitted", "bonus")


@pytest.mark.parametrize("goals", [["paid"], ("paid",), "paid", "paid, other"])
def test_goals_that_were_declared_and_not_reached(flow: Flow, goals: Any) -> None:
    with spanflow.engagement("x", id="1", goals=goals), spanflow.step("compare"):
        pass
    assert flow.sql("SELECT status, dropped_at, goal FROM engagements") == [
        ("abandoned", "compare", None)
    ]


def test_goals_given_here_stand_before_the_settings(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(goals=["submitted"])
    with spanflow.engagement("x", id="1", goals=[]), spanflow.step("a"):
        pass
    with spanflow.engagement("x", id="2", goals=["mine"]), spanflow.step("mine"):
        pass
    with spanflow.engagement("x", id="3"), spanflow.step("mine"):
        pass
    assert flow.sql("SELECT engagement_id, status FROM engagements ORDER BY ALL") == [
        ("1", "completed"),
        ("2", "completed"),
        ("3", "abandoned"),
    ]


class BudgetInfo(BaseModel):
    """What a trip may cost."""

    budget: int
    area: str = "Ueno"


def test_what_was_extracted(flow: Flow) -> None:
    with spanflow.engagement("x", id="1"), spanflow.step("a"):
        spanflow.extraction("Plain", {"budget": 95_000})
        spanflow.extraction(BudgetInfo, BudgetInfo(budget=1))
        spanflow.extraction({"title": "Shape", "type": "object"}, {"a": 1})
        spanflow.extraction({"type": "object"}, None, valid=False, error="nothing there")
    found = told(flow, "extraction")
    assert [name for name, _ in found] == ["Plain", "BudgetInfo", "Shape", "object"]
    plain, model, shape, none = [payload for _, payload in found]
    assert plain == {"schema": "Plain", "valid": True, "values": {"budget": 95_000}}
    assert model["values"] == {"budget": 1, "area": "Ueno"}
    assert model["json_schema"]["properties"]["budget"]["type"] == "integer"
    assert shape["json_schema"] == {"title": "Shape", "type": "object"}
    assert (none["valid"], none["values"], none["error"]) == (False, None, "nothing there")


def test_a_validation_that_failed(flow: Flow) -> None:
    def node(state: State) -> State:
        try:
            BudgetInfo.model_validate({"budget": "many"})
        except ValidationError as error:
            spanflow.extraction(BudgetInfo, {"budget": "many"}, valid=False, error=error)
        return {"log": ["x"]}

    chain("a", a=node).invoke({"log": []})
    [(name, payload)] = told(flow, "extraction")
    assert (name, payload["valid"], payload["values"]) == ("BudgetInfo", False, {"budget": "many"})
    assert payload["error"].startswith("ValidationError: 1 validation error for BudgetInfo")
    assert flow.one("SELECT errors FROM engagements") == 0


class Undescribable(BaseModel):
    """A model that JSON has no schema for."""

    model_config = {"arbitrary_types_allowed": True}
    lock: object = None
    made: threading.Thread | None = None


@pytest.mark.parametrize(
    ("schema", "name"),
    [(Undescribable, "Undescribable"), ("\0\ud800", "\0\ufffd"), (object(), "object"), (7, "int")],
)
def test_a_schema_of_any_kind(flow: Flow, schema: Any, name: str) -> None:
    with spanflow.step("a"):
        spanflow.extraction(schema, {"made": object(), "n": float("inf")}, valid=1)  # type: ignore[arg-type]
    [(told_name, payload)] = told(flow, "extraction")
    assert told_name == payload["schema"] == name
    assert payload["valid"] is True
    assert payload["values"]["n"] is None


def test_a_large_one_still_says_whether_it_was_valid(flow: Flow) -> None:
    with spanflow.step("a"):
        spanflow.extraction("Big", {"text": "x" * 100_000}, valid=False, error="e" * 100_000)
    payload = json.loads(flow.one("SELECT payload FROM events WHERE kind = 'extraction'"))
    assert (payload["schema"], payload["valid"]) == ("Big", False)
    assert payload["values"]["truncated"] is True
    [step] = flow.named("step a")
    on_span = json.loads(str((step.events[0].attributes or {})["spanflow.event.payload"]))
    assert on_span == {"schema": "Big", "valid": False}


def test_outside_a_run_nothing_happens(flow: Flow) -> None:
    def everything() -> None:
        spanflow.gave_up("x")
        spanflow.goal("x")
        spanflow.log("x")
        spanflow.error(ValueError("x"))
        spanflow.extraction("X", {})

    everything()
    chain("a").invoke({"log": []})
    everything()
    sites = ["error", "extraction", "gave_up", "goal", "log"]
    assert guard.counts() == {f"api.{site}": 2 for site in sites}
    guard.reset()

    def node(state: State) -> State:
        everything()
        with spanflow.step("x"), spanflow.agent("x"), spanflow.engagement("x"):
            spanflow.llm_call("x", input_tokens=1)
        return {"log": []}

    # A run that was left out is left out whole, and that is no mistake of anybody's.
    chain("a", a=node).invoke({"log": []}, {"metadata": {"spanflow_enabled": False}})
    assert guard.counts() == {}
    assert flow.sql("FROM events") == []
    assert flow.sql("SELECT count(*) FROM records WHERE kind NOT IN ('turn', 'step')") == [(0,)]


def test_a_mark_after_its_turn_is_nobodys(flow: Flow) -> None:
    go, done = threading.Event(), threading.Event()

    def late() -> None:
        go.wait(120)
        spanflow.gave_up("late")
        done.set()

    def node(state: State) -> State:
        import contextvars

        threading.Thread(target=contextvars.copy_context().run, args=(late,)).start()
        return {"log": []}

    chain("a", a=node).invoke({"log": []})
    go.set()
    assert done.wait(120)
    assert flow.sql("SELECT * FROM events WHERE kind = 'gave_up'") == []


def test_a_mark_that_cannot_be_made_does_not_stop_the_app(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.set_strict(False)

    def broken(*_: Any) -> str:
        raise RuntimeError

    monkeypatch.setattr("spanflow.capture.payload.free_text", broken)
    assert chain("a", a=giving_up(("x",))).invoke({"log": []}) == {"log": ["x"]}
    assert guard.counts() == {"api.gave_up": 1}
