"""The spans that capture would have exported, made from the records it would have written."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from spanflow import semconv
from spanflow.capture.usage import usage_attributes
from spanflow.spending import Totals, Usage

CALLS = ("llm", "embeddings", "tool")
_TURN = {
    "name": semconv.ENGAGEMENT_NAME,
    "turn_kind": semconv.TURN_KIND,
    "status": semconv.TURN_OUTCOME,
    "on_thread": semconv.TURN_ON_THREAD,
    "goals": semconv.TURN_GOALS,
    "answers": semconv.TURN_ANSWERS,
    "resolution": semconv.TURN_RESOLUTION,
    "graph_version": semconv.GRAPH_VERSION,
    "conversation_id": semconv.GEN_AI_CONVERSATION_ID,
    "user_id": semconv.USER_ID,
    "session_id": semconv.SESSION_ID,
}
_STEP = {
    "name": semconv.STEP_NAME,
    "path": semconv.STEP_PATH,
    "status": semconv.STEP_STATUS,
    "visit": semconv.STEP_VISIT,
    "attempts": semconv.STEP_ATTEMPTS,
    "superstep": semconv.STEP_SUPERSTEP,
    "goal": semconv.STEP_GOAL,
    "parent_step_id": semconv.STEP_PARENT_ID,
    "execution_id": semconv.STEP_EXECUTION_ID,
}
_CALL = {
    "operation": semconv.GEN_AI_OPERATION_NAME,
    "provider": semconv.GEN_AI_PROVIDER_NAME,
    "model": semconv.GEN_AI_RESPONSE_MODEL,
    "agent_name": semconv.GEN_AI_AGENT_NAME,
    "caller": semconv.CALL_CALLER,
    "attempt": semconv.CALL_ATTEMPT,
    "step_id": semconv.STEP_ID,
    "input_tokens": semconv.GEN_AI_USAGE_INPUT_TOKENS,
    "output_tokens": semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
    "cache_read_tokens": semconv.GEN_AI_USAGE_CACHE_READ,
    "cache_write_tokens": semconv.GEN_AI_USAGE_CACHE_WRITE,
    "reasoning_tokens": semconv.GEN_AI_USAGE_REASONING,
    "total_tokens": semconv.USAGE_TOTAL_TOKENS,
    "cost_usd": semconv.USAGE_COST_USD,
}


def spans_of(records: list[dict[str, Any]]) -> list[ReadableSpan]:
    """Return a span for each record that has ended."""
    steps = {one["span_id"]: one for one in records if one["kind"] == "step"}
    inside = {one["span_id"] for one in records if one["kind"] in CALLS}
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    for one in records:
        # A call inside another was counted with it.
        if one["kind"] in CALLS and one.get("parent_span_id") not in inside:
            for place in _places(one, steps):
                _count(one, totals[place])
    return [
        _span(one, totals.get(one["span_id"], Totals())) for one in records if one["phase"] == "end"
    ]


def _places(call, steps):
    yield call.get("turn_id")
    at = call.get("step_id")
    while at in steps:
        yield at
        at = steps[at].get("parent_step_id")


def _count(call, totals):
    if call["kind"] == "tool":
        totals.tool_calls += 1
    else:
        totals.add(Usage.of(**{key: call.get(key) for key in (*_CALL,)}))


def _span(one, totals):
    kind = one["kind"]
    attributes = {
        semconv.ENGAGEMENT_ID: one.get("engagement_id"),
        semconv.TURN_ID: one.get("turn_id"),
    }
    if kind == "turn":
        attributes |= {key: one.get(name) for name, key in _TURN.items()}
        attributes |= {semconv.USAGE_LLM_CALLS: 0, **usage_attributes(totals)}
        if one.get("metadata") is not None:
            attributes[semconv.ENGAGEMENT_METADATA] = json.dumps(one["metadata"])
    elif kind == "step":
        attributes |= {key: one.get(name) for name, key in _STEP.items()}
        attributes |= {semconv.STEP_ID: one["span_id"], **usage_attributes(totals)}
    else:
        attributes |= {key: one.get(name) for name, key in _CALL.items()}
        if kind == "tool":
            attributes[semconv.GEN_AI_OPERATION_NAME] = "execute_tool"
    trace_id = int(one["trace_id"], 16)
    parent = one.get("parent_span_id") or one.get("parent_step_id")
    if parent is None and kind == "step":
        parent = one["turn_id"]
    return ReadableSpan(
        name=f"{kind} {one.get('name') or one.get('model')}",
        context=SpanContext(trace_id, int(one["span_id"], 16), is_remote=False),
        parent=SpanContext(trace_id, int(parent, 16), is_remote=True) if parent else None,
        resource=Resource({semconv.SERVICE_NAME: one["service_name"]}),
        attributes={key: value for key, value in attributes.items() if value is not None},
        events=[_event(event) for event in one.get("events") or []],
        start_time=one["started_ns"],
        end_time=one["ended_ns"],
        instrumentation_scope=InstrumentationScope(one.get("scope") or "spanflow"),
    )


def _event(event):
    return Event(
        event["name"],
        {
            semconv.EVENT_KIND: event["kind"],
            semconv.EVENT_PAYLOAD: json.dumps(event["payload"], ensure_ascii=False),
        },
        event["at_ns"],
    )
