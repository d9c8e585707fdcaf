"""A booking that waits for a person, with its checkpoints in PostgreSQL.

    opentelemetry-instrument python approval_worker.py ask trip-7
    opentelemetry-instrument python approval_worker.py answer trip-7 yes

Each command is a worker of its own: it may run on another day, after another deployment. Of
spanflow it only knows a name for the answer, which it could leave out.
"""

from __future__ import annotations

import os
import sys
from typing import Any, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class Booking(TypedDict, total=False):
    """What is to be booked, and what a person said of it."""

    trip: str
    approved: bool


def build() -> StateGraph[Any]:
    """Build find → approve (a person decides) → book."""

    def find(booking: Booking) -> Booking:
        return {"trip": booking["trip"]}

    def approve(booking: Booking) -> Booking:
        answer = interrupt({"awaiting": "approval", "trip": booking["trip"]})
        return {"approved": answer == "yes"}

    def book(booking: Booking) -> Booking:
        return {"trip": f"{booking['trip']} is booked"}

    graph = StateGraph(Booking)
    graph.add_sequence([find, approve])
    graph.add_node("book", book)
    graph.add_edge(START, "find")
    graph.add_conditional_edges(
        "approve", lambda b: "book" if b["approved"] else END, ["book", END]
    )
    return graph


def main(does: str, trip: str, *answer: str) -> None:
    """Ask for approval of a trip, or say what the person decided."""
    config: Any = {"configurable": {"thread_id": trip}}
    with PostgresSaver.from_conn_string(os.environ["CHECKPOINTS"]) as saver:
        saver.setup()
        app = build().compile(checkpointer=saver, name="booking")
        if does == "ask":
            app.invoke({"trip": trip}, config)
        else:
            config["metadata"] = {
                "spanflow_resolution": "approved" if answer == ("yes",) else "refused"
            }
            app.invoke(Command(resume=answer[0]), config)


if __name__ == "__main__":
    main(*sys.argv[1:])
