"""What LangGraph tells in no callback, read from its loop: causes, breakpoints and cached nodes.

The loop is not public. Where a method is missing, what it tells stays unknown and nothing else
changes. Nothing of the loop is kept or written to.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langgraph.constants import START
from langgraph.errors import GraphInterrupt

from spanflow.capture import scope as scopes
from spanflow.capture.events import Event
from spanflow.capture.payload import clean
from spanflow.capture.step import execution_id
from spanflow.guard import guarded, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from spanflow.capture.causes import Cause, Written
    from spanflow.capture.frame import Frame

__all__ = ["NAMESPACE", "causes_of", "wrapped_methods"]

NAMESPACE = "langgraph_checkpoint_ns"
"""The key in a run's metadata of what all attempts of one task share and two tasks never do."""

_SENDS = "__pregel_tasks"
_JOIN = "join:"
_PUSH = "__pregel_push"
_LENGTH_OF_SENT = 3
"""A packet's task has its number in its path, between the kind and whether it is a call."""
_HIDDEN = "langsmith:hidden"


def wrapped_methods() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return each class of LangGraph's loop, its method, and what to wrap around that."""
    loops: Any = import_module("langgraph.pregel._loop")
    both = getattr(loops, "PregelLoop", None)
    synchronous = getattr(loops, "SyncPregelLoop", None)
    asynchronous = getattr(loops, "AsyncPregelLoop", None)
    wanted = [
        (both, "tick", _tick),
        (both, "after_tick", _after_tick),
        (synchronous, "match_cached_writes", _matched),
        (asynchronous, "amatch_cached_writes", _amatched),
        (synchronous, "schedule_error_handler", _handled),
        (asynchronous, "aschedule_error_handler", _ahandled),
    ]
    return [(owner, name, wrapper) for owner, name, wrapper in wanted if hasattr(owner, name)]


def causes_of(frame: Frame, key: str, metadata: dict[str, Any]) -> tuple[Cause, ...]:
    """Return the steps of this frame that a task follows from.

    Args:
        frame: The run of the graph that the task is part of.
        key: The step's key.
        metadata: The task's.
    """
    path = metadata.get("langgraph_path")
    packet: int | None = None
    if path and path[0] == _PUSH and len(path) == _LENGTH_OF_SENT and isinstance(path[1], int):
        packet = path[1]
    return frame.causes.of(key, metadata.get("langgraph_triggers") or (), packet)


def _frame() -> Frame | None:
    scope = scopes.live()
    return scope.frame if scope is not None else None


def _key(task: Any) -> str:
    return task.config["metadata"].get(NAMESPACE) or task.id


def _tick(wrapped: Callable[..., Any], loop: Any, args: Any, kwargs: Any) -> Any:
    try:
        return wrapped(*args, **kwargs)
    except GraphInterrupt:
        _note_breakpoint(loop, "before", loop.interrupt_before, loop.tasks.values())
        raise


def _after_tick(wrapped: Callable[..., Any], loop: Any, args: Any, kwargs: Any) -> Any:
    tasks = loop.tasks
    written: Written = {}
    sent: dict[int, list[Cause]] = {}
    frame = None
    try:  # not the decorator: this runs at every superstep
        frame = _frame()
        if frame is not None:
            _note_writes(loop, frame, written, sent)
    except Exception as error:  # noqa: BLE001 - the fail-open boundary
        report("langgraph.writes", error)
    try:
        result = wrapped(*args, **kwargs)
    except GraphInterrupt:
        _note_breakpoint(loop, "after", loop.interrupt_after, tasks.values())
        raise
    if frame is not None:
        try:
            frame.causes.fire(written, loop.updated_channels, _senders(loop, sent) if sent else ())
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("langgraph.causes", error)
    return result


def _note_writes(loop: Any, frame: Frame, written: Written, sent: dict[int, list[Cause]]) -> None:
    """Note which steps wrote what can start others, while the tasks still hold their writes."""
    starting, causes = loop.trigger_to_nodes, frame.causes
    for task in loop.tasks.values():
        cause = causes.begun(_key(task)) or _ended_earlier(frame, task)
        if cause is None:
            continue
        for channel, value in task.writes:
            if channel in starting:
                if channel.startswith(_JOIN) and causes.is_waiting(channel, cause[2]):
                    continue  # a join takes each of its sources once
                written.setdefault(channel, {})[cause[0]] = cause
            elif channel == _SENDS:
                sent.setdefault(id(value), []).append(cause)


def _ended_earlier(frame: Frame, task: Any) -> Cause | None:
    """Return the cause that a task is whose writes were kept from an earlier turn."""
    if task.name == START or not frame.on_thread:
        return None
    return execution_id(_key(task)), None, frame.path_of(clean(task.name))


def _senders(loop: Any, sent: dict[int, list[Cause]]) -> list[tuple[Cause, ...]]:
    """Return who sent each packet: LangGraph hands on the very objects that the tasks wrote."""
    return [tuple(sent.get(id(packet), ())) for packet in loop.channels[_SENDS].get()]


@guarded("langgraph.breakpoint")
def _note_breakpoint(loop: Any, at: str, names: Any, tasks: Iterable[Any]) -> None:
    """Put a breakpoint on the turn as a wait, once for each of the steps it stands at."""
    frame = _frame()
    if frame is None:
        return
    if at == "after" and not loop.tasks and not loop.is_nested:
        frame.finished = True  # nothing is left to be taken up again
        return
    for task in tasks:
        if names == "*":
            if _HIDDEN in (task.config.get("tags") or ()):
                continue
        elif task.name not in names:
            continue
        path = frame.path_of(clean(task.name))
        payload = {"id": f"{at}:{path}", "at": at, "step": path}
        if at == "after":
            begun = frame.causes.begun(_key(task))
            if begun is None:  # it ran in an earlier turn
                continue
            payload["step_id"] = begun[0]
        frame.turn.add_event(Event("wait", "wait", time.time_ns(), payload))


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
    """Record each node whose result came from the node cache as a step that took no time.

    Those that a workflow called while it ran are tasks, and steps inside its own.
    """
    scope = scopes.live() if tasks else None
    frame = scope.frame if scope is not None else None
    if scope is None or frame is None:
        return
    for task in tasks:
        metadata = task.config["metadata"]
        superstep = metadata.get("langgraph_step")
        step = frame.start_step(
            str(task.name),
            _key(task),
            superstep=superstep if isinstance(superstep, int) else None,
            parent=scope.step,
            cached=True,
            causes=causes_of(frame, _key(task), metadata),
        )
        step.end("completed")


def _handled(wrapped: Callable[..., Any], _loop: Any, args: Any, kwargs: Any) -> Any:
    task = wrapped(*args, **kwargs)
    _note_handler(args, task)
    return task


async def _ahandled(wrapped: Callable[..., Any], _loop: Any, args: Any, kwargs: Any) -> Any:
    task = await wrapped(*args, **kwargs)
    _note_handler(args, task)
    return task


@guarded("langgraph.error_handler")
def _note_handler(args: Any, task: Any) -> None:
    """Tell the frame that the handler of an error is caused by the step that failed."""
    frame = _frame() if task is not None and args else None
    if frame is None:
        return
    failed = frame.causes.begun(_key(args[0]))
    if failed is not None:
        frame.causes.expect(_key(task), failed)
