"""A travel agent that does one of everything that a back end must show, each time the same.

    opentelemetry-instrument python agent.py begin CHECKPOINTS THREAD
    opentelemetry-instrument python agent.py answer CHECKPOINTS THREAD
    opentelemetry-instrument python agent.py break CHECKPOINTS THREAD

`begin` fans out to three quotes by `Send` and to reviews beside them, runs a subgraph, pays at the
second attempt and waits for a yes; `answer` says yes in a process of its own; `break` fails.
"""

# LangGraph reads annotations at run time.

from __future__ import annotations

import operator
import sys
from typing import Annotated, Any, TypedDict

from graphs import FakeLLM
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

AGAIN = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2)
USER = "ada"
SESSION = "visit-7"
METADATA = {"tier": "pro", "variant": 2}
_tries: list[str] = []


class Trip(TypedDict, total=False):
    """What is known of a trip."""

    log: Annotated[list[str], operator.add]
    broken: bool


def _reply(text: str, asked: int, answered: int) -> AIMessage:
    usage = {"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered}
    return AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "fake-1"})


MODEL = FakeLLM(replies=[_reply("to Kyoto", 100, 10), _reply("cheap enough", 200, 20)])


@tool
def look_up(place: str) -> str:
    """Find what a place costs."""
    return f"{place}: 90"


def intake(_: Trip) -> Trip:
    """Ask the model where to."""
    return {"log": [str(MODEL.invoke("where to?").content)]}


def route(trip: Trip) -> list[Any]:
    """Ask for three quotes at once, and the reviews beside them."""
    if trip.get("broken"):
        return ["breaks"]
    return [
        *(Send("quote", {"log": [place]}) for place in ("Gion", "Arashiyama", "Uji")),
        "reviews",
    ]


def quote(trip: Trip) -> Trip:
    """Look one place up."""
    return {"log": [look_up.invoke({"place": trip["log"][-1]})]}


def reviews(_: Trip) -> Trip:
    """Read what guests say."""
    return {"log": ["fine"]}


def judge(_: Trip) -> Trip:
    """Ask the model whether that is cheap enough, inside the subgraph."""
    return {"log": [str(MODEL.invoke("cheap enough?").content)]}


def pay(_: Trip) -> Trip:
    """Pay; the first try fails."""
    _tries.append("pay")
    if len(_tries) == 1:
        message = "the gateway did not answer"
        raise ConnectionError(message)
    return {"log": ["paid"]}


def confirm(_: Trip) -> Trip:
    """Wait for a yes."""
    return {"log": [str(interrupt({"ask": "shall I book it?"}))]}


def done(_: Trip) -> Trip:
    """Say that it is done."""
    return {"log": ["booked"]}


def breaks(_: Trip) -> Trip:
    """Fail, with more to say than a back end keeps."""
    message = "no rooms left " * 400
    raise RuntimeError(message)


def build() -> StateGraph[Any]:
    """Put the graph together."""
    search = StateGraph(Trip)
    search.add_sequence([judge])
    search.add_edge(START, "judge")
    graph = StateGraph(Trip)
    for node in (intake, quote, reviews, confirm, done, breaks):
        graph.add_node(node.__name__, node)
    graph.add_node("search", search.compile())
    graph.add_node("pay", pay, retry_policy=AGAIN)
    graph.add_edge(START, "intake")
    graph.add_conditional_edges("intake", route, ["quote", "reviews", "breaks"])
    graph.add_edge(["quote", "reviews"], "search")
    graph.add_edge("search", "pay")
    graph.add_edge("pay", "confirm")
    graph.add_edge("confirm", "done")
    graph.add_edge("done", END)
    return graph


def main(does: str, checkpoints: str, thread: str) -> None:
    """Do one of the three."""
    config: Any = {
        "configurable": {"thread_id": thread},
        "metadata": {
            "user_id": USER,
            "session_id": SESSION,
            "spanflow_goals": ["done"],
            **METADATA,
        },
    }
    with SqliteSaver.from_conn_string(checkpoints) as saver:
        app = build().compile(checkpointer=saver, name="trip")
        if does == "answer":
            app.invoke(Command(resume="yes"), config)
        elif does == "begin":
            app.invoke({"log": []}, config)
        else:
            try:
                app.invoke({"log": [], "broken": True}, config)
            except RuntimeError:
                sys.stdout.write("it broke\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
