"""The dashboard *Health*: whether spanflow itself is well, and what the ledger lacks."""

from __future__ import annotations

import panels
import sources
from fields import Column
from grafana_foundation_sdk.builders.dashboard import Dashboard  # noqa: TC002
from sources import bars, grown, ledger, now, over_time

__all__ = ["made"]

_ERRORS = "spanflow_internal_errors_total"
_LOST = "spanflow_journal_lost_records_total"
_LAG = "spanflow_journal_lag_seconds"


def made() -> Dashboard:
    """Return the dashboard."""
    page = panels.page(
        "spanflow / Health",
        "spanflow-health",
        "Errors of spanflow's own, how far the ledger is behind, and what is missing in it.",
        "now-24h",
        [sources.source(sources.PROMETHEUS), sources.source(sources.LEDGER)],
    )
    _now(page)
    _over_time(page)
    _ledger(page)
    return page


def _now(page: Dashboard) -> None:
    panels.section(
        page,
        "Now",
        panels.numbers(
            "Processes that capture",
            "As their metrics tell it. Errors never reach the agent; each is counted and logged at"
            " most once a"
            " minute. The lag is the age of the oldest records that are not in the ledger yet: a"
            " few seconds where"
            " something ingests.",
            [
                now(f"{grown(_ERRORS, '', '$__range')} or vector(0)", "errors", "A"),
                now(f"{grown(_LOST, '', '$__range')} or vector(0)", "lost", "B"),
                now(f"max(last_over_time({_LAG}[5m]))", "lag", "C"),
                now(f"count(last_over_time({_LAG}[5m]))", "processes", "D"),
            ],
            {
                "errors": Column("Errors in this range", "short", bad_from=1),
                "lost": Column("Lost records in this range", "short", bad_from=1),
                "lag": Column("Lag", "s", bad_from=60),
                "processes": Column("Processes that tell", "short"),
            },
            width=14,
        ),
        panels.numbers(
            "The ledger, since it began",
            "What the view `diagnostics` counts, and calls on whose numbers spans and ledger"
            " disagree.",
            [ledger("health_overview")],
            {
                "lost_records": Column("Lost records", "short", bad_from=1),
                "refused_records": Column("Refused records", "short", bad_from=1),
                "quarantined_segments": Column("Unreadable segments", "short", bad_from=1),
                "conflicts": Column("Usage conflicts", "short"),
            },
            width=10,
        ),
    )


def _over_time(page: Dashboard) -> None:
    panels.section(
        page,
        "Over time",
        panels.stacked(
            "Errors by place",
            "Where in spanflow they happened, as `journal.lost` or `redact.failed`; the process's"
            " log says more.",
            [bars(_ERRORS, "spanflow_internal_site", "{{spanflow_internal_site}}")],
            "short",
            width=8,
        ),
        panels.lines(
            "Journal lag",
            "The age of the oldest records that are not in the ledger yet. Beside programs with"
            " SPANFLOW_INGEST=off"
            " it grows until `spanflow ingest` runs.",
            [over_time(f"max by (job) ({_LAG})", "{{job}}")],
            "s",
            width=8,
            interval="1m",
        ),
        panels.stacked(
            "Lost records",
            "Records that could not be written: a full disk, no access, a segment that somebody"
            " removed.",
            [bars(_LOST, "job", "{{job}}")],
            "short",
            width=8,
        ),
    )


def _ledger(page: Dashboard) -> None:
    panels.section(
        page,
        "In the ledger",
        panels.rows(
            "Diagnostics",
            "Counts since the ledger began.",
            ledger("diagnostics"),
            {"name": Column("What"), "count": Column("How many", "short")},
            width=6,
        ),
        panels.rows(
            "Services",
            "Who wrote it, and when it was last heard of.",
            ledger("services"),
            {
                "service_name": Column("Service"),
                "last_seen_at": Column("Last seen", width=170),
                "engagements": Column("Engagements", "short"),
                "turns": Column("Turns", "short"),
                "open_turns": Column("Open turns", "short"),
                "interrupted": Column("Died in a turn", "short"),
                "errors": Column("Errors of the agent", "short"),
            },
            width=10,
        ),
        panels.rows(
            "Where numbers disagree",
            "What `spanflow reconcile` lists, by reason.",
            ledger("conflicts"),
            {
                "reason": Column("Reason"),
                "what": Column("Of a"),
                "conflicts": Column("How many", "short"),
            },
            width=8,
        ),
    )
