"""Whatever an app gives: nothing is raised, its run is unaffected, and all can be listed."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from graphs import State, chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spanflow
from spanflow import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow


class Rude:
    """What raises whatever is asked of it."""

    def __repr__(self) -> str:
        msg = "repr"
        raise RuntimeError(msg)

    __str__ = __hash__ = __eq__ = __bool__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]


odd = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=8)
    | st.sampled_from(["\ud800", "\0", "", "a/b", "🙈" * 600, "x" * 5_000])
    | st.builds(object)
    | st.builds(Rude)
    | st.lists(st.text(max_size=3) | st.builds(Rude), max_size=3)
    | st.dictionaries(st.integers() | st.text(max_size=5), st.text(max_size=3) | st.builds(Rude))
    | st.sampled_from([ValueError("x"), ValueError, 10**400, float("nan"), {1, 2}, lambda: 1])
)


def everything(draw: Callable[[], Any]) -> None:
    """Call each function with what is drawn."""
    with spanflow.engagement(
        draw(),
        id=draw(),
        user_id=draw(),
        session_id=draw(),
        goals=draw(),
        metadata=draw(),
    ):
        with StepOf(draw):
            pass
        with spanflow.agent(str(draw), role=draw()), spanflow.resume(draw(), resolution=draw()):
            spanflow.goal(draw())
        call = spanflow.llm_call(
            draw(), provider=draw(), input=draw(), output=draw(), response_id=draw()
        )
        call.set_usage(input_tokens=draw(), output_tokens=draw(), cost_usd=draw())
        with spanflow.llm_call(draw()) as call:
            call.set_usage(input_tokens=draw(), total_tokens=draw(), cache_read_tokens=draw())
            call.set_answer(model=draw(), response_id=draw())
            call.set_messages(input=draw(), output=draw())
        with spanflow.tool_call(draw(), arguments=draw(), call_id=draw()) as tool:
            tool.set_arguments(draw())
            tool.set_result(draw())
        spanflow.tool_call(draw(), result=draw(), error=draw())
        spanflow.log(draw(), a=draw(), b=draw())
        spanflow.log("x", step_id=draw(), engagement_id=draw())
        spanflow.error(draw())
        spanflow.extraction(draw(), draw(), valid=draw(), error=draw())
        spanflow.gave_up(draw(), engagement_id=draw())
        spanflow.record_llm_usage(draw(), metadata=draw(), caller=draw(), output_tokens=draw())
        spanflow.pause(draw(), draw(), step_id=draw())


def StepOf(draw: Callable[[], Any]) -> Any:  # noqa: N802 - made like a class
    """A step of any name that is none of a function's."""
    name = draw()
    return spanflow.step(
        "callable" if callable(name) else name,
        tools=draw(),
        is_global=draw(),
        step_id=draw(),
        engagement_id=draw(),
    )


@pytest.mark.parametrize("content", ["NO_CONTENT", "SPAN_ONLY"])
def test_nothing_is_raised_and_all_can_be_read(
    flow: Flow, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.set_strict(False)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", content)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")

    @settings(
        deadline=None,
        max_examples=60,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def run(data: Any) -> None:
        random.seed()  # hypothesis seeds it alike for each example, and ids of spans come from it

        def draw() -> Any:
            return data.draw(odd)

        def node(state: State) -> State:
            with contextlib.suppress(spanflow.PauseInGraphError):
                everything(draw)
            return {"log": ["ran"]}

        everything(draw)
        assert chain("a", a=node).invoke({"log": []}) == {"log": ["ran"]}

    run()
    with spanflow.engagement("sound", id="sound"), spanflow.step("last"):
        spanflow.llm_call("m", input_tokens=2, output_tokens=3)
    assert flow.sql(
        "SELECT status, steps, total_tokens FROM engagements WHERE engagement_id = 'sound'"
    ) == [("completed", 1, 5)]
    assert flow.sql("SELECT * FROM turns WHERE outcome IS NULL") == []
    with spanflow.connect(flow.ledger) as ledger:
        listed = ledger.engagements(limit=None)
        assert len(listed) >= 60
        assert all((one.usage.total_tokens or 0) >= 0 for one in listed)
        for one in listed[:20]:
            ledger.engagement(one.engagement_id)
        assert ledger.funnel(["last"])[0].reached == 1
        ledger.purge("30d")
        assert ledger.usage_by("model") is not None


def test_metadata_of_any_kind(flow: Flow) -> None:
    with spanflow.engagement("x", id="1", metadata={"a": object(), 1: "int", "n": float("nan")}):
        pass
    with spanflow.engagement("x", id="2", metadata=["no", "mapping"]):  # type: ignore[arg-type]
        pass
    rows = flow.sql("SELECT metadata FROM engagements ORDER BY engagement_id")
    assert "<object object at" in rows[0][0]
    assert rows[1] == (None,)
    assert guard.counts() == {"metadata": 1}
    assert flow.sql("SELECT engagement_id FROM engagements WHERE metadata->>'1' = 'int'") == [
        ("1",)
    ]
