"""Answers made by hand, for what cannot be had from a small ledger: large, long, wide and empty."""

from __future__ import annotations

from typing import Any

from spanflow.query import figures, rows
from spanflow.query.answers import Answer, Funnel

LONG = "schritt/ein_sehr_langer_Name_für_検索🔍_$x^2_{}"


def row(model: type[rows.Row], **known: Any) -> rows.Row:
    """A row in which everything else is unknown, empty or zero."""
    rest = {
        name: None
        if type(None) in getattr(field.annotation, "__args__", ())
        else {str: "", int: 0, float: 0.0}.get(field.annotation, ())
        for name, field in model.model_fields.items()
    }
    if "status" in rest:
        rest["status"] = "active"
    return model.model_validate({**rest, **known})


def funnel(steps: list[tuple[Any, ...]], **arguments: Any) -> Funnel:
    """A funnel of (step, advanced, waiting, active, dropped, failed, interrupted)."""
    made = []
    for at, (step, *parts) in enumerate(steps):
        names = ("advanced", "waiting", "active", "dropped", "failed", "interrupted")
        told = dict(zip(names, [*parts, *([0] * 6)], strict=False))
        reached = sum(told.values())
        made.append(
            row(
                rows.FunnelStep,
                position=at + 1,
                step=step,
                reached=reached,
                visits=reached,
                **told,
            )
        )
    return Funnel("funnel", rows.FunnelStep, tuple(made), arguments)


def paths(ways: list[tuple[tuple[str, ...], int, int, int, int]], **arguments: Any) -> Answer:
    """Paths of (steps, completed, abandoned, failed, others)."""
    everyone = sum(sum(ends) for _, *ends in ways) or 1
    made = [
        row(
            rows.PathTaken,
            path=path,
            engagements=sum(ends),
            share=sum(ends) / everyone,
            completed=ends[0],
            abandoned=ends[1],
            failed=ends[2],
        )
        for path, *ends in ways
    ]
    return Answer("paths", rows.PathTaken, tuple(made), arguments)


def usage(by: str, lines: list[tuple[Any, ...]], split: str | None = None) -> Answer:
    """Usage of (key, split, input, output, cost)."""
    made = [
        row(
            figures.Usage,
            key=key,
            split=part,
            calls=1,
            input_tokens=given,
            output_tokens=written,
            total_tokens=given + written,
            cost_usd=cost,
            unpriced_calls=int(cost is None),
        )
        for key, part, given, written, cost in lines
    ]
    asked = {"by": by} | ({"split": split} if split else {})
    return Answer("usage_by", figures.Usage, tuple(made), asked)


def steps(lines: list[tuple[Any, ...]]) -> Answer:
    """Steps of (step, visits, median, p95, median waiting)."""
    made = [
        row(
            figures.StepFigures,
            step=step,
            visits=visits,
            p50_working_ms=median,
            avg_working_ms=median,
            p95_working_ms=most,
            p99_working_ms=most,
            p50_waiting_ms=waiting,
            p95_waiting_ms=waiting,
        )
        for step, visits, median, most, waiting in lines
    ]
    return Answer("step_stats", figures.StepFigures, tuple(made))
