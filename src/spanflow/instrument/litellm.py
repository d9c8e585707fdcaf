"""LiteLLM's public functions become calls: one for what the user asked, however often it was tried.

A call of the user's is the outermost public function. What LiteLLM calls of itself for it (a retry,
a fallback, a bridge from one API to another) is part of that call, and an event of it at most.
Inside a call that somebody else reports (LangChain's model, say) none is opened, and that one is
told what it cost. LiteLLM is never imported here: it is there when this module is.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import types
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.util.genai.invocation import (  # pyright: ignore[reportMissingTypeStubs]
    CLIENT_EMBEDDING_CONTEXT_KEY,
    CLIENT_INFERENCE_CONTEXT_KEY,
)

from spanflow.capture import scope as scopes
from spanflow.capture.call import OpenCall, enclosing
from spanflow.capture.call_spans import CallSpans
from spanflow.capture.payload import clean
from spanflow.guard import guarded, report
from spanflow.instrument import completions
from spanflow.instrument.tries import Going, Try, here

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanflow.capture.runtime import Runtime

__all__ = ["install", "install_router", "uninstall"]


class _Operation(NamedTuple):
    """What a public function does."""

    kind: str
    name: str


_CHAT = _Operation("llm", "chat")
_TEXT = _Operation("llm", "text_completion")
_EMBEDDINGS = _Operation("embeddings", "embeddings")
_FUNCTIONS = {
    "completion": _CHAT,
    "acompletion": _CHAT,
    "responses": _CHAT,
    "aresponses": _CHAT,
    "text_completion": _TEXT,
    "atext_completion": _TEXT,
    "embedding": _EMBEDDINGS,
    "aembedding": _EMBEDDINGS,
}
_RETRIERS = {
    "completion_with_retries": "completion",
    "acompletion_with_retries": "acompletion",
    "responses_with_retries": "responses",
    "aresponses_with_retries": "aresponses",
}
"""Functions that call another one again and again, and which."""
_THREAD = "run_async_function"
"""How LiteLLM calls an asynchronous function from a synchronous one; it is not public. Inside a
running loop that is done in a thread that knows nothing of its caller."""
_SECOND_ARGUMENT = {"llm": "messages", "embeddings": "input"}
_ASYNC_HALVES = ("acompletion", "aembedding", "atext_completion", "aresponses")
"""The flags by which an asynchronous function asks its synchronous half for a coroutine."""
_INSIDE = {"llm": CLIENT_INFERENCE_CONTEXT_KEY, "embeddings": CLIENT_EMBEDDING_CONTEXT_KEY}


class _State:
    """Who serves the calls in this process, and what was put in the place of what."""

    runtime: Runtime | None = None
    spans: CallSpans | None = None
    replaced: list[tuple[Any, str, Any, Any]] = []  # noqa: RUF012 - emptied in place


def install(runtime: Runtime) -> None:
    """Wrap the public functions, and whatever name a module gave one of them before."""
    _serve(runtime)
    litellm = sys.modules["litellm"]
    wrappers: dict[int, tuple[Any, Any]] = {}
    for name, operation in _FUNCTIONS.items():
        _cover(litellm, name, _around(operation), wrappers)
    for name, repeated in _RETRIERS.items():
        _cover(litellm, name, _around_retries(repeated), wrappers)
    fallbacks = sys.modules.get("litellm.litellm_core_utils.fallback_utils")
    if fallbacks is not None:
        _cover(fallbacks, _THREAD, _around_thread, {})
    for module in list(sys.modules.values()):
        # Anything may stand there; what is not a module has no names of its own.
        if type(module) is types.ModuleType and not module.__name__.startswith("litellm"):
            for name, value in list(vars(module).items()):
                if id(value) in wrappers:
                    _put(module, name, *wrappers[id(value)])


def install_router(runtime: Runtime, module: Any) -> None:
    """Wrap the public methods of LiteLLM's router: its tries are tries of one call."""
    _serve(runtime)
    _cover(module, _THREAD, _around_thread, {})
    router = module.Router
    for name, operation in _FUNCTIONS.items():
        if name in vars(router):
            _cover(router, name, _around(operation, is_router=True), {})
    if "factory_function" in vars(router):
        _cover(router, "factory_function", _around_factory, {})


def uninstall() -> None:
    """Put back everything that was wrapped."""
    _State.runtime = _State.spans = None
    while _State.replaced:
        owner, name, original, wrapper = _State.replaced.pop()
        if _own(owner, name) is wrapper:
            setattr(owner, name, original)


def _serve(runtime: Runtime) -> None:
    if _State.runtime is not runtime:
        _State.runtime, _State.spans = runtime, CallSpans(runtime)


def _cover(owner: Any, name: str, wrapper: Any, wrappers: dict[int, tuple[Any, Any]]) -> None:
    original = _own(owner, name)
    if original is None or isinstance(original, wrapt.FunctionWrapper):
        return
    made: Any = wrapt.FunctionWrapper(original, wrapper)
    wrappers[id(original)] = (original, made)
    _put(owner, name, original, made)


def _own(owner: Any, name: str) -> Any:
    return cast("dict[str, Any]", vars(owner)).get(name)


def _put(owner: Any, name: str, original: Any, wrapper: Any) -> None:
    setattr(owner, name, wrapper)
    _State.replaced.append((owner, name, original, wrapper))


def _around(operation: _Operation, *, is_router: bool = False) -> Callable[..., Any]:
    """Return the wrapper that makes a call of a public function."""

    def around(wrapped: Callable[..., Any], _self: Any, args: Any, kwargs: Any) -> Any:
        begun = _begin(operation, args, kwargs, is_router=is_router)
        if begun is None:
            return wrapped(*args, **kwargs)
        return (_await if _is_async(wrapped) else _run)(begun, wrapped, args, kwargs)

    return around


def _run(begun: Going | Try, wrapped: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with begun.inside():
        try:
            answer = wrapped(*args, **kwargs)
        except BaseException as error:
            begun.raised(error)
            raise
    return begun.answered(answer)


async def _await(begun: Going | Try, wrapped: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with begun.inside():
        try:
            answer = await wrapped(*args, **kwargs)
        except BaseException as error:
            begun.raised(error)
            raise
    return begun.answered(answer)


def _around_retries(repeated: str) -> Callable[..., Any]:
    """Return the wrapper of a function that calls `repeated` again and again."""
    around = _around(_FUNCTIONS[repeated])

    def counting(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        current = here.get()
        going = current.going if isinstance(current, Try) else current
        if going is None:
            # Called by the user. What it calls is public, and each a try of this one.
            if "original_function" not in kwargs:
                kwargs = {**kwargs, "original_function": getattr(sys.modules["litellm"], repeated)}
            return around(wrapped, instance, args, kwargs)
        # LiteLLM calls it while it handles what the first try ended with.
        asked = _asked(args, kwargs)
        going.tried_by_itself(asked, sys.exc_info()[1])
        function = kwargs.get("original_function") or getattr(sys.modules["litellm"], repeated)
        run = _await if _is_async(function) else _run

        def try_again(*args: Any, **kwargs: Any) -> Any:
            going.trying(asked)
            return run(Try(going), function, args, kwargs)

        async def try_again_later(*args: Any, **kwargs: Any) -> Any:
            return await try_again(*args, **kwargs)

        again = try_again_later if _is_async(function) else try_again
        return wrapped(*args, **{**kwargs, "original_function": again})

    return counting


def _around_factory(
    wrapped: Callable[..., Any], _self: Any, args: Any, kwargs: Any
) -> Callable[..., Any]:
    """Wrap what a router makes of a function: ``router.responses``, for one."""
    made = wrapped(*args, **kwargs)
    operation = _FUNCTIONS.get(getattr(args[0], "__name__", "") if args else "")
    if operation is None:
        return made
    return wrapt.FunctionWrapper(made, _around(operation, is_router=True))


def _around_thread(
    wrapped: Callable[..., Any], _self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Let what LiteLLM runs in a thread of its own know the call it is part of."""
    function = kwargs.get("async_function", args[0] if args else None)
    if here.get() is None or function is None:
        return wrapped(*args, **kwargs)
    context = copy_context()

    async def within(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.create_task(function(*args, **kwargs), context=context)

    others = {name: value for name, value in kwargs.items() if name != "async_function"}
    return wrapped(within, *args[1:], **others)


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function, stop=inspect.iscoroutinefunction))


@guarded("litellm.begin")
def _begin(
    operation: _Operation, args: Any, kwargs: dict[str, Any], *, is_router: bool
) -> Going | Try | None:
    """Begin what a public function was called for; None where it is nothing of its own."""
    runtime, spans = _State.runtime, _State.spans
    if runtime is None or spans is None or scopes.current.get() is scopes.OFF:
        return None
    current = here.get()
    if isinstance(current, Try) or any(kwargs.get(flag) is True for flag in _ASYNC_HALVES):
        return None
    if current is not None and not current.call.ended and current.call.kind == operation.kind:
        return current.next_try(_group(kwargs) or _asked(args, kwargs))
    is_tried_inside = is_router or bool(kwargs.get("fallbacks")) or "original_function" in kwargs
    around = enclosing()
    if around is not None and around.kind == operation.kind:
        return Going(around, is_own=False, is_tried_inside=is_tried_inside, limit=0)
    if otel_context.get_value(_INSIDE[operation.kind]) is not None:
        return None  # part of what somebody else's instrumentation reports
    limit = runtime.payload_bytes
    call = _open(spans, operation, args, kwargs)
    going = Going(call, is_own=True, is_tried_inside=is_tried_inside, limit=limit)
    request = dict(kwargs)
    if len(args) > 1:
        request[_SECOND_ARGUMENT[operation.kind]] = args[1]
    try:
        completions.describe_request(call, request, limit)
    except Exception as problem:  # noqa: BLE001 - a call that has begun must end
        report("litellm.request", problem)
    return going


def _open(spans: CallSpans, operation: _Operation, args: Any, kwargs: dict[str, Any]) -> OpenCall:
    scope = scopes.standing()
    context = otel_context.get_current()
    if scope is not None and scope.turn is not None:
        own = scope.step.context if scope.step is not None else scope.turn.context
        around = enclosing()
        is_part = around is not None and around.scope is not None and around.scope is scope
        context = context if is_part else scopes.nearest(scope, own)
    model = _asked(args, kwargs)
    provider = completions.provider_asked(model, kwargs.get("custom_llm_provider")) or "unknown"
    if operation.kind == "embeddings":
        return spans.embeddings(scope, context, provider=provider, model=model)
    return spans.inference(scope, context, provider=provider, model=model, operation=operation.name)


def _asked(args: Any, kwargs: dict[str, Any]) -> str | None:
    model = kwargs.get("model", args[0] if args else None)
    return clean(model) if isinstance(model, str) and model else None


def _group(kwargs: dict[str, Any]) -> str | None:
    """Return the group of models that a router chose a deployment from."""
    for name in ("metadata", "litellm_metadata"):
        told = kwargs.get(name)
        group = cast("dict[str, Any]", told).get("model_group") if isinstance(told, dict) else None
        if isinstance(group, str) and group:
            return clean(group)
    return None
