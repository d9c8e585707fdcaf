"""A program with a bad day: calls that report what they cost, a step that fails, a record that is lost.

python spending.py FOLDER: another ledger's journal in FOLDER loses what was written to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from completions import answer, ask
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from spanflow import guard
from spanflow.ledger.journal import journal_for

LOST = 3


class State(TypedDict, total=False):
    """Nothing is kept."""

    fails: bool


def research(_: State) -> State:
    """Ask a model whose price LiteLLM knows."""
    ask(mock_response=answer(2_000, 500, model="gpt-4o"), model="gpt-4o")
    return {}


def report(state: State) -> State:
    """Fail where it is told to."""
    if state.get("fails"):
        message = "the printer is on fire"
        raise RuntimeError(message)
    return {}


def lose(folder: Path) -> None:
    """Write records to a segment that somebody removes."""
    journal = journal_for(folder / "other.duckdb")
    for number in range(LOST):
        journal.append({"kind": "span", "span_id": f"{number:016x}"})
    for segment in journal.directory.glob("*.open"):
        segment.unlink()
    journal.seal()


def main() -> None:
    """Run the graph three times, the last time to no good end."""
    made = StateGraph(State)
    made.add_node("research", research)
    made.add_node("report", report)
    made.add_edge(START, "research")
    made.add_edge("research", "report")
    made.add_edge("report", END)
    graph = made.compile(name="research")
    for fails in (False, False, True):
        try:
            graph.invoke({"fails": fails}, {"metadata": {"user_id": "ada", "tier": "pro"}})
        except RuntimeError:
            guard.diagnose("app.noticed", "the agent's own failure, told as one of ours")
    lose(Path(sys.argv[1]))


main()
