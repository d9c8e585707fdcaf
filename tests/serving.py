"""The shapes in which servers run an agent, as programs: `python serving.py SHAPE LEDGER RUNS`.

Each ends as servers of its kind do and prints how long its slowest run took, in seconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from patience import be_patient

PROCESSES = 4


def agent(ledger: str) -> Any:
    """Switch capture on as an application does, and return its graph."""
    import spanflow

    spanflow.configure(ledger=ledger)
    be_patient()
    from graphs import calling, chain, llm

    return chain("a", "b", "c", b=calling(llm(2, 1)))


def say(seconds: float) -> None:
    os.write(1, f"{seconds}\n".encode())  # in one piece, among others who say theirs


def serve(graph: Any, runs: int) -> float:
    slowest = 0.0
    for _ in range(runs):
        began = time.monotonic()
        assert graph.invoke({"log": []}) == {"log": ["a", "called", "c"]}
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def serve_anew(ledger: str, runs: int) -> None:
    """Be a process of its own, which imports everything itself."""
    say(serve(agent(ledger), runs))


def prefork(ledger: str, runs: int) -> None:
    """Fork workers from a master that has loaded the app, and recorded something, already."""
    graph = agent(ledger)
    serve(graph, 3)
    workers = []
    for _ in range(PROCESSES):
        worker = os.fork()
        if not worker:
            say(serve(graph, runs))
            os._exit(0)
        workers.append(worker)
    for worker in workers:
        assert os.waitpid(worker, 0)[1] == 0
    serve(graph, 3)


def processes(method: str) -> Any:
    def start(ledger: str, runs: int) -> None:
        context = multiprocessing.get_context(method)
        if method == "fork":
            serve(agent(ledger), 3)
        children = [
            context.Process(target=serve_anew, args=(ledger, runs)) for _ in range(PROCESSES)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0

    return start


def threads(ledger: str, runs: int) -> None:
    graph = agent(ledger)
    with ThreadPoolExecutor(8) as pool:
        say(max(pool.map(lambda _: serve(graph, runs // 8), range(8))))


def on_a_loop(ledger: str, runs: int) -> None:
    graph = agent(ledger)

    async def one() -> float:
        began = time.monotonic()
        assert await graph.ainvoke({"log": []}) == {"log": ["a", "called", "c"]}
        return time.monotonic() - began

    async def everything() -> float:
        slowest = 0.0
        for _ in range(runs // 20):
            slowest = max(slowest, *await asyncio.gather(*(one() for _ in range(20))))
        return slowest

    say(asyncio.run(everything()))


def left(ledger: str, runs: int) -> None:
    """End right after the last run."""
    say(serve(agent(ledger), runs))


def terminated(ledger: str, runs: int) -> None:
    """Be told to end right after the last run, by a signal that nobody handles."""
    left(ledger, runs)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def killed(ledger: str, runs: int) -> None:
    """Be killed inside the second node of one more run."""
    graph = agent(ledger)
    serve(graph, runs)
    from graphs import chain

    def die(_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    chain("a", "b", "c", b=die).invoke({"log": []})


SHAPES = {
    "prefork": prefork,
    "fork": processes("fork"),
    "spawn": processes("spawn"),
    "forkserver": processes("forkserver"),
    "threads": threads,
    "asyncio": on_a_loop,
    "left": left,
    "terminated": terminated,
    "killed": killed,
}

if __name__ == "__main__":
    SHAPES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
