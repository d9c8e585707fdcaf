"""The dashboard *Engagements*: who came, how far they got, where they left, who waits."""

from __future__ import annotations

import panels
import sources
from fields import Column
from grafana_foundation_sdk.builders.dashboard import Dashboard  # noqa: TC002
from sources import bars, explored, grown, ledger, now, over_time, traceql

__all__ = ["TRACES", "made"]

TRACES = explored('{ span.spanflow.engagement.id = "${__value.raw}" }')
"""Where a click on an engagement's id leads: the traces of its turns."""

_TURNS = 'spanflow_turns_total{spanflow_engagement_name=~"$engagement"}'
_PAUSED = (
    'spanflow_turns_total{spanflow_engagement_name=~"$engagement", spanflow_turn_outcome="paused"}'
)
_RESUMED = (
    'spanflow_turns_total{spanflow_engagement_name=~"$engagement", spanflow_turn_kind="resume"}'
)
_WAITED = 'spanflow_wait_duration_seconds_bucket{spanflow_engagement_name=~"$engagement"}'
# Backticks: Grafana escapes more than a text in quotes may hold.
_NAMED = "span.spanflow.engagement.name =~ `${engagement:regex}`"


def made() -> Dashboard:
    """Return the dashboard."""
    page = panels.page(
        "spanflow / Engagements",
        "spanflow-engagements",
        "Engagements between users and agents: what became of them, where they left, who waits.",
        "now-7d",
        [
            sources.source(sources.LEDGER),
            sources.source(sources.PROMETHEUS),
            sources.source(sources.TEMPO),
            sources.engagement(),
            sources.choice(
                "steps",
                "Funnel",
                "steps_in_order",
                "The steps of the funnel, in the order in which they are chosen.",
            ),
        ],
    )
    _overview(page)
    _funnel(page)
    _leaving(page)
    _waits(page)
    _users(page)
    _closer(page)
    return page


def _overview(page: Dashboard) -> None:
    share = "percentunit"
    panels.section(
        page,
        "What became of them",
        panels.numbers(
            "Engagements that began in this range",
            "Shares are of all of them. A paused engagement counts as abandoned after the ledger's"
            " idle time."
            " Returning: the share of users who had more than one engagement until then.",
            [ledger("overview")],
            {
                "engagements": Column("Engagements", "short"),
                "completed": Column("Completed", share, colour="green"),
                "abandoned": Column("Abandoned", share, colour="orange"),
                "failed": Column("Failed", share, colour="red"),
                "interrupted": Column("Interrupted", share, colour="purple"),
                "open_waits": Column("Waits open now", "short", colour="yellow"),
                "returning_users": Column("Returning users", share, colour="blue"),
            },
        ),
        panels.stacked(
            "Engagements by status",
            "When they began, and what has become of them by now.",
            [ledger("status_over_time", over_time=True)],
            "short",
        ),
        panels.stacked(
            "Turns by outcome",
            "When turns ended, as the metrics tell it. A paused turn waits for its user; `left` is"
            " an"
            " abandoned stream.",
            [bars(_TURNS, "spanflow_turn_outcome", "{{spanflow_turn_outcome}}")],
            "short",
        ),
    )


def _funnel(page: Dashboard) -> None:
    panels.section(
        page,
        "Funnel",
        panels.categories(
            "Engagements that reached each step",
            "A step counts whether or not the ones before it were reached, so an optional step"
            " costs nobody"
            " anything. The steps and their order are chosen above.",
            ledger("funnel_reached"),
            "step",
            "short",
            {"reached": "Reached"},
            width=8,
            height=11,
        ),
        panels.categories(
            "What became of those who reached it",
            "Where each of them stands now: further on, waiting there, or left there.",
            ledger("funnel_outcomes"),
            "step",
            "short",
            {
                "advanced": "Advanced",
                "waiting": "Waiting",
                "active": "Active",
                "failed": "Failed",
                "interrupted": "Interrupted",
                "dropped": "Dropped",
            },
            width=16,
            height=11,
            stack=True,
        ),
        panels.rows(
            "Funnel in numbers",
            "Conversion is one minus those who dropped there. To the next: of those who reached"
            " it, the"
            " share that reached the next one as well.",
            ledger("funnel"),
            {
                "position": Column("#", "short", width=50),
                "step": Column("Step"),
                "reached": Column("Reached", "short", bar=True),
                "visits": Column("Visits", "short"),
                "dropped": Column("Dropped", "short"),
                "conversion_rate": Column("Conversion", "percentunit"),
                "step_rate": Column("To the next", "percentunit"),
                "p50_working_ms": Column("Working p50", "ms"),
                "p95_working_ms": Column("Working p95", "ms"),
                "p50_waiting_ms": Column("Waiting p50", "ms"),
                "total_tokens": Column("Tokens", "short"),
                "cost_usd": Column("Cost", "currencyUSD"),
            },
        ),
    )


def _leaving(page: Dashboard) -> None:
    panels.section(
        page,
        "Where they leave",
        panels.categories(
            "Drop-off points",
            "The step at which engagements stand that were abandoned, failed or interrupted.",
            ledger("drop_off_points"),
            "step",
            "short",
            {"abandoned": "Abandoned", "failed": "Failed", "interrupted": "Interrupted"},
            width=8,
            stack=True,
        ),
        panels.rows(
            "Drop-off points in numbers",
            "Of reached: of those who reached the step. An example leads to its traces.",
            ledger("drop_offs"),
            {
                "step": Column("Step"),
                "status": Column("Status"),
                "reason": Column("Reason"),
                "engagements": Column("Engagements", "short", bar=True),
                "share": Column("Of all", "percentunit"),
                "of_reached": Column("Of reached", "percentunit"),
                "p50_lived_ms": Column("Lived p50", "ms"),
                "total_tokens": Column("Tokens", "short"),
                "cost_usd": Column("Cost", "currencyUSD"),
                "example_engagement_id": Column("Example", link=TRACES),
            },
            width=16,
        ),
        panels.rows(
            "Paths",
            "The ways that engagements took through the steps, the most frequent first; repeats of"
            " one step"
            " in a row are one.",
            ledger("paths"),
            {
                "path": Column("Path"),
                "engagements": Column("Engagements", "short", width=110, bar=True),
                "share": Column("Share", "percentunit", width=80),
                "completed": Column("Completed", "short", width=95),
                "abandoned": Column("Abandoned", "short", width=95),
                "failed": Column("Failed", "short", width=80),
                "p50_working_ms": Column("Working p50", "ms", width=110),
                "total_tokens": Column("Tokens", "short", width=90),
                "cost_usd": Column("Cost", "currencyUSD", width=90),
                "example_engagement_id": Column("Example", link=TRACES),
            },
        ),
    )


def _waits(page: Dashboard) -> None:
    panels.section(
        page,
        "Waits",
        panels.rows(
            "Open at the end of this range",
            "Questions that nobody had answered yet, the oldest first.",
            ledger("open_waits"),
            {
                "engagement_id": Column("Engagement", link=TRACES),
                "user_id": Column("User"),
                "path": Column("Step"),
                "label": Column("Waits for"),
                "status": Column("Status", width=95),
                "asked_at": Column("Asked", width=170),
                "waits_ms": Column("For", "ms", width=90),
            },
            width=13,
        ),
        panels.lines(
            "How long answers take",
            "From the pause to the resumption; only waits that were answered in the process that"
            " asked.",
            [
                over_time(_quantile(0.5), "p50 {{spanflow_engagement_name}}", "A"),
                over_time(_quantile(0.95), "p95 {{spanflow_engagement_name}}", "B"),
            ],
            "s",
            width=7,
            height=9,
            interval="5m",
        ),
        panels.numbers(
            "Pauses and resumptions in this range",
            "Turns that ended paused, and turns that went on after a pause, in whatever process.",
            [
                now(grown(_PAUSED, "", "$__range"), "paused", "A"),
                now(grown(_RESUMED, "", "$__range"), "resumed", "B"),
            ],
            {
                "paused": Column("Paused", "short", colour="yellow"),
                "resumed": Column("Resumed", "short", colour="green"),
            },
            width=4,
            height=9,
        ),
    )


def _quantile(share: float) -> str:
    grew = grown(_WAITED, "le, spanflow_engagement_name", "$__interval")
    return f"histogram_quantile({share}, {grew})"


def _users(page: Dashboard) -> None:
    panels.section(
        page,
        "Users",
        panels.rows(
            "Who comes back",
            "Users by the day of their first engagement in this range, and how many of them came"
            " again so many"
            " days later.",
            ledger("retention"),
            {
                "cohort": Column("First day", width=120),
                "period": Column("Days later", "short"),
                "users": Column("Users", "short"),
                "returned": Column("Came", "short", bar=True),
                "rate": Column("Share", "percentunit"),
            },
            width=10,
        ),
        panels.rows(
            "Users by their first day",
            "What became of all their engagements in this range.",
            ledger("cohorts"),
            {
                "cohort": Column("First day", width=120),
                "users": Column("Users", "short"),
                "engagements": Column("Engagements", "short", bar=True),
                "completed": Column("Completed", "short"),
                "abandoned": Column("Abandoned", "short"),
                "failed": Column("Failed", "short"),
                "completion_rate": Column("Completion", "percentunit"),
                "engagements_per_user": Column("A user", "short"),
                "total_tokens": Column("Tokens", "short"),
                "cost_usd": Column("Cost", "currencyUSD"),
            },
            width=14,
        ),
    )


def _closer(page: Dashboard) -> None:
    panels.section(
        page,
        "Look closer",
        panels.rows(
            "Latest engagements",
            "A click on an id shows the traces of its turns.",
            ledger("latest"),
            {
                "engagement_id": Column("Engagement", link=TRACES),
                "name": Column("Name"),
                "user_id": Column("User"),
                "status": Column("Status", width=95),
                "dropped_at": Column("Dropped at"),
                "started_at": Column("Began", width=170),
                "turns": Column("Turns", "short", width=70),
                "path": Column("Path"),
                "working_ms": Column("Working", "ms", width=90),
                "waiting_ms": Column("Waiting", "ms", width=90),
                "total_tokens": Column("Tokens", "short", width=85),
                "cost_usd": Column("Cost", "currencyUSD", width=85),
            },
            height=11,
        ),
        panels.rows(
            "Turns that did not end well",
            "Turn spans in Tempo that failed, were cancelled, or whose stream was left.",
            traceql(
                '{ span.spanflow.turn.outcome =~ "failed|cancelled|left" && '
                f"{_NAMED} }} | select(span.spanflow.engagement.id, span.spanflow.turn.outcome,"
                " span.spanflow.turn.dropped_at, span.user.id)"
            ),
            {"duration": Column("Duration", "ns")},
        ),
    )
