"""How a function gets a block around each call and stays what it was to its callers.

Functions, coroutines, generators and async generators stay what they are, and so do methods of any
kind. What a call of them is, and what it tells, is for the blocks to say.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any, TypeVar, cast

from spanflow.instrument.plain import gate
from spanflow.instrument.plain.streams import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from spanflow.instrument.plain.block import Standing

__all__ = ["FunctionT", "is_decorated", "name_of", "wrapped"]

_MARKS = ("__get__", "invoke")
"""What properties and other descriptors have, and LangChain's tools and graphs."""

FunctionT = TypeVar(
    "FunctionT",
    bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]",
)


def wrapped(function: FunctionT, make: Callable[[], Standing]) -> FunctionT:
    """Return `function` with what `make` makes around each call; everything else about it stays.

    Raises:
        TypeError: It is a class, or nothing that can be called.
    """
    told: Any = function
    if isinstance(told, classmethod | staticmethod):
        inner = cast("Any", told).__func__
        return cast("FunctionT", type(cast("Any", told))(wrapped(inner, make)))
    if inspect.isclass(told) or not callable(told):
        what = f"class {told.__qualname__}" if inspect.isclass(told) else repr(told)
        msg = f"a decorator of spanflow's stands on functions and methods, not on {what}"
        raise TypeError(msg)
    call = _around(told, make)
    functools.update_wrapper(call, told)
    if not hasattr(told, "__name__"):  # a partial, an object that can be called
        call.__name__ = call.__qualname__ = name_of(told)
    return cast("FunctionT", call)


def is_decorated(what: Any) -> bool:
    """Whether a decorator was put above something, fit for it or not, and not given a name."""
    return callable(what) or any(hasattr(what, mark) for mark in _MARKS)


def name_of(function: Any) -> str:
    """Return what a function, a partial one or an object that can be called goes by."""
    if isinstance(function, classmethod | staticmethod):
        function = cast("Any", function).__func__
    while isinstance(function, functools.partial):
        function = cast("Any", function).func
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _around(function: Callable[..., Any], make: Callable[[], Standing]) -> Any:
    """Return a function of the same kind with a block around each call."""
    # An object that can be called is of the kind that its `__call__` is.
    code = function if _has_code(function) else cast("Any", function).__call__
    if inspect.isasyncgenfunction(code):
        return _around_async_generator(function, make)
    if inspect.isgeneratorfunction(code):
        pieces = _around_generator(function, make)
        flags = getattr(inspect.unwrap(code), "__code__", None)
        is_coroutine = flags is not None and flags.co_flags & inspect.CO_ITERABLE_COROUTINE
        return types.coroutine(pieces) if is_coroutine else pieces
    if inspect.iscoroutinefunction(code):
        return _around_coroutine(function, make)
    return _around_function(function, make)


def _has_code(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = cast("Any", function).func
    return inspect.isroutine(function)


def _around_function(
    function: Callable[..., Any], make: Callable[[], Standing]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if gate.runtime() is None:
            return function(*args, **kwargs)
        block = make()
        block.begin()
        try:
            with block.inside():
                block.took(function, args, kwargs)
                result = function(*args, **kwargs)
        except BaseException as error:
            block.end(error)
            raise
        if inspect.iscoroutine(result):
            # A lambda around a coroutine, say: its work has not begun yet.
            return _awaited(block, result)
        block.gave(result)
        block.end()
        return result

    return call


def _around_coroutine(
    function: Callable[..., Any], make: Callable[[], Standing]
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        if gate.runtime() is None:
            return await function(*args, **kwargs)
        block = make()
        block.begin()
        try:
            with block.inside():
                block.took(function, args, kwargs)
                coroutine = function(*args, **kwargs)
        except BaseException as error:
            block.end(error)
            raise
        return await _awaited(block, coroutine)

    return call


async def _awaited(block: Standing, work: Awaitable[Any]) -> Any:
    """Return what `work` comes to, with the block around it."""
    try:
        with block.inside():
            result = await work
    except BaseException as error:
        block.end(error)
        raise
    block.gave(result)
    block.end()
    return result


def _around_generator(
    function: Callable[..., Any], make: Callable[[], Standing]
) -> Callable[..., Any]:
    def pieces(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        stream = Stream(make() if gate.runtime() is not None else None)
        raised: BaseException | None = None
        sent: Any = None
        try:
            with stream:
                stream.took(function, args, kwargs)
                generator = function(*args, **kwargs)
            while True:
                try:
                    with stream:
                        # Whatever came is handed on, GeneratorExit too: the bare one decides.
                        piece = generator.send(sent) if raised is None else generator.throw(raised)
                except StopIteration as ended:
                    stream.end()
                    return ended.value
                stream.saw(piece)
                sent = raised = None  # nothing is held between two pieces
                try:
                    sent = yield piece
                except BaseException as error:  # noqa: BLE001 - raised again where it belongs
                    raised = error
        except BaseException as error:
            stream.end(error)
            raise
        finally:
            raised = None  # or it would hold this frame

    return pieces


def _around_async_generator(
    function: Callable[..., Any], make: Callable[[], Standing]
) -> Callable[..., Any]:
    async def pieces(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        stream = Stream(make() if gate.runtime() is not None else None)
        raised: BaseException | None = None
        sent: Any = None
        try:
            with stream:
                stream.took(function, args, kwargs)
                generator = function(*args, **kwargs)
            while True:
                try:
                    with stream:
                        if raised is None:
                            piece = await generator.asend(sent)
                        else:
                            piece = await generator.athrow(raised)
                except StopAsyncIteration:
                    stream.end()
                    return
                stream.saw(piece)
                sent = raised = None  # nothing is held between two pieces
                try:
                    sent = yield piece
                except BaseException as error:  # noqa: BLE001 - raised again where it belongs
                    raised = error
        except BaseException as error:
            stream.end(error)
            raise
        finally:
            raised = None  # or it would hold this frame

    return pieces
