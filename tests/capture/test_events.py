"""Events are bounded, and what is not kept is counted."""

from __future__ import annotations

from spanflow import guard
from spanflow.capture.events import Event, Events


def test_events_past_the_bound_are_counted() -> None:
    events = Events()
    kept = [events.add(Event("log", "x", at_ns)) for at_ns in range(1_003)]
    assert kept == [True] * 1_000 + [False] * 3
    assert len(events.as_records() or ()) == 1_000
    assert guard.counts() == {"events.dropped": 3}
