"""The analytics of whole engagements and of calls, answered slowly."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta

from analytics.answers import mean, model_calls, moment, quantile, ratio, spent

UNITS = ("hour", "day", "week", "month")


def truncated(when, unit):
    """Return the beginning of the hour, day, week (Monday) or month."""
    if unit == "hour":
        return when.replace(minute=0, second=0, microsecond=0)
    day = when.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def period(when, unit):
    """Return an hour, day, week or month as text; a week is named by its Monday."""
    formats = {"hour": "%Y-%m-%d %H:00", "month": "%Y-%m"}
    return truncated(when, unit).strftime(formats.get(unit, "%Y-%m-%d"))


def path_of(engagement, *, nested=False):
    """Return the steps one went through, in order."""
    around = {one.told.get("parent_step_id") for one in engagement.executions}
    placed = []
    for visit in engagement.visits:
        first = min(visit.executions, key=lambda one: one.order)
        is_leaf = all(one.told["span_id"] not in around for one in visit.executions)
        is_top = first.told.get("parent_step_id") is None
        if is_leaf if nested else is_top:
            at = (first.turn.told["started_ns"], first.told.get("superstep") or 0)
            if nested:
                at = (first.told["started_ns"],)
            placed.append((*at, visit.path))
    return [path for *_, path in sorted(placed)]


def collapsed(path, depth):
    kept = [step for nth, step in enumerate(path) if nth == 0 or path[nth - 1] != step]
    return [*kept[:depth], "…"] if len(kept) > depth else kept


def paths(engagements, *, depth=20, nested=False):
    groups = defaultdict(list)
    for one in engagements:
        groups[tuple(collapsed(path_of(one, nested=nested), depth))].append(one)
    rows = []
    for path, some in groups.items():
        became = Counter(one.status for one in some)
        sums = spent([call for one in some for call in one.calls], ("total_tokens",))
        rows.append(
            {
                "path": list(path),
                "engagements": len(some),
                "share": len(some) / len(engagements),
                "completed": became["completed"],
                "abandoned": became["abandoned"],
                "failed": became["failed"],
                "p50_working_ms": quantile([one.shares[0] for one in some], 0.5),
                "total_tokens": sums["total_tokens"],
                "cost_usd": sums["cost_usd"],
            }
        )
    return rows


def journeys(engagements, *, status=None, reached=None):
    rows = []
    for one in engagements:
        if status is not None and one.status != status:
            continue
        if reached is not None and not one.visits_of(reached):
            continue
        calls = one.calls
        sums = spent(calls, ("total_tokens",))
        rows.append(
            {
                "engagement_id": one.engagement_id,
                "name": one.last_told("name"),
                "status": one.status,
                "abandon_reason": one.abandon_reason,
                "dropped_at": one.dropped_at,
                "last_step": one.last_step,
                "user_id": one.last_told("user_id"),
                "session_id": one.last_told("session_id"),
                "conversation_id": one.last_told("conversation_id"),
                "metadata": one.last_told("metadata"),
                "started_at": moment(one.started_ns),
                "last_seen_at": moment(one.last_seen_ns),
                "turns": len(one.turns),
                "path": path_of(one),
                "working_ms": one.shares[0],
                "waiting_ms": one.shares[1],
                "llm_calls": len(model_calls(calls)),
                "tool_calls": sum(c["counted"] and c["kind"] == "tool" for c in calls),
                "total_tokens": sums["total_tokens"],
                "cost_usd": sums["cost_usd"],
                "trace_ids": [turn.told["trace_id"] for turn in one.turns],
            }
        )
    return rows


def key_of(engagement, key):
    """Return what an engagement is grouped by; JSON text for whatever is not text."""
    if key in UNITS:
        return period(moment(engagement.started_ns), key)
    columns = {"engagement": "name", "service": "service_name", "name": "name"}
    if key in (*columns, "user_id", "session_id", "conversation_id"):
        return engagement.last_told(columns.get(key, key))
    if key == "status":
        return engagement.status
    return (engagement.last_told("metadata") or {}).get(key)


def engagements_by(engagements, key):
    groups = defaultdict(list)
    for one in engagements:
        groups[as_text(key_of(one, key))].append(one)
    rows = []
    for found, some in groups.items():
        became = Counter(one.status for one in some)
        calls = [call for one in some for call in one.calls]
        sums = spent(calls, ("total_tokens",))
        rows.append(
            {
                "key": found,
                "engagements": len(some),
                **{
                    status: became[status]
                    for status in (
                        "active", "paused", "completed", "abandoned", "failed", "interrupted",
                    )
                },
                "turns": sum(len(one.turns) for one in some),
                "steps": sum(len(turn.steps) for one in some for turn in one.turns),
                "llm_calls": len(model_calls(calls)),
                "total_tokens": sums["total_tokens"],
                "cost_usd": sums["cost_usd"],
                "working_ms": sum(one.shares[0] for one in some),
                "waiting_ms": sum(one.shares[1] for one in some),
                "first_at": min(moment(one.started_ns) for one in some),
                "last_at": max(moment(one.last_seen_ns) for one in some),
            }
        )  # fmt: skip
    return rows


def as_text(value):
    """Return a key as a table shows it: text as it is, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def cohorts(engagements, by="week"):
    """Group users by the period in which they came first."""
    rows = []
    for cohort, users in _cohorts(engagements, by).items():
        some = [one for ones in users.values() for one in ones]
        became = Counter(one.status for one in some)
        sums = spent([call for one in some for call in one.calls], ("total_tokens",))
        rows.append(
            {
                "cohort": cohort,
                "users": len(users),
                "engagements": len(some),
                "completed": became["completed"],
                "abandoned": became["abandoned"],
                "failed": became["failed"],
                "completion_rate": became["completed"] / len(some),
                "engagements_per_user": len(some) / len(users),
                "total_tokens": sums["total_tokens"],
                "cost_usd": sums["cost_usd"],
            }
        )
    return rows


def _cohorts(engagements, by):
    of_user = defaultdict(list)
    for one in engagements:
        if one.last_told("user_id") is not None:
            of_user[one.last_told("user_id")].append(one)
    found = defaultdict(dict)
    for user, some in of_user.items():
        first = min(moment(one.started_ns) for one in some)
        found[truncated(first, by).date()][user] = some
    return found


def periods_between(first, later, by):
    if by == "month":
        return (later.year - first.year) * 12 + later.month - first.month
    return (later - first).days // (7 if by == "week" else 1)


def retention(engagements, by="week"):
    rows = []
    for cohort, users in _cohorts(engagements, by).items():
        returned = defaultdict(set)
        for user, some in users.items():
            for one in some:
                began = truncated(moment(one.started_ns), by).date()
                returned[periods_between(cohort, began, by)].add(user)
        rows += [
            {
                "cohort": cohort,
                "period": period,
                "users": len(users),
                "returned": len(there),
                "rate": len(there) / len(users),
            }
            for period, there in returned.items()
        ]
    return rows


def compared(engagements):
    """Return the numbers that two groups of engagements are compared by."""
    count = len(engagements)
    became = Counter(one.status for one in engagements)
    calls = [call for one in engagements for call in one.calls]
    working = [one.shares[0] for one in engagements]
    waited = [one.shares[1] for one in engagements if one.shares[1] > 0]
    known = [spent(one.calls, ("total_tokens",)) for one in engagements]
    return {
        "engagements": count,
        "completed": became["completed"],
        "abandoned": became["abandoned"],
        "failed": became["failed"],
        "interrupted": became["interrupted"],
        "completion_rate": ratio(became["completed"], count),
        "abandonment_rate": ratio(became["abandoned"], count),
        "failure_rate": ratio(became["failed"], count),
        "turns_per_engagement": ratio(sum(len(one.turns) for one in engagements), count),
        "steps_per_engagement": ratio(
            sum(len(turn.steps) for one in engagements for turn in one.turns), count
        ),
        "p50_working_ms": quantile(working, 0.5),
        "p95_working_ms": quantile(working, 0.95),
        "p50_waiting_ms": quantile(waited, 0.5),
        "llm_calls_per_engagement": ratio(len(model_calls(calls)), count),
        "tokens_per_engagement": mean(sums["total_tokens"] for sums in known),
        "cost_usd_per_engagement": mean(sums["cost_usd"] for sums in known),
    }


def usage_by(told, chosen_ids, by, split, as_of_ns, **times):
    """Add up the counted model calls that began by an instant.

    Args:
        told: All that the records tell.
        chosen_ids: The engagements that count, or None for all calls, also those outside any.
        by: What to group by.
        split: What to group by within that, or None.
        as_of_ns: The instant; later calls do not exist.
        **times: The first moment that counts, and the first that does not any more.
    """
    since, until = times["since"], times["until"]
    groups = defaultdict(list)
    for call in model_calls(told.calls):
        began = moment(call["started_ns"])
        if (
            call["started_ns"] <= as_of_ns
            and (since is None or began >= since)
            and (until is None or began < until)
            and (chosen_ids is None or call.get("engagement_id") in chosen_ids)
        ):
            key = as_text(_call_key(told, call, by))
            other = None if split is None else as_text(_call_key(told, call, split))
            groups[key, other].append(call)
    return [
        {
            "key": key,
            "split": other,
            "calls": len(calls),
            **spent(calls, repeated=True),
            "engagements": len({c["engagement_id"] for c in calls if "engagement_id" in c}),
        }
        for (key, other), calls in groups.items()
    ]


def _call_key(told, call, by):
    if by in UNITS:
        return period(moment(call["started_ns"]), by)
    own = {
        "model": "model", "provider": "provider", "operation": "operation", "agent": "agent_name",
        "caller": "caller", "service": "service_name",
    }  # fmt: skip
    if by in own:
        return call.get(own[by])
    if "turn_id" not in call:
        return None
    turn = told.turns[call["turn_id"]]
    if by == "step":
        return next((step["path"] for step in turn.parents(call.get("step_id"))), None)
    return key_of(told.now[call["engagement_id"]], by)
