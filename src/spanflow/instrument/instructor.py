"""Instructor's requests become calls, one for each time a model is asked, retries included.

Its hooks tell of each request in the task that makes it; nothing of Instructor is patched. What was
answered decides how an extraction ended: an answer that does not fit the schema is a failed
extraction, and a request without an answer is a failed call. What a call spent is read here only
where nothing of ours inside it has told. This module decides nothing about what is extracted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from spanflow.errors import ConfigurationError
from spanflow.guard import guarded
from spanflow.instrument.parts import first_part, part
from spanflow.instrument.plain.replies import Replies

if TYPE_CHECKING:
    from spanflow.capture.call import OpenCall

__all__ = ["Requests", "client_of", "library", "litellm_takes_tools", "said_in"]


def client_of(given: Any, mode: Any = None) -> Any:
    """Return an Instructor client that asks through `given`.

    Args:
        given: An Instructor client, a client of OpenAI's or Anthropic's, or a function that
            completes a chat as ``litellm.completion`` does.
        mode: Instructor's mode, of a client that is made here.

    Raises:
        ConfigurationError: It is none of these.
        ModuleNotFoundError: Instructor is not installed.
    """
    made = library()
    if isinstance(given, made.Instructor):  # the base of the asynchronous one, too
        return given
    chosen = {} if mode is None else {"mode": mode}
    families = {base.__module__.partition(".")[0] for base in type(given).__mro__}
    if "openai" in families:
        return made.from_openai(given, **chosen)
    if "anthropic" in families:
        return made.from_anthropic(given, **chosen)
    if callable(given) and not isinstance(given, type):
        is_litellm = (getattr(given, "__module__", None) or "").startswith("litellm")
        if not chosen and is_litellm and not litellm_takes_tools():
            chosen = {"mode": made.Mode.JSON}
        return made.from_litellm(given, **chosen)
    msg = (
        f"an Extractor cannot ask through {type(given).__name__!r}: give it an Instructor client, "
        "a client of OpenAI's or Anthropic's, litellm.completion or litellm.acompletion, or a "
        "LangChain chat model; for any other provider call Extractor.from_provider()"
    )
    raise ConfigurationError(msg)


def litellm_takes_tools() -> bool:
    """Whether LiteLLM can be told of tools; some versions need an extra of theirs for it."""
    try:
        import_module("litellm.responses.mcp.chat_completions_handler")
    except ModuleNotFoundError as error:
        return (error.name or "").startswith("litellm")  # a version without it takes them as it is
    return True


def library() -> Any:
    """Return Instructor.

    Raises:
        ModuleNotFoundError: It is not installed; the message names the extra.
    """
    try:
        import instructor  # noqa: PLC0415 - only who extracts with it pays for it
    except ModuleNotFoundError as error:
        if error.name != "instructor":
            raise
        msg = 'an Extractor needs Instructor: pip install "spanflow[extraction]"'
        raise ModuleNotFoundError(msg, name="instructor") from error
    return instructor


class Requests:
    """The requests of one extraction, each of them a call, as Instructor's hooks tell of them.

    Args:
        client: The Instructor client.
    """

    def __init__(self, client: Any) -> None:
        self._provider = _provider_of(client)
        self._call: Any = None
        self._opened: OpenCall | None = None
        self.is_answered = False
        self.answer: Any = None

    @guarded("instructor.hooks")
    def hooks(self, given: Any) -> Any:
        """Return hooks that tell of each request, and tell `given` what it asks for as well."""
        from instructor.core.hooks import Hooks  # noqa: PLC0415 - only who extracts with it

        made: Any = Hooks()
        made.on("completion:kwargs", self._asked)
        made.on("completion:response", self._replied)
        made.on("completion:error", self._failed)
        return made if given is None else made + given

    @guarded("instructor.end")
    def end(self, error: BaseException | None) -> None:
        """End the request whose end nobody told: a cancelled one, say."""
        call, self._call, self._opened = self._call, None, None
        if call is not None:
            call.__exit__(type(error) if error is not None else None, error, None)

    @guarded("instructor.asked")
    def _asked(self, *_: Any, **request: Any) -> None:
        from spanflow.capture.call import enclosing  # noqa: PLC0415 - while capturing only
        from spanflow.instrument import completions  # noqa: PLC0415
        from spanflow.instrument.plain.calls import llm_call  # noqa: PLC0415

        self.end(None)
        self.is_answered, self.answer = False, None
        around = enclosing()
        call = llm_call(_text(request.get("model")) or "unknown", provider=self._provider)
        call.__enter__()
        self._call = call
        opened = enclosing()
        self._opened = opened if opened is not around else None
        if self._opened is not None:
            completions.describe_request(self._opened, request, self._opened.runtime.payload_bytes)

    @guarded("instructor.replied")
    def _replied(self, answer: Any) -> None:
        self.is_answered, self.answer = True, answer
        try:
            if self._opened is not None:
                self._describe(answer, is_told=self._opened.is_answered_inside)
        finally:
            self.end(None)

    def _describe(self, answer: Any, *, is_told: bool) -> None:
        """Put an answer on its call; `is_told` is whether a call inside has told what it spent."""
        self._call.set_messages(output=said_in(answer))
        if not is_told:
            # Read now: Instructor is about to write the sum of all its requests into it.
            told = Replies()
            told.read(answer)
            self._call.set_answer(model=told.model, response_id=told.response_id)
            self._call.set_usage(**told.usage)

    @guarded("instructor.failed")
    def _failed(self, error: BaseException, **_: Any) -> None:
        self.end(error)


def _provider_of(client: Any) -> str | None:
    """Return who is asked; unknown for a function, which may ask anybody."""
    if getattr(client, "client", None) is None:
        return None
    return _text(getattr(getattr(client, "provider", None), "value", None))


def said_in(answer: Any) -> Any:
    """Return the values in a provider's answer, right or wrong, as data or text; None if unknown.

    Read are the shapes of OpenAI's chat answers (and of all who copy them) and Anthropic's.
    """
    message = part(_head(part(answer, "choices")), "message")
    function = part(_head(part(message, "tool_calls")), "function")
    if function is not None:
        return part(function, "arguments")
    if message is not None:
        return part(message, "content")
    blocks = part(answer, "content")
    for block in cast("list[Any]", blocks) if isinstance(blocks, list) else []:
        found = first_part(block, "input", "text")
        if found is not None:
            return found
    return None


def _head(value: Any) -> Any:
    return cast("list[Any]", value)[0] if isinstance(value, list) and value else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
