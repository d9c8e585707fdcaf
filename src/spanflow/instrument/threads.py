"""Keeps what is remembered of threads true: whoever changes one behind our back makes us forget it.

The public methods that delete, copy or prune threads, or update a state, are wrapped: a graph's at
installation, a checkpointer's on the class that defines them when it is first met. What is done to
a store by other means, or by another process, is not seen.
"""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, cast

import wrapt
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.base import BaseCheckpointSaver

from spanflow.capture import lineage as lineages
from spanflow.guard import guarded, report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["cover", "install", "uninstall"]

_STATE_METHODS = ("update_state", "aupdate_state", "bulk_update_state", "abulk_update_state")
_CHANGED: dict[str, tuple[int, str] | None] = {
    "delete_thread": (0, "thread_id"),
    "copy_thread": (1, "target_thread_id"),
    "prune": (0, "thread_ids"),
    "delete_for_runs": None,
}
"""Which argument of a checkpointer's methods names the threads it changes; None: it may be any."""


class _Wrapped:
    """What is wrapped in this process."""

    methods: tuple[tuple[type[Any], str, Any], ...] = ()
    savers: ClassVar[weakref.WeakSet[type[Any]]] = weakref.WeakSet()


def install(graphs: type[Any]) -> None:
    """Wrap the methods of `graphs` that update a thread's state."""
    for name in _STATE_METHODS:
        if hasattr(graphs, name):
            _wrap(graphs, name, _updated)


def cover(saver: Any) -> None:
    """Wrap the methods by which `saver`'s class changes threads, once a class."""
    kind = cast("type[Any]", type(saver))
    if kind in _Wrapped.savers:
        return
    _Wrapped.savers.add(kind)
    for name, named in _CHANGED.items():
        for method in (name, f"a{name}"):
            owner = next((one for one in kind.__mro__ if method in vars(one)), None)
            if owner is None or owner is BaseCheckpointSaver:
                continue
            try:
                _wrap(owner, method, _changing(named))
            except Exception as error:  # noqa: BLE001 - a class may refuse to be wrapped
                report("threads.cover", error)


def uninstall() -> None:
    """Restore every method that nobody wrapped after us."""
    for owner, name, wrapper in _Wrapped.methods:
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, wrapper.__wrapped__)
    _Wrapped.methods = ()
    _Wrapped.savers.clear()


def _wrap(owner: type[Any], name: str, wrapper: Callable[..., Any]) -> None:
    if any(one is owner and method == name for one, method, _ in _Wrapped.methods):
        return
    wrapt.wrap_function_wrapper(owner, name, wrapper)
    _Wrapped.methods = (*_Wrapped.methods, (owner, name, vars(owner)[name]))


def _updated(wrapped: Callable[..., Any], graph: Any, args: Any, kwargs: Any) -> Any:
    given = args[0] if args else kwargs.get("config")
    layers = (var_child_runnable_config.get(), getattr(graph, "config", None), given)
    return _then_forget(wrapped, args, kwargs, lambda: _thread_in(layers))


def _changing(named: tuple[int, str] | None) -> Callable[..., Any]:
    def wrapper(wrapped: Callable[..., Any], _saver: Any, args: Any, kwargs: Any) -> Any:
        return _then_forget(wrapped, args, kwargs, lambda: _named_in(named, args, kwargs))

    return wrapper


def _then_forget(
    wrapped: Callable[..., Any],
    args: Any,
    kwargs: Any,
    threads: Callable[[], list[str] | None],
) -> Any:
    """Call `wrapped`; when it is through, however it ends, forget the threads it was about."""
    try:
        result = wrapped(*args, **kwargs)
    except BaseException:
        _forget(threads)
        raise
    if inspect.isawaitable(result):
        return _awaited(result, threads)
    _forget(threads)
    return result


async def _awaited(result: Awaitable[Any], threads: Callable[[], list[str] | None]) -> Any:
    try:
        return await result
    finally:
        _forget(threads)


@guarded("threads.forget")
def _forget(threads: Callable[[], list[str] | None]) -> None:
    named = threads()
    if named is None:
        lineages.forget()
        return
    for thread in named:
        lineages.forget(thread)


def _thread_in(layers: tuple[Any, ...]) -> list[str] | None:
    for config in reversed(layers):
        configurable = config.get("configurable") if isinstance(config, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if configurable and "thread_id" in configurable:
            return [str(cast("Any", configurable["thread_id"]))]
    return None


def _named_in(named: tuple[int, str] | None, args: Any, kwargs: Any) -> list[str] | None:
    if named is None:
        return None
    position, name = named
    value = args[position] if len(args) > position else kwargs.get(name)
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, list | tuple | set) else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
