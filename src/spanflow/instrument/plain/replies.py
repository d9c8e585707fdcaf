"""Reads who answered and what it spent from an answer of a model, as the app's function got it.

Known are the answers of OpenAI, Anthropic, Gemini, LangChain and LiteLLM, as objects or as plain
dicts, whole or in pieces. Of any other nothing is said: it never guesses, and never raises.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from spanflow.instrument.parts import first_part, part

__all__ = ["Replies"]

_ANTHROPIC: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_GEMINI: Final = {
    "prompt": ("prompt_token_count", "promptTokenCount"),
    "tool_prompt": ("tool_use_prompt_token_count", "toolUsePromptTokenCount"),
    "candidates": ("candidates_token_count", "candidatesTokenCount"),
    "thoughts": ("thoughts_token_count", "thoughtsTokenCount"),
    "cached": ("cached_content_token_count", "cachedContentTokenCount"),
    "total": ("total_token_count", "totalTokenCount"),
}
_OBJECTS: Final = ("chat.completion", "chat.completion.chunk", "response", "text_completion")
"""What OpenAI calls its answers, and their pieces."""


class Replies:
    """What the pieces of one answer say, or the answer itself: the last one that knows counts.

    Attributes:
        model: The model that answered.
        response_id: The provider's id of the answer.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.response_id: str | None = None
        self._usage: dict[str, Any] = {}
        self._anthropic: dict[str, Any] = {}

    @property
    def usage(self) -> dict[str, Any]:
        """The numbers by the names of :class:`~spanflow.spending.Usage`; empty where unknown."""
        return _of_anthropic(self._anthropic) if self._anthropic else self._usage

    def read(self, told: Any) -> None:
        """Read an answer or a piece of one."""
        if told is None or isinstance(told, str | bytes | int | float | list | tuple | set):
            return
        kind = part(told, "type")
        kind = kind if isinstance(kind, str) else ""
        if kind.startswith("response.") and part(told, "response") is not None:
            self.read(part(told, "response"))  # an event of OpenAI's responses
        elif kind in ("message_start", "message_stop", "message_delta"):
            self._read_event(kind, told)
        elif _is_of_litellm(told):
            self._read_litellm(told)
        else:
            self._read_answer(told, kind)

    def _read_event(self, kind: str, told: Any) -> None:
        """Read an event of Anthropic's: each repeats what is known by then."""
        message = part(told, "message")
        if message is not None:
            self._identify(message)
        usage = part(message, "usage") if message is not None else part(told, "usage")
        known = {name: part(usage, name) for name in _ANTHROPIC}
        if kind == "message_start":
            del known["output_tokens"]  # the answer is still to come
        self._anthropic |= {name: value for name, value in known.items() if value is not None}

    def _read_litellm(self, told: Any) -> None:
        from spanflow.instrument import completions

        spent = completions.spent_on(told)
        self._identify(told)
        if spent.known:
            self._usage = {
                name: getattr(spent, name)
                for name in (
                    "input_tokens",
                    "output_tokens",
                    "total_tokens",
                    "cache_read_tokens",
                    "cache_write_tokens",
                    "reasoning_tokens",
                    "cost_usd",
                )
            }

    def _read_answer(self, told: Any, kind: str) -> None:
        usage = part(told, "usage")
        if _counts(usage, "prompt_tokens", "completion_tokens"):
            spent = _of_chat(usage)
            # Zeros stand for "unknown" where a provider says nothing: no call spends none.
            if any(spent[name] for name in ("input_tokens", "output_tokens", "total_tokens")):
                self._usage = spent
        elif _counts(usage, "input_tokens", "output_tokens"):
            if kind == "message" or any(part(usage, name) is not None for name in _ANTHROPIC[2:]):
                self._anthropic = {name: part(usage, name) for name in _ANTHROPIC}
            else:
                self._usage = _of_parts(usage, "input_tokens_details", "output_tokens_details")
        elif self._read_metadata(told) or part(told, "object") not in _OBJECTS:
            return
        self._identify(told)

    def _read_metadata(self, told: Any) -> bool:
        """Read an answer of Gemini's or LangChain's; False where it is neither."""
        usage = part(told, "usage_metadata") or part(told, "usageMetadata")
        if _counts(usage, *_GEMINI["prompt"], *_GEMINI["total"]):
            self._usage = _of_gemini(usage)
            self._name(first_part(told, "model_version", "modelVersion"))
            self._number(first_part(told, "response_id", "responseId"))
            return True
        answered = part(told, "response_metadata")
        if isinstance(answered, Mapping):
            self._name(first_part(answered, "model_name", "model"))
            self._number(part(answered, "id"))
        if not _counts(usage, "input_tokens", "output_tokens"):
            return False
        spent = _of_parts(usage, "input_token_details", "output_token_details")
        if type(told).__name__.endswith("Chunk"):
            # LangChain's pieces tell each its own part.
            spent = {name: _sum(self._usage.get(name), spent[name]) for name in spent}
        self._usage = spent
        return True

    def _identify(self, told: Any) -> None:
        self._name(part(told, "model"))
        self._number(part(told, "id"))

    def _name(self, model: Any) -> None:
        if isinstance(model, str) and model:
            self.model = model

    def _number(self, response_id: Any) -> None:
        if isinstance(response_id, str) and response_id:
            self.response_id = response_id


def _of_chat(usage: Any) -> dict[str, Any]:
    """Read a usage of OpenAI's chat completions; cached and reasoning tokens are parts of it."""
    given = part(usage, "prompt_tokens_details")
    return {
        "input_tokens": part(usage, "prompt_tokens"),
        "output_tokens": part(usage, "completion_tokens"),
        "total_tokens": part(usage, "total_tokens"),
        "cache_read_tokens": part(given, "cached_tokens"),
        "cache_write_tokens": part(given, "cache_write_tokens"),
        "reasoning_tokens": part(part(usage, "completion_tokens_details"), "reasoning_tokens"),
    }


def _of_parts(usage: Any, into: str, out: str) -> dict[str, Any]:
    """Read a usage of OpenAI's responses or of LangChain's: the whole, and its parts beside."""
    given, produced = part(usage, into), part(usage, out)
    return {
        "input_tokens": part(usage, "input_tokens"),
        "output_tokens": part(usage, "output_tokens"),
        "total_tokens": part(usage, "total_tokens"),
        "cache_read_tokens": first_part(given, "cached_tokens", "cache_read"),
        "cache_write_tokens": first_part(given, "cache_write_tokens", "cache_creation"),
        "reasoning_tokens": first_part(produced, "reasoning_tokens", "reasoning"),
    }


def _of_anthropic(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Read a usage of Anthropic's, whose input leaves out what was read from or put in a cache."""
    given, produced, read, written = (usage.get(name) for name in _ANTHROPIC)
    return {
        "input_tokens": _sum(given, read, written) if given is not None else None,
        "output_tokens": produced,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
    }


def _of_gemini(usage: Any) -> dict[str, Any]:
    """Read a usage of Gemini's, whose candidates leave out thoughts, and its prompt tools."""
    told = {name: first_part(usage, *spellings) for name, spellings in _GEMINI.items()}
    return {
        "input_tokens": _sum(told["prompt"], told["tool_prompt"]),
        "output_tokens": _sum(told["candidates"], told["thoughts"]),
        "total_tokens": told["total"],
        "cache_read_tokens": told["cached"],
        "reasoning_tokens": told["thoughts"],
    }


def _sum(*parts: Any) -> Any:
    """Add what is known; what is no count is handed on, for whoever counts to refuse."""
    known = [part for part in parts if part is not None]
    strange = [part for part in known if not _is_count(part)]
    if strange:
        return strange[0]
    return sum(known) if known else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(usage: Any, *names: str) -> bool:
    """Whether a usage has one of these numbers, whatever it is worth."""
    return any(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in (part(usage, name) for name in names)
    )


def _is_of_litellm(told: Any) -> bool:
    package = type(told).__module__.partition(".")[0]
    return package == "litellm" and "litellm" in sys.modules
