"""What capture never does on the caller's thread or loop, and a wide margin on what it costs."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from graphs import acalling, calling, chain, llm

import spanflow

if TYPE_CHECKING:
    import pytest
    from conftest import Flow


async def test_no_sync_and_no_lock_on_the_callers_thread(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    lock = fcntl.flock

    def noted(name: str, real: Any) -> Any:
        def call(*args: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                seen.append((name, args[1] if name == "flock" else 0))
            return real(*args)

        return call

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(os, "fdatasync", noted("fdatasync", os.fdatasync))
    monkeypatch.setattr(fcntl, "flock", noted("flock", lock))
    chain("a", "b", a=calling(llm(1, 1))).invoke({"log": []})
    await chain("a", "b", a=acalling(llm(1, 1))).ainvoke({"log": []})
    # This process's own mark is locked once, and nothing ever waits for a lock.
    assert len(seen) <= 1
    assert all(name == "flock" and flags & fcntl.LOCK_NB for name, flags in seen)
    assert flow.one("SELECT count(*) FROM turns") == 2


def test_a_step_costs_no_more_than_a_few_times_what_it_costs_alone(flow: Flow) -> None:
    """The bench measures it; this only catches a blunder, on a machine however slow."""
    app = chain(*(f"node_{n}" for n in range(10)))

    def least_s() -> float:
        taken: list[float] = []
        for _ in range(40):
            began = time.thread_time()
            app.invoke({"log": []})
            taken.append(time.thread_time() - began)
        return min(taken)

    ours = least_s()
    spanflow.uninstrument()
    assert ours < 6 * least_s()
    assert len(flow.named("step node_0")) == 40
