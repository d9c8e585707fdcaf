"""Decorators: each call of a function is a call of a tool, of a model or a retriever, or a span.

What is told of the call is read from the function's arguments and its result. How a function stays
what it was is not said here.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol, overload

from spanflow.guard import guarded
from spanflow.instrument.plain.call_blocks import LlmCallBlock, RetrievalBlock, ToolCallBlock
from spanflow.instrument.plain.wrapping import name_of, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spanflow.instrument.plain.block import Standing
    from spanflow.instrument.plain.replies import Replies
    from spanflow.instrument.plain.wrapping import FunctionT

__all__ = ["Decorator", "llm", "retrieval", "tool", "trace"]

_SEVERAL = 2
_OWNERS = frozenset({"self", "cls"})
"""What the first parameter of a method is called."""


class Decorator(Protocol):
    """What makes a function of some kind another of the same kind and type."""

    def __call__(self, function: FunctionT, /) -> FunctionT:
        """Decorate a function."""
        ...


class _ToolOfFunction(ToolCallBlock):
    """The call of a tool that is a function of the app's."""

    __slots__ = ()

    @guarded("api.tool")
    def took(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Tell what the function was called with, by name."""
        if self.captures_content:
            self.set_arguments(_named(function, args, kwargs))

    def gave(self, result: Any) -> None:
        """Tell what it returned."""
        self.set_result(result)


class _RetrievalOfFunction(RetrievalBlock):
    """A retrieval by a function of the app's."""

    __slots__ = ()

    @guarded("api.retrieval")
    def took(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Tell what was looked for: the argument called ``query``, else the first."""
        if self.captures_content:
            named = _named(function, args, kwargs, defaults=True)
            if named:
                first = next(iter(named.values()))
                self.set_arguments(kwargs.get("query", named.get("query", first)))

    def gave(self, result: Any) -> None:
        """Tell the documents that were found."""
        self.set_result(result)


class _LlmOfFunction(LlmCallBlock):
    """A call to a model by a function of the app's, which returns the answer or yields it."""

    __slots__ = ("_replies",)

    def __init__(self, model: str, provider: str | None) -> None:
        self._replies: Replies | None = None
        super().__init__(model, provider)

    def saw(self, piece: Any) -> None:
        """Note a piece of the answer, and read it."""
        self.first_token()
        self.gave(piece)

    @guarded("api.llm")
    def gave(self, result: Any) -> None:
        """Read who answered, and what it spent."""
        if self._replies is None:
            from spanflow.instrument.plain.replies import Replies

            self._replies = Replies()
        self._replies.read(result)

    def end(self, error: BaseException | None = None) -> None:
        """End the call with what was read."""
        self._tell_answer()
        super().end(error)

    @guarded("api.llm")
    def _tell_answer(self) -> None:
        replies, self._replies = self._replies, None
        if replies is None:
            return
        self.set_answer(model=replies.model, response_id=replies.response_id)
        # Where several calls inside told what they spent, the answer speaks of the last of them.
        if self.calls_inside < _SEVERAL:
            self.set_usage(**{k: v for k, v in replies.usage.items() if v is not None})


def _named(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, defaults: bool = False
) -> dict[str, Any]:
    """Return the arguments of a call by their names, without what a method is called on.

    Args:
        function: What is called.
        args: What it is called with.
        kwargs: The same, by name.
        defaults: Whether to tell of those too that the caller left out.
    """
    try:
        call = inspect.signature(function).bind(*args, **kwargs)
        if defaults:
            call.apply_defaults()
    except (TypeError, ValueError):  # wrong ones, or a builtin without a signature
        return {**{str(place): value for place, value in enumerate(args)}, **kwargs}
    bound = call.arguments
    first = next(iter(bound), None)
    return {name: bound[name] for name in bound if name != first or name not in _OWNERS}


@overload
def tool(name: FunctionT, /) -> FunctionT: ...
@overload
def tool(name: str, /) -> Decorator: ...
def tool(name: Any, /) -> Any:
    """Make each call of a function a call of a tool.

    Its arguments, by name, and its result are kept only where message content is captured.

    Args:
        name: What the tool is called, where that is not what the function is called; or the
            function, for ``@spanflow.tool`` without arguments.

    Returns:
        The function, as it was to its callers; for a name the decorator.

    Example:
        >>> import spanflow
        >>> @spanflow.tool
        ... def look_up(area):
        ...     return {"area": area, "hits": 3}
        >>> look_up("Shibuya")["hits"]
        3
    """
    return _decorated(name, _ToolOfFunction)


@overload
def retrieval(name: FunctionT, /) -> FunctionT: ...
@overload
def retrieval(name: str, /) -> Decorator: ...
def retrieval(name: Any, /) -> Any:
    """Make each call of a function a retrieval of documents.

    What was looked for (the argument ``query``, else the first) and what was found are kept only
    where message content is captured.

    Args:
        name: What is searched, where that is not what the function is called; or the function, for
            ``@spanflow.retrieval`` without arguments.

    Returns:
        The function, as it was to its callers; for a name the decorator.

    Example:
        >>> import spanflow
        >>> @spanflow.retrieval("handbook")
        ... def search(query):
        ...     return [f"a page about {query}"]
        >>> search("refunds")
        ['a page about refunds']
    """
    return _decorated(name, _RetrievalOfFunction)


def llm(*, model: str, provider: str | None = None) -> Decorator:
    """Make each call of a function a call to a model.

    Usage, the model that answered and the answer's id are read from what the function returns, or
    from the pieces that it yields, where that is an answer of OpenAI's, Anthropic's, Gemini's,
    LangChain's or LiteLLM's, as an object or as a dict. Of any other answer they stay unknown.

    Args:
        model: The model that is asked.
        provider: Who serves it, like ``openai``.

    Returns:
        The decorator; the function stays what it was to its callers.

    Example:
        >>> import spanflow
        >>> @spanflow.llm(model="gpt-5-mini", provider="openai")
        ... def answer(question):
        ...     return {"usage": {"prompt_tokens": 12, "completion_tokens": 3}, "text": "Yes."}
        >>> answer("Is it open?")["text"]
        'Yes.'
    """

    def decorate(function: FunctionT, /) -> FunctionT:
        return wrapped(function, lambda: _LlmOfFunction(model, provider))

    return decorate


@overload
def trace(name: FunctionT, /) -> FunctionT: ...
@overload
def trace(name: str, /) -> Decorator: ...
def trace(name: Any, /) -> Any:
    """Make each call of a function a span, and nothing more.

    Args:
        name: What the span is called, where that is not what the function is called; or the
            function, for ``@spanflow.trace`` without arguments.

    Returns:
        The function, as it was to its callers; for a name the decorator.

    Example:
        >>> import spanflow
        >>> @spanflow.trace
        ... def parse(text):
        ...     return text.split()
        >>> parse("two tickets")
        ['two', 'tickets']
    """
    from spanflow.instrument.plain.traces import TraceBlock

    return _decorated(name, TraceBlock)


def _decorated(name: Any, make: Callable[[str], Standing]) -> Any:
    """Return the decorated function, or the decorator that a name asks for."""
    if isinstance(name, str):

        def decorate(function: FunctionT, /) -> FunctionT:
            return wrapped(function, lambda: make(name))

        return decorate
    called = name_of(name)
    return wrapped(name, lambda: make(called))
