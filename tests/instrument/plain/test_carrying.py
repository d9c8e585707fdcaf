"""The running engagement in the headers of one request, and what comes out of them elsewhere."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from requests.structures import CaseInsensitiveDict

import spanflow
from spanflow import guard

OURS = "spanflow.engagement.id="
_propagator = W3CBaggagePropagator()


class Brought:
    """Runs code with what a request brought along, as an instrumented server does."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._context = propagate.extract(headers)

    def __enter__(self) -> None:
        self._token = otel_context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        otel_context.detach(self._token)


def joined(headers: dict[str, str], **told: Any) -> str | None:
    with Brought(headers), spanflow.engagement("service", **told) as service:
        assert not [key for key in baggage.get_all() if key.startswith("spanflow.")]
        return service.engagement_id


IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(
    lambda text: text == text.strip() and len(text.encode()) <= 128
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(engagement_id=IDS, others=st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), IDS))
def test_what_is_carried_arrives_as_it_was_and_so_does_the_rest(flow_with, engagement_id, others):
    flow_with(ledger=None, accept_baggage=True)
    context = otel_context.Context()
    for key, value in others.items():
        context = baggage.set_baggage(key, value, context)
    headers: dict[str, str] = {}
    _propagator.inject(headers, context)
    with spanflow.engagement("caller", id=engagement_id):
        assert spanflow.carry(headers) is headers
        spanflow.carry(headers)  # twice tells it once
        assert not baggage.get_all()
    found = dict(baggage.get_all(_propagator.extract(headers, otel_context.Context())))
    assert found == {**others, OURS[:-1]: engagement_id}
    assert all(text.isascii() and text.isprintable() for text in headers.values())
    assert joined(headers) == engagement_id


@pytest.mark.parametrize("kind", [dict, httpx.Headers, CaseInsensitiveDict])
def test_other_baggage_is_kept_however_the_header_is_written(flow, kind):
    with spanflow.engagement("caller", id="e 1"):
        headers = spanflow.carry(kind({"Baggage": f"tenant=7;p=1 , {OURS}old", "accept": "*/*"}))
    wanted = "tenant=7;p=1,spanflow.engagement.id=e%201"
    assert [text for name, text in headers.items() if name.lower() == "baggage"] == [wanted]
    assert len(headers) == 2


def test_two_headers_become_one(flow):
    with spanflow.engagement("caller", id="e1"):
        headers = spanflow.carry({"baggage": "a=1", "BAGGAGE": "b=2"})
    assert headers == {"baggage": "a=1,b=2,spanflow.engagement.id=e1"}


def test_outside_an_engagement_and_after_it_nothing_is_written(flow):
    assert spanflow.carry({"baggage": "a=1"}) == {"baggage": "a=1"}
    with spanflow.engagement("caller"):
        spanflow.pause("approval")
        assert spanflow.carry({}) == {}
    assert spanflow.carry({}) == {}


def test_with_nothing_captured_nothing_is_written_and_nothing_loaded():
    program = (
        "import sys, spanflow\n"
        "with spanflow.engagement('a', id='e1'):\n"
        "    assert spanflow.carry({'x': 'y'}) == {'x': 'y'}\n"
        "assert not [name for name in sys.modules if name.startswith('spanflow.capture')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("given_id", "standing"),
    [("line\nbreak", "a=1"), (" padded ", "a=1"), ("e1", "a=" + "x" * 8_170)],
)
def test_what_would_not_arrive_is_not_sent_and_counted(flow, given_id, standing):
    with spanflow.engagement("caller", id=given_id):
        assert spanflow.carry({"baggage": standing}) == {"baggage": standing}
    assert guard.counts() == {"api.carry": 1}


@pytest.mark.parametrize("headers", [None, [], "text", {"baggage": b"a=1"}, {1: "x"}])
def test_it_never_raises(flow, headers):
    guard.set_strict(False)
    with spanflow.engagement("caller"):
        assert spanflow.carry(headers) is headers
    assert guard.counts() == {"api.carry": 1}


REFUSED = ["", "%20", "x" * 129, "a%00b", "a%0Ab", "a%1B[2Jb", "%ED%A0%80" * 50]


@pytest.mark.parametrize("told", REFUSED)
def test_what_cannot_be_an_id_is_ignored_and_counted(flow_with, told):
    flow_with(accept_baggage=True)
    assert joined({"baggage": OURS + told}) not in (None, told)
    assert guard.counts() == {"carried.refused": 1}


def test_it_is_believed_only_where_that_is_asked_for(flow):
    assert joined({"baggage": OURS + "e1"}) != "e1"


def test_what_the_app_gives_comes_before_what_its_caller_brought(flow_with):
    flow = flow_with(accept_baggage=True)
    headers = {"baggage": OURS + "theirs"}
    assert joined(headers, id="mine") == "mine"
    assert joined(headers, id="theirs") == "theirs"
    assert joined(headers) == "theirs"
    kinds = flow.sql("SELECT engagement_id, kind FROM turns ORDER BY started_at")
    assert kinds == [("mine", "new"), ("theirs", "remote"), ("theirs", "remote")]


def test_a_graph_joins_its_caller_before_its_thread(flow_with):
    from graphs import State
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, StateGraph

    flow = flow_with(accept_baggage=True)
    seen: list[dict[str, object]] = []

    def node(_: State) -> State:
        seen.append(dict(baggage.get_all()))
        return {"log": ["a"]}

    builder = StateGraph(State)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    graph = builder.compile(InMemorySaver())
    config = {"configurable": {"thread_id": "7"}}
    graph.invoke({"log": []}, config)
    with Brought({"baggage": f"tenant=7,{OURS}theirs"}):
        graph.invoke({"log": []}, config)
        given_id = {"metadata": {"spanflow_engagement_id": "mine"}}
        graph.invoke({"log": []}, {**config, **given_id})
        assert baggage.get_baggage(OURS[:-1]) == "theirs"  # the app's own context is its own
    rows = flow.sql("SELECT engagement_id, kind FROM turns ORDER BY started_at")
    assert rows[0][1] == "new"
    assert rows[1:] == [("theirs", "remote"), ("mine", "message")]
    assert seen == [{}, {"tenant": "7"}, {"tenant": "7"}]


def test_a_call_outside_every_engagement_hands_nothing_on_either(flow):
    with Brought({"baggage": f"tenant=7,{OURS}theirs"}), spanflow.llm_call("m"):
        assert dict(baggage.get_all()) == {"tenant": "7"}
