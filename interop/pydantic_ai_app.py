"""Agents of Pydantic AI with its own instrumentation, which keep books of their own.

It knows nothing of spanflow and loads no graph. One agent asks another through a tool, one is
streamed, one has a tool that fails, four run at the same time, and one is cancelled. At the end it
prints, as one line of JSON, what each run was: how it ended, which agents worked in it and how
each of them ended, and what each spent.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Spent = defaultdict[str, Counter[str]]
books: dict[str, dict[str, Any]] = {}
spent: Spent = defaultdict(Counter)


def model(path: str, tokens: tuple[int, int], tool: str | None = None) -> FunctionModel:
    """Return a model without a network: it asks for `tool` first, and then answers.

    Args:
        path: Where its agent works, for the books.
        tokens: What each call spends, input and output.
        tool: A tool to ask for.
    """

    def answer(messages: list[Any], info: Any) -> ModelResponse:
        del info
        used = any(isinstance(part, ToolReturnPart) for part in messages[-1].parts)
        spent[path] += Counter(llm_calls=1, input_tokens=tokens[0], output_tokens=tokens[1])
        asks = tool is not None and not used
        if asks:
            spent[path]["tool_calls"] += 1
        part = ToolCallPart(tool, {"about": "Shibuya"}) if asks else TextPart("west of the moat")
        usage = RequestUsage(input_tokens=tokens[0], output_tokens=tokens[1])
        return ModelResponse(parts=[part], usage=usage)

    async def pieces(messages: list[Any], info: Any) -> AsyncIterator[str]:
        del messages, info
        # Of a stream the library counts the words itself: 50 for a question of one word.
        spent[path] += Counter(llm_calls=1, input_tokens=50, output_tokens=4)
        for word in ("west ", "of ", "the ", "moat"):
            yield word

    return FunctionModel(answer, stream_function=pieces, model_name="scripted")


def note(run: str, status: str, **steps: str) -> None:
    """Close the book of one run: how it ended, and how each agent did."""
    paths = {path.replace("__", "/"): ended for path, ended in steps.items()}
    books[run] = {"status": status, "steps": paths, "spent": {p: spent[p] for p in paths}}


def delegate() -> None:
    """Let one agent ask another through a tool."""
    researcher = Agent(model("planner/researcher", (30, 3)), name="researcher")
    planner = Agent(model("planner", (20, 2), "research"), name="planner")

    @planner.tool_plain
    async def research(about: str) -> str:
        return (await researcher.run(about)).output

    planner.run_sync("where?")
    note("planner", "completed", planner="completed", planner__researcher="completed")


async def stream() -> None:
    """Take an answer in pieces."""
    narrator = Agent(model("narrator", (0, 0)), name="narrator")
    async with narrator.run_stream("where?") as answer:
        async for _ in answer.stream_text():
            pass
    note("narrator", "completed", narrator="completed")


def fail() -> None:
    """Let a tool fail, and the run with it."""
    clumsy = Agent(model("clumsy", (7, 1), "stumble"), name="clumsy")

    @clumsy.tool_plain
    def stumble(about: str) -> str:
        message = f"no way to {about}"
        raise LookupError(message)

    try:
        clumsy.run_sync("where?")
    except LookupError:
        note("clumsy", "failed", clumsy="failed")


async def gather() -> None:
    """Run several agents at the same time, each with a tool that takes turns with the others."""

    def worker(number: int) -> Agent:
        name = f"worker {number}"
        made = Agent(model(name, (number, 100 + number), "wait"), name=name)

        @made.tool_plain
        async def wait(about: str) -> str:
            await asyncio.sleep(0.01)
            return about

        return made

    await asyncio.gather(*(worker(number).run("where?") for number in range(1, 5)))
    for number in range(1, 5):
        note(f"worker {number}", "completed", **{f"worker {number}": "completed"})


async def cancel() -> None:
    """Cancel an agent while its tool waits."""
    hasty = Agent(model("hasty", (5, 1), "wait"), name="hasty")
    waiting = asyncio.Event()

    @hasty.tool_plain
    async def wait(about: str) -> str:
        waiting.set()
        await asyncio.sleep(60)
        return about

    task = asyncio.create_task(hasty.run("where?"))
    await waiting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    note("hasty", "abandoned", hasty="cancelled")


def main() -> None:
    """Run them all and close the books."""
    Agent.instrument_all()
    delegate()
    asyncio.run(stream())
    fail()
    asyncio.run(gather())
    asyncio.run(cancel())
    if "langgraph" in sys.modules:
        sys.exit("nobody here needs LangGraph")
    json.dump(books, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
