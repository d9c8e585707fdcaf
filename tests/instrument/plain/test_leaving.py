"""How blocks are left: by errors, out of order, elsewhere, by a kill, in a fork; nothing stays."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

import spanflow
from spanflow.capture import scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from conftest import Flow


def nothing_stands() -> bool:
    """Whether no block of ours left anything behind in this context."""
    return scope.current.get() is None and trace.get_current_span() is trace.INVALID_SPAN


def talk(name: str) -> Iterator[int]:
    with spanflow.engagement(name, id=name), spanflow.step("ask"):
        yield 1
    with spanflow.engagement(name, id=name), spanflow.step("answer"):
        yield 2


def test_generators_that_take_turns(flow: Flow) -> None:
    """A block around a ``yield`` stands in its consumer's context, and is taken away all the same.

    Which of the two a step belongs to is then theirs to say; what matters is that nothing is left.
    """
    list(zip(talk("a"), talk("b"), strict=True))
    assert nothing_stands()
    assert flow.one("SELECT count(*) FROM turns WHERE outcome = 'completed'") == 4


async def atalk() -> AsyncIterator[int]:
    async with spanflow.engagement("abandoned", id="left"), spanflow.step("ask"):
        with spanflow.agent("planner"):
            yield 1
            yield 2


async def test_an_async_generator_that_is_abandoned(
    flow: Flow, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is closed in another context than it began in: it ends, and nothing is said of it."""
    async for _ in atalk():
        break
    gc.collect()
    await asyncio.sleep(0.01)
    with spanflow.engagement("next", id="next"), spanflow.step("ask") as s:
        pass
    assert nothing_stands()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert flow.sql("SELECT engagement_id, outcome FROM turns ORDER BY ALL") == [
        ("left", "left"),
        ("next", "completed"),
    ]
    assert flow.sql(
        "SELECT engagement_id, path, status, agent_name FROM steps ORDER BY started_at"
    ) == [("left", "ask", "cancelled", None), ("next", "ask", "completed", None)]
    assert flow.one("SELECT trace_id FROM turns WHERE engagement_id = 'left'") != flow.one(
        f"SELECT trace_id FROM steps WHERE step_id = '{s.step_id}'"
    )


def test_a_block_left_in_another_context(flow: Flow) -> None:
    for block in (
        spanflow.engagement("x", id="x"),
        spanflow.step("x"),
        spanflow.agent("x"),
        spanflow.llm_call("x"),
        spanflow.tool_call("x"),
    ):
        contextvars.copy_context().run(block.__enter__)
        block.__exit__(None, None, None)
    assert nothing_stands()
    assert flow.sql("SELECT name, outcome FROM turns") == [("x", "completed")] * 3
    assert flow.one("SELECT count(*) FROM spans WHERE ended_at IS NULL") == 0


def interrupted() -> None:
    raise KeyboardInterrupt


def cancelled() -> None:
    raise asyncio.CancelledError


def failing() -> None:
    msg = "boom détail"
    raise ValueError(msg)


@pytest.mark.parametrize(
    ("raise_it", "error", "outcome", "step", "status", "errors"),
    [
        (failing, ValueError, "failed", "failed", "failed", 1),
        (cancelled, asyncio.CancelledError, "cancelled", "cancelled", "abandoned", 0),
        (interrupted, KeyboardInterrupt, "cancelled", "cancelled", "abandoned", 0),
        (lambda: sys.exit(0), SystemExit, "cancelled", "cancelled", "abandoned", 0),
    ],
    ids=["ValueError", "CancelledError", "KeyboardInterrupt", "SystemExit"],
)
def test_what_is_raised_goes_on_and_ends_the_turn(  # noqa: PLR0913, PLR0917 - a table's columns
    flow: Flow,
    raise_it: Callable[[], None],
    error: type[BaseException],
    outcome: str,
    step: str,
    status: str,
    errors: int,
) -> None:
    with (
        pytest.raises(error),
        spanflow.engagement("x", id="1"),
        spanflow.step("outer"),
        spanflow.agent("planner"),
        spanflow.step("inner"),
        spanflow.tool_call("t"),
    ):
        raise_it()
    assert nothing_stands()
    assert flow.one("SELECT outcome FROM turns") == outcome
    assert flow.steps() == [("outer", step), ("outer/inner", step)]
    assert flow.sql("SELECT status, dropped_at, errors FROM engagements") == [
        (status, "outer/inner", errors)
    ]
    assert flow.one("SELECT status FROM tool_calls") == (
        "error" if outcome == "failed" else "cancelled"
    )
    marked = {span.name for span in flow.spans if span.status.status_code.name == "ERROR"}
    if outcome != "failed":
        assert marked == {"execute_tool t"}  # as every call that was cancelled
    if outcome == "failed":
        assert (
            flow.sql("SELECT error_type, error_message FROM steps")
            == [("ValueError", "boom détail")] * 2
        )


def test_a_generator_that_is_closed_leaves(flow: Flow) -> None:
    def steps() -> Iterator[int]:
        with spanflow.engagement("x", id="1"), spanflow.step("a"):
            yield 1

    going = steps()
    next(going)
    going.close()
    assert nothing_stands()
    assert flow.sql("SELECT status, dropped_at, abandon_reason FROM engagements") == [
        ("abandoned", "a", "interrupted")
    ]


CRASHES = """
import os, signal, spanflow
with spanflow.engagement("crash", id="c", goals=["done"]):
    with spanflow.step("a"):
        spanflow.llm_call("m", input_tokens=2, output_tokens=3)
    with spanflow.step("b"), spanflow.llm_call("m"):
        os.kill(os.getpid(), signal.{signal})
"""


def program(flow_ledger: Any, code: str) -> subprocess.CompletedProcess[str]:
    setup = f"import spanflow; spanflow.configure(ledger={str(flow_ledger)!r}, ingest='off')\n"
    return subprocess.run(
        [sys.executable, "-c", setup + code],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    )


def test_a_process_that_is_killed_inside(flow: Flow) -> None:
    done = program(flow.ledger, CRASHES.format(signal="SIGKILL"))
    assert done.returncode == -signal.SIGKILL
    assert flow.sql("SELECT engagement_id, status, dropped_at, total_tokens FROM engagements") == [
        ("c", "interrupted", "b", 5)
    ]
    assert flow.sql("SELECT path, status FROM steps ORDER BY started_at") == [
        ("a", "completed"),
        ("b", "interrupted"),
    ]


LEFT_OPEN = """
held = spanflow.llm_call("held")
block = spanflow.engagement("open", id="open")
block.__enter__()
step = spanflow.step("never left")
step.__enter__()
spanflow.llm_call("m", input_tokens=1, output_tokens=1)
"""


def test_a_process_that_ends_inside(flow: Flow) -> None:
    """What nobody closed is as if the process had died there, and nothing is said at exit."""
    done = program(flow.ledger, LEFT_OPEN)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert flow.sql("SELECT engagement_id, status, dropped_at, total_tokens FROM engagements") == [
        ("open", "interrupted", "never left", 2)
    ]


FORKS = """
import os, sys
with spanflow.engagement("parent", id="p"):
    with spanflow.step("a"):
        child = os.fork()
        if child == 0:
            with spanflow.step("in-child"):
                spanflow.llm_call("m", input_tokens=1, output_tokens=1)
            with spanflow.engagement("child", id="c"), spanflow.step("own"):
                spanflow.goal("done")
            {leave}
        assert os.waitpid(child, 0)[1] == 0
    with spanflow.step("b"):
        spanflow.llm_call("m", input_tokens=10, output_tokens=10)
"""


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_that_forks_inside(flow: Flow, leave: str) -> None:
    """The parent's turn ends when and as the parent says, however its child went."""
    done = program(flow.ledger, FORKS.format(leave=leave))
    assert (done.returncode, done.stderr) == (0, "")
    assert flow.sql(
        "SELECT engagement_id, status, turns, total_tokens FROM engagements ORDER BY ALL"
    ) == [("c", "completed", 1, 0), ("p", "completed", 1, 22)]
    assert flow.sql("SELECT engagement_id, outcome FROM turns ORDER BY ALL") == [
        ("c", "completed"),
        ("p", "completed"),
    ]
    assert flow.sql(
        "SELECT engagement_id, path, status FROM steps ORDER BY engagement_id, path"
    ) == [
        ("c", "own", "completed"),
        ("p", "a", "completed"),
        ("p", "a/in-child", "completed"),
        ("p", "b", "completed"),
    ]


def test_what_comes_too_late_is_no_warning_in_the_users_log(
    flow: Flow, caplog: pytest.LogCaptureFixture
) -> None:
    @spanflow.step("pieces")
    def pieces() -> Iterator[int]:
        yield from range(3)

    def ask() -> None:
        with spanflow.step("asks"):
            spanflow.pause("approval")
            raise LookupError

    with spanflow.engagement("e"):
        left = pieces()
        next(left)
    assert list(left) == [1, 2]
    with spanflow.engagement("e"), pytest.raises(LookupError):
        ask()
    assert flow.steps() == [("pieces", "cancelled"), ("asks", "waiting")]
    assert [r.message for r in caplog.records if r.name.startswith("opentelemetry")] == []
