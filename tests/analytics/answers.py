"""The analytics, answered slowly from what records tell: one function a table macro.

Each takes engagements as they were at an instant, and returns rows as mappings by the macro's
column names. Nothing here is fast, and nothing here is SQL.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from datetime import datetime, timedelta

TOKENS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "total_tokens",
)  # fmt: skip
OUTCOMES = {
    "active": "active", "failed": "failed", "interrupted": "interrupted", "abandoned": "dropped",
}  # fmt: skip
AGAIN = {"replayed_tokens": "replay", "retried_tokens": "retry", "forked_tokens": "fork"}


def moment(ns):
    return datetime(1970, 1, 1) + timedelta(microseconds=ns // 1000)  # noqa: DTZ001 - the ledger's are naive


def quantile(values, share):
    """Return the continuous quantile of the values that are known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    place = (len(known) - 1) * share
    low, high = math.floor(place), math.ceil(place)
    return known[low] + (known[high] - known[low]) * (place - low)


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def ratio(part, whole):
    return part / whole if whole else None


def model_calls(calls):
    return [call for call in calls if call["counted"] and call["kind"] != "tool"]


def sum_of(calls, field):
    """Add up one number: no calls spend nothing, and of calls that do not tell nobody knows."""
    known = [call[field] for call in calls if call.get(field) is not None]
    return sum(known) if known or not calls else None


def spent(calls, fields=TOKENS, *, repeated=False):
    """Return the sums of some calls."""
    counting = model_calls(calls)
    row = {field: sum_of(counting, field) for field in (*fields, "cost_usd")}
    row["calls_without_usage"] = sum(
        all(call.get(field) is None for field in TOKENS) for call in counting
    )
    row["unpriced_calls"] = sum(call.get("cost_usd") is None for call in counting)
    if repeated:
        for field, kind in AGAIN.items():
            again = [call for call in counting if call["repeats"] == kind]
            row[field] = sum_of(again, "total_tokens")
    return row


def same_value(one, other):
    """JSON knows text, numbers, bools and null: 1, "1" and true are three values."""
    kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}
    return kinds.get(type(one), "nested") == kinds.get(type(other), "nested") and one == other


def chosen(engagements, **common):
    """Return the engagements that the common parameters choose."""
    since, until = common.get("since"), common.get("until")
    name, user_id = common.get("name"), common.get("user_id")
    found = []
    for one in engagements:
        told = one.last_told("metadata") or {}
        if (
            (since is None or moment(one.started_ns) >= since)
            and (until is None or moment(one.started_ns) < until)
            and (name is None or one.last_told("name") == name)
            and (user_id is None or one.last_told("user_id") == user_id)
            and all(
                key in told and same_value(told[key], value)
                for key, value in (common.get("metadata") or {}).items()
            )
        ):
            found.append(one)
    return found


def resolve(steps, paths):
    """Return the full path of each step named."""
    full = []
    for step in steps:
        inner = sorted(path for path in paths if path.split("/")[-1] == step)
        if step not in paths and len(inner) > 1:
            raise LookupError(inner)
        full.append(step if step in paths else inner[0] if inner else step)
    return full


def chains(engagement, steps):
    """Yield every way to go through steps one after another: the starts of a visit of each."""
    every = [[visit.started_ns for visit in engagement.visits_of(step)] for step in steps]
    for starts in itertools.product(*every):
        if all(one < other for one, other in itertools.pairwise(starts)):
            yield starts


def reaches(engagement, steps, *, ordered, within):
    """Tell whether an engagement reached the last of these steps."""
    if not ordered and within is None:
        return bool(engagement.visits_of(steps[-1]))
    return any(
        within is None or starts[-1] - starts[0] <= within // timedelta(microseconds=1) * 1000
        for starts in chains(engagement, steps)
    )


def is_at(place, step):
    return place is not None and (place == step or place.startswith(f"{step}/"))


def stands_at(place, steps):
    """Return the step of a funnel that one stands at: the innermost of those around the place."""
    return max((step for step in steps if is_at(place, step)), key=len, default=None)


def outcome_at(engagement, step, steps):
    """Return what became of an engagement at a step that it reached."""
    stands = stands_at(engagement.last_step, steps) == step
    asked = any(
        wait.answered_ns is None and stands_at(wait.path, steps) == step
        for wait in engagement.waits
    )
    if engagement.status == "paused":
        return "waiting" if stands or asked else "advanced"
    return OUTCOMES.get(engagement.status, "advanced") if stands else "advanced"


def _reached(engagements, steps, ordered, within):
    return [
        [one for one in engagements if reaches(one, steps[:k], ordered=ordered, within=within)]
        for k in range(1, len(steps) + 1)
    ]


def funnel(engagements, steps, *, ordered=False, within=None, paths=None):
    steps = resolve(steps, paths or paths_of(engagements))
    reached = _reached(engagements, steps, ordered, within)
    rows = []
    for k, (step, here) in enumerate(zip(steps, reached, strict=True)):
        is_last = k + 1 == len(steps)
        visits = [visit for one in here for visit in one.visits_of(step)]
        working = [visit.working_ms for visit in visits]
        waited = [wait.waited_ms for one in here for wait in one.waits if wait.path == step]
        became = Counter(outcome_at(one, step, steps) for one in here)
        following = [] if is_last else [one for one in here if one in reached[k + 1]]
        sums = spent(
            [call for visit in visits for call in visit.calls],
            ("input_tokens", "output_tokens", "total_tokens"),
        )
        rows.append(
            {
                "position": k + 1,
                "step": step,
                "reached": len(here),
                "visits": len(visits),
                **{
                    name: became[name]
                    for name in (
                        "advanced", "waiting", "active", "failed", "interrupted", "dropped",
                    )
                },
                "conversion_rate": None
                if is_last or not here
                else 1 - became["dropped"] / len(here),
                "step_rate": None if is_last else ratio(len(following), len(here)),
                "avg_working_ms": mean(working),
                "p50_working_ms": quantile(working, 0.5),
                "p95_working_ms": quantile(working, 0.95),
                "p50_waiting_ms": quantile(waited, 0.5),
                "p95_waiting_ms": quantile(waited, 0.95),
                **sums,
            }
        )  # fmt: skip
    return rows


def funnel_engagements(engagements, steps, *, ordered=False, within=None, paths=None):
    steps = resolve(steps, paths or paths_of(engagements))
    rows = []
    reached = _reached(engagements, steps, ordered, within)
    for k, (step, here) in enumerate(zip(steps, reached, strict=True)):
        for one in here:
            visits = one.visits_of(step)
            working = [v.working_ms for v in visits if v.working_ms is not None]
            sums = spent([call for visit in visits for call in visit.calls], ("total_tokens",))
            rows.append(
                {
                    "position": k + 1,
                    "step": step,
                    "engagement_id": one.engagement_id,
                    "outcome": outcome_at(one, step, steps),
                    "status": one.status,
                    "visits": len(visits),
                    "first_at": moment(visits[0].started_ns),
                    "working_ms": sum(working) if working else None,
                    "total_tokens": sums["total_tokens"],
                    "cost_usd": sums["cost_usd"],
                }
            )
    return rows


def paths_of(engagements):
    return {visit.path for one in engagements for visit in one.visits}


def drop_offs(engagements):
    groups = defaultdict(list)
    for one in engagements:
        if one.status in ("abandoned", "failed", "interrupted"):
            groups[one.dropped_at, one.status, one.abandon_reason].append(one)
    rows = []
    for (step, status, reason), some in groups.items():
        reached = sum(bool(one.visits_of(step)) for one in engagements)
        sums = spent([call for one in some for call in one.calls], ("total_tokens",))
        rows.append(
            {
                "step": step,
                "status": status,
                "reason": reason,
                "engagements": len(some),
                "share": len(some) / len(engagements),
                "of_reached": ratio(sum(bool(one.visits_of(step)) for one in some), reached),
                "p50_lived_ms": quantile(
                    [(one.last_seen_ns - one.started_ns) / 1e6 for one in some], 0.5
                ),
                "total_tokens": sums["total_tokens"],
                "cost_usd": sums["cost_usd"],
            }
        )
    return rows


def step_stats(engagements):
    groups = defaultdict(list)
    for one in engagements:
        for visit in one.visits:
            groups[visit.path].append(visit)
    waited = defaultdict(list)
    for one in engagements:
        for wait in one.waits:
            waited[wait.path].append(wait.waited_ms)
    rows = []
    for step, visits in groups.items():
        executions = [one for visit in visits for one in visit.executions]
        working = [visit.working_ms for visit in visits]
        calls = [call for visit in visits for call in visit.calls]
        ends = Counter(visit.last.status for visit in visits)
        rows.append(
            {
                "step": step,
                "engagements": len({visit.engagement_id for visit in visits}),
                "visits": len(visits),
                "executions": len(executions),
                "attempts": sum(one.told.get("attempts") or 1 for one in executions),
                "failed": ends["failed"],
                "cancelled": ends["cancelled"],
                "interrupted": ends["interrupted"],
                "waited": len(waited[step]),
                "failure_rate": ends["failed"] / len(visits),
                "avg_working_ms": mean(working),
                "p50_working_ms": quantile(working, 0.5),
                "p95_working_ms": quantile(working, 0.95),
                "p99_working_ms": quantile(working, 0.99),
                "p50_waiting_ms": quantile(waited[step], 0.5),
                "p95_waiting_ms": quantile(waited[step], 0.95),
                "llm_calls": len(model_calls(calls)),
                "tool_calls": sum(c["counted"] and c["kind"] == "tool" for c in calls),
                **spent(calls, ("input_tokens", "output_tokens", "total_tokens"), repeated=True),
            }
        )
    return rows
