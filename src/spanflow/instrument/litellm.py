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
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import wrapt
from opentelemetry import context as otel_context
from opentelemetry.util.genai.invocation import (  # pyright: ignore[reportMissingTypeStubs]
    CLIENT_EMBEDDING_CONTEXT_KEY,
    CLIENT_INFERENCE_CONTEXT_KEY,
)

from spanflow.capture import scope as scopes
from spanflow.capture.call import CallSpans, OpenCall, enclosing
from spanflow.capture.payload import clean
from spanflow.guard import guarded, report
from spanflow.instrument import completions
from spanflow.instrument.answers import AnswerStream, is_stream
from spanflow.tally import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from spanflow.capture.runtime import Runtime

__all__ = ["Going", "install", "install_router", "uninstall"]


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
_SPAN_WRITERS = {
    "agentops",
    "arize",
    "arize_phoenix",
    "langfuse_otel",
    "levo",
    "otel",
    "weave_otel",
}
"""LiteLLM's callbacks that write OpenTelemetry spans, by the names they are asked for."""
_SECOND_ARGUMENT = {"llm": "messages", "embeddings": "input"}
_ASYNC_HALVES = ("acompletion", "aembedding", "atext_completion", "aresponses")
"""The flags by which an asynchronous function asks its synchronous half for a coroutine."""
_INSIDE = {"llm": CLIENT_INFERENCE_CONTEXT_KEY, "embeddings": CLIENT_EMBEDDING_CONTEXT_KEY}


class _State:
    """Who serves the calls in this process, and what was put in the place of what."""

    runtime: Runtime | None = None
    spans: CallSpans | None = None
    replaced: list[tuple[Any, str, Any, Any]] = []  # noqa: RUF012 - emptied in place


class Going:
    """A call of the user's that is going on: where it is told, and how often it was tried."""

    def __init__(self, call: OpenCall, *, is_own: bool, is_tried_inside: bool, limit: int) -> None:
        self.call = call
        self._is_tried_inside = is_tried_inside
        self._is_own = is_own
        self._is_current = is_own and not _writes_spans()
        self._limit = limit
        self._tries = 0
        self._asked: str | None = None
        self._error: str | None = None
        self._pieces: completions.Pieces | None = None

    def inside(self) -> _Inside:
        """Make this what the running code belongs to, for a block in one task."""
        return _Inside(self, self.call.context if self._is_current else None)

    def next_try(self, asked: str | None) -> _Try | None:
        """Return the try that LiteLLM begins by calling itself; None where that is no new one."""
        if not self._is_tried_inside:
            return None
        self.trying(asked)
        return _Try(self)

    def trying(self, asked: str | None) -> None:
        """Note that it is tried, once more perhaps, by asking a model or a group of models."""
        self._tries += 1
        if self._tries > 1:
            told: dict[str, Any] = {"attempt": self._tries, "error_type": self._error}
            if asked == self._asked:
                self.call.note("retry", told | {"model": asked})
            else:
                self.call.note("fallback", told | {"from": self._asked, "to": asked})
        self._asked, self._error = asked, None

    def failed(self, error: BaseException) -> None:
        """Remember how a try ended."""
        self._error = clean(type(error).__name__)

    def tried_by_itself(self, asked: str | None, error: BaseException | None) -> None:
        """Note the first try, which nobody saw begin, now that LiteLLM begins to repeat it."""
        if self._tries == 0:
            self.trying(asked)
        if error is not None:
            self.failed(error)

    def answered(self, answer: Any) -> Any:
        """End the call with its answer, or when a streamed one has ended.

        Returns:
            What its caller gets.
        """
        try:
            if is_stream(answer):
                captures = self._is_own and self.call.captures_content
                self._pieces = completions.Pieces(captures_content=captures, limit=self._limit)
                return AnswerStream(answer, self)
            if completions.is_cached(answer):
                self.call.note("cache.hit", completions.saved_by(answer))
            if self._is_own:
                self.call.end(completions.describe_answer(self.call, answer, self._limit))
            else:
                usage = completions.spent_on(answer)
                self.call.answered_inside(usage, *completions.answered_by(answer))
        except Exception as problem:  # noqa: BLE001 - the fail-open boundary
            self._end_unknown()
            report("litellm.answered", problem)
        return answer

    @guarded("litellm.raised")
    def raised(self, error: BaseException) -> None:
        """End the call with an error."""
        if not self._is_own:
            return
        provider = getattr(error, "llm_provider", None)
        if isinstance(provider, str) and provider:
            self.call.say_who_answered(completions.provider_asked(None, provider), None)
        self.call.end(Usage(), error, status=_status_of(error))

    @guarded("litellm.saw")
    def saw(self, piece: Any) -> None:
        """Look at a piece of a streamed answer."""
        if self._pieces is not None:
            if self._is_own:
                self.call.first_token()
            self._pieces.see(piece)

    @guarded("litellm.streamed")
    def streamed(self, stream: Any, error: BaseException | None) -> None:
        """End the call with its stream."""
        self._streamed(stream, error, _status_of(error) if error is not None else None)

    @guarded("litellm.left")
    def left(self, stream: Any) -> None:
        """End the call whose stream nobody read to its end."""
        self._streamed(stream, None, "cancelled")

    def _streamed(self, stream: Any, error: BaseException | None, status: str | None) -> None:
        pieces = self._pieces
        if pieces is None:
            return
        try:
            if pieces.is_cached(stream):
                self.call.note("cache.hit", {})
            if self._is_own:
                self.call.end(pieces.describe(self.call, stream), error, status=status)
            else:
                self.call.answered_inside(pieces.spent(stream), *pieces.answered_by())
        finally:
            self._end_unknown(error, status)

    def _end_unknown(self, error: BaseException | None = None, status: str | None = None) -> None:
        """End a call of ours that has not ended, though its answer could not be read."""
        if self._is_own and not self.call.ended:
            self.call.end(Usage(), error, status=status)


class _Try:
    """One try of a call: whatever LiteLLM calls within it is part of it."""

    def __init__(self, going: Going) -> None:
        self._going = going

    def inside(self) -> _Inside:
        return _Inside(self, None)

    def answered(self, answer: Any) -> Any:
        return answer

    def raised(self, error: BaseException) -> None:
        self._going.failed(error)

    @property
    def going(self) -> Going:
        return self._going


_here: ContextVar[Going | _Try | None] = ContextVar("spanflow_litellm", default=None)


class _Inside:
    """A block of code that belongs to a call, or to one try of it."""

    __slots__ = ("_context", "_here", "_kept", "_token")

    def __init__(self, here: Going | _Try, context: Context | None) -> None:
        self._here = here
        self._context = context

    def __enter__(self) -> None:
        self._token = _here.set(self._here)
        self._kept = None if self._context is None else otel_context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            otel_context.detach(self._kept)
        _here.reset(self._token)


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
        here = _begin(operation, args, kwargs, is_router=is_router)
        if here is None:
            return wrapped(*args, **kwargs)
        return (_await if _is_async(wrapped) else _run)(here, wrapped, args, kwargs)

    return around


def _run(here: Going | _Try, wrapped: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with here.inside():
        try:
            answer = wrapped(*args, **kwargs)
        except BaseException as error:
            here.raised(error)
            raise
    return here.answered(answer)


async def _await(here: Going | _Try, wrapped: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with here.inside():
        try:
            answer = await wrapped(*args, **kwargs)
        except BaseException as error:
            here.raised(error)
            raise
    return here.answered(answer)


def _around_retries(repeated: str) -> Callable[..., Any]:
    """Return the wrapper of a function that calls `repeated` again and again."""
    around = _around(_FUNCTIONS[repeated])

    def counting(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        here = _here.get()
        going = here.going if isinstance(here, _Try) else here
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
            return run(_Try(going), function, args, kwargs)

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
    if _here.get() is None or function is None:
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
) -> Going | _Try | None:
    """Begin what a public function was called for; None where it is nothing of its own."""
    runtime, spans = _State.runtime, _State.spans
    if runtime is None or spans is None or scopes.current.get() is scopes.OFF:
        return None
    here = _here.get()
    if isinstance(here, _Try) or any(kwargs.get(flag) is True for flag in _ASYNC_HALVES):
        return None
    if here is not None and not here.call.ended and here.call.kind == operation.kind:
        return here.next_try(_group(kwargs) or _asked(args, kwargs))
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


def _writes_spans() -> bool:
    """Whether a callback of LiteLLM's tells of its calls in spans.

    It makes its own, and writes on the current one, after the answer is given: what is current then
    must not be a span that has ended.
    """
    litellm: Any = sys.modules["litellm"]
    return any(
        told in _SPAN_WRITERS
        if isinstance(told, str)
        else any("OpenTelemetry" in base.__name__ for base in type(told).__mro__)
        for name in ("callbacks", "success_callback")
        for told in getattr(litellm, name, None) or ()
    )


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


def _status_of(error: BaseException) -> str | None:
    ended = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return "cancelled" if ended else None
