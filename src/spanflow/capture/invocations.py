"""Redacts what other instrumentors put into an invocation of ours before our span takes it over.

It changes texts and never shapes; what to take out is the redactor's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.context import get_value

from spanflow.capture import redact
from spanflow.capture.payload import clean
from spanflow.guard import report

if TYPE_CHECKING:
    from opentelemetry.util.genai.invocation import (  # pyright: ignore[reportMissingTypeStubs]
        GenAIInvocation,
    )

    from spanflow.capture.redact import Redactor

__all__ = ["redact_inner"]


def redact_inner(invocation: GenAIInvocation) -> None:
    """Redact what an instrumentor inside the call left in its context for our span to take over."""
    redactor = redact.current()
    key: Any = getattr(invocation, "_context_key", None)
    found: Any = get_value(key, invocation.context) if redactor and key else None
    if redactor is None or not dataclasses.is_dataclass(found):
        return
    empty: Any = type(found)()
    for name, value in vars(found).items():
        try:
            new = clean(value) if isinstance(value, str) else _redacted(value, redactor)
        except Exception as error:  # noqa: BLE001 - a part of a shape unknown to us is left out
            report("call.redact", error)
            new = getattr(empty, name)
        setattr(found, name, new)


def _redacted(value: Any, redactor: Redactor) -> Any:
    """Return a copy of what stands in an invocation, of the same types."""
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_redacted(key, redactor): _redacted(item, redactor) for key, item in items}
    if isinstance(value, list | tuple):
        return [_redacted(item, redactor) for item in cast("list[Any]", value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {name: _redacted(part, redactor) for name, part in vars(value).items()}
        return dataclasses.replace(value, **parts)
    return value
