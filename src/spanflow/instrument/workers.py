"""Threads and executors: work that is handed to a thread stands where it was handed over.

``contextvars`` go along with tasks and with ``asyncio.to_thread``, but neither with
``ThreadPoolExecutor.submit`` (and so ``loop.run_in_executor``) nor with ``threading.Thread``. A
piece of work given to an executor takes OpenTelemetry's context along too. A thread may live on and
serve others: it is given our own place alone, and only for as long as its turn goes on, so that no
later span finds itself in that trace.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import wrapt
from opentelemetry import context as otel_context

from spanflow.capture import agents
from spanflow.capture import scope as scopes
from spanflow.capture.inside import Inside
from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from spanflow.capture.agents import Agent
    from spanflow.capture.scope import Scope

__all__ = ["install", "uninstall"]

_submitting: ContextVar[bool] = ContextVar("spanflow_submitting", default=False)
"""Inside ``submit``: the worker that it may start serves whoever comes next, too."""
_replaced: list[tuple[Any, str, Any, Any]] = []


class _Place(NamedTuple):
    """Where work was handed over."""

    scope: Scope | None
    context: Context
    agent: Agent | None


def install() -> None:
    """Wrap how threads are started and how work is given to a pool of them."""
    if not _replaced:
        _cover(threading.Thread, "start", _around_start)
        _cover(ThreadPoolExecutor, "submit", _around_submit)


def uninstall() -> None:
    """Put back what was wrapped, where nobody wrapped it again."""
    while _replaced:
        owner, name, original, wrapper = _replaced.pop()
        if _own(owner, name) is wrapper:
            setattr(owner, name, original)


def _cover(owner: Any, name: str, wrapper: Any) -> None:
    original = _own(owner, name)
    made: Any = wrapt.FunctionWrapper(original, wrapper)
    setattr(owner, name, made)
    _replaced.append((owner, name, original, made))


def _own(owner: Any, name: str) -> Any:
    return cast("dict[str, Any]", vars(owner)).get(name)


def _standing() -> _Place | None:
    """Return where the running code stands; None where nothing of ours goes on."""
    try:
        context = otel_context.get_current()
        scope = scopes.current.get()
        if scope is None and not context:
            return None  # nearly all work of nearly all programs
        scope = scope if scope is scopes.OFF else scopes.live()
        call: Any = otel_context.get_value(scopes.OPEN_CALL, context)
        if scope is None and (call is None or call.ended):
            return None
        return _Place(scope, context, agents.around())
    except Exception as error:  # noqa: BLE001 - the fail-open boundary
        report("workers.standing", error)
        return None


def _around_submit(wrapped: Any, _self: Any, args: Any, kwargs: Any) -> Any:
    place = _standing() if args and _replaced else None
    if place is None:
        return wrapped(*args, **kwargs)
    token = _submitting.set(True)
    try:
        return wrapped(partial(_run_in, place, args[0]), *args[1:], **kwargs)
    finally:
        _submitting.reset(token)


def _run_in(place: _Place, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with Inside(place.scope, place.context, place.agent):
        return work(*args, **kwargs)


def _around_start(wrapped: Any, thread: Any, args: Any, kwargs: Any) -> Any:
    place = _standing() if _replaced and not _submitting.get() else None
    # A run that was left out says nothing of when it ends.
    if place is not None and place.scope is not None and place.scope is not scopes.OFF:
        # On the object: most threads of others override `run`.
        try:
            thread.run = partial(_run_thread, thread, place, thread.run)
        except Exception as error:  # noqa: BLE001 - somebody's class may not have it
            report("workers.start", error)
    return wrapped(*args, **kwargs)


def _run_thread(thread: Any, place: _Place, run: Callable[[], None]) -> None:
    cast("dict[str, Any]", vars(thread)).pop("run", None)
    scopes.hand_on(cast("Scope", place.scope), place.context)
    agents.current.set(place.agent)
    run()
