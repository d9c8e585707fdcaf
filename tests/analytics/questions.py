"""What was asked of people in an engagement, and when it was answered, from turns' records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from spanflow.ledger.waits import Asked, Asking, settle_waits


@dataclass
class Wait:
    """One question, from when it was asked first until it was answered."""

    path: str
    asked_ns: int
    answered_ns: int | None

    @property
    def waited_ms(self):
        return None if self.answered_ns is None else (self.answered_ns - self.asked_ns) / 1e6


def waits_of(turns):
    """Return the questions of an engagement, each once."""
    found = []
    asking, places = [], {}
    for turn in turns:
        questions = questions_of(turn)
        places |= {
            (turn.told["turn_id"], nth): (path, asked)
            for nth, (path, asked) in enumerate(questions)
        }
        answers = turn.told.get("answers")
        asking.append(
            Asking(
                turn.told["turn_id"],
                turn.chain or turn.told["turn_id"],
                turn.told.get("turn_kind"),
                "interrupted" if turn.is_open and turn.is_gone else turn.outcome,
                turn.told["started_ns"],
                len(turn.steps),
                None if answers is None else tuple(answers),
                turn.told.get("resolution"),
                tuple(asked for _, asked in questions),
                turn.told.get("ended_ns"),
                turn.told.get("conversation_id"),
            )
        )
    settled, _ = settle_waits(asking)
    for key, row in settled.items():
        path, asked = places[key]
        if row.is_first:
            found.append(Wait(path, asked.asked_ns, row.answered_ns))
    return found


def questions_of(turn):
    if turn.outcome in (None, "completed"):
        return []
    found = [
        (step["path"], Asked(event["payload"]["id"], "interrupt", step["ended_ns"]))
        for step in turn.steps
        if step["phase"] == "end" and step["status"] == "waiting"
        for event in step.get("events") or []
        if event["kind"] == "wait"
    ]
    found += [
        (
            event["payload"]["step"],
            Asked(event["payload"]["id"], event["payload"]["at"], turn.told["ended_ns"]),
        )
        for event in turn.events
        if event["kind"] == "wait"
    ]
    return sorted(found, key=lambda one: (one[1].asked_ns, one[1].interrupt_id or ""))


def by_thread(turns):
    threads = defaultdict(list)
    for turn in turns:
        threads[turn.told.get("conversation_id")].append(turn)
    return threads.items()
