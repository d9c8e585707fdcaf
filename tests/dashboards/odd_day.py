"""A program with a bad day, so that no panel is empty.

    python odd_day.py FOLDER

Three times the same user has something researched: a call reports its cost, one tells no tokens, a
question is answered, a step is tried again, and at last it fails for good. Another ledger's journal
in FOLDER loses records.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from completions import answer, ask
from graphs import FakeLLM, State, llm
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from spanflow import guard
from spanflow.ledger.journal import journal_for

VISITS = 3
LOST = 3
_SILENT = FakeLLM(replies=[AIMessage("who knows")])
_PRICED = {"mock_response": answer(2_000, 500, model="gpt-4o"), "model": "gpt-4o"}
_attempts = 0


def research(_: State) -> State:
    """Ask a model whose price LiteLLM knows, and one that says nothing of tokens."""
    ask(**_PRICED)
    _SILENT.invoke("how much was it?")
    return {"log": ["researched"]}


def agree(_: State) -> State:
    """Call a model, then wait for a person: the call is made again when the step is resumed."""
    llm(30, 5).invoke("what shall we ask?")
    return {"log": [interrupt({"awaiting": "approval"})]}


def report(_: State) -> State:
    """Call a model and fail at the first attempt, in the end at every attempt."""
    global _attempts  # noqa: PLW0603 - the day goes on
    _attempts += 1
    llm(40, 10).invoke("sum it up")
    if _attempts != 2 * VISITS and _attempts % 2 == 0:
        return {"log": ["reported"]}
    message = "the printer is on fire"
    raise ConnectionError(message)


def build() -> Any:
    """Make the graph."""
    made = StateGraph(State)
    made.add_node("research", research)
    made.add_node("agree", agree)
    again = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2)
    made.add_node("report", report, retry_policy=again)
    made.add_edge(START, "research")
    made.add_edge("research", "agree")
    made.add_edge("agree", "report")
    made.add_edge("report", END)
    return made.compile(name="research", checkpointer=InMemorySaver())


def lose(folder: Path) -> None:
    """Write records to a segment that somebody removes."""
    journal = journal_for(folder / "other.duckdb")
    for number in range(LOST):
        journal.append({"kind": "span", "span_id": f"{number:016x}"})
    for segment in journal.directory.glob("*.open"):
        segment.unlink()
    journal.seal()


def main() -> None:
    """Live through the day."""
    graph = build()
    for visit in range(VISITS):
        config: Any = {
            "configurable": {"thread_id": f"ada-{visit}"},
            "metadata": {"user_id": "ada", "tier": "pro"},
        }
        graph.invoke({"log": []}, config)
        try:
            graph.invoke(Command(resume="yes"), config)
        except ConnectionError:
            guard.diagnose("app.noticed", "the agent's own failure, told as one of ours")
    lose(Path(sys.argv[1]))


main()
