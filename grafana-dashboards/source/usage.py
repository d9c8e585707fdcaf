"""The dashboard *Tokens and cost*: on what they go, what has no price, what goes twice."""

from __future__ import annotations

import panels
import sources
from engagements import TRACES
from fields import Column
from grafana_foundation_sdk.builders.dashboard import Dashboard  # noqa: TC002
from sources import bars, clickhouse, grown, ledger, now, traceql, traceql_metrics

__all__ = ["made"]

_TOKENS = "spanflow_usage_tokens_total"
_COST = "spanflow_usage_cost_USD_total"
_TURNS = "spanflow_turns_total"
_USAGE = {
    "calls": Column("Calls", "short"),
    "input_tokens": Column("Input", "short"),
    "output_tokens": Column("Output", "short"),
    "total_tokens": Column("Tokens", "short", bar=True),
    "cost_usd": Column("Cost", "currencyUSD"),
    "unpriced_calls": Column("Unpriced", "short"),
}


def made() -> Dashboard:
    """Return the dashboard."""
    page = panels.page(
        "spanflow / Tokens and cost",
        "spanflow-usage",
        "What models spent: by model, step, engagement and metadata; what has no price; what was"
        " spent again.",
        "now-7d",
        [
            sources.source(sources.LEDGER),
            sources.source(sources.PROMETHEUS),
            sources.source(sources.TEMPO),
            sources.source(sources.CLICKHOUSE),
            sources.engagement(),
            sources.text(
                "metadata_key", "Metadata", "tier", "The key of engagements' metadata to group by."
            ),
        ],
    )
    _overview(page)
    _by(page)
    _unpriced(page)
    _again(page)
    _traces(page)
    _warehouse(page)
    return page


def _overview(page: Dashboard) -> None:
    panels.section(
        page,
        "Spent",
        panels.numbers(
            "Model calls in this range",
            "Calls that count, each once, whatever reported it. Unpriced ones are not in the cost."
            " Spent again:"
            " the share of tokens that went into replays, retries and forks.",
            [ledger("usage_overview")],
            {
                "calls": Column("Calls", "short"),
                "total_tokens": Column("Tokens", "short"),
                "cost_usd": Column("Cost", "currencyUSD", colour="blue"),
                "cost_per_engagement": Column("Cost an engagement", "currencyUSD"),
                "unpriced_calls": Column("Unpriced calls", "short", bad_from=1),
                "calls_without_usage": Column("Calls without usage", "short", bad_from=1),
                "spent_again": Column("Spent again", "percentunit", colour="orange"),
            },
        ),
        panels.stacked(
            "Tokens by model",
            "As the metrics tell it, as calls end; for all engagements.",
            [bars(_TOKENS, "gen_ai_response_model", "{{gen_ai_response_model}}")],
            "short",
        ),
        panels.stacked(
            "Input and output tokens",
            "As the metrics tell it, for all engagements.",
            [bars(_TOKENS, "gen_ai_token_type", "{{gen_ai_token_type}}")],
            "short",
        ),
        panels.stacked(
            "Cost by model",
            "From the ledger, at its prices; unpriced calls are not in it.",
            [ledger("cost_over_time", over_time=True)],
            "currencyUSD",
            name="${__field.labels.model}",
        ),
        panels.stacked(
            "Reported cost by model",
            "As the metrics tell it: only costs that were reported with the call, as LiteLLM does.",
            [bars(_COST, "gen_ai_response_model", "{{gen_ai_response_model}}")],
            "currencyUSD",
            width=8,
        ),
        panels.numbers(
            "Reported in this range",
            "As the metrics tell it: tokens, and costs that were reported with the call, in all"
            " and for"
            " each engagement that began.",
            [
                now(grown(_TOKENS, "", "$__range"), "tokens", "A"),
                now(grown(_COST, "", "$__range"), "cost", "B"),
                now(
                    f"{grown(_COST, '', '$__range')} / "
                    + grown(_TURNS + '{spanflow_turn_kind="new"}', "", "$__range"),
                    "each",
                    "C",
                ),
            ],
            {
                "tokens": Column("Tokens", "short"),
                "cost": Column("Cost", "currencyUSD"),
                "each": Column("Cost an engagement", "currencyUSD"),
            },
            width=4,
            height=8,
        ),
    )


def _by(page: Dashboard) -> None:
    panels.section(
        page,
        "By what",
        panels.rows(
            "By model",
            "The model that answered. Calls outside any engagement are in it where all"
            " engagements are chosen.",
            ledger("usage_by_model"),
            {"model": Column("Model"), **_USAGE},
            width=12,
        ),
        panels.rows(
            "By step",
            "The step that made the call; steps it is inside of do not count it again.",
            ledger("usage_by_step"),
            {"step": Column("Step"), **_USAGE},
            width=12,
        ),
        panels.rows(
            "By engagement name",
            "What an engagement costs on the average is told of those with calls in this range.",
            ledger("usage_by_engagement"),
            {
                "name": Column("Engagement"),
                "engagements": Column("Engagements", "short"),
                **_USAGE,
                "cost_each_usd": Column("Cost each", "currencyUSD"),
            },
            width=12,
        ),
        panels.rows(
            "By $metadata_key",
            "The value of this key in the engagements' metadata, as the user's tier; the key is"
            " typed above.",
            ledger("usage_by_metadata"),
            {
                "value": Column("Value"),
                "engagements": Column("Engagements", "short"),
                **_USAGE,
                "cost_each_usd": Column("Cost each", "currencyUSD"),
            },
            width=12,
        ),
        panels.rows(
            "The most expensive engagements",
            "Those that began in this range; unpriced calls are told beside the cost.",
            ledger("costly"),
            {
                "engagement_id": Column("Engagement", link=TRACES),
                "name": Column("Name"),
                "user_id": Column("User"),
                "status": Column("Status"),
                "llm_calls": Column("Calls", "short"),
                "total_tokens": Column("Tokens", "short", bar=True),
                "cost_usd": Column("Cost", "currencyUSD"),
                "unpriced_calls": Column("Unpriced", "short"),
            },
        ),
    )


def _unpriced(page: Dashboard) -> None:
    panels.section(
        page,
        "Without a price or a number",
        panels.rows(
            "Calls that are not in the cost",
            "`spanflow prices set` or `spanflow prices import` gives them one, for the past as"
            " well.",
            ledger("unpriced"),
            {
                "model": Column("Model"),
                "provider": Column("Provider"),
                "calls": Column("Calls", "short", bar=True),
                "without_usage": Column("Without usage", "short"),
                "total_tokens": Column("Tokens", "short"),
                "first_at": Column("First"),
                "last_at": Column("Last"),
            },
        ),
    )


def _again(page: Dashboard) -> None:
    panels.section(
        page,
        "Spent again",
        panels.categories(
            "Tokens that were spent again, by step",
            "Replay: a step that asks a person begins anew when it is resumed. Retry: a failed"
            " attempt before"
            " it. Fork: a turn that left from an earlier checkpoint.",
            ledger("again_by_step"),
            "step",
            "short",
            {
                "replayed_tokens": "Replayed",
                "retried_tokens": "Retried",
                "forked_tokens": "Forked",
            },
            stack=True,
        ),
        panels.rows(
            "The same in numbers",
            "Of all tokens of the step.",
            ledger("again"),
            {
                "step": Column("Step"),
                "total_tokens": Column("Tokens", "short"),
                "replayed_tokens": Column("Replayed", "short"),
                "retried_tokens": Column("Retried", "short"),
                "forked_tokens": Column("Forked", "short"),
                "share": Column("Spent again", "percentunit", bar=True),
            },
            width=12,
        ),
    )


def _traces(page: Dashboard) -> None:
    panels.section(
        page,
        "Traces",
        panels.lines(
            "Output tokens by model",
            "Of the chat spans that Tempo has, a second.",
            [
                traceql_metrics(
                    '{ span.gen_ai.operation.name = "chat" }'
                    " | sum_over_time(span.gen_ai.usage.output_tokens)"
                    " by (span.gen_ai.response.model)"
                )
            ],
            "short",
        ),
        panels.rows(
            "Calls with much input",
            "Chat spans with more than a thousand tokens of input.",
            traceql(
                '{ span.gen_ai.operation.name = "chat" && span.gen_ai.usage.input_tokens > 1000 } |'
                " select(span.gen_ai.usage.input_tokens, span.gen_ai.response.model,"
                " span.spanflow.engagement.id)"
            ),
            {"duration": Column("Duration", "ns")},
            width=12,
            height=8,
        ),
    )


def _warehouse(page: Dashboard) -> None:
    panels.section(
        page,
        "ClickHouse",
        panels.rows(
            "Tokens of all hosts by model",
            "From the chat and embeddings spans in the table `otel_traces` that the Collector's"
            " ClickHouse"
            " exporter writes. Calls that two instrumentations reported are in it twice; the ledger"
            " counts them once.",
            clickhouse("clickhouse_models"),
            {
                "model": Column("Model"),
                "calls": Column("Calls", "short"),
                "input_tokens": Column("Input", "short"),
                "output_tokens": Column("Output", "short"),
                "total_tokens": Column("Tokens", "short", bar=True),
            },
        ),
        folded=True,
    )
