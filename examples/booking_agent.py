"""A hotel booking agent on LangGraph: it asks, searches, compares, waits for a yes, pays and books.

It shows what real agents are made of: a chat model with tools in a loop (`search`, a subgraph), a
fan-out to one `quote` a hotel beside `reviews`, a loop back when nothing fits, an `escalate` node
that any step can jump to, an `interrupt()` for the customer's yes, and two outside services that
time out now and then and are tried again. The models are scripted and the services are made up, so
it needs no network and does the same again for the same seed.

Run it for a short conversation::

    python examples/booking_agent.py
"""

# LangGraph, LangChain and pydantic read annotations at run time.
# ruff: noqa: TC002, TC003

from __future__ import annotations

import hashlib
import json
import logging
import operator
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Command, RetryPolicy, Send, interrupt

log = logging.getLogger("booking_agent")
"""What the agent did, a line each; the same as fields in the record's `booking`."""

HOTELS: dict[str, dict[str, int]] = {
    "Shibuya": {"Hachi House": 14_000, "Dogenzaka Inn": 17_500, "Scramble View": 23_000},
    "Asakusa": {"Kaminari Stay": 9_000, "Sumida Rooms": 12_500},
    "Ueno": {"Park Side": 10_500, "Ameya Lodge": 8_000, "Panda Hotel": 13_000},
    "Ginza": {"Chuo Grand": 38_000},
}
"""Yen a night, by area."""

NEIGHBOUR = {"Ginza": "Asakusa", "Asakusa": "Ueno", "Ueno": "Asakusa", "Shibuya": "Ueno"}
MOST_ROUNDS = 3
AGAIN = RetryPolicy(initial_interval=0.001, max_interval=0.002, jitter=False, max_attempts=3)


class ServiceTimeoutError(ConnectionError):
    """An outside service did not answer in time."""


@dataclass
class Services:
    """The outside world: hotels and a payment gateway that answer most of the time."""

    seed: str = "0"
    trouble: float = 0.12
    """How often a call times out, from 0 (never) to 1 (always)."""
    calls: Counter[str] = field(default_factory=Counter[str])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, what: str) -> None:
        """Call a service; raises ServiceTimeoutError when it does not answer."""
        with self.lock:
            self.calls[what] += 1
            nth = self.calls[what]
        if self.draw(what, nth) < self.trouble:
            message = f"{what} did not answer"
            raise ServiceTimeoutError(message)

    def draw(self, *what: object) -> float:
        """Return a number from 0 to 1, always the same for the same seed and `what`."""
        digest = hashlib.sha256(repr((self.seed, *what)).encode()).digest()
        return int.from_bytes(digest[:6]) / 2**48


@dataclass(frozen=True)
class Context:
    """Whom a run is for, and the services it may use."""

    customer: str
    services: Services = field(default_factory=Services)


def note(did: str, name: str, **more: object) -> None:
    """Log what the agent did for the customer of this run."""
    runtime = get_runtime(Context)
    attempt = runtime.execution_info.node_attempt if runtime.execution_info else 1
    fields = {
        "customer": runtime.context.customer,
        "did": did,
        "name": name,
        "attempt": attempt,
        **more,
    }
    log.info("%s: %s %s", runtime.context.customer, did, name, extra={"booking": fields})


# --- the scripted chat models -----------------------------------------------------------------


class ScriptedModel(BaseChatModel):
    """A chat model that answers by a script and counts tokens as a real one would."""

    model_name: str
    script: Callable[[Sequence[BaseMessage]], AIMessage]
    latency_s: float = 0.001

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer `tools` to the model, as any chat model does."""
        return self.bind(tools=[t.name for t in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del stop, run_manager, kwargs
        time.sleep(self.latency_s)
        reply = self.script(messages)
        asked = sum(tokens(message) for message in messages)
        answered = tokens(reply)
        reply.usage_metadata = {
            "input_tokens": asked,
            "output_tokens": answered,
            "total_tokens": asked + answered,
            "input_token_details": {"cache_read": tokens(messages[0])},
        }
        reply.response_metadata = {"model_name": self.model_name}
        return ChatResult(generations=[ChatGeneration(message=reply)])


def tokens(message: BaseMessage) -> int:
    """Count a message's tokens: four thirds of its words, and twelve for a tool call."""
    calls = len(message.tool_calls) if isinstance(message, AIMessage) else 0
    return len(str(message.content).split()) * 4 // 3 + 12 * calls


def understand(messages: Sequence[BaseMessage]) -> AIMessage:
    """Read what the customer wants out of the last message."""
    said = str(messages[-1].content)
    area = next((name for name in HOTELS if name.lower() in said.lower()), None)
    nights = re.search(r"(\d+) night", said)
    budget = re.search(r"up to (\d+)", said)
    wishes = {
        "area": area,
        "nights": int(nights[1]) if nights else 1,
        "budget": int(budget[1]) if budget else 15_000,
        "human": "human" in said.lower(),
        "thanks": "thank" in said.lower(),
    }
    return AIMessage(json.dumps(wishes))


def look_around(messages: Sequence[BaseMessage]) -> AIMessage:
    """Ask for rooms, next door too when there are none, and stop once there are some."""
    wish = json.loads(str(messages[1].content))
    answers = [json.loads(str(m.content)) for m in messages if isinstance(m, ToolMessage)]
    if answers and (answers[-1] or len(answers) == MOST_ROUNDS):
        return AIMessage("These are the rooms there are.")
    area = wish["area"]
    for _ in answers:
        area = NEIGHBOUR[area]
    call = {"area": area, "most_yen": wish["budget"] * 3 // 2, "without": wish["refused"]}
    return AIMessage(
        f"I look in {area}.",
        tool_calls=[{"name": "search_rooms", "args": call, "id": f"search-{len(answers) + 1}"}],
    )


def recommend(messages: Sequence[BaseMessage]) -> AIMessage:
    """Put the cheapest quote into a sentence."""
    quotes = json.loads(str(messages[-1].content))
    best = min(quotes, key=operator.itemgetter("yen"))
    return AIMessage(
        f"I would take {best['hotel']} at {best['yen']} yen for {best['nights']} nights."
    )


# --- the tools --------------------------------------------------------------------------------


@tool
def search_rooms(area: str, most_yen: int, without: list[str]) -> str:
    """Find hotels in an area that cost at most so many yen a night."""
    note("tool", "search_rooms")
    get_runtime(Context).context.services.call(f"rooms in {area}")
    found = {
        name: yen for name, yen in HOTELS[area].items() if yen <= most_yen and name not in without
    }
    return json.dumps(found)


@tool
def read_reviews(hotels: list[str]) -> str:
    """Return the guests' marks of some hotels, from 1 to 5."""
    note("tool", "read_reviews")
    services = get_runtime(Context).context.services
    return json.dumps({hotel: round(3 + 2 * services.draw("marks", hotel), 1) for hotel in hotels})


@tool
def charge_card(customer: str, yen: int) -> str:
    """Charge a customer's card and return the receipt."""
    note("tool", "charge_card")
    services = get_runtime(Context).context.services
    services.call("the payment gateway")
    return f"R-{int(services.draw(customer, yen) * 1_000_000):06d}"


# --- the graph --------------------------------------------------------------------------------


class Quote(TypedDict):
    """One hotel's price for the whole stay."""

    hotel: str
    nights: int
    yen: int


def gather(quotes: list[Quote], more: list[Quote] | None) -> list[Quote]:
    """Collect the quotes of parallel steps; None begins anew."""
    return [] if more is None else [*quotes, *more]


class Booking(TypedDict, total=False):
    """What the agent knows about one customer's booking."""

    messages: Annotated[list[AnyMessage], add_messages]
    area: str
    nights: int
    budget: int
    round: int
    refused: list[str]
    rooms: dict[str, int]
    quotes: Annotated[list[Quote], gather]
    marks: dict[str, float]
    offer: Quote
    reference: str


class Search(TypedDict, total=False):
    """What the searching subgraph works on; the notes stay inside it."""

    area: str
    budget: int
    refused: list[str]
    notes: Annotated[list[AnyMessage], add_messages]
    rooms: dict[str, int]


class OneRoom(TypedDict):
    """What a single quote is asked for."""

    hotel: str
    yen: int
    nights: int


INTAKE = ScriptedModel(model_name="desk-small", script=understand)
SEARCHER = ScriptedModel(model_name="desk-large", script=look_around)
ADVISER = ScriptedModel(model_name="desk-large", script=recommend)


def ask(
    model: Runnable[LanguageModelInput, AIMessage], messages: Sequence[BaseMessage]
) -> AIMessage:
    """Ask a chat model and log what it cost."""
    reply = model.invoke(list(messages))
    usage = reply.usage_metadata
    if usage is not None:
        note(
            "reply",
            str(reply.response_metadata["model_name"]),
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cache_read_tokens=usage.get("input_token_details", {}).get("cache_read"),
        )
    return reply


def intake(state: Booking) -> Command[Literal["search", "escalate", "__end__"]]:
    """Understand the customer, or ask where they want to stay."""
    note("step", "intake")
    prompt = SystemMessage("You take bookings. Answer with area, nights and budget as JSON.")
    wish = json.loads(str(ask(INTAKE, [prompt, *state["messages"]]).content))
    if wish["human"]:
        return Command(goto="escalate")
    if wish["thanks"] and "reference" in state:
        return Command(goto=END, update={"messages": [AIMessage("Enjoy your stay!")]})
    if wish["area"] is None:
        question = AIMessage("In which area would you like to stay?")
        return Command(goto=END, update={"messages": [question]})
    request = {"area": wish["area"], "nights": wish["nights"], "budget": wish["budget"]}
    return Command(goto="search", update={**request, "round": 1, "refused": [], "quotes": None})


def think(state: Search) -> dict[str, Any]:
    """Let the model decide whether to look for more rooms."""
    notes = state.get("notes", [])
    if not notes:
        note("step", "search")
    note("step", "search/think")
    wish = {"area": state["area"], "budget": state["budget"], "refused": state["refused"]}
    prompt = SystemMessage("You look for rooms. Use the tool until there are some.")
    messages = [prompt, HumanMessage(json.dumps(wish)), *notes]
    reply = ask(SEARCHER.bind_tools([search_rooms]), messages)
    found = [json.loads(str(m.content)) for m in messages if isinstance(m, ToolMessage)]
    return {"notes": [reply], "rooms": found[-1] if found else {}}


def more(state: Search) -> Literal["look_up", "__end__"]:
    """Go on while the model asks for a tool."""
    last = state.get("notes", [])[-1]
    return "look_up" if isinstance(last, AIMessage) and last.tool_calls else END


def fan_out(state: Booking) -> list[Send | str]:
    """Ask for a quote of every room at once, and read the reviews beside it."""
    if not state["rooms"]:
        return ["compare"]
    rooms = [OneRoom(hotel=h, yen=y, nights=state["nights"]) for h, y in state["rooms"].items()]
    return [*(Send("quote", room) for room in rooms), "reviews"]


def quote(room: OneRoom) -> dict[str, list[Quote]]:
    """Work out one hotel's price for the whole stay."""
    note("step", "quote")
    services = get_runtime(Context).context.services
    season = 0.9 + 0.4 * services.draw("season", room["hotel"])
    yen = int(room["yen"] * room["nights"] * season)
    return {"quotes": [Quote(hotel=room["hotel"], nights=room["nights"], yen=yen)]}


def reviews(state: Booking) -> dict[str, Any]:
    """Read what guests said about the rooms found."""
    note("step", "reviews")
    return {"marks": json.loads(read_reviews.invoke({"hotels": sorted(state["rooms"])}))}


def compare(state: Booking) -> Command[Literal["confirm", "search", "escalate"]]:
    """Pick the best offer, or look next door when everything is too dear."""
    note("step", "compare")
    quotes = state.get("quotes")
    if not quotes:
        return Command(goto="escalate")
    advice = ask(ADVISER, [SystemMessage("Recommend one."), HumanMessage(json.dumps(quotes))])
    best = min(quotes, key=operator.itemgetter("yen"))
    too_dear = best["yen"] > state["budget"] * state["nights"]
    if too_dear and state["round"] < MOST_ROUNDS:
        wider = {"area": NEIGHBOUR[state["area"]], "round": state["round"] + 1}
        return Command(goto="search", update={**wider, "quotes": None})
    return Command(goto="confirm", update={"offer": best, "messages": [advice]})


def confirm(state: Booking) -> Command[Literal["pay", "search", "escalate"]]:
    """Wait for the customer's yes; a no sends the agent looking again."""
    note("step", "confirm")
    offer = state["offer"]
    answer = str(interrupt({"awaiting": "confirmation", "offer": offer})).lower()
    note("answer", answer)
    if answer == "yes":
        return Command(goto="pay")
    refused = [*state["refused"], offer["hotel"]]
    if "human" in answer or state["round"] >= MOST_ROUNDS:
        return Command(goto="escalate")
    again = {"refused": refused, "round": state["round"] + 1, "quotes": None}
    return Command(goto="search", update=again)


def pay(state: Booking, runtime: Runtime[Context]) -> dict[str, Any]:
    """Charge the card; the gateway may need a second try."""
    note("step", "pay")
    charge = {"customer": runtime.context.customer, "yen": state["offer"]["yen"]}
    receipt = charge_card.invoke(charge)
    return {"reference": receipt}


def submitted(state: Booking) -> dict[str, Any]:
    """Tell the customer that the room is theirs."""
    note("step", "submitted")
    return {"messages": [AIMessage(f"Booked. Your reference is {state['reference']}.")]}


def escalate(state: Booking) -> dict[str, Any]:
    """Hand over to a person; any step can jump here."""
    note("step", "escalate")
    del state
    return {"messages": [AIMessage("A colleague will take over and write to you.")]}


def build(
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Compile the agent; it needs a checkpointer to wait for the customer's yes.

    Args:
        checkpointer: Where conversations are kept; in memory when none is given.
    """
    search = StateGraph(Search, context_schema=Context)
    search.add_node("think", think)
    search.add_node(
        "look_up",
        ToolNode([search_rooms], messages_key="notes", handle_tool_errors=False),
        retry_policy=AGAIN,
    )
    search.add_edge(START, "think")
    search.add_conditional_edges("think", more)
    search.add_edge("look_up", "think")

    graph = StateGraph(Booking, context_schema=Context)
    graph.add_node("intake", intake)
    graph.add_node("search", search.compile())
    graph.add_node("quote", quote)
    graph.add_node("reviews", reviews)
    graph.add_node("compare", compare)
    graph.add_node("confirm", confirm)
    graph.add_node("pay", pay, retry_policy=AGAIN)
    graph.add_node("submitted", submitted)
    graph.add_node("escalate", escalate)
    graph.add_edge(START, "intake")
    graph.add_conditional_edges("search", fan_out, ["quote", "reviews", "compare"])
    graph.add_edge("quote", "compare")
    graph.add_edge("reviews", "compare")
    graph.add_edge("pay", "submitted")
    graph.add_edge("submitted", END)
    graph.add_edge("escalate", END)
    return graph.compile(checkpointer=checkpointer or InMemorySaver(), name="booking")


def main() -> None:
    """Hold a short conversation and print it."""
    agent = build()
    context = Context(customer="Aiko", services=Services(seed="7"))
    config: RunnableConfig = {"configurable": {"thread_id": "aiko-1"}}
    shown = 0
    said: list[Any] = [
        {"messages": [HumanMessage("Hello, I need a room.")]},
        {"messages": [HumanMessage("Ginza please, 2 nights, up to 12000 yen.")]},
        Command(resume="no"),
        Command(resume="yes"),
    ]
    for turn in said:
        if isinstance(turn, Command):
            sys.stdout.write(f"you    > {turn.resume}\n")
        state = agent.invoke(turn, config, context=context)
        for message in state["messages"][shown:]:
            who = "you   " if isinstance(message, HumanMessage) else "agent "
            sys.stdout.write(f"{who} > {message.content}\n")
        shown = len(state["messages"])
        for question in state.get("__interrupt__", ()):
            offer = question.value["offer"]
            sys.stdout.write(f"agent  > Shall I book {offer['hotel']} for {offer['yen']} yen?\n")


if __name__ == "__main__":
    main()
