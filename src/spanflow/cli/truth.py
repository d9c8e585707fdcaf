"""What the demo's ledger must say, worked out from the agent's own log and from what each user saw.

Nothing of the capture path is used here; otherwise its mistakes would agree with themselves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from spanflow.cli.crowd import Note, Visit

__all__ = ["GLOBAL_STEP", "GOAL", "Cells", "differences", "expected"]

GOAL = "submitted"
"""The step that means that a user got their room."""
GLOBAL_STEP = "escalate"
"""The step that any other can jump to."""

Cells: TypeAlias = "dict[tuple[str, str], object]"
"""Values by what they are about (``engagement``, ``step search/think``, …) and their name."""

_LOOK_UP = "search/look_up"
_STATUS_NOW = {"paused": "paused", "failed": "failed", "completed": "active", "left": "active"}
"""By how the last run ended: with a goal declared, a thread without it can still go on."""
_STATUS_LATER = {
    "completed": "completed",
    "failed": "failed",
    "paused": "abandoned",
    "active": "abandoned",
}
_LEAVES_STEP = {"paused": "waiting", "failed": "failed"}
"""How the last step stands when a run ends so."""
_USAGE = ("input_tokens", "output_tokens", "cache_read_tokens")


@dataclass
class _Account:
    """What adds up while a user's notes are read."""

    runs: Counter[str] = field(default_factory=Counter[str])
    attempts: Counter[str] = field(default_factory=Counter[str])
    ended_as: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    tools: Counter[str] = field(default_factory=Counter[str])
    spent: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    total: Counter[str] = field(default_factory=Counter[str])
    replies: int = 0
    last_step: str = ""

    def read(self, note: Note) -> None:
        """Take one note into account."""
        path = _step_of(note)
        if path is not None:
            self.runs[path] += note["attempt"] == 1
            self.attempts[path] += 1
            self.last_step = path
        match note["did"]:
            case "tool":
                self.tools[str(note["name"])] += 1
            case "reply":
                self.replies += 1
                for key in _USAGE:
                    self.total[key] += note[key]
                    for place in _and_parents(self.last_step):
                        self.spent[place, key] += note[key]
            case "ended" if note["name"] in _LEAVES_STEP:
                for place in _and_parents(self.last_step):
                    self.ended_as[place, _LEAVES_STEP[note["name"]]] += 1
            case _:
                pass


def expected(visit: Visit) -> Cells:
    """Return what the ledger must say about one user."""
    account = _Account()
    for note in visit.notes:
        account.read(note)
    cells: Cells = {}
    for path, runs in account.runs.items():
        about = f"step {path}"
        others = {status: account.ended_as[path, status] for status in _LEAVES_STEP.values()}
        cells[about, "runs"] = runs
        cells[about, "attempts"] = account.attempts[path]
        cells[about, "completed"] = runs - sum(others.values())
        for status, number in others.items():
            cells[about, status] = number
        for key in _USAGE:
            # A step that calls no model spent nothing, and that is known.
            cells[about, key] = account.spent[path, key]
        # Every failed attempt is told as an error: those mended by another, and the last of a step
        # that failed. What a subgraph failed of is told by its innermost step alone.
        mended = account.attempts[path] - runs
        own = not any(other.startswith(f"{path}/") for other in account.runs)
        cells[about, "errors"] = mended + (account.ended_as[path, "failed"] if own else 0)
    for name, calls in account.tools.items():
        cells[f"tool {name}", "calls"] = calls
    booked = account.runs[GOAL] > 0
    now = "completed" if booked else _STATUS_NOW[visit.outcomes[-1]]
    later = _STATUS_LATER[now]
    return cells | {
        ("engagement", "status"): now,
        ("engagement", "status a day later"): later,
        ("engagement", "goal"): GOAL if booked else None,
        ("engagement", "dropped_at a day later"): None if booked else account.last_step,
        ("engagement", "turns"): len(visit.outcomes),
        ("engagement", "kinds"): [str(run["kind"]) for run in visit.runs],
        ("engagement", "outcomes"): visit.outcomes,
        ("engagement", "waits"): visit.outcomes.count("paused"),
        ("engagement", "open waits"): int(visit.outcomes[-1] == "paused"),
        ("engagement", "steps"): sum(account.runs.values()),
        ("engagement", "llm_calls"): account.replies,
        ("engagement", "tool_calls"): sum(account.tools.values()),
        ("engagement", "intent switches"): account.runs[GLOBAL_STEP],
        ("engagement", "input_tokens"): account.total["input_tokens"],
        ("engagement", "output_tokens"): account.total["output_tokens"],
        ("engagement", "total_tokens"): account.total["input_tokens"]
        + account.total["output_tokens"],
    }


def differences(user: str, wanted: Cells, found: Cells) -> list[str]:
    """Return every cell in which the ledger and the truth differ, one line each."""
    return [
        f"{user}: {about}: {name} is {found.get((about, name), 'missing')!r}, "
        f"not {wanted.get((about, name), 'missing')!r}"
        for about, name in sorted({*wanted, *found})
        if wanted.get((about, name), "missing") != found.get((about, name), "missing")
    ]


def _step_of(note: Note) -> str | None:
    """Return the step that a line of the log tells of, if it tells of one."""
    if note["did"] == "step":
        return str(note["name"])
    # The tools' own node says nothing; the one tool it runs does.
    return _LOOK_UP if note["name"] == "search_rooms" else None


def _and_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
