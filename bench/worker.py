"""One contender in a process of its own: told a number of runs, it says how long each took.

Every contender lives as long as the bench and only one runs at a time, so that all meet the same
machine: nothing is patched and unpatched in between.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from bench import calls, chain, plain

if TYPE_CHECKING:
    from collections.abc import Callable


def prepare(contender: str, mode: str) -> None:
    """Set this process up as `bare`, `floor` or `spanflow` (which reads its variables)."""
    if contender == "bare" or (contender == "spanflow" and mode == "off"):
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    if contender == "spanflow":
        import spanflow

        spanflow.configure(ledger=os.environ["SPANFLOW_LEDGER"])


def runner(contender: str, mode: str) -> Callable[[int], list[int]]:
    """Return a function that makes `n` runs and gives the nanoseconds of each."""
    asynchronous = mode == "async"
    with_spans = contender == "floor"
    graph: Any
    if mode in ("plain", "off"):
        graph = plain.build(contender)
    elif mode in ("model", "litellm"):
        graph = calls.build(mode, with_spans=with_spans)
    else:
        graph = chain.build(asynchronous=asynchronous, with_spans=with_spans)
    start: Any = {"n": 0}

    def run(n: int) -> list[int]:
        taken: list[int] = []
        for _ in range(n):
            before = time.perf_counter_ns()
            graph.invoke(start)
            taken.append(time.perf_counter_ns() - before)
        return taken

    async def run_async(n: int) -> list[int]:
        taken: list[int] = []
        for _ in range(n):
            before = time.perf_counter_ns()
            await graph.ainvoke(start)
            taken.append(time.perf_counter_ns() - before)
        return taken

    if not asynchronous:
        return run
    loop = asyncio.Runner()
    return lambda n: loop.run(run_async(n))


def main() -> None:
    """Answer each line of input, a number of runs, with a line of JSON."""
    contender, mode = sys.argv[1:]
    prepare(contender, mode)
    run = runner(contender, mode)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(int(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
