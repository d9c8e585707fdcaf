"""The sums written on steps and turns as they end, where others report the same calls."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

import duckdb
from graphs import State, chain, llm
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import tool
from opentelemetry import trace

from spanflow.capture import scope as scopes
from spanflow.capture.exporter import DuckDBSpanExporter
from spanflow.capture.usage import CallLog
from spanflow.ledger.publish import refresh
from spanflow.spending import Call, Totals, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Flow

USAGE = "spanflow.usage."


def attributes_of(flow: Flow, name: str) -> dict[str, Any]:
    [span] = [span for span in flow.spans if span.name.startswith(name)]
    return dict(span.attributes or {})


def test_reports_made_after_the_fact_without_a_step_add_nothing(flow: Flow) -> None:
    times: list[int] = []

    @tool
    def search(area: str) -> str:
        """Find rooms."""
        return area

    def calls(state: State) -> State:
        times.append(time.time_ns())
        llm(7, 8).invoke("a")
        times.append(time.time_ns())
        search.invoke({"area": "west"})
        times.append(time.time_ns())
        return {"log": ["a"]}

    def tells(state: State) -> State:
        scope = scopes.current.get()
        assert scope is not None
        assert scope.turn is not None
        context = scope.turn.context

        def late(started_ns: int, ended_ns: int, **attributes: Any) -> None:
            others = trace.get_tracer("langsmith")
            span = others.start_span("late", context, start_time=started_ns)
            span.set_attributes({key.replace("__", "."): said for key, said in attributes.items()})
            span.end(ended_ns)

        def work() -> None:
            late(
                *times[:2],
                langsmith__span__kind="llm",
                gen_ai__request__model="fake-1",
                gen_ai__usage__input_tokens=7,
                gen_ai__usage__output_tokens=8,
            )
            late(*times[1:], langsmith__span__kind="tool", gen_ai__tool__name="search")

        thread = threading.Thread(target=lambda: contextvars.Context().run(work))
        thread.start()
        thread.join()
        return {"log": ["b"]}

    chain("a", "b", a=calls, b=tells).invoke({"log": []})
    asked = "SELECT total_tokens, llm_calls, tool_calls FROM"
    assert flow.sql(f"{asked} engagements") == [(15, 1, 1)]
    assert flow.sql(f"{asked} steps WHERE path = 'a'") == [(15, 1, 1)]
    for name in ("step a", "invoke_workflow"):
        told = attributes_of(flow, name)
        fields = ("total_tokens", "llm_calls", "tool_calls")
        assert [told[USAGE + field] for field in fields] == [15, 1, 1]


def test_a_call_that_only_the_late_one_reports_is_added_to_the_turn(flow: Flow) -> None:
    def node(state: State) -> State:
        scope = scopes.current.get()
        assert scope is not None
        assert scope.turn is not None
        llm(7, 8).invoke("a")
        with trace.get_tracer("late").start_as_current_span("x", scope.turn.context) as span:
            span.set_attributes({"langsmith.span.kind": "llm", "gen_ai.usage.input_tokens": 5})
        return {"log": ["a"]}

    chain("a", a=node).invoke({"log": []})
    assert flow.one("SELECT input_tokens FROM turns") == 12
    assert attributes_of(flow, "invoke_workflow")[f"{USAGE}input_tokens"] == 12


def test_a_step_that_somebody_wrote_a_call_onto_stays_a_step(flow: Flow, tmp_path: Path) -> None:
    def node(state: State) -> State:
        # LiteLLM's callback does so where it makes no span of its own.
        trace.get_current_span().set_attributes(
            {
                "gen_ai.operation.name": "completion",
                "gen_ai.usage.input_tokens": 5,
                "hidden_params": "{}",
            }
        )
        return {"log": ["a"]}

    chain("a", a=node).invoke({"log": []})
    fed = tmp_path / "fed.duckdb"
    exporter = DuckDBSpanExporter(fed)
    exporter.export(flow.spans)
    exporter.shutdown()
    refresh(fed)
    with duckdb.connect(str(fed), read_only=True) as connection:
        asked = "SELECT path, status, llm_calls FROM steps"
        assert connection.sql(asked).fetchall() == flow.sql(asked) == [("a", "completed", 0)]


reported = st.lists(
    st.tuples(
        st.sampled_from(["spanflow", "theirs", "others"]),
        st.none() | st.integers(0, 7),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=8,
)


@given(reported, st.integers(0, 8), st.data())
def test_the_order_in_which_spans_end_never_matters(
    shapes: list[tuple[str, int | None, int, int]], cut: int, data: st.DataObject
) -> None:
    calls = [
        Call(
            span_id=str(number),
            parent_span_id=None if inside is None or inside >= number else str(inside),
            scope=scope,
            # The first ones in the step, the others without one.
            step_id="step" if number < cut else None,
            model="m",
            response_id=None,
            started_ns=start,
            ended_ns=start + 2,
            usage=Usage.of(input_tokens=tokens),
        )
        for number, (scope, inside, start, tokens) in enumerate(shapes)
    ]

    def total(step: list[Call], turn: list[Call]) -> Totals:
        totals, of_step, of_turn = Totals(), CallLog(), CallLog()
        for call in step:
            of_step.add(call)
        of_step.settle(of_turn, totals)
        for call in turn:
            of_turn.add(call)
        of_turn.settle(None, totals)
        return totals

    step, turn = calls[:cut], calls[cut:]
    assert total(data.draw(st.permutations(step)), data.draw(st.permutations(turn))) == total(
        step, turn
    )
