"""What the span processor adds to others' spans, makes of them, and leaves alone."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, calling, chain, llm
from langchain_core.tools import tool
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import spanflow
from spanflow import guard
from spanflow.capture.processor import JourneyProcessor
from spanflow.capture.sentinel import Sentinel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from conftest import Flow

IDENTITY = {"spanflow.engagement.id", "spanflow.turn.id", "spanflow.step.id"}
INFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "m",
    "llm.token_count.prompt": 7,
    "llm.token_count.completion": 8,
}


def others() -> trace.Tracer:
    return trace.get_tracer("openinference.instrumentation.other")


def in_node(body: Callable[[], Any]) -> Any:
    def node(state: State) -> State:
        body()
        return {"log": ["x"]}

    return chain("a", a=node)


def of(flow: Flow, name: str) -> Mapping[str, Any]:
    [span] = flow.named(name)
    return dict(span.attributes or {})


def ours(flow: Flow) -> dict[str, Any]:
    """The identity as the ledger has it."""
    [(engagement, turn, step)] = flow.sql("SELECT engagement_id, turn_id, step_id FROM steps")
    return dict(
        zip(
            ("spanflow.engagement.id", "spanflow.turn.id", "spanflow.step.id"),
            (engagement, turn, step),
            strict=True,
        )
    )


def test_a_users_span_gets_the_identity_and_nothing_else_changes(flow: Flow) -> None:
    given: dict[str, Any] = {"mine": 1, "also": "mine", "list": (1, 2)}

    def body() -> None:
        with others().start_as_current_span("mine", attributes=given) as span:
            span.set_attribute("late", True)
            span.add_event("noticed", {"rooms": 3})
            span.update_name("renamed")

    in_node(body).invoke({"log": []})
    assert of(flow, "renamed") == {**given, "late": True, **ours(flow)}
    [span] = flow.named("renamed")
    assert [event.name for event in span.events] == ["noticed"]
    assert span.status.status_code is trace.StatusCode.UNSET
    assert flow.sql("SELECT kind, name, step_id FROM spans WHERE kind = 'span'") == [
        ("span", "renamed", ours(flow)["spanflow.step.id"])
    ]


def test_spans_outside_any_turn_are_left_alone(flow: Flow) -> None:
    with others().start_as_current_span("before"):
        pass
    with others().start_as_current_span("around"):
        chain("a").invoke({"log": []})
    with others().start_as_current_span("after"):
        pass
    for name in ("before", "around", "after"):
        assert of(flow, name) == {}
    assert flow.one("SELECT count(*) FROM spans WHERE kind = 'span'") == 0


def test_a_thread_given_only_the_context_is_known_by_the_parent_span(flow: Flow) -> None:
    def body() -> None:
        around = otel_context.get_current()

        def work() -> None:
            otel_context.attach(around)
            with (
                others().start_as_current_span("in thread"),
                others().start_as_current_span("deeper"),
            ):
                pass

        thread = threading.Thread(target=lambda: contextvars.Context().run(work))
        thread.start()
        thread.join()

    in_node(body).invoke({"log": []})
    assert of(flow, "in thread") == of(flow, "deeper") == ours(flow)


def test_a_call_of_another_dialect_is_counted_once(flow: Flow) -> None:
    in_node(lambda: others().start_span("ChatOther", attributes=INFERENCE).end()).invoke(
        {"log": []}
    )
    assert flow.sql("SELECT model, total_tokens, counted, scope FROM llm_calls") == [
        ("m", 15, True, "openinference.instrumentation.other")
    ]
    assert flow.sql("SELECT total_tokens, llm_calls FROM steps") == [(15, 1)]
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(15, 1)]
    step, turn = of(flow, "step a"), flow.spans[-1].attributes or {}
    assert step["spanflow.usage.total_tokens"] == turn["spanflow.usage.total_tokens"] == 15
    assert not {key for key in (*step, *turn) if key.startswith("gen_ai.usage")}


def test_nested_under_our_own_call_it_is_kept_and_not_counted(flow: Flow) -> None:
    model = llm(7, 8)

    class Nesting(type(model)):  # type: ignore[misc]
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            others().start_span("ChatOther", attributes=INFERENCE).end()
            return super()._generate(*args, **kwargs)

    chain("a", a=calling(Nesting(replies=model.replies))).invoke({"log": []})
    assert flow.sql("SELECT scope, counted, not_counted_because FROM llm_calls ORDER BY scope") == [
        ("openinference.instrumentation.other", False, "nested"),
        ("spanflow", True, None),
    ]
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(15, 1)]
    assert of(flow, "step a")["spanflow.usage.total_tokens"] == 15
    [inner], [outer] = flow.named("ChatOther"), flow.named("chat fake-1")
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id


def test_two_records_of_one_call_from_two_scopes_count_once(flow: Flow) -> None:
    def body() -> None:
        other, third = others(), trace.get_tracer("third.instrumentation")
        one = other.start_span("ChatOther", attributes=INFERENCE)
        two = third.start_span(
            "chat m",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.response.model": "m",
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 8,
            },
        )
        two.end()
        one.end()

    in_node(body).invoke({"log": []})
    assert sorted(flow.sql("SELECT counted FROM llm_calls")) == [(False,), (True,)]
    assert flow.one("SELECT total_tokens FROM engagements") == 15
    assert of(flow, "step a")["spanflow.usage.total_tokens"] == 15


def test_an_agents_span_repeats_what_its_calls_spent(flow: Flow) -> None:
    def body() -> None:
        total = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 70}
        with others().start_as_current_span("invoke_agent", attributes=total):
            others().start_span("ChatOther", attributes=INFERENCE).end()

    in_node(body).invoke({"log": []})
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(15, 1)]


def test_a_tool_of_another_dialect_is_a_tool_call(flow: Flow) -> None:
    attributes = {"openinference.span.kind": "TOOL", "tool.name": "search", "input.value": "secret"}
    in_node(lambda: others().start_span("x", attributes=attributes).end()).invoke({"log": []})
    assert flow.sql("SELECT name, arguments, status FROM tool_calls") == [("search", None, "ok")]
    assert flow.one("SELECT tool_calls FROM engagements") == 1
    assert "secret" not in str(flow.sql("SELECT * FROM records"))


def test_a_failed_span_says_so(flow: Flow) -> None:
    def fails() -> None:
        with others().start_as_current_span("bad", attributes=INFERENCE):
            msg = "mine"
            raise ValueError(msg)

    def body() -> None:
        with pytest.raises(ValueError, match="mine"):
            fails()

    in_node(body).invoke({"log": []})
    assert flow.sql("SELECT status FROM llm_calls") == [("error",)]
    assert flow.steps() == [("a", "completed")]
    assert flow.sql("SELECT status, errors FROM engagements") == [("completed", 0)]


# -- after the end ---------------------------------------------------------------------------------


def outliving(flow: Flow, body: Callable[[], Any]) -> None:
    """Run `body` in a thread that a node started, after its turn has ended."""
    ended, threads = threading.Event(), list[threading.Thread]()

    def node(state: State) -> State:
        around = contextvars.copy_context()

        def work() -> None:
            ended.wait(120)
            body()

        threads.append(threading.Thread(target=lambda: around.run(work)))
        threads[0].start()
        return {"log": ["x"]}

    chain("a", a=node).invoke({"log": []})
    ended.set()
    threads[0].join()


def test_a_span_in_the_trace_of_an_ended_turn_still_belongs_to_it(flow: Flow) -> None:
    def body() -> None:
        others().start_span("late", attributes=INFERENCE).end()

    outliving(flow, body)
    late = of(flow, "late")
    assert {key: late[key] for key in IDENTITY} == ours(flow)
    # The turn's span said what it knew; the ledger knows better.
    assert flow.sql("SELECT total_tokens, llm_calls FROM engagements") == [(15, 1)]
    assert flow.sql("SELECT total_tokens FROM steps") == [(15,)]
    assert "spanflow.usage.total_tokens" not in of(flow, "step a")


def test_a_span_in_a_trace_of_its_own_after_the_turn_does_not(flow: Flow) -> None:
    def body() -> None:
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        others().start_span("elsewhere", context=context, attributes=INFERENCE).end()

    outliving(flow, body)
    assert not IDENTITY & set(of(flow, "elsewhere"))
    assert flow.sql("SELECT total_tokens FROM engagements") == [(0,)]
    assert flow.sql("SELECT engagement_id, counted, total_tokens FROM llm_calls") == [
        (None, True, 15)
    ]


def test_a_graph_started_after_the_turn_is_a_turn_of_its_own(flow: Flow) -> None:
    outliving(flow, lambda: chain("b").invoke({"log": []}))
    assert flow.sql("SELECT count(*), count(DISTINCT trace_id) FROM turns") == [(2, 2)]
    assert flow.one("SELECT count(*) FROM engagements") == 2


def test_a_run_that_was_left_out_stamps_nothing(flow: Flow) -> None:
    @tool
    def inside(x: str) -> str:
        """Call another graph."""
        chain("b").invoke({"log": []})
        return x

    def body() -> None:
        others().start_span("mine").end()
        inside.invoke({"x": "y"})

    in_node(body).invoke({"log": []}, {"metadata": {"spanflow_enabled": False}})
    assert of(flow, "mine") == {}
    assert [span.name for span in flow.spans] == ["mine"]


# -- the processor itself --------------------------------------------------------------------------


def test_it_stands_on_a_provider_once(flow: Flow) -> None:
    provider: Any = trace.get_tracer_provider()
    processors = provider._active_span_processor._span_processors  # noqa: SLF001 - no other way
    assert sum(isinstance(one, Sentinel) for one in processors) == 1
    in_node(lambda: others().start_span("mine").end()).invoke({"log": []})
    assert flow.one("SELECT count(*) FROM spans WHERE kind = 'span'") == 1


def test_switched_off_it_does_nothing(flow: Flow) -> None:
    spanflow.uninstrument()
    in_node(lambda: others().start_span("mine").end()).invoke({"log": []})
    assert of(flow, "mine") == {}


@pytest.mark.usefixtures("flow")
def test_our_own_failure_never_reaches_whoever_starts_a_span() -> None:
    guard.set_strict(False)
    processor = JourneyProcessor()
    processor.runtime = object()  # type: ignore[assignment] - nothing that works
    provider = TracerProvider()
    provider.add_span_processor(processor)
    provider.get_tracer("x").start_span("chat", attributes=INFERENCE).end()
    assert guard.counts() == {"processor.on_end": 1}
    assert processor.force_flush()
    processor.shutdown()
