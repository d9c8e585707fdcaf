"""What stands around a call that an app tells itself, and what it can say of it.

A call begins as its block is made, so its scope and its time are those of that place. Inside an
engagement it belongs to its open step, outside all of them it stands alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from spanflow.guard import diagnose, guarded, report
from spanflow.instrument.endings import status_of
from spanflow.instrument.plain import gate
from spanflow.instrument.plain.block import NOWHERE, Standing
from spanflow.instrument.plain.targets import named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context

    from spanflow.capture.call import OpenCall
    from spanflow.capture.call_spans import CallSpans
    from spanflow.capture.scope import Scope

__all__ = ["LlmCallBlock", "RetrievalBlock", "ToolCallBlock"]

_UNKNOWN: Final = "unknown"
_NUMBERS: Final = frozenset(
    {
        "cache_read_tokens",
        "cache_write_tokens",
        "cost_usd",
        "input_tokens",
        "output_tokens",
        "reasoning_tokens",
        "total_tokens",
    }
)
"""What a call's usage has; a name that is misspelt must not pass for a call without usage."""


class _CallBlock(Standing):
    """A call that began when this was made: a ``with`` block, or over at once.

    What nobody enters has ended when nobody holds it any more.
    """

    __slots__ = ("_call", "_is_over")

    site = "api.call"

    def __init__(self, step_id: str | None, engagement_id: str | None) -> None:
        super().__init__()
        self._call: OpenCall | None = None
        self._is_over = False
        try:
            self._call = self._begun(step_id, engagement_id)
        except Exception as error:  # noqa: BLE001 - the fail-open boundary
            report(self.site, error)

    def _begun(self, step_id: str | None, engagement_id: str | None) -> OpenCall | None:
        served = gate.runtime()
        if served is None:
            return None
        from opentelemetry import context as otel_context

        from spanflow.capture import processor
        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import clear_away

        clear_away()
        if scopes.current.get() is scopes.OFF:
            return None
        processor.attach(served)
        if step_id is not None or engagement_id is not None:
            scope = named(self.site.partition(".")[2], step_id, engagement_id)
            if scope is None:
                return None
        else:
            scope = scopes.standing()
        context = scopes.context_in(scope) if scope is not None else otel_context.get_current()
        return self._opened(gate.spans(served), scope, context)

    def _opened(self, spans: CallSpans, scope: Scope | None, context: Context) -> OpenCall | None:
        raise NotImplementedError

    def _ended(self, call: OpenCall, error: BaseException | None, status: str | None) -> None:
        call.end(error=error, status=status)

    def begin(self) -> None:
        """Do nothing: it has begun."""

    def inside(self) -> AbstractContextManager[None]:
        """Return what puts the call in place around some code of the same task."""
        if self._call is None:
            return NOWHERE
        from spanflow.capture import scope as scopes
        from spanflow.capture.inside import Inside

        return Inside(self._call.scope or scopes.current.get(), self._call.context)

    def end(self, error: BaseException | None = None) -> None:
        """End the call, once."""
        call, self._call = self._call, None
        if call is None or call.ended:
            return
        self._is_over = True
        try:
            status = status_of(error) if error is not None else None
            self._ended(call, error if status != "ok" else None, status)
        except Exception as problem:  # noqa: BLE001 - the fail-open boundary
            report(self.site, problem)

    @property
    def captures_content(self) -> bool:
        """Whether what was said is kept."""
        return self._call is not None and self._call.captures_content

    @guarded("api.call")
    def streamed(self, attributes: Mapping[str, Any]) -> None:
        """Hear how the function streamed, before the call ends."""
        if self._call is not None:
            self._call.invocation.attributes.update(attributes)
            self._call.fields.setdefault("attributes", {}).update(attributes)

    def __del__(self) -> None:
        """End what nobody entered, unless the interpreter has gone too far to write it down."""
        if getattr(self, "_call", None) is not None and not sys.is_finalizing():
            self.end()


class LlmCallBlock(_CallBlock):
    """A call to a model."""

    __slots__ = ("_model", "_provider", "_usage")

    site = "api.llm_call"

    def __init__(
        self,
        model: str,
        provider: str | None = None,
        *,
        step_id: str | None = None,
        engagement_id: str | None = None,
    ) -> None:
        self._model = model
        self._provider = provider
        self._usage: dict[str, Any] = {}
        super().__init__(step_id, engagement_id)

    def _opened(self, spans: CallSpans, scope: Scope | None, context: Context) -> OpenCall:
        from spanflow.capture.payload import clean
        from spanflow.capture.providers import provider_name

        provider = provider_name(self._provider) if self._provider else _UNKNOWN
        call = spans.inference(scope, context, provider=provider, model=clean(self._model))
        if not self._provider:
            call.fields["provider"] = None  # the conventions want a word; a record has null
        return call

    @property
    def calls_inside(self) -> int:
        """How many calls made within this one told what they spent, so far."""
        return self._call.calls_inside if self._call is not None else 0

    @guarded("api.llm_call")
    def first_token(self) -> None:
        """Note a piece of a streamed answer; the first one is timed."""
        if self._call is not None:
            self._call.first_token()

    @guarded("api.llm_call")
    def set_usage(self, **usage: Any) -> None:
        """Tell what the call spent; what is told later replaces what was told before.

        Args:
            **usage: ``input_tokens`` (cached ones included), ``output_tokens`` (reasoning
                included), ``total_tokens``, ``cache_read_tokens``, ``cache_write_tokens``,
                ``reasoning_tokens``, and ``cost_usd`` where the provider told it.
        """
        if self._call is None and not self._is_over:
            return  # nothing is captured here
        unknown = usage.keys() - _NUMBERS
        if unknown:
            told = ", ".join(sorted(unknown))
            diagnose("usage.unknown", f"{told}: a call's usage has no such number; it is dropped")
        if self._is_over and usage:
            diagnose("usage.late", "usage told of a call that had ended is dropped")
        self._usage |= {name: usage[name] for name in usage.keys() & _NUMBERS}

    @guarded("api.llm_call")
    def say_who_called(self, caller: str | None, metadata: Mapping[str, Any] | None) -> None:
        """Tell who made the call, and what its app says of it."""
        call = self._call
        if call is None:
            return
        from spanflow import semconv
        from spanflow.capture.payload import clean, payload_of

        if caller is not None:
            call.fields["caller"] = call.invocation.attributes[semconv.CALL_CALLER] = clean(caller)
        if metadata:
            text = payload_of(metadata, call.runtime.payload_bytes).text
            call.invocation.attributes[semconv.CALL_METADATA] = text
            call.fields.setdefault("attributes", {})[semconv.CALL_METADATA] = text

    @guarded("api.llm_call")
    def set_answer(self, *, model: str | None = None, response_id: str | None = None) -> None:
        """Tell which model answered, and the provider's id of the answer."""
        call = self._call
        if call is None:
            return
        from spanflow.capture.payload import clean

        if model is not None:
            call.say_who_answered(None, clean(model))
        if response_id is not None:
            told: Any = call.invocation
            told.response_id = call.fields["response_id"] = clean(response_id)

    @guarded("api.llm_call")
    def set_messages(self, *, input: Any = None, output: Any = None) -> None:  # noqa: A002 - GenAI's word
        """Tell what was said: texts, kept only where message content is captured."""
        call = self._call
        if call is None or not call.captures_content:
            return
        from opentelemetry.util.genai import types  # pyright: ignore[reportMissingTypeStubs]

        from spanflow import semconv
        from spanflow.capture.payload import payload_of
        from spanflow.instrument.messages import keep_on_record

        limit, told = call.runtime.payload_bytes, call.invocation
        spoken: Any = told
        if input is not None:
            parts: list[Any] = [types.TextPart(payload_of(input, limit).text)]
            spoken.input_messages = [types.InputMessage("user", parts)]
            keep_on_record(call, semconv.GEN_AI_INPUT_MESSAGES, spoken.input_messages, limit)
        if output is not None:
            parts = [types.TextPart(payload_of(output, limit).text)]
            spoken.output_messages = [types.OutputMessage("assistant", parts, finish_reason="stop")]
            keep_on_record(call, semconv.GEN_AI_OUTPUT_MESSAGES, spoken.output_messages, limit)

    def _ended(self, call: OpenCall, error: BaseException | None, status: str | None) -> None:
        from spanflow.spending import Usage

        usage = Usage.of(**self._usage)
        told: Any = call.invocation
        told.input_tokens, told.output_tokens = usage.input_tokens, usage.output_tokens
        told.cache_read_input_tokens = usage.cache_read_tokens
        told.cache_write_input_tokens = usage.cache_write_tokens
        told.thinking_tokens = usage.reasoning_tokens
        call.end(usage, error, status=status)


class ToolCallBlock(_CallBlock):
    """A call of a tool."""

    __slots__ = ("_call_id", "_name")

    site = "api.tool_call"

    def __init__(
        self,
        name: str,
        call_id: str | None = None,
        *,
        step_id: str | None = None,
        engagement_id: str | None = None,
    ) -> None:
        self._name = name
        self._call_id = call_id
        super().__init__(step_id, engagement_id)

    def _opened(self, spans: CallSpans, scope: Scope | None, context: Context) -> OpenCall | None:
        from spanflow.capture.call import enclosing
        from spanflow.capture.payload import clean

        name = clean(self._name)
        # A framework's tool around the function that is told here: the same call, once.
        around = enclosing()
        if around is not None and around.takes_in("tool", name, scope):
            return None
        call_id = clean(self._call_id) if self._call_id is not None else None
        return spans.tool(scope, context, name=name, call_id=call_id)

    @guarded("api.tool_call")
    def set_arguments(self, arguments: Any) -> None:
        """Tell what the tool was given; kept only where message content is captured."""
        call = self._call
        if call is not None and call.captures_content:
            told: Any = call.invocation
            told.arguments = call.keep("arguments", arguments).text

    @guarded("api.tool_call")
    def set_result(self, result: Any) -> None:
        """Tell what the tool answered; kept only where message content is captured."""
        call = self._call
        if call is not None and call.captures_content:
            told: Any = call.invocation
            told.tool_result = call.keep("result", result).text


class RetrievalBlock(_CallBlock):
    """A retrieval of documents."""

    __slots__ = ("_name",)

    site = "api.retrieval"

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__(None, None)

    def _opened(self, spans: CallSpans, scope: Scope | None, context: Context) -> OpenCall:
        from spanflow.capture.payload import clean

        return spans.retrieval(scope, context, name=clean(self._name))

    @guarded("api.retrieval")
    def set_arguments(self, query: Any) -> None:
        """Tell what was looked for; kept only where message content is captured."""
        call = self._call
        if call is not None and call.captures_content:
            told: Any = call.invocation
            told.query_text = call.keep("arguments", query).text

    @guarded("api.retrieval")
    def set_result(self, documents: Any) -> None:
        """Tell what was found; kept only where message content is captured."""
        call = self._call
        if call is not None and call.captures_content:
            call.keep("result", documents)
