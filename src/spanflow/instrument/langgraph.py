"""LangGraph's runs become turns and its nodes steps.

``Pregel.stream`` and ``Pregel.astream`` are wrapped (``invoke`` and ``ainvoke`` go through them); steps come from one
public callback handler. Around each piece of a stream the turn's context and scope are put in place and taken away
again, in the same task. This module knows LangGraph and nothing of storage.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import wrapt
from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from opentelemetry import context as otel_context
from opentelemetry import trace

from spanflow.capture import scope as scopes
from spanflow.capture.content import captures_content
from spanflow.capture.events import Event, error_event, json_payload
from spanflow.capture.payload import clean
from spanflow.capture.scope import Scope
from spanflow.capture.turn import Frame, Nested, Turn
from spanflow.guard import guarded, report
from spanflow.instrument import fences, opening
from spanflow.instrument.calls import Place, place_of, places

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from uuid import UUID

    from langgraph.callbacks import GraphInterruptEvent

    from spanflow.capture.runtime import Runtime
    from spanflow.capture.step import Step

__all__ = ["GraphHandler", "install", "uninstall"]

_NAMESPACE = "langgraph_checkpoint_ns"


class GraphHandler(GraphCallbackHandler):
    """Turns LangGraph's callbacks into steps: one handler for the whole process."""

    run_inline = True
    ignore_llm = True
    ignore_agent = True
    ignore_retriever = True

    def __init__(self, runtime: Runtime) -> None:
        self.runtime: Runtime | None = runtime

    @guarded("langgraph.on_chain_start")
    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002 - the callback's own parameters
        inputs: Any,  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Open a step if this run is a node's; otherwise remember where it stands."""
        scope = scopes.current.get()
        if scope is not None and scope.frame is not None and not scope.frame.bound:
            # The first run inside a frame is the graph's own.
            scope.frame.bound = True
            namespace = (metadata or {}).get(_NAMESPACE)
            places[run_id] = Place(scope, scope.frame.context, namespace)
            scope.frame.runs.add(run_id)
            return
        place = place_of(parent_run_id)
        if place is None or place.scope is None or place.scope.turn is None or self.runtime is None:
            return
        namespace = (metadata or {}).get(_NAMESPACE)
        frame = place.scope.frame
        if not namespace or namespace == place.namespace or frame is None or frame.ended:
            # A run inside a node, not the node's own: it ends nothing.
            places[run_id] = Place(place.scope, place.context, place.namespace)
            place.scope.turn.runs.add(run_id)
            return
        _start_step(run_id, place, frame, metadata or {}, name)

    @guarded("langgraph.on_chain_end")
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End the step whose node ended."""
        step = _left(run_id)
        if step is not None:
            step.end("completed")

    @guarded("langgraph.on_chain_error")
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End or park the step whose node did not return: failure, cancellation and control flow told apart by type."""
        step = _left(run_id)
        if step is None:
            return
        if isinstance(error, GraphInterrupt):
            _note_wait(step, error)
            step.end("waiting")
        elif isinstance(error, GraphBubbleUp):
            step.end("completed")
        elif isinstance(
            error, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit
        ):
            step.fail_attempt("cancelled", error)
        else:
            step.fail_attempt("failed", error)

    @guarded("langgraph.on_interrupt")
    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Note that the turn pauses; what happens in a subgraph's namespace is not the turn's."""
        scope = scopes.current.get()
        if scope is not None and scope.turn is not None and not event.checkpoint_ns:
            scope.turn.paused = True


def _start_step(
    run_id: UUID, place: Place, frame: Frame, metadata: dict[str, Any], name: str | None
) -> None:
    scope = place.scope
    agent = metadata.get("lc_agent_name")
    superstep = metadata.get("langgraph_step")
    step = frame.start_step(
        str(metadata.get("langgraph_node") or name or "node"),
        metadata[_NAMESPACE],
        superstep=superstep if isinstance(superstep, int) else None,
        parent=scope.step if scope is not None else None,
        agent_name=clean(agent) if isinstance(agent, str) else None,
    )
    places[run_id] = Place(step.scope, step.context, metadata[_NAMESPACE], step_key=step.key)
    frame.turn.runs.add(run_id)
    scopes.current.set(step.scope)
    otel_context.attach(
        step.context
    )  # not detached: restored below, or by the stream around this run


def _left(run_id: UUID) -> Step | None:
    """Forget a run; if it was a node's, put back the scope around it and return its step."""
    place = places.pop(run_id, None)
    if place is None or place.scope is None or place.scope.turn is None:
        return None
    place.scope.turn.runs.discard(run_id)
    step = place.scope.step
    if place.step_key is None or step is None:
        return None
    if scopes.current.get() is step.scope:
        outer = step.parent.scope if step.parent is not step.frame.parent_step else None
        scopes.current.set(outer or step.frame.scope)
    if trace.get_current_span() is step.span:
        outer_context = step.frame.context if step.parent is step.frame.parent_step else None
        if outer_context is None and step.parent is not None:
            outer_context = step.parent.context
        otel_context.attach(outer_context or step.frame.context)
    return step


def _note_wait(step: Step, error: GraphInterrupt) -> None:
    """Put the interrupts a node raised on its step: ids, and payloads where content capture allows."""
    runtime = step.frame.runtime
    interrupts = error.args[0] if error.args and isinstance(error.args[0], list | tuple) else ()
    import time  # noqa: PLC0415 - only when a run pauses

    for interrupt in interrupts:  # pyright: ignore[reportUnknownVariableType]
        payload: dict[str, Any] = {"id": clean(getattr(interrupt, "id", ""))}  # pyright: ignore[reportUnknownArgumentType]
        if captures_content():
            payload["payload"] = json_payload(
                getattr(interrupt, "value", None),  # pyright: ignore[reportUnknownArgumentType]
                runtime.payload_bytes,
            )
        step.add_event(Event("wait", "wait", time.time_ns(), payload))


# -- the wrapper -----------------------------------------------------------------------------------------------------


class _Inside:
    """Puts a scope and a context in place for one piece of a stream, and takes both away in the same task."""

    __slots__ = ("_context", "_scope", "_tokens")

    def __init__(self, scope: Scope, context: Any) -> None:
        self._scope = scope
        self._context = context

    def __enter__(self) -> None:
        self._tokens = (
            scopes.current.set(self._scope),
            otel_context.attach(self._context) if self._context is not None else None,
        )

    def __exit__(self, *_: object) -> None:
        scope, context = self._tokens
        if context is not None:
            otel_context.detach(context)
        scopes.current.reset(scope)


class _Run:
    """One wrapped run of a graph: opens its frame at the first piece and closes it however the stream ends."""

    __slots__ = ("_frame", "_inside", "_opening")

    def __init__(self, run: opening.Opening) -> None:
        self._opening = run
        self._frame: Frame | None = None
        self._inside = _Inside(scopes.OFF, None)

    def open(self, lineage: Any) -> None:
        """Open the turn, or the nested graph; a failure of ours leaves the run uncaptured."""
        try:
            frame = self._opening.open(lineage)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.open", error)
            return
        self._frame = frame
        self._inside = _Inside(frame.scope, frame.context)

    def inside(self) -> _Inside:
        """Return the context manager that puts this run's scope and context in place."""
        return self._inside

    def close(self, outcome: str, error: BaseException | None = None) -> None:
        """Close the frame and forget its runs."""
        frame = self._frame
        if frame is None:
            return
        try:
            if isinstance(frame, Turn):
                if frame.paused or (outcome in ("left", "completed") and frame.waiting is not None):
                    outcome = "paused" if outcome in ("completed", "left") else outcome
                _blame(frame, error)
                frame.close(outcome, error)
                self._opening.closed(frame)
            elif isinstance(frame, Nested):
                frame.close(outcome, error)
        except Exception as problem:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.close", problem)
        finally:
            for run_id in frame.runs:
                places.pop(run_id, None)
            frame.runs.clear()


def _blame(turn: Turn, error: BaseException | None) -> None:
    """Give a timeout to the step that ran out of time: its attempt only saw that it was cancelled."""
    name = getattr(error, "node", None)
    if error is None or not isinstance(name, str):
        return
    for step in list(turn.open.values()):
        if step.parked and step.status == "cancelled" and step.path.rpartition("/")[2] == name:
            step.status, step.error = "failed", error
            step.add_event(
                error_event(error, step.ended_ns, turn.runtime.payload_bytes, step.attempts)
            )


def _outcome_of(error: BaseException) -> str:
    if isinstance(error, GeneratorExit):
        return "left"
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return "cancelled"
    if isinstance(error, GraphBubbleUp):
        return "paused"
    return "failed"


def _streamed(inner: Any, run: opening.Opening) -> Generator[Any, Any, Any]:
    """Yield what `inner` yields, with the turn around each piece."""
    turn = _Run(run)
    turn.open(run.find())
    try:
        while True:
            with turn.inside():
                try:
                    piece = next(inner)
                except StopIteration:
                    break
            yield piece
    except BaseException as error:
        with turn.inside():
            inner.close()
        turn.close(_outcome_of(error), error)
        raise
    turn.close("completed")


async def _astreamed(inner: Any, run: opening.Opening) -> AsyncGenerator[Any, Any]:
    """Yield what `inner` yields, with the turn around each piece."""
    turn = _Run(run)
    turn.open(await run.afind())
    try:
        while True:
            with turn.inside():
                try:
                    piece = await anext(inner)
                except StopAsyncIteration:
                    break
            yield piece
    except BaseException as error:
        try:
            with turn.inside():
                await inner.aclose()
        finally:
            turn.close(_outcome_of(error), error)
        raise
    turn.close("completed")


class _Installed:
    """What is wrapped in this process."""

    handler: GraphHandler | None = None
    wrapped: tuple[tuple[Any, str], ...] = ()


def install(runtime: Runtime) -> None:
    """Wrap LangGraph's runs, once; a second call only changes whom they serve."""
    from langgraph.pregel import Pregel  # noqa: PLC0415 - LangGraph is loaded by now
    from langgraph.pregel import _loop as loops  # noqa: PLC0415 - cached nodes fire no callback

    if _Installed.handler is not None:
        _Installed.handler.runtime = runtime
    else:
        _Installed.handler = GraphHandler(runtime)
    if _Installed.wrapped:
        return
    targets: list[tuple[Any, str]] = []
    for owner, name, wrapper in (
        (Pregel, "stream", _wrapper(_streamed)),
        (Pregel, "astream", _wrapper(_astreamed)),
        (getattr(loops, "SyncPregelLoop", None), "match_cached_writes", _matched),
        (getattr(loops, "AsyncPregelLoop", None), "amatch_cached_writes", _amatched),
    ):
        if owner is not None and hasattr(owner, name):
            wrapt.wrap_function_wrapper(owner, name, wrapper)
            targets.append((owner, name))
    _Installed.wrapped = tuple(targets)


def uninstall() -> None:
    """Restore everything that was wrapped."""
    for owner, name in _Installed.wrapped:
        current = vars(owner).get(name)
        if isinstance(current, wrapt.FunctionWrapper):
            setattr(owner, name, current.__wrapped__)
    _Installed.wrapped = ()
    if _Installed.handler is not None:
        _Installed.handler.runtime = None


def _wrapper(streamed: Callable[[Any, opening.Opening], Any]) -> Callable[..., Any]:
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
        return streamed(wrapped(*run.args, **run.kwargs), run)

    return wrapper


# -- cached nodes ----------------------------------------------------------------------------------------------------


def _matched(wrapped: Callable[..., Any], _loop: Any, args: Any, kwargs: Any) -> Any:
    tasks = wrapped(*args, **kwargs)
    _note_cached(tasks)
    return tasks


async def _amatched(wrapped: Callable[..., Any], _loop: Any, args: Any, kwargs: Any) -> Any:
    tasks = await wrapped(*args, **kwargs)
    _note_cached(tasks)
    return tasks


@guarded("langgraph.cached")
def _note_cached(tasks: Any) -> None:
    """Record each node whose result came from the node cache as a step that took no time."""
    scope = scopes.live()
    if not tasks or scope is None or scope.frame is None:
        return
    for task in tasks:
        metadata = task.config.get("metadata") or {}
        superstep = metadata.get("langgraph_step")
        step = scope.frame.start_step(
            str(task.name),
            str(metadata.get(_NAMESPACE) or task.id),
            superstep=superstep if isinstance(superstep, int) else None,
            cached=True,
        )
        step.end("completed")
