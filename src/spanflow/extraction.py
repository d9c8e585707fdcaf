"""Structured values out of what somebody said: asked of a model, checked, and noted on the step.

:class:`Extractor` asks through the client that an app has already, with Instructor or with
LangChain, and returns what they return and raises what they raise. It decides nothing about
prompts, retries or validation, and with nothing captured it is just them.

The module is a function as well: ``spanflow.extraction(schema, values)`` notes on the running step
what an app has extracted by itself.

Example:
    >>> import spanflow
    >>> spanflow.extraction("BudgetInfo", {"budget": 95000, "area": "Shibuya"})
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from spanflow.errors import ConfigurationError
from spanflow.instrument.plain import marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanflow.instrument.extracting import Way

__all__ = ["ExtractionModule", "Extractor", "extraction"]

_T = TypeVar("_T")
_NO_CLIENT = (
    "an Extractor needs something to ask: give it the client in use, like Extractor(OpenAI()) or "
    'Extractor(litellm.completion), or call Extractor.from_provider("openai/gpt-4o-mini")'
)


class Extractor:
    """Asks a model for values of a schema, and notes them on the running step.

    Each result becomes one event of kind ``extraction``, with the schema's name, its JSON schema,
    the values and whether they fit. An answer that does not fit, after Instructor's retries, is
    noted as such and raised; a request that fails is the failure of that call and no extraction.
    Whoever reports the calls, their tokens count once.

    Args:
        client: What to ask through: an Instructor client; a client of OpenAI's or Anthropic's, sync
            or async; ``litellm.completion`` or ``litellm.acompletion``; or a LangChain chat model,
            which needs no Instructor.
        model: The model to ask for where a request does not name one.
        mode: Instructor's mode, like ``instructor.Mode.JSON``, where its own choice will not do.

    Raises:
        ConfigurationError: There is no client, or nothing can be asked through it.
        ModuleNotFoundError: Instructor is needed and not installed.

    Example:
        >>> from pydantic import BaseModel
        >>> from spanflow.extraction import Extractor
        >>> class BudgetInfo(BaseModel):
        ...     budget: int
        ...     area: str
        >>> def qualify(state, extractor: Extractor):
        ...     found = extractor.extract(BudgetInfo, state["said"])
        ...     return {"budget": found.budget}
    """

    def __init__(self, client: Any = None, *, model: str | None = None, mode: Any = None) -> None:
        if client is None:
            raise ConfigurationError(_NO_CLIENT)
        from spanflow.instrument.extracting import way_through  # noqa: PLC0415 - when used

        self._way: Way = way_through(client, model, mode)

    @classmethod
    def from_provider(cls, name: str, **options: Any) -> Extractor:
        """Return an extractor that asks a provider, as ``instructor.from_provider`` names them.

        Args:
            name: The provider and its model, like ``openai/gpt-4o-mini``.
            **options: What ``instructor.from_provider`` takes besides. Without ``async_client``
                both ways of extracting have a client of their own.

        Raises:
            ModuleNotFoundError: Instructor is not installed.
            Exception: What Instructor raises where it does not know the provider.

        Example:
            >>> from spanflow.extraction import Extractor
            >>> extractor = Extractor.from_provider("openai/gpt-4o-mini", api_key="…")
        """
        from spanflow.instrument.extracting import ThroughInstructor  # noqa: PLC0415 - when used

        return cls(ThroughInstructor.provider(name, options))

    def extract(self, schema: type[_T], messages: str | Sequence[Any], **options: Any) -> _T:
        """Return the values of `schema` that a model finds in what was said.

        Args:
            schema: A pydantic model, or what else Instructor or LangChain take for one.
            messages: What was said: a text, or messages as the client in use takes them.
            **options: What Instructor's ``create`` takes (``model``, ``max_retries``, ``context``
                and so on), or LangChain's ``with_structured_output``.

        Returns:
            An instance of `schema`.

        Raises:
            ConfigurationError: The client can only be awaited.
            Exception: Whatever Instructor, LangChain or the provider raise, as they raise it.

        Example:
            >>> def qualify(state, extractor):
            ...     return extractor.extract(dict, state["said"], max_retries=2)
        """
        return cast("_T", self._way.extract(schema, _messages(messages), options))

    async def aextract(self, schema: type[_T], messages: str | Sequence[Any], **options: Any) -> _T:
        """Return the values of `schema` that a model finds in what was said.

        As :meth:`extract`; a client that cannot be awaited is asked in a thread.

        Example:
            >>> async def qualify(state, extractor):
            ...     return await extractor.aextract(dict, state["said"], max_retries=2)
        """
        return cast("_T", await self._way.aextract(schema, _messages(messages), options))


class ExtractionModule(ModuleType):
    """This module, which can be called."""

    Extractor: type[Extractor]

    __call__ = staticmethod(marks.extraction)


def _messages(told: str | Sequence[Any]) -> list[Any]:
    if isinstance(told, str):
        return [{"role": "user", "content": told}]
    return list(told) if isinstance(told, list | tuple) else [told]


# The function and the module go by one name, and whichever is imported first both must work.
extraction = sys.modules[__name__]
extraction.__class__ = ExtractionModule
