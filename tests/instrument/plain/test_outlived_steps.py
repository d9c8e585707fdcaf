"""What is told by code that outlives the step it was made in, while the turn goes on."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

import spanflow

if TYPE_CHECKING:
    import pytest
    from conftest import Flow


def tell() -> None:
    spanflow.log("late")
    spanflow.error(ValueError("late"))
    spanflow.extraction("Late", {"area": "Ueno"})


def told(flow: Flow) -> list[tuple[str, str | None]]:
    """Kind and path of what was told, as the ledger has it; the spans have as much."""
    rows = flow.sql(
        "SELECT e.kind, path FROM events e LEFT JOIN steps s USING (step_id)"
        " WHERE e.kind IN ('log', 'error', 'extraction') ORDER BY ALL"
    )
    on_spans = [event.name for span in flow.spans for event in span.events]
    assert len([name for name in on_spans if name != "sold"]) == len(rows)
    return rows


def test_a_copied_context_outlives_its_step(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    with spanflow.engagement("desk"):
        with spanflow.step("search"):
            with spanflow.step("rank"):
                kept = contextvars.copy_context()
            kept.run(tell)
        kept.run(tell)
    places = ["search", None]
    assert told(flow) == [(kind, at) for kind in ("error", "extraction", "log") for at in places]
    assert flow.sql("SELECT errors FROM engagements") == [(2,)]
    assert not caplog.records


def test_a_task_outlives_its_step(flow: Flow) -> None:
    async def later(go: asyncio.Event) -> None:
        await go.wait()
        tell()
        spanflow.goal("sold")

    async def main() -> None:
        go = asyncio.Event()
        async with spanflow.engagement("desk"):
            async with spanflow.step("search"):
                task = asyncio.create_task(later(go))
                await asyncio.sleep(0)
            async with spanflow.step("offer"):
                go.set()
                await task

    asyncio.run(main())
    assert told(flow) == [("error", None), ("extraction", None), ("log", None)]
    assert flow.sql("SELECT goal FROM engagements") == [("sold",)]


def test_a_pause_asked_by_a_task_that_outlived_its_step_is_a_wait(flow: Flow) -> None:
    with spanflow.engagement("desk", id="1"), spanflow.step("search"):
        with spanflow.step("rank"):
            kept = contextvars.copy_context()
        kept.run(spanflow.pause, "approval")
    assert flow.sql("SELECT label, path FROM waits") == [("approval", "search")]
    assert flow.sql("SELECT status, dropped_at FROM engagements") == [("paused", None)]
