"""Agents of OpenAI's SDK under OpenInference's instrumentor, which keep books of their own.

It knows nothing of spanflow and loads no graph. One agent hands over to another that uses a tool,
one uses another as its tool, one has a model that fails, two run at the same time, and one is
cancelled. At the end it prints, as one line of JSON, what each run was: how it ended, which agents
worked in it and how each of them ended, and what each spent.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    Usage,
    function_tool,
    generation_span,
)
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

books: dict[str, dict[str, Any]] = {}
spent: defaultdict[str, Counter[str]] = defaultdict(Counter)


def says(text: str) -> ResponseOutputMessage:
    """Return an answer."""
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        id="m", type="message", role="assistant", status="completed", content=[content]
    )


def asks(tool: str, **arguments: str) -> ResponseFunctionToolCall:
    """Return a wish for a tool."""
    return ResponseFunctionToolCall(
        call_id=f"call-{tool}", type="function_call", name=tool, arguments=json.dumps(arguments)
    )


class Scripted(Model):
    """A model without a network: it answers from a list, and reports as the SDK's own models do.

    Args:
        place: Where its agent works, for the books.
        tokens: What each call spends, input and output.
        answers: What it answers, one after the other; an error is raised.
    """

    def __init__(self, place: str, tokens: tuple[int, int], *answers: Any) -> None:
        """Begin at the first answer."""
        self._place, self._tokens, self._answers = place, tokens, list(answers)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Give the next answer."""
        del args, kwargs
        given, produced = self._tokens
        with generation_span(model="gpt-4o-mini") as span:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            span.span_data.usage = {"input_tokens": given, "output_tokens": produced}
        spent[self._place] += Counter(llm_calls=1, input_tokens=given, output_tokens=produced)
        if isinstance(answer, ResponseFunctionToolCall):
            spent[self._place]["tool_calls"] += 1
        usage = Usage(
            requests=1, input_tokens=given, output_tokens=produced, total_tokens=given + produced
        )
        return ModelResponse(output=[answer], usage=usage, response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Refuse: nobody here streams."""
        raise NotImplementedError


@function_tool
def look_up(area: str) -> str:
    """Look a district up."""
    return f"{area} is west of the moat"


def named(workflow: str) -> RunConfig:
    """Return what names a run."""
    return RunConfig(workflow_name=workflow)


def note(run: str, status: str, spending: dict[str, str], **steps: str) -> None:
    """Close the book of one run: how it ended, and how each agent did."""
    paths = {path.replace("__", "/"): ended for path, ended in steps.items()}
    told = {path: spent[spending.get(path, path)] for path in paths}
    books[run] = {"status": status, "steps": paths, "spent": told}


async def hand_over() -> None:
    """Let one agent hand over to another that uses a tool."""
    writing = Scripted("writer", (30, 3), asks("look_up", area="Shibuya"), says("west"))
    writer = Agent(name="writer", model=writing, tools=[look_up])
    deciding = Scripted("triage", (20, 2), asks("transfer_to_writer"))
    triage = Agent(name="triage", model=deciding, handoffs=[writer])
    await Runner.run(triage, "where?", run_config=named("handover"))
    note("handover", "completed", {}, triage="completed", writer="completed")


async def delegate() -> None:
    """Let one agent use another as its tool."""
    inner = Agent(name="expert", model=Scripted("boss/expert", (9, 4), says("west")))
    tool = inner.as_tool(tool_name="ask_expert", tool_description="Ask somebody who knows.")
    answering = Scripted("boss", (6, 1), asks("ask_expert", input="where?"), says("west"))
    await Runner.run(
        Agent(name="boss", model=answering, tools=[tool]), "?", run_config=named("delegation")
    )
    note("delegation", "completed", {}, boss="completed", boss__expert="completed")


async def fail() -> None:
    """Let a model fail, and the run with it."""
    model = Scripted("clumsy", (0, 0), LookupError("no way"))
    try:
        await Runner.run(Agent(name="clumsy", model=model), "?", run_config=named("failure"))
    except LookupError:
        spent["clumsy"]["llm_calls"] += 1
        note("failure", "failed", {}, clumsy="failed")


async def gather() -> None:
    """Run two at the same time."""

    async def one(number: int) -> None:
        name = f"worker {number}"
        model = Scripted(name, (number, 10), asks("look_up", area="Meguro"), says("south"))
        agent = Agent(name=name, model=model, tools=[look_up])
        await Runner.run(agent, "?", run_config=named(f"shift {number}"))
        note(f"shift {number}", "completed", {}, **{name: "completed"})

    await asyncio.gather(one(1), one(2))


async def cancel() -> None:
    """Cancel an agent while its tool waits."""
    waiting = asyncio.Event()

    @function_tool
    async def wait() -> str:
        """Wait for ever."""
        waiting.set()
        await asyncio.sleep(60)
        return ""

    agent = Agent(name="hasty", model=Scripted("hasty", (5, 1), asks("wait")), tools=[wait])
    task = asyncio.create_task(Runner.run(agent, "?", run_config=named("haste")))
    await waiting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    note("haste", "abandoned", {}, hasty="cancelled")


async def main() -> None:
    """Run them all and close the books."""
    for run in (hand_over, delegate, fail, gather, cancel):
        await run()
    if "langgraph" in sys.modules:
        sys.exit("nobody here needs LangGraph")
    json.dump(books, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    asyncio.run(main())
