"""Random journeys as journal records: several turns, pauses, failures, loops, Sends, subgraphs.

A seed makes one engagement, whatever others there are, so that hypothesis can leave out those that
do not matter. What it makes is what LangGraph could do; what came of it is for `reference` to say.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

SEEDS = st.lists(st.integers(0, 2**24), min_size=20, max_size=60, unique=True)
# Making a ledger is slow: few examples, with many engagements and many questions in each.
THOROUGH = settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
HOUR = 3_600_000
USERS = [None, "u1", "u2", "エンゲージ🎌", "o'b\"; --"]
METADATA = [
    None, {}, {"tier": "pro"}, {"tier": "free", "n": 1}, {"tier": "pro", "n": "1"}, {"n": True},
    {"n": None, "tier": "pro"}, {"n": 1.5}, {"n": [1, 2]}, {"n": {"a": 1}}, {"n": [1, "2"]},
    {"a.b": "x", "x/y~z": 2, "it's": 'q"'}, {"n": False, "tier": "検索🔍"}, {"n": ""},
]  # fmt: skip
NODES = ["a", "b", "c", "ask", "sub", "done", "x", "other"]
INNER = {"sub": ["inner", "ask", "b"], "other": ["x", "y"]}
GAPS = [0, 0, 1, 5, 900, 40 * 60_000, 26 * HOUR, 8 * 24 * HOUR]
ENDS = ["completed"] * 5 + ["paused"] * 5 + ["failed"] * 2 + ["cancelled", "left", "dead"]


@dataclass
class Task:
    """A task of a graph: it keeps its execution when it is run again."""

    name: str
    execution: str
    asked: int = 0
    inner: list[str] = field(default_factory=list)


class Engagement:
    """One engagement and its records."""

    def __init__(self, make: Any, seed: int, index: int) -> None:
        self.make, self.dice = make, random.Random(seed)  # noqa: S311 - no secret
        self.name, self.number = f"e{index}", (index + 1) * 100_000
        self.records: list[dict[str, Any]] = []
        self.gone: set[str] = set()
        dice = self.dice
        self.common = {"engagement_id": self.name}
        self.told = {
            "name": dice.choice(["booking", "support", "検索"]),
            "session_id": dice.choice([None, "s1", "s2"]),
            "service_name": dice.choice(["shop", "shop", "desk"]),
            "goals": dice.choice([None, None, ["done"]]),
            "on_thread": dice.random() < 0.8,
        }
        self.user, self.metadata = dice.choice(USERS), dice.choice(METADATA)
        self.at = dice.choice([0, 0, 7, 3 * HOUR, 30 * HOUR, 9 * 24 * HOUR, 40 * 24 * HOUR])
        self.at += dice.choice([0, 0, dice.randrange(1000)])
        # Plain code has no thread.
        threads = dice.choice([["t"]] * 6 + [["t", "u"], ["t", None], ["t", "u", None, None]])
        pending: dict[str | None, tuple[str, list[Task]]] = {}
        latest: tuple[str | None, str | None] = ("t", None)
        for _ in range(dice.choice([1, 1, 2, 3, 4])):
            thread = dice.choice(threads)
            before, tasks = pending.get(thread, (None, []))
            if latest[1] == "paused" and None in (thread, latest[0]):
                before, tasks = "paused", tasks if thread else []
            outcome, tasks = self._turn(thread, before, tasks)
            pending[thread], latest = (outcome, tasks), (thread, outcome)
            self.at += dice.choice(GAPS)
            if outcome is None:
                break

    def _next(self):
        self.number += 1
        return self.number

    def _lasts(self):
        return self.dice.choice([0, 1, 2, 5, 10, 33, 250])

    def _turn(self, thread, before, tasks):
        dice, make = self.dice, self.make
        kind = self._kind(before)
        goes_on = kind in ("resume", "retry")
        outcome = dice.choice(ENDS) if dice.random() < 0.95 else None
        if outcome == "paused" and not self.told["on_thread"]:
            # Without checkpoints nobody can be asked.
            outcome = "completed"
        span, began, first = self._next(), self.at, len(self.records)
        given: dict[str, Any] = {}
        answered: list[str] = []
        if kind == "resume" and before == "paused" and dice.random() < 0.9:
            asked = [question(task) for task in tasks]
            answered = asked if len(asked) < 2 or dice.random() < 0.5 else [dice.choice(asked)]
            given["answers"] = ["*"] if len(asked) < 2 and dice.random() < 0.7 else answered
            given["resolution"] = dice.choice([None, None, "approved", "gave_up", "expired"])
        tasks = [task for task in tasks if before != "completed"] if goes_on else []
        tasks, ended_as = self._body(span, tasks, answered, outcome)
        if outcome == "paused" and ended_as != "paused":
            outcome = "completed" if ended_as is None else ended_as
        until, self.at = self.at, self.at
        events = []
        if dice.random() < 0.07:
            events.append(self._event("gave_up", until))
        if dice.random() < 0.07:
            events.append(self._event("goal", until, name="marked"))
        if outcome == "paused" and not tasks:
            events.append(
                self._event("wait", until, payload={"id": "p", "at": "before", "step": "b"})
            )
        is_open = outcome in (None, "dead")
        ending = {"phase": "start"} if is_open else {"until": until, "status": outcome}
        own = {"user_id": self.user, "metadata": self.metadata, "conversation_id": thread}
        if len(self.records) > first and dice.random() < 0.1:
            own = {"conversation_id": thread, "user_id": None, "metadata": None}
        self.records.append(
            make.turn(
                span, at=began, trace=span, turn_kind=kind, events=events or None,
                **self.common, **self.told, **own, **given, **ending,
            )
        )  # fmt: skip
        if outcome == "dead":
            self.gone.add(make.ident(span))
        return outcome, tasks

    def _kind(self, before):
        dice = self.dice
        if before is None:
            return "new"
        if before == "paused":
            return dice.choice(["resume"] * 6 + ["message", "fork", "retry"])
        if before == "completed":
            return dice.choice(["message", "message", "fork"])
        return dice.choice(["retry", "retry", "resume", "message", "fork"])

    def _event(self, kind, at, name="x", payload=None):
        moment = self.make.T0 + at * self.make.MS
        return {"kind": kind, "name": name, "at_ns": moment, "payload": payload or {}}

    def _body(self, turn, tasks, answered, outcome):
        """Run supersteps until the turn ends; return what is to be taken up again, and how."""
        dice = self.dice
        supersteps = dice.choice([0, 1, 1, 2, 3, 4]) if not tasks else dice.choice([1, 1, 2, 3])
        self.visits: dict[str, int] = {}
        still: list[Task] = []
        for nth in range(supersteps):
            is_last = nth + 1 == supersteps
            if nth or not tasks:
                tasks = self._tasks(is_asking=is_last and outcome == "paused")
            still = []
            began, latest = self.at, self.at
            for place, task in enumerate(tasks):
                may = outcome if is_last and (place == 0 or dice.random() < 0.4) else "completed"
                if may == "paused" and question(task) in answered and dice.random() < 0.6:
                    may = "completed"
                elif is_last and outcome == "paused" and is_open(task, answered):
                    may = "paused"
                elif may == "paused":
                    task.asked += 1
                self.at = began + dice.choice([0, 0, 1])
                self._step(turn, task, nth, STATUS.get(may, "completed"))
                latest = max(latest, self.at)
                if may != "completed":
                    still.append(task)
            self.at = latest + dice.choice([0, 0, 1, 4])
            if any(STATUS.get(outcome) == "waiting" for _ in still) and outcome == "paused":
                return still, "paused"
        if outcome == "paused":
            return [], "paused" if dice.random() < 0.3 else None
        return still, outcome

    def _tasks(self, *, is_asking):
        dice = self.dice
        names = [dice.choice(NODES)]
        if dice.random() < 0.2:
            names *= dice.choice([2, 3])
        elif is_asking or dice.random() < 0.2:
            names.append(dice.choice(NODES))
        return [self._task(name) for name in names]

    def _task(self, name):
        inner = self.dice.choices(INNER.get(name, [name]), k=self.dice.choice([1, 1, 2]))
        return Task(name, f"{self._next():016x}", inner=inner if name in INNER else [])

    def _step(self, turn, task, superstep, status, around=None):
        dice, make = self.dice, self.make
        span, began = self._next(), self.at
        path = task.name if around is None else f"{around[1]}/{task.name}"
        self.visits[path] = self.visits.get(path, 0) + 1
        attempts = dice.choice([None, None, 1, 2]) if not task.inner else None
        fields = dict(self.common)
        if around is not None:
            fields["parent_step_id"] = around[0]
        for nth, name in enumerate(task.inner):
            inside = status if nth + 1 == len(task.inner) else "completed"
            nested = Task(name, f"{task.execution}{nth}", task.asked)
            self._step(turn, nested, nth, inside, (span, path))
        if not task.inner:
            self._calls(turn, span, attempts)
            self.at += self._lasts()
        if status == "waiting" and not task.inner:
            payload = {"id": question(task), "awaiting": "you"}
            fields["events"] = [self._event("wait", self.at, payload=payload)]
        if task.name == "done" and self.told["goals"] and around is None:
            fields["goal"] = "done"
        ending = {"phase": "start"} if status == "open" else {"until": self.at, "status": status}
        self.records.append(
            make.step(
                span, task.name, path=path, turn=turn, trace=turn, at=began, superstep=superstep,
                execution_id=task.execution if self.told["on_thread"] else None,
                visit=self.visits[path], attempts=attempts, **fields, **ending,
            )
        )  # fmt: skip

    def _calls(self, turn, step, attempts):
        dice, make = self.dice, self.make
        inside: list[int] = []
        for _ in range(dice.choice([0, 0, 1, 1, 2, 3])):
            span = self._next()
            again = {"attempt": 2} if attempts == 2 and dice.random() < 0.5 else {}
            at = {"turn": turn, "trace": turn, "at": self.at, "until": self.at + 1}
            self.at += dice.choice([1, 1, 2])
            if dice.random() < 0.2:
                self.records.append(make.tool(span, step, **at, **again, **self.common))
                continue
            fields = {**usage(dice), **again, "agent_name": dice.choice([None, "planner"])}
            if inside and dice.random() < 0.2:
                fields["parent_span_id"] = inside[-1]
            elif fields.get("input_tokens"):
                inside.append(span)
            self.records.append(make.llm(span, step, **at, **fields, **self.common))


STATUS = {
    "paused": "waiting", "failed": "failed", "cancelled": "cancelled", "left": "cancelled",
    "dead": "open", None: "open",
}  # fmt: skip


def question(task):
    """Return the id of what a task asks: asked again it is the same, the next one is another."""
    innermost = len(task.inner) - 1 if task.inner else ""
    return f"{task.execution}{innermost}-{task.asked}"


def is_open(task, answered):
    return task.asked > 0 and question(task) not in answered


def usage(dice):
    """Return what a call of a model tells of itself."""
    given, produced = dice.randrange(200), dice.randrange(80)
    told = dice.choice(["all", "all", "all", "total", "nothing", "more"])
    fields: dict[str, Any] = {
        "model": dice.choice(["m-1", "m-2", None, "模型"]),
        "provider": dice.choice(["p", "q", None]),
        "operation": dice.choice(["chat", "chat", "text_completion"]),
    }
    if told in ("all", "more"):
        fields |= {"input_tokens": given, "output_tokens": produced}
    if told == "more":
        fields |= {"cache_read_tokens": given // 2, "reasoning_tokens": produced // 3}
    if told != "nothing":
        fields["total_tokens"] = given + produced
    if dice.random() < 0.6:
        fields["cost_usd"] = dice.randrange(100) / 64
    return fields


def standalone(make: Any, seed: int, index: int) -> dict[str, Any]:
    """Return a call outside any engagement."""
    dice, span = random.Random(seed), 90_000_000 + index  # noqa: S311 - no secret
    at = dice.choice([0, 5, 3 * HOUR, 9 * 24 * HOUR])
    return make.llm(
        span, None, turn=None, trace=span, at=at, caller=dice.choice(["app.main", "jobs.run"]),
        **usage(dice),
    )  # fmt: skip
