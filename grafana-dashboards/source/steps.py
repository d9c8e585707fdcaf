"""The dashboard *Steps*: how long they take, where they fail, what follows what."""

from __future__ import annotations

import panels
import sources
from engagements import TRACES
from fields import Column
from grafana_foundation_sdk.builders.dashboard import Dashboard  # noqa: TC002
from sources import bars, clickhouse, grown, ledger, now, over_time, traceql, traceql_metrics

__all__ = ["made"]

_CHOSEN = 'spanflow_step_path=~"$step"'
_STEPS = f"spanflow_step_duration_seconds_count{{{_CHOSEN}}}"
_FAILED = f'spanflow_step_duration_seconds_count{{{_CHOSEN}, spanflow_step_status="failed"}}'
_BUCKETS = f"spanflow_step_duration_seconds_bucket{{{_CHOSEN}}}"
# Spans of turns and calls are there as well, without a path.
_SPANS = f'traces_span_metrics_calls_total{{{_CHOSEN}, spanflow_step_path!=""}}'
_SPAN_BUCKETS = f'traces_span_metrics_duration_seconds_bucket{{{_CHOSEN}, spanflow_step_path!=""}}'
# Backticks: Grafana escapes more than a text in quotes may hold.
_PATH = "span.spanflow.step.path =~ `${step:regex}`"


def made() -> Dashboard:
    """Return the dashboard."""
    page = panels.page(
        "spanflow / Steps",
        "spanflow-steps",
        "The steps of agents: durations, failures, retries and transitions.",
        "now-24h",
        [
            sources.source(sources.LEDGER),
            sources.source(sources.PROMETHEUS),
            sources.source(sources.TEMPO),
            sources.source(sources.CLICKHOUSE),
            sources.engagement(),
            sources.step(),
        ],
    )
    _durations(page)
    _failures(page)
    _transitions(page)
    _traces(page)
    _span_metrics(page)
    _warehouse(page)
    return page


def _quantile(share: float, buckets: str) -> str:
    return f"histogram_quantile({share}, {grown(buckets, 'le, spanflow_step_path', '$__interval')})"


def _durations(page: Dashboard) -> None:
    panels.section(
        page,
        "Durations",
        panels.lines(
            "Median duration",
            "Half of the executions took no longer. All attempts of an execution together; a wait"
            " for a"
            " person is not in it.",
            [over_time(_quantile(0.5, _BUCKETS), "{{spanflow_step_path}}")],
            "s",
            interval="5m",
        ),
        panels.lines(
            "95th percentile of duration",
            "One execution in twenty took longer.",
            [over_time(_quantile(0.95, _BUCKETS), "{{spanflow_step_path}}")],
            "s",
            interval="5m",
        ),
        panels.categories(
            "Working time of visits",
            "Exact percentiles from the ledger. A visit that was taken up again after a pause is"
            " one visit.",
            ledger("step_times"),
            "step",
            "ms",
            {"p50": "p50", "p95": "p95", "p99": "p99"},
            width=12,
            height=11,
        ),
        panels.rows(
            "Steps in numbers",
            "Of the engagements that began in this range. The failure rate is of visits whose last"
            " execution"
            " failed; the sums of a step include the steps inside it.",
            ledger("step_stats"),
            {
                "step": Column("Step", width=140),
                "engagements": Column("Engagements", "short"),
                "visits": Column("Visits", "short"),
                "executions": Column("Executions", "short"),
                "failure_rate": Column("Failed", "percentunit", bar=True),
                "avg_working_ms": Column("Working mean", "ms"),
                "p50_waiting_ms": Column("Waiting p50", "ms"),
                "p95_waiting_ms": Column("Waiting p95", "ms"),
                "llm_calls": Column("Model calls", "short"),
                "tool_calls": Column("Tool calls", "short"),
                "total_tokens": Column("Tokens", "short"),
                "cost_usd": Column("Cost", "currencyUSD"),
            },
            width=12,
            height=11,
        ),
    )


def _failures(page: Dashboard) -> None:
    panels.section(
        page,
        "Failures and retries",
        panels.stacked(
            "Executions by status",
            "As the metrics tell it. `waiting` is a pause for a person and no failure.",
            [bars(_STEPS, "spanflow_step_status", "{{spanflow_step_status}}")],
            "short",
            width=12,
        ),
        panels.stacked(
            "Failed executions by step",
            "Executions all of whose attempts failed.",
            [bars(_FAILED, "spanflow_step_path", "{{spanflow_step_path}}")],
            "short",
            width=12,
        ),
        panels.numbers(
            "Executions in this range",
            "As the metrics tell it.",
            [
                now(grown(_STEPS, "", "$__range"), "all", "A"),
                now(f"{grown(_FAILED, '', '$__range')} or vector(0)", "failed", "B"),
            ],
            {
                "all": Column("All", "short"),
                "failed": Column("Failed", "short", bad_from=1),
            },
            width=4,
            height=9,
        ),
        panels.categories(
            "Attempts beyond the first",
            "How often steps were tried again within an execution, and how many executions failed"
            " in the end.",
            ledger("retries"),
            "step",
            "short",
            {"retries": "Tried again", "failed": "Failed"},
            width=8,
            height=9,
        ),
        panels.rows(
            "What went wrong",
            "Errors of executions that failed, the most frequent first.",
            ledger("errors"),
            {
                "path": Column("Step", width=140),
                "error_type": Column("Error", width=160),
                "failed": Column("Times", "short", width=80),
                "last_at": Column("Last", width=170),
                "error_message": Column("Message of the last"),
                "example_engagement_id": Column("Example", link=TRACES),
            },
            width=12,
        ),
    )


def _transitions(page: Dashboard) -> None:
    panels.section(
        page,
        "Transitions",
        panels.flow(
            "What follows what",
            "Nodes: executions of a step and its median duration. Edges: how often one led to the"
            " other, and"
            " the median time between them.",
            [ledger("nodes", "A"), ledger("edges", "B")],
            width=14,
        ),
        panels.rows(
            "Transitions in numbers",
            "From each step to those it triggered.",
            ledger("transitions"),
            {
                "from_step": Column("From"),
                "to_step": Column("To"),
                "times": Column("Times", "short", bar=True),
                "engagements": Column("Engagements", "short"),
                "p50_gap_ms": Column("Between p50", "ms"),
                "p95_gap_ms": Column("Between p95", "ms"),
            },
            width=10,
            height=13,
        ),
    )


def _traces(page: Dashboard) -> None:
    panels.section(
        page,
        "Traces",
        panels.lines(
            "Duration of step spans",
            "Tempo's own percentiles, of the spans that were sampled.",
            [
                traceql_metrics(
                    f"{{ {_PATH} }} | quantile_over_time(duration, .5, .95) by"
                    f" (span.spanflow.step.path)"
                )
            ],
            "s",
        ),
        panels.rows(
            "Step spans that failed",
            "A click on a trace shows where in its turn it happened.",
            traceql(
                f'{{ span.spanflow.step.status = "failed" && {_PATH} }} | select('
                "span.spanflow.step.path, span.spanflow.engagement.id, span.error.type)"
            ),
            {"duration": Column("Duration", "ns")},
            width=12,
            height=8,
        ),
    )


def _span_metrics(page: Dashboard) -> None:
    panels.section(
        page,
        "Span metrics of a Collector",
        panels.stacked(
            "Step spans by step",
            "Counted by the Collector's span_metrics connector; sampled spans only where the"
            " sampler stands"
            " before it.",
            [bars(_SPANS, "spanflow_step_path", "{{spanflow_step_path}}")],
            "short",
        ),
        panels.lines(
            "95th percentile of step spans",
            "By the Collector's span_metrics connector.",
            [over_time(_quantile(0.95, _SPAN_BUCKETS), "{{spanflow_step_path}}")],
            "s",
            interval="5m",
        ),
        folded=True,
    )


def _warehouse(page: Dashboard) -> None:
    panels.section(
        page,
        "ClickHouse",
        panels.rows(
            "Steps of all hosts",
            "From the table `otel_traces` that the Collector's ClickHouse exporter writes.",
            clickhouse("clickhouse_steps"),
            {
                "step": Column("Step"),
                "executions": Column("Executions", "short", bar=True),
                "failed": Column("Failed", "short"),
                "p50_ms": Column("Duration p50", "ms"),
                "p95_ms": Column("Duration p95", "ms"),
                "total_tokens": Column("Tokens", "short"),
            },
        ),
        folded=True,
    )
