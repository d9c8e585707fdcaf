"""LangGraph's runs become turns and its nodes steps.

``Pregel.stream`` and ``Pregel.astream`` are wrapped (``invoke`` and ``ainvoke`` go through them);
steps come from one public callback handler. What is done around each piece of a stream is in
``runs``. This module knows LangGraph and nothing of storage.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import wrapt
from langgraph.callbacks import GraphCallbackHandler
from langgraph.constants import START
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from opentelemetry import context as otel_context

from spanflow.capture import scope as scopes
from spanflow.capture.content import captures_content
from spanflow.capture.events import Event
from spanflow.capture.inside import saw
from spanflow.capture.payload import clean, json_payload
from spanflow.capture.step import execution_id
from spanflow.guard import guarded, report
from spanflow.instrument import fences, loops, opening, state_keys, threads
from spanflow.instrument.calls import Place, place_of, places
from spanflow.instrument.loops import NAMESPACE
from spanflow.instrument.runs import astreamed, streamed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from langgraph.callbacks import GraphInterruptEvent

    from spanflow.capture.frame import Frame
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.step import Step

__all__ = ["GraphHandler", "install", "uninstall"]

_LONGEST_LABEL = 128


class GraphHandler(GraphCallbackHandler):
    """Turns LangGraph's callbacks into steps: one handler for the whole process."""

    run_inline = True
    # Plain attributes where LangChain has properties: it reads them at every callback.
    ignore_llm = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    ignore_agent = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    ignore_retriever = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, runtime: Runtime) -> None:
        self.runtime: Runtime | None = runtime

    def on_chain_start(  # noqa: PLR0913 - the callback's own parameters
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Open a step if this run is a node's; otherwise remember where it stands."""
        try:  # not the decorator: this and its counterpart run at every step
            self._start(run_id, parent_run_id, metadata or {}, name)
            if self.runtime is not None and self.runtime.settings.state_keys:
                state_keys.note_given(places.get(run_id), inputs)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.on_chain_start", error)

    def _start(
        self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any], name: str | None
    ) -> None:
        scope = scopes.current.get()
        if scope is not None and scope.frame is not None and not scope.frame.bound:
            # The first run inside a frame is the graph's own.
            scope.frame.bound = True
            places[run_id] = Place(scope, scope.frame.context, metadata.get(NAMESPACE))
            scope.frame.runs.add(run_id)
            return
        place = place_of(parent_run_id)
        if place is None or place.scope is None or place.scope.turn is None or self.runtime is None:
            return
        namespace = metadata.get(NAMESPACE)
        frame = place.scope.frame
        if (
            not namespace
            or namespace == place.namespace
            or frame is None
            or frame.ended
            or metadata.get("langgraph_node") == START
        ):
            # A run inside a node, or the router before the first: it ends nothing.
            places[run_id] = Place(place.scope, place.context, place.namespace)
            place.scope.turn.runs.add(run_id)
            return
        _start_step(run_id, place, frame, metadata, name)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End the step whose node ended."""
        try:
            step = _left(run_id)
            if step is not None:
                if step.frame.runtime.settings.state_keys:
                    state_keys.read(step, outputs)
                step.end("completed")
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.on_chain_end", error)

    @guarded("langgraph.on_chain_error")
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End or park the step whose node did not return.

        Failure, cancellation and control flow are told apart by type.
        """
        step = _left(run_id)
        if step is None:
            return
        if isinstance(error, GraphInterrupt):
            _note_waits(step, error)
            step.frame.paused = True  # a consumer may leave before LangGraph says so
            step.end("waiting")
        elif isinstance(error, GraphBubbleUp):
            if step.frame.runtime.settings.state_keys:
                state_keys.read(step, error.args[0] if error.args else None)  # a parent's command
            step.end("completed")
        elif isinstance(
            error, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit
        ):
            step.fail_attempt("cancelled", error)
        else:
            step.fail_attempt("failed", error)

    @guarded("langgraph.on_interrupt")
    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Note that a graph pauses; what happens in a subgraph's namespace is not its own doing."""
        scope = scopes.current.get()
        frame = scope.frame if scope is not None else None
        if frame is not None and not event.checkpoint_ns and not frame.finished:
            frame.paused = True


def _start_step(
    run_id: UUID, place: Place, frame: Frame, metadata: dict[str, Any], name: str | None
) -> None:
    scope = place.scope
    agent = frame.agent_name or metadata.get("lc_agent_name")
    superstep = metadata.get("langgraph_step")
    key = metadata[NAMESPACE]
    step = frame.start_step(
        str(metadata.get("langgraph_node") or name or "node"),
        key,
        superstep=superstep if isinstance(superstep, int) else None,
        parent=scope.step if scope is not None else None,
        agent_name=clean(agent) if isinstance(agent, str) else None,
        causes=loops.causes_of(frame, key, metadata),
    )
    begun = places[run_id] = Place(step.scope, step.context, key, step_key=step.key)
    begun.around = otel_context.get_current()
    saw(begun.around)
    frame.turn.runs.add(run_id)
    scopes.current.set(step.scope)
    # Not detached: put back when the node has left, or by the stream around this run.
    otel_context.attach(step.context)


def _left(run_id: UUID) -> Step | None:
    """Forget a run; if it was a node's, put back the scope around it and return its step."""
    place = places.pop(run_id, None)
    if place is None or place.scope is None or place.scope.turn is None:
        return None
    place.scope.turn.runs.discard(run_id)
    step = place.scope.step
    if place.step_key is None or step is None:
        return None
    parent = step.parent
    outer = step.frame if parent is None or parent is step.frame.parent_step else parent
    if scopes.current.get() is step.scope:
        scopes.current.set(outer.scope)
    if otel_context.get_current() is step.context:
        otel_context.attach(place.around)
    return step


def _note_waits(step: Step, error: GraphInterrupt) -> None:
    """Put what a node asks on its step, but for what a step inside it asked already."""
    runtime, turn = step.frame.runtime, step.frame.turn
    told: Any = error.args[0] if error.args else ()
    interrupts = cast("Sequence[Any]", told) if isinstance(told, list | tuple) else ()
    import time  # noqa: PLC0415 - only when a run pauses

    for interrupt in interrupts:
        wait_id = clean(getattr(interrupt, "id", ""))
        # The deprecated NodeInterrupt has no id of its own: its task's, then, and a node has one.
        nameless = wait_id in ("", "placeholder-id")
        value: object = getattr(interrupt, "value", None)
        payload: dict[str, Any] = {"id": execution_id(step.key) if nameless else wait_id}
        label = _label(value)
        if label is not None:
            payload["awaiting"] = label
        if captures_content():
            payload["payload"] = json_payload(value, runtime.payload_bytes)
        if turn.note_wait(id(interrupt) if nameless else wait_id, payload):
            step.add_event(Event("wait", "wait", time.time_ns(), payload))


def _label(value: object) -> str | None:
    """Return what an interrupt waits for: its label, or the tools whose use is to be approved."""
    if not isinstance(value, dict):
        return None
    told = cast("dict[str, Any]", value)
    label = told.get("awaiting")
    if isinstance(label, str):
        return clean(label, _LONGEST_LABEL)
    if told.get("type") == "tool_approval":
        label = told.get("name")
        return clean(label, _LONGEST_LABEL) if isinstance(label, str) else None
    requests = told.get("action_requests")
    if not isinstance(requests, list | tuple):
        return None
    names = [
        clean(name)
        for request in cast("Sequence[Any]", requests)
        if isinstance(request, dict)
        and isinstance(name := cast("dict[str, Any]", request).get("name"), str)
    ]
    return ", ".join(names)[:_LONGEST_LABEL] or None


class _Installed:
    """What is wrapped in this process."""

    handler: GraphHandler | None = None
    wrapped: tuple[tuple[type[Any], str], ...] = ()


def install(runtime: Runtime) -> None:
    """Wrap LangGraph's runs, once; a second call only changes whom they serve."""
    pregel: Any = import_module("langgraph.pregel")

    if _Installed.handler is not None:
        _Installed.handler.runtime = runtime
    else:
        _Installed.handler = GraphHandler(runtime)
    if _Installed.wrapped:
        return
    targets: list[tuple[type[Any], str]] = []
    for owner, name, wrapper in (
        (pregel.Pregel, "stream", _wrapper(streamed)),
        (pregel.Pregel, "astream", _wrapper(astreamed)),
        *loops.wrapped_methods(),
    ):
        wrapt.wrap_function_wrapper(owner, name, wrapper)
        targets.append((owner, name))
    threads.install(pregel.Pregel)
    _Installed.wrapped = tuple(targets)


def uninstall() -> None:
    """Restore everything that was wrapped."""
    for owner, name in _Installed.wrapped:
        current = vars(owner).get(name)
        if isinstance(current, wrapt.FunctionWrapper):
            setattr(owner, name, cast("Any", current).__wrapped__)
    _Installed.wrapped = ()
    threads.uninstall()
    if _Installed.handler is not None:
        _Installed.handler.runtime = None


def _wrapper(around: Callable[[Any, opening.Opening], Any]) -> Callable[..., Any]:
    def wrapper(wrapped: Callable[..., Any], graph: Any, args: Any, kwargs: Any) -> Any:
        handler = _Installed.handler
        if handler is None or handler.runtime is None:
            return wrapped(*args, **kwargs)
        try:
            run = opening.prepare(handler.runtime, graph, args, kwargs, handler)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.prepare", error)
            return wrapped(*args, **kwargs)
        if run is None:
            return wrapped(*args, **kwargs)
        fences.cover_embeddings()
        return around(wrapped(*run.args, **run.kwargs), run)

    return wrapper
