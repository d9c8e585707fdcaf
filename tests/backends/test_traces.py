"""What a real Jaeger and a real Tempo show of a journey is what the ledger says of it.

One agent that fans out, runs a subgraph, tries again, waits, is answered by another process and
fails, sends its spans through the shipped Collector configurations; they are read back by the
interfaces that the back ends' own pages use.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest
from backends import reading, servers
from backends.conftest import SERVICE

from spanflow import semconv

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

LONGEST_BYTES = 2_048
BEGUN = {
    "invoke_workflow trip": [
        "step confirm",
        "step intake",
        "step pay",
        "step quote",
        "step quote",
        "step quote",
        "step reviews",
        "step search",
    ],
    "step intake": ["chat fake-1"],
    "step quote": ["execute_tool look_up"],
    "step search": ["invoke_workflow graph"],
    "invoke_workflow graph": ["step judge"],
    "step judge": ["chat fake-1"],
}


class Seen:
    """The agent's spans in a back end that is still running, and the ledger of the same runs."""

    def __init__(self, backend, program, began_s):
        self.backend = backend
        self.program = program
        self.began_s = began_s
        self.engagement, self.broken = [
            row["engagement_id"]
            for row in program.rows("SELECT engagement_id FROM engagements ORDER BY started_at")
        ]

    def find(self, at_least=1, **attributes):
        return reading.within_patience(
            lambda: self.backend.traces(SERVICE, **attributes),
            lambda traces: len(traces) >= at_least,
        )

    def turns(self):
        """The traces of the engagement that waited, in their order."""
        found = self.find(at_least=2, spanflow__engagement__id=self.engagement)
        return sorted(found, key=lambda trace: min(span.started_us for span in trace))


def _root(trace):
    [root] = [span for span in trace if span.parent_span_id is None]
    return root


def _all(traces):
    return {span.span_id: span for trace in traces for span in trace}


@pytest.fixture(scope="module", params=["jaeger", "tempo"])
def seen(request, program, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    kind = {"jaeger": reading.Jaeger, "tempo": reading.Tempo}[request.param]
    start = {"jaeger": servers.jaeger, "tempo": servers.tempo}[request.param]
    with start(folder) as backend:
        where = {request.param.upper(): backend.otlp}
        with servers.collector(folder, f"otlp-to-{request.param}.yaml", **where) as sending:
            agent = program(folder, sending)
            began_s = time.time()
            agent.run("begin", "trip-1")
            agent.run("answer", "trip-1")
            agent.run("break", "trip-2")
        # The Collector has ended, so it has handed everything on.
        yield Seen(kind(backend.query), agent, began_s)


def test_a_turn_is_a_trace_of_steps_with_calls_in_them(seen):
    begun, answered = seen.turns()
    children = {}
    by_id = _all([begun])
    for span in begun:
        if span.parent_span_id is not None:
            around = by_id[span.parent_span_id].name.partition("-")[0]
            children.setdefault(around, set()).add(span.span_id)
    told = {
        around: sorted(_plain(by_id[inner].name) for inner in inside)
        for around, inside in children.items()
        if around != "step quote"
    }
    assert told == {key: value for key, value in BEGUN.items() if key != "step quote"}
    quotes = [span.span_id for span in begun if span.name == "step quote"]
    tools = [span.parent_span_id for span in begun if span.name == "execute_tool look_up"]
    assert sorted(tools) == sorted(quotes)  # one tool in each of the three
    assert sorted(span.name for span in answered) == [
        "invoke_workflow trip",
        "step confirm",
        "step done",
    ]


def _plain(name):
    return "invoke_workflow graph" if name.startswith("invoke_workflow graph-") else name


def test_every_span_of_the_ledger_is_there_with_its_parent(seen):
    there = _all(seen.find(at_least=3, user__id="ada"))
    rows = seen.program.rows("SELECT span_id, trace_id, parent_span_id FROM spans")
    assert len(rows) == 16 + 3 + 4
    assert {(r["span_id"], r["trace_id"], r["parent_span_id"]) for r in rows} == {
        (span.span_id, span.trace_id, span.parent_span_id) for span in there.values()
    }


def test_spans_lie_as_the_ledger_has_them_and_within_their_parents(seen):
    there = _all(seen.find(at_least=3, user__id="ada"))
    rows = seen.program.rows(
        "SELECT span_id, epoch_us(started_at) AS began, duration_ms FROM spans"
    )
    assert rows
    for row in rows:
        span = there[row["span_id"]]
        assert abs(span.started_us - row["began"]) <= 1  # back ends round to microseconds
        assert abs(span.ended_us - span.started_us - row["duration_ms"] * 1_000) <= 2
        around = there.get(span.parent_span_id)
        if around is not None:
            assert around.started_us - 1 <= span.started_us
            assert span.ended_us <= around.ended_us + 1


def test_turns_and_steps_are_linked_to_what_brought_them_about(seen):
    begun, answered = seen.turns()
    assert _root(answered).links == [_root(begun).span_id]
    assert _root(begun).links == []
    ids = {}
    for span in begun:
        ids.setdefault(span.name, set()).add(span.span_id)
    links = {span.name: set(span.links) for span in begun if span.name.startswith("step ")}
    assert links["step quote"] == links["step reviews"] == ids["step intake"]
    assert links["step search"] == ids["step quote"] | ids["step reviews"]
    assert links["step pay"] == ids["step search"]
    assert links["step confirm"] == ids["step pay"]
    rows = seen.program.rows("SELECT turn_id, previous_turn_id FROM turns ORDER BY started_at")
    assert rows[1] == {"turn_id": _root(answered).span_id, "previous_turn_id": _root(begun).span_id}


def test_a_retry_a_wait_and_a_failure_look_like_what_they_are(seen):
    begun, answered = seen.turns()
    [broken] = seen.find(spanflow__engagement__id=seen.broken)
    steps = {span.name: span for span in begun}
    pay, confirm = steps["step pay"], steps["step confirm"]
    assert (pay.status, pay.attributes[semconv.STEP_ATTEMPTS]) == (0, 2)
    assert "exception" in pay.events or "error" in pay.events
    assert (confirm.status, confirm.attributes[semconv.STEP_STATUS]) == (0, "waiting")
    assert {span.status for span in begun + answered} == {0}
    failed = {span.name: span.status for span in broken}
    assert failed == {
        "invoke_workflow trip": 2,
        "step intake": 0,
        "chat fake-1": 0,
        "step breaks": 2,
    }
    [breaks] = [span for span in broken if span.name == "step breaks"]
    assert breaks.attributes[semconv.ERROR_TYPE] == "RuntimeError"


def test_the_turn_says_how_it_ended_and_what_was_reached(seen):
    begun, answered = seen.turns()
    [broken] = seen.find(spanflow__engagement__id=seen.broken)
    says = [
        (
            root.attributes[semconv.TURN_OUTCOME],
            root.attributes[semconv.ENGAGEMENT_STATUS],
            root.attributes[semconv.TURN_GOALS_REACHED],
            root.attributes.get(semconv.TURN_DROPPED_AT),
        )
        for root in map(_root, (begun, answered, broken))
    ]
    assert says == [
        ("paused", "paused", [], None),
        ("completed", "completed", ["done"], None),
        ("failed", "failed", [], "breaks"),
    ]
    rows = seen.program.rows(
        "SELECT engagement_id, status, dropped_at FROM engagements ORDER BY started_at"
    )
    assert rows == [
        {"engagement_id": seen.engagement, "status": "completed", "dropped_at": None},
        {"engagement_id": seen.broken, "status": "failed", "dropped_at": "breaks"},
    ]


@pytest.mark.parametrize(
    ("asked", "traces"),
    [
        ({"user__id": "ada"}, 3),
        ({"session__id": "visit-7"}, 3),
        ({"gen_ai__conversation__id": "trip-1"}, 2),
        ({"spanflow__turn__outcome": "paused"}, 1),
        ({"spanflow__turn__outcome": "failed"}, 1),
        ({"spanflow__engagement__status": "failed"}, 1),
        ({"spanflow__engagement__name": "trip"}, 3),
        ({"spanflow__step__name": "judge"}, 1),
        ({"spanflow__step__path": "search/judge"}, 1),
        ({"spanflow__step__status": "waiting"}, 1),
        ({"gen_ai__operation__name": "execute_tool"}, 1),
        ({"gen_ai__request__model": "fake-1"}, 2),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_traces_are_found_by(asked, traces, seen):
    assert len(seen.find(at_least=traces, **asked)) == traces
    assert seen.backend.traces(SERVICE, **dict.fromkeys(asked, "nobody")) == []


def test_tokens_of_an_engagement_are_those_of_the_ledger(seen):
    rows = seen.program.rows(
        "SELECT engagement_id, input_tokens, output_tokens, total_tokens FROM engagements"
    )
    assert {row["engagement_id"] for row in rows} == {seen.engagement, seen.broken}
    for row in rows:
        spans = [
            span
            for trace in seen.find(spanflow__engagement__id=row["engagement_id"])
            for span in trace
        ]
        calls = [s.attributes for s in spans if s.attributes.get("gen_ai.operation.name") == "chat"]
        asked = sum(call[semconv.GEN_AI_USAGE_INPUT_TOKENS] for call in calls)
        answered = sum(call[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] for call in calls)
        assert (asked, answered) == (row["input_tokens"], row["output_tokens"])
        turns = [s for s in spans if s.attributes.get(semconv.TURN_KIND)]
        told = sum(turn.attributes.get(semconv.USAGE_TOTAL_TOKENS, 0) for turn in turns)
        assert told == row["total_tokens"] == asked + answered > 0


def test_no_text_is_longer_than_every_back_end_keeps(seen):
    spans = _all(seen.find(at_least=3, user__id="ada")).values()
    texts = [
        value for span in spans for value in span.attributes.values() if isinstance(value, str)
    ]
    assert max(len(text.encode()) for text in texts) <= LONGEST_BYTES
    [told] = {s.attributes[semconv.ENGAGEMENT_METADATA] for s in spans if not s.parent_span_id}
    assert told == '{"tier":"pro","variant":2}'


def test_calls_carry_what_a_genai_view_reads(seen):
    spans = _all(seen.find(at_least=3, user__id="ada")).values()
    kinds = Counter(span.attributes.get("gen_ai.operation.name") for span in spans)
    assert kinds["chat"] == 3
    assert kinds["execute_tool"] == 3
    for span in spans:
        if span.attributes.get("gen_ai.operation.name") == "chat":
            keys = {key for key in span.attributes if key.startswith("gen_ai.")}
            assert keys >= {
                "gen_ai.provider.name",
                "gen_ai.request.model",
                "gen_ai.response.model",
                "gen_ai.usage.input_tokens",
                "gen_ai.usage.output_tokens",
                "gen_ai.conversation.id",
            }
        if span.attributes.get("gen_ai.operation.name") == "execute_tool":
            assert span.attributes["gen_ai.tool.name"] == "look_up"
