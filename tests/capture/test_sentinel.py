"""Capture wakes at the first span of an agent or a call, and not before."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanflow.capture.sentinel import Sentinel

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span

TESTS = str(Path(__file__).parents[1])
AGENT = """
    from foreign import agent, chat
    with agent("planner"):
        chat(20, 5)
"""

PROVIDED = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())
    from spanflow.setup import SpanflowInstrumentor
    SpanflowInstrumentor().instrument()
"""


def run(folder: Path, *code: str, **environment: str) -> list[tuple[Any, ...]]:
    """Run code as a program of its own; return the engagements in its ledger."""
    quiet = {f"OTEL_{what}_EXPORTER": "none" for what in ("TRACES", "METRICS", "LOGS")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANFLOW_"))}
    ledger = folder / "traces.duckdb"
    body = "".join(map(textwrap.dedent, code))
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{TESTS!r}]\nimport patience\n{body}"],
        cwd=folder,
        env={**kept, **quiet, "SPANFLOW_LEDGER": str(ledger), **environment},
        check=True,
        timeout=240,
    )
    if not ledger.exists():
        return []
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute("SELECT name, total_tokens FROM engagements").fetchall()


@pytest.mark.parametrize(
    "setting_up",
    [
        "import spanflow; spanflow.configure()",
        PROVIDED,
        "import spanflow; spanflow.configure(); spanflow.uninstrument(); spanflow.configure()",
    ],
    ids=["configure", "instrumentor", "again"],
)
def test_an_agent_is_captured_where_no_framework_of_ours_is_loaded(
    tmp_path: Path, setting_up: str
) -> None:
    leave = "assert not {'langgraph', 'langchain_core', 'litellm'} & sys.modules.keys()\n"
    assert run(tmp_path, setting_up, AGENT, leave) == [("planner", 25)]


def test_a_call_outside_any_agent_is_usage_of_its_own(tmp_path: Path) -> None:
    code = "import spanflow; spanflow.configure()\nfrom foreign import chat; chat(20, 5)\n"
    assert run(tmp_path, code) == []
    with duckdb.connect(str(tmp_path / "traces.duckdb"), read_only=True) as connection:
        asked = "SELECT engagement_id, total_tokens, counted FROM llm_calls"
        assert connection.execute(asked).fetchall() == [(None, 25, True)]


@pytest.mark.parametrize(
    "code",
    [
        "",
        "spanflow.uninstrument()",
        "spanflow.configure(enabled=False)",
    ],
)
def test_it_sleeps_until_then_and_when_switched_off(tmp_path: Path, code: str) -> None:
    others = """
        from opentelemetry import trace
        with trace.get_tracer("web").start_as_current_span("GET /", attributes={"a": 1}):
            pass
        assert not {"spanflow.capture.processor", "duckdb"} & sys.modules.keys()
    """
    before = "import spanflow; spanflow.configure()\n"
    assert run(tmp_path, before, others, code, AGENT if code else "") == []
    assert list(tmp_path.iterdir()) == []


def test_switched_off_by_variable_nobody_stands_there(tmp_path: Path) -> None:
    code = "import spanflow; spanflow.configure()\nfrom foreign import agent\n"
    assert run(tmp_path, code, AGENT, SPANFLOW_ENABLED="false") == []
    assert list(tmp_path.iterdir()) == []


def test_spans_that_start_meanwhile_are_heard() -> None:
    heard: list[str] = []
    calls: list[int] = []
    sentinel = Sentinel()

    class Listener(Sentinel):
        def on_start(self, span: Span, parent_context: Any = None) -> None:
            del parent_context
            heard.append(span.name)

    asked = threading.Event()

    def wake() -> None:
        calls.append(1)
        asked.set()
        released.wait(120)
        sentinel.listener = Listener()

    released = threading.Event()
    sentinel.wake = wake
    provider = TracerProvider()
    provider.add_span_processor(sentinel)
    names = [f"invoke_agent {number}" for number in range(8)]
    threads = [
        threading.Thread(target=provider.get_tracer("x").start_span, args=(name,)) for name in names
    ]
    for thread in threads:
        thread.start()
    asked.wait(120)
    released.set()
    for thread in threads:
        thread.join()
    assert sorted(heard) == names
    assert calls == [1]


def test_a_failure_to_wake_reaches_nobody() -> None:
    from spanflow import guard

    guard.set_strict(False)
    sentinel = Sentinel()
    sentinel.wake = lambda: 1 / 0
    provider = TracerProvider()
    provider.add_span_processor(sentinel)
    provider.get_tracer("x").start_span("invoke_agent a").end()
    assert guard.counts() == {"sentinel.wake": 1}
    provider.get_tracer("x").start_span("invoke_agent b").end()
    assert guard.counts() == {"sentinel.wake": 1}
