"""Every attribute, span, event and metric name spanflow writes or reads, and where it comes from.

Nobody else spells a key. The ``gen_ai.*`` names are those of the OpenTelemetry GenAI semantic
conventions' own registry (opentelemetry.io/docs/specs/semconv/gen-ai), which has no Python package;
``user.id``, ``session.id``, ``error.type`` and ``exception.*`` are the general conventions'. What
has no convention yet stands under ``spanflow.``.
"""

from __future__ import annotations

from typing import Final

__all__: list[str] = []  # constants are read as semconv.NAME

# GenAI conventions.
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_SYSTEM: Final = "gen_ai.system"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_RESULT: Final = "gen_ai.tool.call.result"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_WORKFLOW_NAME: Final = "gen_ai.workflow.name"
OPERATION_INVOKE_WORKFLOW: Final = "invoke_workflow"
OPERATION_INVOKE_AGENT: Final = "invoke_agent"

# OpenInference: what a span is, from its start.
OPENINFERENCE_KIND: Final = "openinference.span.kind"

# General conventions.
USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"
SERVICE_NAME: Final = "service.name"
ERROR_TYPE: Final = "error.type"
ERROR_TYPE_OTHER: Final = "_OTHER"
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# Identity: on every span that is part of an engagement.
ENGAGEMENT_ID: Final = "spanflow.engagement.id"
TURN_ID: Final = "spanflow.turn.id"
STEP_ID: Final = "spanflow.step.id"

# Turns.
ENGAGEMENT_NAME: Final = "spanflow.engagement.name"
ENGAGEMENT_STATUS: Final = "spanflow.engagement.status"
ENGAGEMENT_METADATA: Final = "spanflow.engagement.metadata"
TURN_KIND: Final = "spanflow.turn.kind"
TURN_OUTCOME: Final = "spanflow.turn.outcome"
TURN_ON_THREAD: Final = "spanflow.turn.on_thread"
TURN_GOALS: Final = "spanflow.turn.goals"
TURN_GOALS_REACHED: Final = "spanflow.turn.goals_reached"
TURN_DROPPED_AT: Final = "spanflow.turn.dropped_at"
TURN_ANSWERS: Final = "spanflow.turn.answers"
TURN_RESOLUTION: Final = "spanflow.turn.resolution"
TURN_ORIGIN_ID: Final = "spanflow.turn.origin_id"
TURN_ORIGIN_SUPERSTEP: Final = "spanflow.turn.origin_superstep"
TURN_INTERRUPT_IDS: Final = "spanflow.turn.interrupt_ids"
TURN_INTERRUPTS: Final = "spanflow.turn.interrupts"
GRAPH_VERSION: Final = "spanflow.graph.version"

# Steps.
STEP_NAME: Final = "spanflow.step.name"
STEP_PATH: Final = "spanflow.step.path"
STEP_PARENT_ID: Final = "spanflow.step.parent_id"
STEP_STATUS: Final = "spanflow.step.status"
STEP_VISIT: Final = "spanflow.step.visit"
STEP_ATTEMPTS: Final = "spanflow.step.attempts"
STEP_SUPERSTEP: Final = "spanflow.step.superstep"
STEP_IS_GLOBAL: Final = "spanflow.step.is_global"
STEP_GOAL: Final = "spanflow.step.goal"
STEP_CACHED: Final = "spanflow.step.cached"
STEP_EXECUTION_ID: Final = "spanflow.step.execution_id"
STEP_TRIGGERED_BY_EXECUTIONS: Final = "spanflow.step.triggered_by_executions"
STEP_TOOLS_AVAILABLE: Final = "spanflow.step.tools_available"
REPLAYED: Final = "spanflow.replayed"

# Agents that an app names.
AGENT_NAME: Final = "spanflow.agent.name"
AGENT_ROLE: Final = "spanflow.agent.role"
AGENT_PARENT: Final = "spanflow.agent.parent"

# Totals: ours, so never under gen_ai.usage.
USAGE_PREFIX: Final = "spanflow.usage."
USAGE_LLM_CALLS: Final = "spanflow.usage.llm_calls"
USAGE_TOTAL_TOKENS: Final = "spanflow.usage.total_tokens"
USAGE_FLAGS: Final = "spanflow.usage.flags"
USAGE_COST_USD: Final = "spanflow.usage.cost_usd"

# Calls and payloads.
CALL_STATUS: Final = "spanflow.call.status"
CALL_ATTEMPT: Final = "spanflow.call.attempt"
CALL_CALLER: Final = "spanflow.call.caller"
CALL_METADATA: Final = "spanflow.call.metadata"
STREAM_CHUNKS: Final = "spanflow.stream.chunks"
STREAM_FIRST_CHUNK_MS: Final = "spanflow.stream.time_to_first_chunk_ms"
PAYLOAD_TRUNCATED: Final = "spanflow.payload.truncated"
PAYLOAD_ORIGINAL_SIZE: Final = "spanflow.payload.original_size"

# Span events.
EVENT_KIND: Final = "spanflow.event.kind"
EVENT_PAYLOAD: Final = "spanflow.event.payload"

# Links.
LINK_KIND: Final = "spanflow.link.kind"
LINK_PREVIOUS_TURN: Final = "previous_turn"
LINK_STARTED_BY: Final = "started_by"
LINK_TRIGGERED_BY: Final = "triggered_by"
LINK_LEFT_FROM: Final = "left_from"

# Lineage: the one key in a run's configurable.
LINEAGE_KEY: Final = "spanflow_engagement"

# Baggage: what a request brings along for us, only where an app asked for it to be carried.
BAGGAGE_PREFIX: Final = "spanflow."
BAGGAGE_ENGAGEMENT_ID: Final = "spanflow.engagement.id"

# Metrics.
METRIC_TURNS: Final = "spanflow.turns"
METRIC_TURN_DURATION: Final = "spanflow.turn.duration"
METRIC_STEP_DURATION: Final = "spanflow.step.duration"
METRIC_WAIT_DURATION: Final = "spanflow.wait.duration"
METRIC_USAGE_TOKENS: Final = "spanflow.usage.tokens"
METRIC_USAGE_COST: Final = "spanflow.usage.cost"
METRIC_JOURNAL_LAG: Final = "spanflow.journal.lag"
METRIC_JOURNAL_LOST: Final = "spanflow.journal.lost_records"
METRIC_INTERNAL_ERRORS: Final = "spanflow.internal.errors"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a key
INTERNAL_SITE: Final = "spanflow.internal.site"
