"""What records tell, read slowly: who stood where at an instant, what was visited and spent.

It knows records as capture writes them and the rules in words. It reads no SQL of ours, and
answers no question: that is `answers`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from analytics.questions import by_thread, waits_of
from statuses import status_at

CALLS = ("llm", "embeddings", "tool")
GOES_ON = ("resume", "retry")
STOPPED = ("abandoned", "failed", "interrupted")


@dataclass
class Turn:
    """One turn: its own record, and those of everything that happened in it."""

    told: dict[str, Any]
    is_gone: bool
    steps: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    chain: str | None = None
    first_of_chain: str = ""

    @property
    def order(self):
        return self.told["started_ns"], self.told["turn_id"]

    @cached_property
    def last_ns(self):
        every = [self.told, *self.steps, *self.calls]
        return max(one.get("ended_ns") or one["started_ns"] for one in every)

    @property
    def is_open(self):
        return self.told["phase"] == "start"

    @property
    def outcome(self):
        return None if self.is_open else self.told["status"]

    def over_ns(self, instant_ns):
        if self.is_open:
            return self.last_ns if self.is_gone and self.last_ns <= instant_ns else None
        return self.told["ended_ns"] if self.told["ended_ns"] <= instant_ns else None

    @cached_property
    def events(self):
        return self.told.get("events") or []

    @cached_property
    def goal_ns(self):
        moments = [one["ended_ns"] for one in self.steps if one.get("goal") and done(one)]
        moments += [event["at_ns"] for event in self.events if event["kind"] == "goal"]
        return min(moments, default=None)

    @property
    def mark(self):
        given_up = any(event["kind"] == "gave_up" for event in self.events)
        said = self.told.get("resolution")
        if given_up or said == "gave_up":
            return "gave_up"
        return "expired" if said == "expired" else None

    def parents(self, step_id):
        """Yield a step and the steps around it, from the inside."""
        by_id = {step["span_id"]: step for step in self.steps}
        while step_id in by_id:
            yield by_id[step_id]
            step_id = by_id[step_id].get("parent_step_id")

    def place(self, instant_ns):
        """Return where one stood in this turn at an instant."""
        begun = [step for step in self.steps if step["started_ns"] <= instant_ns]
        is_over = self.over_ns(instant_ns) is not None

        def ended(step):
            # Of a turn that is over, a step without an end never had one.
            return step["phase"] == "end" and (is_over or step["ended_ns"] <= instant_ns)

        def depth(step):
            return step["path"].count("/"), step["started_ns"], step["path"]

        failed = [step for step in begun if ended(step) and step["status"] == "failed"]
        still = [step for step in begun if not ended(step)]
        asking = [step for step in begun if ended(step) and step["status"] == "waiting"]
        for some in (failed, still, asking if is_over and self.outcome == "paused" else []):
            if some:
                return max(some, key=depth)["path"]
        if is_over and self.outcome == "paused":
            before = [e["payload"]["step"] for e in self.events if e["kind"] == "wait"]
            if before:
                return min(before)
        around = {step.get("parent_step_id") for step in begun}
        leaves = [step for step in begun if step["span_id"] not in around]
        return max(((one["started_ns"], one["path"]) for one in leaves), default=(0, None))[1]


def done(record):
    return record["phase"] == "end" and record["status"] == "completed"


@dataclass
class Execution:
    """One run of one step, as it was known at an instant."""

    turn: Turn
    told: dict[str, Any]
    instant_ns: int

    @property
    def order(self):
        return self.told["started_ns"], self.told["span_id"]

    @property
    def is_over(self):
        return self.told["phase"] == "end" and self.told["ended_ns"] <= self.instant_ns

    @property
    def status(self):
        if self.is_over:
            return self.told["status"]
        never_ended = self.told["phase"] == "start" and self.turn.is_gone
        return "interrupted" if never_ended and self.turn.last_ns <= self.instant_ns else "running"

    @property
    def working_ms(self):
        return (self.told["ended_ns"] - self.told["started_ns"]) / 1e6 if self.is_over else None


@dataclass
class Visit:
    """One visit of one step: an execution, or several where it was taken up again."""

    engagement_id: str
    path: str
    executions: list[Execution]

    @property
    def started_ns(self):
        return min(one.told["started_ns"] for one in self.executions)

    @property
    def last(self):
        return max(self.executions, key=lambda one: one.order)

    @property
    def working_ms(self):
        known = [one.working_ms for one in self.executions if one.is_over]
        return sum(known) if known else None

    @property
    def calls(self):
        """Return the calls in it and in the steps inside it."""
        return [
            call
            for one in self.executions
            for call in one.turn.calls
            if any(around is one.told for around in one.turn.parents(call.get("step_id")))
        ]


class Engagement:
    """One engagement, as it was known at an instant."""

    def __init__(self, name: str, turns: list[Turn], instant_ns: int, idle_ns: int) -> None:
        self.engagement_id = name
        self.every_turn = turns
        self.turns = [turn for turn in turns if turn.told["started_ns"] <= instant_ns]
        self.instant_ns = instant_ns
        told = status_at(list(map(as_mapping, turns)), instant_ns, idle_ns)
        self.status, self.abandon_reason = told or (None, None)

    def last_told(self, key):
        """Return what the last turn that told it said."""
        told = [turn.told[key] for turn in self.turns if turn.told.get(key) is not None]
        return told[-1] if told else None

    @cached_property
    def last_step(self):
        places = (turn.place(self.instant_ns) for turn in reversed(self.turns))
        return next((place for place in places if place is not None), None)

    @property
    def dropped_at(self):
        return self.last_step if self.status in STOPPED else None

    @property
    def started_ns(self):
        return min(turn.told["started_ns"] for turn in self.turns)

    @property
    def last_seen_ns(self):
        return min(max(turn.last_ns for turn in self.turns), self.instant_ns)

    @cached_property
    def executions(self):
        return [
            Execution(turn, step, self.instant_ns)
            for turn in self.turns
            for step in turn.steps
            if step["started_ns"] <= self.instant_ns
        ]

    @cached_property
    def visits(self):
        """Return each visit of each step."""
        same = defaultdict(list)
        for one in self.executions:
            chain, execution = one.turn.chain, one.told.get("execution_id")
            own = (one.told["turn_id"], one.told["span_id"])
            key = (chain, execution) if chain and execution else own
            same[one.told["path"], *key].append(one)
        return [Visit(self.engagement_id, path, some) for (path, *_), some in same.items()]

    def visits_of(self, path):
        return sorted(
            (one for one in self.visits if one.path == path), key=lambda one: one.started_ns
        )

    @property
    def calls(self):
        """Return the calls of all its turns, whole."""
        return [call for turn in self.turns for call in turn.calls]

    @cached_property
    def waits(self):
        found = [wait for wait in waits_of(self.every_turn) if wait.asked_ns <= self.instant_ns]
        for wait in found:
            if wait.answered_ns is not None and wait.answered_ns > self.instant_ns:
                wait.answered_ns = None
        return found

    @cached_property
    def shares(self):
        """Return milliseconds worked and waited; time that turns share counts once."""
        working = waiting = 0
        before: tuple[int, str | None] | None = None
        for turn in self.turns:
            began = turn.told["started_ns"]
            if before is not None and before[1] == "paused":
                waiting += max(began - before[0], 0)
            over = turn.over_ns(self.instant_ns)
            if over is None:
                continue
            working += max(over - max(began, before[0] if before else began), 0)
            if before is None or over >= before[0]:
                before = (over, turn.outcome)
        return working / 1e6, waiting / 1e6


def as_mapping(turn):
    """Tell a turn as the rules for statuses want it; all of its times are nanoseconds."""
    began = turn.told["started_ns"]
    return {
        "number": turn.told["turn_id"],
        "at_s": began,
        "lasts_s": turn.last_ns - began,
        "outcome": "dead" if turn.is_open and turn.is_gone else turn.outcome,
        "reaches_s": None if turn.goal_ns is None else turn.goal_ns - began,
        "goals": bool(turn.told.get("goals")),
        "on_thread": bool(turn.told.get("on_thread")),
        "mark": turn.mark,
    }


def chained(turns):
    """Tell each turn its chain: a turn and those that go on with it, on one thread."""
    for _, some in by_thread(turns):
        chains: list[list[Turn]] = []
        for turn in some:
            if chains and turn.told.get("turn_kind") in GOES_ON:
                chains[-1].append(turn)
            else:
                chains.append([turn])
        for chain in chains:
            for turn in chain:
                turn.first_of_chain = chain[0].told["turn_id"]
                turn.chain = turn.first_of_chain if len(chain) > 1 else None


def repeating(turns):
    """Tell each call what it does again: `fork`, `retry`, `replay` or nothing."""
    before: dict[tuple[str, str], tuple[str, int]] = {}
    for turn in turns:
        for step in sorted(turn.steps, key=lambda one: one["started_ns"]):
            execution = (turn.first_of_chain, step.get("execution_id") or step["span_id"])
            stopped_as, made = before.get(execution, (None, 0))
            mine = [call for call in turn.calls if call.get("step_id") == step["span_id"]]
            mine = sorted(mine, key=lambda one: (one["started_ns"], one["span_id"]))
            for nth, call in enumerate(one for one in mine if one["counted"]):
                if turn.told.get("turn_kind") == "fork":
                    call["repeats"] = "fork"
                elif (call.get("attempt") or 1) > 1 or stopped_as not in (None, "waiting"):
                    call["repeats"] = "retry"
                elif stopped_as == "waiting" and nth < made:
                    call["repeats"] = "replay"
            last = [c for c in mine if (c.get("attempt") or 1) == (step.get("attempts") or 1)]
            ended_as = step["status"] if step["phase"] == "end" else "running"
            before[execution] = (ended_as, sum(call["counted"] for call in last))


class Told:
    """All that some records tell.

    Args:
        records: One record a span.
        gone: The turns whose process is gone.
    """

    def __init__(self, records: list[dict[str, Any]], gone: set[str]) -> None:
        turns = {
            one["turn_id"]: Turn(one, one["turn_id"] in gone)
            for one in records
            if one["kind"] == "turn"
        }
        self.calls: list[dict[str, Any]] = []
        calls_by_span = {one["span_id"] for one in records if one["kind"] in CALLS}
        for one in records:
            if one["kind"] == "step":
                turns[one["turn_id"]].steps.append(one)
            elif one["kind"] in CALLS:
                # Whoever is inside another call was counted with it.
                one["counted"] = one.get("parent_span_id") not in calls_by_span
                one["repeats"] = None
                self.calls.append(one)
                if "turn_id" in one:
                    turns[one["turn_id"]].calls.append(one)
        self.turns = turns
        self.by_engagement: dict[str, list[Turn]] = defaultdict(list)
        for turn in sorted(turns.values(), key=lambda turn: turn.order):
            self.by_engagement[turn.told["engagement_id"]].append(turn)
        for some in self.by_engagement.values():
            chained(some)
            repeating(some)

    def at(self, instant_ns: int, idle_ns: int) -> list[Engagement]:
        """Return the engagements that had begun by an instant."""
        every = [
            Engagement(name, turns, instant_ns, idle_ns)
            for name, turns in self.by_engagement.items()
        ]
        return [engagement for engagement in every if engagement.turns]
