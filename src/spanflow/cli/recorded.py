"""What the demo's ledger holds: the cells of every user to compare, and a summary to look at.

Everything is read through SQL from the ledger's views, as anybody would.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from spanflow.cli import terminal

if TYPE_CHECKING:
    from rich.console import Console

    from spanflow.cli.truth import Cells
    from spanflow.query.journeys import Ledger

__all__ = ["found_in", "report", "summary"]

_ENGAGEMENTS = """
    SELECT now.user_id, count(*) OVER (PARTITION BY now.user_id) AS engagements,
           now.status, later.status AS "status a day later", now.goal,
           later.dropped_at AS "dropped_at a day later",
           now.turns, ran.kinds, ran.outcomes, now.steps,
           coalesce(waited.waits, 0) AS waits, coalesce(waited.open_waits, 0) AS "open waits",
           now.llm_calls, now.tool_calls,
           coalesce(switched.switches, 0) AS "intent switches",
           now.input_tokens, now.output_tokens, now.total_tokens
    FROM engagements AS now
    JOIN engagements(as_of := $later) AS later
      USING (engagement_id)
    LEFT JOIN (
        SELECT engagement_id, list(kind ORDER BY started_at) AS kinds,
               list(outcome ORDER BY started_at) AS outcomes
        FROM turns GROUP BY ALL
    ) AS ran USING (engagement_id)
    LEFT JOIN (
        SELECT engagement_id, count(*) AS waits, count(*) FILTER (is_open) AS open_waits
        FROM waits GROUP BY ALL
    ) AS waited USING (engagement_id)
    LEFT JOIN (
        SELECT engagement_id, count(*) AS switches
        FROM events WHERE kind = 'intent_switch' GROUP BY ALL
    ) AS switched USING (engagement_id)
    WHERE now.session_id = $session
"""

_STEPS = """
    SELECT user_id, path, count(*) AS runs, sum(attempts)::BIGINT AS attempts,
           count(*) FILTER (steps.status = 'completed') AS completed,
           count(*) FILTER (steps.status = 'failed') AS failed,
           count(*) FILTER (steps.status = 'waiting') AS waiting,
           sum(steps.input_tokens)::BIGINT AS input_tokens,
           sum(steps.output_tokens)::BIGINT AS output_tokens,
           sum(steps.cache_read_tokens)::BIGINT AS cache_read_tokens,
           sum(coalesce(failures.errors, 0))::BIGINT AS errors
    FROM steps JOIN engagements USING (engagement_id)
    LEFT JOIN (
        SELECT step_id, count(*) AS errors FROM events WHERE kind = 'error' GROUP BY ALL
    ) AS failures USING (step_id)
    WHERE session_id = $session
    GROUP BY ALL
"""

_TOOLS = """
    SELECT user_id, tool_calls.name, count(*) AS calls
    FROM tool_calls JOIN engagements USING (engagement_id)
    WHERE session_id = $session
    GROUP BY ALL
"""

_STATUSES = """
    SELECT status, count(*) FILTER (is_now) AS now, count(*) FILTER (NOT is_now) AS a_day_later
    FROM (
        SELECT status, session_id, true AS is_now FROM engagements
        UNION ALL
        SELECT status, session_id, false
        FROM engagements(as_of := $later)
    )
    WHERE session_id = $session
    GROUP BY status
    ORDER BY a_day_later DESC, now DESC, status
"""

_FUNNEL = """
    SELECT path AS step, count(DISTINCT engagement_id) AS users, count(*) AS runs,
           sum(attempts)::BIGINT AS attempts,
           count(*) FILTER (steps.status = 'failed') AS failed,
           sum(steps.total_tokens)::BIGINT AS tokens,
           median(duration_ms) AS median_ms
    FROM steps JOIN engagements USING (engagement_id)
    WHERE session_id = $session
    GROUP BY path
"""

_MODELS = """
    SELECT model, count(*) AS calls, sum(llm_calls.input_tokens)::BIGINT AS input_tokens,
           sum(llm_calls.cache_read_tokens)::BIGINT AS cached_tokens,
           sum(llm_calls.output_tokens)::BIGINT AS output_tokens,
           sum(llm_calls.total_tokens)::BIGINT AS total_tokens
    FROM llm_calls JOIN engagements USING (engagement_id)
    WHERE session_id = $session AND counted
    GROUP BY model
    ORDER BY model
"""

_ORDER = (
    "intake",
    "search",
    "search/think",
    "search/look_up",
    "quote",
    "reviews",
    "compare",
    "confirm",
    "pay",
    "submitted",
    "escalate",
)
"""The agent's steps as a user meets them."""


def found_in(ledger: Ledger, session: str) -> dict[str, Cells]:
    """Return what the ledger says about every user of a session.

    Args:
        ledger: The ledger to read.
        session: The session id of the demo's run.
    """
    cells: dict[str, Cells] = {}
    for row in ledger.sql(_ENGAGEMENTS, {"session": session, "later": _a_day_later(ledger)}):
        user, several = row.pop("user_id"), row.pop("engagements")
        mine = cells.setdefault(user, {})
        mine |= {("engagement", name): value for name, value in row.items()}
        if several > 1:
            mine["user", "engagements"] = several
    for about, query in (("step", _STEPS), ("tool", _TOOLS)):
        for row in ledger.sql(query, {"session": session}):
            user, name = row.pop("user_id"), row.pop("path" if about == "step" else "name")
            cells.setdefault(user, {}).update(
                {(f"{about} {name}", column): value for column, value in row.items()}
            )
    return cells


def summary(ledger: Ledger, session: str) -> dict[str, list[dict[str, Any]]]:
    """Return what was recorded in a session, as three small tables."""
    this = {"session": session}
    steps = list(ledger.sql(_FUNNEL, this))
    steps.sort(key=lambda row: _ORDER.index(row["step"]) if row["step"] in _ORDER else len(_ORDER))
    return {
        "statuses": list(ledger.sql(_STATUSES, {**this, "later": _a_day_later(ledger)})),
        "steps": steps,
        "models": list(ledger.sql(_MODELS, this)),
    }


def _a_day_later(ledger: Ledger) -> datetime:
    """Return an instant at which everybody who is silent now has been silent for a day."""
    [(last_seen,)] = ledger.sql("SELECT max(last_seen_at) FROM engagements").rows
    return (last_seen or datetime.now(UTC).replace(tzinfo=None)) + timedelta(days=1)


def report(console: Console, recorded: dict[str, list[dict[str, Any]]]) -> None:
    """Print a summary as tables that fit 80 columns."""
    statuses = terminal.table("status", "now", "a day later", right=("now", "a day later"))
    for row in recorded["statuses"]:
        statuses.add_row(
            terminal.status_text(row["status"]),
            terminal.count(row["now"]),
            terminal.count(row["a_day_later"]),
        )
    numbers = ("users", "share", "runs", "attempts", "failed", "tokens", "median")
    steps = terminal.table("step", *numbers, right=numbers)
    everybody = max((row["users"] for row in recorded["steps"]), default=0)
    for row in recorded["steps"]:
        name = str(row["step"])
        steps.add_row(
            terminal.text(name, "" if "/" in name else "bold"),
            terminal.count(row["users"]),
            f"{row['users'] / everybody:.0%}",
            terminal.count(row["runs"]),
            terminal.count(row["attempts"]),
            terminal.count(row["failed"]),
            terminal.count(row["tokens"]),
            terminal.duration(row["median_ms"]),
        )
    sums = ("calls", "input", "of it cached", "output", "total")
    models = terminal.table("model", *sums, right=sums)
    for row in recorded["models"]:
        kinds = ("calls", "input_tokens", "cached_tokens", "output_tokens", "total_tokens")
        models.add_row(terminal.text(row["model"]), *(terminal.count(row[kind]) for kind in kinds))
    for table in (statuses, steps, models):
        console.print()
        console.print(table)
