"""Two ways to ask a model for values of a schema, Instructor's and LangChain's, and what is noted.

Each returns and raises what the library underneath does. What is noted of an extraction is decided
here: its schema, its values, and what is wrong with them, without a word of what was said unless
content is captured. The calls themselves are told by others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, get_origin

from spanflow.errors import ConfigurationError
from spanflow.guard import guarded
from spanflow.instrument import instructor
from spanflow.instrument.plain import gate, marks

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["ThroughInstructor", "ThroughLangChain", "Way", "way_through"]


class Way(Protocol):
    """How a model is asked."""

    def extract(self, schema: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        """Ask, and return an instance of the schema."""
        ...

    async def aextract(self, schema: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        """Ask, and return an instance of the schema."""
        ...


def way_through(client: Any, model: str | None, mode: Any) -> Way:
    """Return the way to ask through an app's own client.

    Args:
        client: Whatever the app has, or a way that is made already.
        model: The model to ask for where a request names none.
        mode: Instructor's mode, for a client that is not Instructor's yet.

    Raises:
        ConfigurationError: There is no way to ask through it.
    """
    if isinstance(client, ThroughInstructor):
        return client
    if not callable(getattr(client, "with_structured_output", None)):
        return ThroughInstructor(instructor.client_of(client, mode), model)
    if model is not None or mode is not None:
        msg = "a LangChain model is one model, and Instructor is not used: drop model= and mode="
        raise ConfigurationError(msg)
    return ThroughLangChain(client)


class ThroughInstructor:
    """Asks with Instructor, through a client of its own kind.

    Args:
        client: The client, which is awaited or is not.
        model: The model to ask for where a request names none.
        provider: The arguments of ``instructor.from_provider``, where the client came from there: a
            client of the other kind is made when it is needed.
    """

    def __init__(
        self,
        client: Any,
        model: str | None = None,
        *,
        provider: tuple[str, dict[str, Any]] | None = None,
    ) -> None:
        is_awaited = isinstance(client, instructor.library().AsyncInstructor)
        self._client = None if is_awaited else client
        self._awaited = client if is_awaited else None
        self._model = model
        self._provider = provider

    @classmethod
    def provider(cls, name: str, options: dict[str, Any]) -> Self:
        """Return the way to ask a provider by name."""
        served_by, _, model = name.partition("/")
        is_litellm = served_by == "litellm"
        if is_litellm and "mode" not in options and not instructor.litellm_takes_tools():
            options = {**options, "mode": instructor.library().Mode.JSON}
        client = instructor.library().from_provider(name, **options)
        return cls(
            client,
            model if is_litellm else None,  # Instructor forgets it for this one
            # A client that was asked for by kind stays the only one.
            provider=None if "async_client" in options else (name, options),
        )

    def extract(self, schema: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        """Ask, and return an instance of the schema."""
        client = self._client
        if client is None:
            msg = "this Extractor's client can only be awaited: use `await extractor.aextract(…)`"
            raise ConfigurationError(msg)
        with _Asked(client, schema, self._named(options)) as asked:
            return asked.keep(
                client.create(response_model=schema, messages=_spoken(messages), **asked.options)
            )

    async def aextract(self, schema: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        """Ask, and return an instance of the schema; in a thread if the client is not awaited."""
        client = self._awaited_client()
        if client is None:
            return await asyncio.to_thread(self.extract, schema, messages, options)
        with _Asked(client, schema, self._named(options)) as asked:
            return asked.keep(
                await client.create(
                    response_model=schema, messages=_spoken(messages), **asked.options
                )
            )

    def _awaited_client(self) -> Any:
        if self._awaited is None and self._provider is not None:
            name, options = self._provider
            self._awaited = instructor.library().from_provider(name, async_client=True, **options)
        return self._awaited

    def _named(self, options: dict[str, Any]) -> dict[str, Any]:
        return options if self._model is None else {"model": self._model, **options}


def _spoken(messages: list[Any]) -> list[Any]:
    """Return messages as clients take them: a graph's state may hold LangChain's own."""
    known = sys.modules.get("langchain_core.messages")
    if known is None or not any(isinstance(each, known.BaseMessage) for each in messages):
        return messages
    return known.convert_to_openai_messages(messages)


class _Asked:
    """One extraction by Instructor that is going on: its requests, and how it ended."""

    def __init__(self, client: Any, schema: Any, options: dict[str, Any]) -> None:
        self._schema = schema
        self._values: Any = None
        self._requests = instructor.Requests(client) if gate.runtime() is not None else None
        self.options = options
        hooks = None
        if self._requests is not None:
            hooks = self._requests.hooks(options.get("hooks"))
        if hooks is not None:
            self.options = {**options, "hooks": hooks}

    def keep(self, values: Any) -> Any:
        """Keep what came of it.

        Returns:
            The same.
        """
        self._values = values
        return values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        requests = self._requests
        if requests is None:
            return
        requests.end(error)
        if error is None:
            _note(self._schema, self._values)
        elif requests.is_answered and isinstance(error, Exception):
            _note_failure(self._schema, instructor.said_in, requests.answer, error)


class ThroughLangChain:
    """Asks with a LangChain chat model, whose own callbacks tell of the call."""

    def __init__(self, model: Any) -> None:
        self._chat = model

    def extract(self, schema: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        """Ask, and return an instance of the schema."""
        return _parsed(schema, self._chain(schema, options).invoke(messages))

    async def aextract(self, schema: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        """Ask, and return an instance of the schema."""
        return _parsed(schema, await self._chain(schema, options).ainvoke(messages))

    def _chain(self, schema: Any, options: dict[str, Any]) -> Any:
        return self._chat.with_structured_output(schema, include_raw=True, **options)


def _parsed(schema: Any, answered: dict[str, Any]) -> Any:
    values, error = answered["parsed"], answered["parsing_error"]
    if error is None and values is None:
        from langchain_core.exceptions import OutputParserException  # noqa: PLC0415 - loaded by now

        error = OutputParserException(f"The model answered without values of {_name(schema)}.")
    if error is None:
        _note(schema, values)
        return values
    _note_failure(schema, _asked_for, answered["raw"], error)
    raise error


def _asked_for(message: Any) -> Any:
    """Return what a LangChain message calls a tool with, or else says."""
    calls = getattr(message, "tool_calls", None) or getattr(message, "invalid_tool_calls", None)
    return calls[0].get("args") if calls else getattr(message, "content", None)


@guarded("extraction.note")
def _note(schema: Any, values: Any) -> None:
    # What is still to be streamed is its reader's, and nobody knows yet whether it fits.
    if gate.runtime() is not None and not isinstance(values, Iterator | AsyncIterator):
        marks.extraction(_shape(schema), _plain(values))


@guarded("extraction.note")
def _note_failure(
    schema: Any, said_in: Callable[[Any], Any], answer: Any, error: BaseException
) -> None:
    if gate.runtime() is None:
        return
    from spanflow.capture.content import captures_content  # noqa: PLC0415 - while capturing only

    captures = captures_content()
    marks.extraction(
        _shape(schema),
        _read(said_in(answer)) if captures else None,
        valid=False,
        error=_wrong(error, captures=captures),
    )


def _wrong(error: BaseException, *, captures: bool) -> Any:
    """Return what is wrong: pydantic's errors one by one, else the type of what was raised.

    Messages of other errors repeat what the model said.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - only who extracts pays for it

    cause = error
    while not isinstance(cause, ValidationError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ValidationError):
        return cause.errors(include_url=False, include_context=False, include_input=captures)
    name = type(cause).__name__
    return f"{name}: {cause}" if captures else name


def _shape(schema: Any) -> Any:
    """Return a schema as JSON schema under its own name; the name alone where there is none."""
    if isinstance(schema, dict):
        return cast("dict[str, Any]", schema)
    from pydantic import TypeAdapter  # noqa: PLC0415 - only who extracts pays for it

    try:
        return {**TypeAdapter(schema).json_schema(), "title": _name(schema)}
    except Exception:  # noqa: BLE001 - a user's own type may have no schema, and says so in any way
        return _name(schema)


def _name(schema: Any) -> str:
    is_class = isinstance(schema, type) and get_origin(schema) is None
    return schema.__name__ if is_class else str(schema)


def _plain(values: Any) -> Any:
    """Return values as data: a model's own dump, and what is in lists of models."""
    if callable(getattr(values, "model_dump", None)):
        return values
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - only who extracts pays for it

    return to_jsonable_python(values, serialize_unknown=True, bytes_mode="base64")


def _read(said: Any) -> Any:
    try:
        return json.loads(said) if isinstance(said, str) else said
    except ValueError:
        return said
