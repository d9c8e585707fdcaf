"""What an app says of the step that is going on: a log line, an error, a goal, an extraction.

Each becomes an event of that step, or of the turn where no step is open. Outside every engagement,
or where nothing is captured, nothing happens; none of these ever raises.
"""

from __future__ import annotations

import time
from typing import Any, cast

from spanflow.guard import diagnose, guarded
from spanflow.instrument.plain import gate
from spanflow.instrument.plain.targets import scope_for

__all__ = ["error", "extraction", "gave_up", "goal", "log"]

_LONGEST_REASON = 256


@guarded("api.log")
def log(
    name: str,
    /,
    *,
    step_id: str | None = None,
    engagement_id: str | None = None,
    **payload: Any,
) -> None:
    """Note that something happened in the step that is going on.

    Args:
        name: What happened, in a few words that are the same each time.
        step_id: The open step that is meant, where it is another.
        engagement_id: The open engagement that is meant, where it is another.
        **payload: What came with it. It is kept whether or not content is captured, redacted, and
            cut at ``SPANFLOW_PAYLOAD_BYTES``.

    Example:
        >>> import spanflow
        >>> spanflow.log("offer shown", price_usd=95, nights=3)
    """
    served = gate.runtime()
    if served is not None:
        from spanflow.capture.payload import clean, json_payload

        kept = json_payload(payload, served.payload_bytes) if payload else None
        _add("log", "log", clean(name), kept, step_id, engagement_id)


@guarded("api.error")
def error(
    error: BaseException, *, step_id: str | None = None, engagement_id: str | None = None
) -> None:
    """Note an error that the app has dealt with itself; the step goes on.

    Args:
        error: What was raised.
        step_id: The open step that is meant, where it is another.
        engagement_id: The open engagement that is meant, where it is another.

    Example:
        >>> import spanflow
        >>> try:
        ...     raise TimeoutError("no answer from the desk")
        ... except TimeoutError as error:
        ...     spanflow.error(error)
    """
    served = gate.runtime()
    scope = scope_for("error", step_id, engagement_id) if served is not None else None
    if served is None or scope is None or scope.turn is None:
        return
    from spanflow.capture.events import error_event

    attempt = scope.step.attempts if scope.step is not None else None
    event = error_event(error, time.time_ns(), served.payload_bytes, attempt)
    (scope.step or scope.turn).add_event(event)


@guarded("api.goal")
def goal(name: str, *, engagement_id: str | None = None) -> None:
    """Mark that the user got what they came for.

    The engagement then counts as completed, whatever comes after.

    Args:
        name: The goal, like ``submitted``.
        engagement_id: The open engagement that is meant, where it is another.

    Example:
        >>> import spanflow
        >>> spanflow.goal("submitted")
    """
    scope = scope_for("goal", None, engagement_id) if gate.runtime() is not None else None
    if scope is None or scope.turn is None:
        return
    from spanflow.capture.payload import clean_path

    at = {"step": scope.step.path} if scope.step is not None else None
    scope.turn.reach(clean_path(name), time.time_ns(), at)


@guarded("api.gave_up")
def gave_up(reason: str | None = None, *, engagement_id: str | None = None) -> None:
    """Mark the run that is going on as given up by its user.

    Unless a goal is reached all the same, the engagement then counts as abandoned from the end of
    this turn on, without waiting for it to fall silent.

    Args:
        reason: Why, in a few words: kept with the mark, at most 256 characters. It is recorded
            whether or not content is captured, so do not put there what the user wrote.
        engagement_id: The open engagement that is meant, where it is another.

    Example:
        >>> import spanflow
        >>> def farewell(state):
        ...     spanflow.gave_up("too expensive")
        ...     return {"reply": "Maybe another time."}
        >>> farewell({})
        {'reply': 'Maybe another time.'}
    """
    scope = scope_for("gave_up", None, engagement_id) if gate.runtime() is not None else None
    if scope is None or scope.turn is None:
        return
    from spanflow.capture.events import Event
    from spanflow.capture.payload import free_text

    payload = {"reason": free_text(reason, _LONGEST_REASON)} if reason is not None else None
    scope.turn.add_event(Event("gave_up", "gave_up", time.time_ns(), payload))


@guarded("api.extraction")
def extraction(  # noqa: PLR0913 - what an extraction is, by name
    schema: Any,
    values: Any,
    *,
    valid: bool = True,
    error: Any = None,
    step_id: str | None = None,
    engagement_id: str | None = None,
) -> None:
    """Note what was extracted from what somebody said, and whether it fits its schema.

    Args:
        schema: Its name, a JSON schema with a ``title``, or the pydantic model itself.
        values: The values: a mapping or an instance of the model. They are kept whether or not
            content is captured; redaction takes out of them what it is told to.
        valid: Whether the values fit the schema.
        error: What is wrong with them: an exception, a text, or JSON-able data.
        step_id: The open step that is meant, where it is another.
        engagement_id: The open engagement that is meant, where it is another.

    Example:
        >>> import spanflow
        >>> spanflow.extraction("BudgetInfo", {"budget": 95000, "area": "Shibuya"})
    """
    served = gate.runtime()
    if served is None:
        return
    from spanflow.capture.payload import clean, json_payload

    limit = served.payload_bytes
    name, shape = _schema_of(schema)
    name = clean(name)
    # Each part is cut by itself: whether it was valid is told however large the values are.
    payload: dict[str, Any] = {
        "schema": name,
        "valid": bool(valid),
        "values": json_payload(values, limit),
    }
    if shape is not None:
        payload["json_schema"] = json_payload(shape, limit)
    if error is not None:
        raised = isinstance(error, BaseException)
        told = f"{type(error).__name__}: {error}" if raised else error
        payload["error"] = json_payload(told, limit)
    _add("extraction", "extraction", name, payload, step_id, engagement_id)


def _add(  # noqa: PLR0913, PLR0917 - called in this module alone
    function: str,
    kind: str,
    name: str,
    payload: Any,
    step_id: str | None,
    engagement_id: str | None,
) -> None:
    scope = scope_for(function, step_id, engagement_id)
    if scope is None or scope.turn is None:
        return
    from spanflow.capture.events import Event

    (scope.step or scope.turn).add_event(Event(kind, name, time.time_ns(), payload))


def _schema_of(schema: Any) -> tuple[object, Any]:
    """Return a schema's name, and the schema itself where it is more than a name."""
    if isinstance(schema, str):
        return schema, None
    if isinstance(schema, dict):
        told = cast("dict[str, Any]", schema)
        return told.get("title") or "object", told
    name = getattr(schema, "__name__", None) or type(schema).__name__
    describe = getattr(schema, "model_json_schema", None)
    try:
        return name, describe() if callable(describe) else None
    except Exception as error:  # noqa: BLE001 - a type that JSON has no schema for
        diagnose("api.extraction", f"{name} has no JSON schema: {type(error).__name__}")
        return name, None
