"""The SDK drops a span's oldest attributes and cuts long ones: engagements lose nothing by it."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from spanflow.capture import processor
from spanflow.capture.processor import JourneyProcessor
from spanflow.setup import _Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

INFERENCE: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.response.model": "m",
    "gen_ai.usage.input_tokens": 3,
    "gen_ai.usage.output_tokens": 4,
}
CALLS = "SELECT step_name, total_tokens, counted FROM llm_calls"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def call(tracer: trace.Tracer, more: int) -> None:
    """Make a call's span that says `more` things about itself, and what it is last."""
    with tracer.start_as_current_span("ChatOther") as span:
        for number in range(more):
            span.set_attribute(f"llm.input_messages.{number}", "said")
        span.set_attributes(INFERENCE)


def in_node(body: Callable[[], Any]) -> Any:
    def node(state: State) -> State:
        body()
        return {"log": ["x"]}

    return chain("a", a=node)


def with_limits(**limits: int) -> trace.Tracer:
    """Return a tracer of a provider that keeps less, with the runtime of this process."""
    ours = JourneyProcessor()
    ours.runtime = _Process.runtime
    provider = TracerProvider(span_limits=SpanLimits(**limits))
    provider.add_span_processor(ours)
    return provider.get_tracer("other")


@pytest.mark.parametrize("more", [0, 100, 130, 500])
def test_a_call_with_many_attributes_stays_in_its_step(flow: Flow, more: int) -> None:
    in_node(lambda: call(trace.get_tracer("other"), more)).invoke({"log": []})
    assert flow.sql(CALLS) == [("a", 7, True)]
    assert flow.one("SELECT total_tokens FROM engagements") == 7
    [step] = flow.named("step a")
    assert (step.attributes or {})["spanflow.usage.total_tokens"] == 7


def test_a_call_whose_attributes_are_cut_makes_no_engagement_of_its_own(flow: Flow) -> None:
    in_node(lambda: call(with_limits(max_span_attribute_length=6), 1)).invoke({"log": []})
    assert flow.sql(CALLS) == [("a", 7, True)]
    assert flow.one("SELECT count(*) FROM engagements") == 1
    assert flow.one("SELECT count(DISTINCT engagement_id) FROM spans") == 1


@pytest.mark.parametrize("limits", [{"max_span_attributes": 6}, {"max_span_attribute_length": 6}])
def test_a_thread_given_only_the_context_of_such_a_span(flow: Flow, limits: Any) -> None:
    def body() -> None:
        tracer = with_limits(**limits)
        with tracer.start_as_current_span("around") as around:
            around.set_attributes({f"mine.{number}": 1 for number in range(9)})
            here = otel_context.get_current()

            def work() -> None:
                otel_context.attach(here)
                call(tracer, 1)

            thread = threading.Thread(target=lambda: contextvars.Context().run(work))
            thread.start()
            thread.join()

    in_node(body).invoke({"log": []})
    assert flow.sql(CALLS) == [("a", 7, True)]


def test_a_thread_given_only_the_context_of_a_step_that_is_full(flow: Flow) -> None:
    def body() -> None:
        trace.get_current_span().set_attributes({f"mine.{n}": 1 for n in range(200)})
        here = otel_context.get_current()

        def work() -> None:
            otel_context.attach(here)
            call(trace.get_tracer("other"), 1)

        thread = threading.Thread(target=lambda: contextvars.Context().run(work))
        thread.start()
        thread.join()

    in_node(body).invoke({"log": []})
    assert flow.sql(CALLS) == [("a", 7, True)]


def test_a_step_and_a_turn_that_a_user_filled_can_still_be_found(flow: Flow) -> None:
    fill = {f"mine.{number}": 1 for number in range(200)}
    graph = in_node(lambda: trace.get_current_span().set_attributes(fill))
    turn_filled = chain("b")
    for _ in turn_filled.stream({"log": []}):
        for turn in list(processor.scopes.turns.values()):
            turn.span.set_attributes(fill)
    graph.invoke({"log": []})
    [step] = flow.named("step a")
    [(engagement, turn_id)] = flow.sql("SELECT engagement_id, turn_id FROM steps WHERE name = 'a'")
    said = step.attributes or {}
    assert said["spanflow.engagement.id"] == engagement
    assert said["spanflow.turn.id"] == turn_id
    assert (said["spanflow.step.name"], said["spanflow.step.path"]) == ("a", "a")
    assert len(said) == 128
    first = next(span for span in flow.spans if span.name.startswith("invoke_workflow"))
    said = first.attributes or {}
    assert said["spanflow.turn.id"] == flow.one("SELECT turn_id FROM steps WHERE name = 'b'")
    assert said["gen_ai.operation.name"] == "invoke_workflow"
    assert said["spanflow.turn.outcome"] == "completed"
    assert said["spanflow.turn.kind"] == "new"


def test_what_somebody_else_says_of_its_place_stands(flow: Flow) -> None:
    def body() -> None:
        with trace.get_tracer("other").start_as_current_span("ChatOther") as span:
            span.set_attributes({**INFERENCE, "spanflow.engagement.id": "theirs"})

    in_node(body).invoke({"log": []})
    assert flow.sql("SELECT engagement_id FROM llm_calls") == [("theirs",)]


def test_spans_that_never_end_do_not_pile_up(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_MOST_REMEMBERED", 10)
    ours = JourneyProcessor()
    provider = TracerProvider()
    provider.add_span_processor(ours)
    ours.runtime = _Process.runtime
    tracer = provider.get_tracer("other")

    def body() -> None:
        for _ in range(35):
            tracer.start_span("never ended")
        call(tracer, 130)

    in_node(body).invoke({"log": []})
    assert len(ours._stamped) <= 10  # noqa: SLF001 - nothing else tells
    assert flow.sql(CALLS) == [("a", 7, True)]
