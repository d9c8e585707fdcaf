"""The simulated users of the demo: what they say to the booking agent, and when they leave.

A crowd is the same again for the same seed. It talks to the agent as any front end would, and keeps
what the agent's own log says.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

__all__ = ["Note", "Outcome", "User", "Visit", "Witness", "crowd", "talk"]

Outcome: TypeAlias = Literal["completed", "paused", "failed", "left"]
"""How one run of the agent ended, as the user saw it."""

Note: TypeAlias = "dict[str, Any]"
"""One line of the agent's log: who (`customer`) `did` what to which `name`, at which `attempt`."""

_AREAS = ("Shibuya", "Asakusa", "Ueno", "Ginza")


@dataclass(frozen=True)
class User:
    """One simulated user, with all the decisions they will take."""

    name: str
    """Their user id."""
    tier: str
    """What they pay for: `free` or `pro`."""
    request: str
    """What they want."""
    greets_first: bool
    """They say hello and must be asked where they want to stay."""
    answers_question: bool
    """They answer that; otherwise they leave."""
    closes_tab: bool
    """They are gone as soon as the agent has understood them."""
    answers: tuple[str, ...]
    """What they say to the offers, one after the other; then they never answer again."""
    retries: int
    """How often they ask again after an error."""
    says_thanks: bool
    """They come back after booking to say so."""
    trouble: float
    """How often an outside service fails them, from 0 to 1."""
    by_async: bool
    """Their front end talks to the agent in asynchronous code."""


@dataclass
class Visit:
    """What happened to one user, as their front end saw it."""

    user: User
    notes: list[Note] = field(default_factory=list[Note])
    """What the agent's own log says of them, in order, and how each run ended."""

    @property
    def runs(self) -> list[Note]:
        """Return the notes of how each run of the agent began and ended, in order."""
        return [note for note in self.notes if note["did"] == "ended"]

    @property
    def outcomes(self) -> list[str]:
        """Return how each run of the agent ended, in order."""
        return [str(run["name"]) for run in self.runs]


def crowd(size: int, seed: int) -> Iterator[User]:
    """Yield `size` users of different patience; the same for the same seed."""
    for number in range(1, size + 1):
        dice = random.Random(f"{seed}:{number}")  # noqa: S311 - a simulation, no secret

        def happens(percent: float, dice: random.Random = dice) -> bool:
            return dice.random() * 100 < percent

        wish = f"{dice.choice(_AREAS)}, {dice.randint(1, 4)} nights, up to {dice.randint(7, 20)}000"
        refusals = ["no"] * dice.choices((0, 1, 2), (70, 22, 8))[0]
        decision = dice.choices(("yes", "a human, please", None), (62, 10, 28))[0]
        yield User(
            name=f"user-{number:04}",
            tier="pro" if number % 3 == 0 else "free",
            request="I want to talk to a human." if happens(5) else f"A room in {wish} yen.",
            greets_first=happens(40),
            answers_question=happens(75),
            closes_tab=happens(4),
            answers=(*refusals, *([decision] if decision else [])),
            retries=dice.choice((0, 1)),
            says_thanks=happens(30),
            trouble=0.6 if happens(12) else 0.08,
            by_async=number % 4 == 0,
        )


class Witness(logging.Handler):
    """Reads the agent's log and hands every line to the user it is about."""

    def __init__(self, visits: Mapping[str, Visit]) -> None:
        """Listen for the visits given, by user."""
        super().__init__(logging.INFO)
        self._visits = visits

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the agent said it did."""
        note: Note = vars(record)["booking"]
        self._visits[note["customer"]].notes.append(note)


def talk(visit: Visit, agent: Any, example: ModuleType, config: dict[str, Any], seed: int) -> None:
    """Let one user talk to the agent until they have what they want, or enough.

    Args:
        visit: Who talks, and where to note how it went.
        agent: The compiled graph.
        example: The agent's module.
        config: The config of every run: thread and metadata.
        seed: Decides when outside services fail.
    """
    from langchain_core.messages import HumanMessage

    user = visit.user
    services = example.Services(seed=f"{seed}:{user.name}", trouble=user.trouble)
    context = example.Context(customer=user.name, services=services)

    def run(says: Any, *, leaves: bool = False) -> Outcome:
        kind = "new" if not visit.runs else "message" if isinstance(says, dict) else "resume"
        if leaves:
            outcome = _leave(agent, says, config, context)
        else:
            outcome = _run(agent, says, config, context, by_async=user.by_async)
        visit.notes.append({"did": "ended", "name": outcome, "kind": kind})
        return outcome

    def message(words: str) -> dict[str, Any]:
        return {"messages": [HumanMessage(words)]}

    if user.greets_first:
        run(message("Hello, I need a room."))
        if not user.answers_question:
            return
    if user.closes_tab:
        run(message(user.request), leaves=True)
        return
    if _negotiate(user, run) and user.says_thanks:
        run(message("Thank you!"))


def _negotiate(user: User, run: Callable[[Any], Outcome]) -> bool:
    """Ask for a room and answer the offers; return whether it was booked."""
    from langchain_core.messages import HumanMessage
    from langgraph.types import Command

    answers = iter(user.answers)
    for _ in range(1 + user.retries):
        said = user.request
        outcome = run({"messages": [HumanMessage(said)]})
        while outcome == "paused":
            answer = next(answers, None)
            if answer is None:
                return False
            said = answer
            outcome = run(Command(resume=said))
        if outcome == "completed":
            return said == "yes"
    return False


def _run(agent: Any, says: Any, config: dict[str, Any], context: Any, *, by_async: bool) -> Outcome:
    """Run the agent once and say how it ended."""
    try:
        if by_async:
            state = asyncio.run(agent.ainvoke(says, config, context=context))
        else:
            state = agent.invoke(says, config, context=context)
    except ConnectionError:
        return "failed"
    return "paused" if "__interrupt__" in state else "completed"


def _leave(agent: Any, says: Any, config: dict[str, Any], context: Any) -> Outcome:
    """Read the first piece of the agent's stream and close it."""
    stream = agent.stream(says, config, context=context, stream_mode="updates")
    next(stream)
    stream.close()
    return "left"
