"""Where a turn begins, and what its span and its record say of it then; nothing is opened here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link

from spanflow import semconv
from spanflow.capture import carried
from spanflow.capture import scope as scopes
from spanflow.capture.payload import WHOLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from spanflow.capture.identity import GraphShape, Identity

__all__ = ["identity_record", "links_record", "origin_record", "start_attributes", "surroundings"]


def surroundings(who: Identity) -> tuple[Context, list[Link]]:
    """Return the context a turn starts in, and its links.

    A turn started inside the user's span is its child. One started by a task or thread that
    outlived an earlier turn of ours stands alone, and is linked to what started it; that of
    somebody else's agent is linked as well, and its child.
    """
    context = carried.without(otel_context.get_current())
    links: list[Link] = []
    if who.previous is not None:
        links.append(Link(who.previous, {semconv.LINK_KIND: semconv.LINK_PREVIOUS_TURN}))
    if who.left_from is not None:
        links.append(Link(who.left_from, {semconv.LINK_KIND: semconv.LINK_LEFT_FROM}))
    if who.started_by is not None:
        links.append(Link(who.started_by, {semconv.LINK_KIND: semconv.LINK_STARTED_BY}))
        return context, links
    scope = scopes.current.get() or scopes.handed_on()
    if scope is not None and scope.turn is not None and scope.turn.ended:
        around = trace.get_current_span(context).get_span_context()
        if around.is_valid and f"{around.trace_id:032x}" == scope.turn.trace_id:
            links.append(Link(around, {semconv.LINK_KIND: semconv.LINK_STARTED_BY}))
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
    return context, links


def start_attributes(
    who: Identity, shape: GraphShape, goals: Sequence[str]
) -> dict[str, AttributeValue]:
    """Return what a turn's span says of whose it is and what runs in it, but for its ids.

    Args:
        who: Whose turn it is.
        shape: Its graph.
        goals: Those that hold in it.
    """
    attributes: dict[str, AttributeValue | None] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_INVOKE_WORKFLOW,
        semconv.GEN_AI_WORKFLOW_NAME: shape.name or None,
        semconv.GEN_AI_CONVERSATION_ID: who.conversation_id,
        semconv.USER_ID: who.user_id,
        semconv.SESSION_ID: who.session_id,
        semconv.ENGAGEMENT_NAME: who.name or None,
        semconv.ENGAGEMENT_METADATA: _whole_json(who.metadata),
        semconv.TURN_KIND: who.kind,
        semconv.TURN_ON_THREAD: who.on_thread,
        semconv.TURN_GOALS: goals or None,
        semconv.GRAPH_VERSION: shape.version,
        semconv.TURN_ANSWERS: who.answers or None,
        semconv.TURN_RESOLUTION: who.resolution,
        semconv.TURN_ORIGIN_ID: _origin_turn(who),
        semconv.TURN_ORIGIN_SUPERSTEP: who.origin.superstep if who.origin else None,
    }
    return {key: value for key, value in attributes.items() if value is not None}


def identity_record(who: Identity) -> dict[str, Any]:
    """Return what a turn's record says of whose it is; a turn may learn better until it ends."""
    return {
        "on_thread": who.on_thread,
        "conversation_id": who.conversation_id,
        "user_id": who.user_id,
        "session_id": who.session_id,
        "metadata": who.metadata or None,
        "turn_kind": who.kind,
        "answers": who.answers or None,
        "resolution": who.resolution,
    }


def origin_record(who: Identity) -> dict[str, Any]:
    """Return what a turn's record says of the checkpoint that a fork began at."""
    return {
        "origin_turn_id": _origin_turn(who),
        "origin_superstep": who.origin.superstep if who.origin else None,
    }


def links_record(links: Sequence[Link]) -> list[dict[str, Any]]:
    """Return a turn's links as its record has them."""
    return [
        {
            "trace_id": f"{link.context.trace_id:032x}",
            "span_id": f"{link.context.span_id:016x}",
            "kind": (link.attributes or {}).get(semconv.LINK_KIND),
        }
        for link in links
    ]


def _origin_turn(who: Identity) -> str | None:
    turn = who.origin.turn if who.origin is not None else None
    return f"{turn.span_id:016x}" if turn is not None else None


def _whole_json(metadata: Mapping[str, Any]) -> str | None:
    """Return `metadata` as JSON if it is short enough for every back end to keep it whole."""
    if not metadata:
        return None
    import orjson  # noqa: PLC0415 - only turns that carry metadata pay for it

    text = orjson.dumps(metadata).decode()
    return text if len(text.encode()) <= WHOLE_BYTES else None
