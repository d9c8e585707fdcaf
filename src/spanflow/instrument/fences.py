"""Fences around LangChain's public calls: a call's span is current inside, and nowhere else.

A callback that begins a call may put its context in place (:func:`enter`) only when the running
code stands inside a fence, because the fence, in the caller's own task, puts the caller's context
back whatever happens. Embeddings have no callbacks, so their fence begins and ends the call itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import wrapt
from opentelemetry import context as otel_context

from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from opentelemetry.context import Context

    from spanflow.capture.call import OpenCall

__all__ = ["cover_embeddings", "enter", "install", "install_embeddings", "uninstall"]

_standing: ContextVar[bool] = ContextVar("spanflow_fence", default=False)

_embedding: ContextVar[bool] = ContextVar("spanflow_embedding", default=False)
"""Inside an embedding method: what it calls of itself is the same call."""

_WRAPPED: list[tuple[type[Any], str]] = []


def enter(context: Context) -> None:
    """Make `context` current until the fence around us ends; without a fence, do nothing."""
    if _standing.get():
        _standing.set(False)
        otel_context.attach(context)  # never detached: the fence restores what was there before


class _Kept:
    """The caller's context, to be put back."""

    __slots__ = ("_context", "_fence")

    def __enter__(self) -> None:
        # This token takes the caller's own value back, whatever is attached in between.
        self._context = otel_context.attach(otel_context.get_current())
        self._fence = _standing.set(True)

    def __exit__(self, *_: object) -> None:
        _standing.reset(self._fence)
        otel_context.detach(self._context)


class _Embedding:
    """Marks the running code as part of one embeddings call."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _embedding.set(True)

    def __exit__(self, *_: object) -> None:
        _embedding.reset(self._token)


def _around_call(wrapped: Callable[..., Any], _self: Any, args: Any, kwargs: Any) -> Any:
    with _Kept():
        return wrapped(*args, **kwargs)


async def _around_await(wrapped: Callable[..., Any], _self: Any, args: Any, kwargs: Any) -> Any:
    with _Kept():
        return await wrapped(*args, **kwargs)


def _around_stream(
    wrapped: Callable[..., Any], _self: Any, args: Any, kwargs: Any
) -> Iterator[Any]:
    return _each(wrapped(*args, **kwargs))


def _each(inner: Iterator[Any]) -> Iterator[Any]:
    """Fence each step of a stream: between two pieces the context is the consumer's own."""
    inside: Context | None = None
    try:
        while True:
            with _Kept():
                if inside is not None:
                    otel_context.attach(inside)
                try:
                    piece = next(inner)
                except StopIteration:
                    return
                inside = otel_context.get_current()
            yield piece
    finally:
        close = getattr(inner, "close", None)
        if close is not None:
            with _Kept():
                close()


def _around_astream(
    wrapped: Callable[..., Any], _self: Any, args: Any, kwargs: Any
) -> AsyncIterator[Any]:
    return _aeach(wrapped(*args, **kwargs))


async def _aeach(inner: AsyncIterator[Any]) -> AsyncIterator[Any]:
    inside: Context | None = None
    try:
        while True:
            with _Kept():
                if inside is not None:
                    otel_context.attach(inside)
                try:
                    piece = await anext(inner)
                except StopAsyncIteration:
                    return
                inside = otel_context.get_current()
            yield piece
    finally:
        close = getattr(inner, "aclose", None)
        if close is not None:
            with _Kept():
                await close()


_FENCES: dict[str, Callable[..., Any]] = {
    "generate": _around_call,
    "agenerate": _around_await,
    "stream": _around_stream,
    "astream": _around_astream,
    "run": _around_call,
    "arun": _around_await,
    "invoke": _around_call,
    "ainvoke": _around_await,
}


def install(owner: type[Any], names: tuple[str, ...]) -> None:
    """Put a fence around each of these public methods of one of LangChain's base classes."""
    for name in names:
        _wrap(owner, name, _FENCES[name])


def install_embeddings(begin: Callable[[Any], OpenCall | None]) -> None:
    """Make calls of what LangChain's embeddings do; `begin` opens one, or says nobody wants it."""
    _Embeddings.begin = begin
    cover_embeddings()


class _Embeddings:
    """How to begin an embeddings call; set by :func:`install_embeddings`."""

    begin: Callable[[Any], OpenCall | None] | None = None
    known = -1
    """Direct subclasses at the last walk: without a new one there is nothing new to wrap."""


def cover_embeddings() -> None:
    """Wrap the embedding methods of every class there is by now.

    Called again whenever a turn opens, for ``Embeddings`` is a plain base class without a hook that
    every subclass passes through.
    """
    begin = _Embeddings.begin
    if begin is None:
        return
    from langchain_core.embeddings import Embeddings  # noqa: PLC0415 - LangChain is loaded by now

    found = len(Embeddings.__subclasses__())
    if found == _Embeddings.known:
        return
    _Embeddings.known = found
    waiting: list[type[Any]] = [Embeddings]
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        for name in _EMBED:
            if name in vars(cls):
                _wrap(cls, name, _embeds(begin, asynchronous=name.startswith("a")))


_EMBED = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")


def _embeds(begin: Callable[[Any], OpenCall | None], *, asynchronous: bool) -> Callable[..., Any]:
    """Return the wrapper that makes one call of an embedding method and all it calls of itself."""

    def open_call(instance: Any) -> OpenCall | None:
        try:
            return None if _embedding.get() else begin(instance)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report("fences.embeddings", error)
            return None

    def around(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        call = open_call(instance)
        if call is None:
            return wrapped(*args, **kwargs)
        with _Kept(), _Embedding():
            otel_context.attach(call.context)
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                _finish(call, error)
                raise
        _finish(call, None)
        return result

    async def around_await(
        wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any
    ) -> Any:
        call = open_call(instance)
        if call is None:
            return await wrapped(*args, **kwargs)
        with _Kept(), _Embedding():
            otel_context.attach(call.context)
            try:
                result = await wrapped(*args, **kwargs)
            except BaseException as error:
                _finish(call, error)
                raise
        _finish(call, None)
        return result

    return around_await if asynchronous else around


def _finish(call: OpenCall, error: BaseException | None) -> None:
    from spanflow.spending import Usage  # noqa: PLC0415 - only embeddings need it here

    try:
        call.end(Usage(), error)
    except Exception as problem:  # noqa: BLE001 - the fail-open boundary
        report("fences.embeddings", problem)


def _wrap(owner: type[Any], name: str, wrapper: Callable[..., Any]) -> None:
    if isinstance(vars(owner).get(name), wrapt.FunctionWrapper):
        return
    wrapt.wrap_function_wrapper(owner, name, wrapper)
    _WRAPPED.append((owner, name))


def uninstall() -> None:
    """Take every fence away again."""
    _Embeddings.begin, _Embeddings.known = None, -1
    while _WRAPPED:
        owner, name = _WRAPPED.pop()
        current = vars(owner).get(name)
        if isinstance(current, wrapt.FunctionWrapper):
            setattr(owner, name, cast("Any", current).__wrapped__)
