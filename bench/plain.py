"""Ten steps of plain Python that do nothing: only the machinery of a step is timed."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from bench.chain import NODES, TEN_ATTRIBUTES


class Bare:
    """Nothing but the loop."""

    def invoke(self, start: Any) -> None:
        """Run it."""
        for _ in range(NODES):
            self.step(start)

    def step(self, start: Any) -> None:
        """Do nothing."""


class Floor(Bare):
    """Each step in one plain SDK span with ten attributes."""

    def step(self, start: Any) -> None:  # noqa: ARG002 - as the bare one
        """Do nothing in a span."""
        with trace.get_tracer("bench").start_as_current_span("step", attributes=TEN_ATTRIBUTES):
            pass


class Told(Bare):
    """Each step told to spanflow, all of them in one engagement."""

    def invoke(self, start: Any) -> None:
        """Run it."""
        import spanflow

        with spanflow.engagement("bench"):
            super().invoke(start)

    def step(self, start: Any) -> None:  # noqa: ARG002 - as the bare one
        """Do nothing in a step."""
        import spanflow

        with spanflow.step("step"):
            pass


def build(contender: str) -> Bare:
    """Return the loop of a contender."""
    return {"bare": Bare, "floor": Floor, "spanflow": Told}[contender]()
