"""Calls that an app tells itself: to a model, of a tool, or what one spent, as blocks or at once.

Inside an engagement they belong to its open step, outside all of them they stand alone. Their spans
are those of every other call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spanflow.guard import guarded
from spanflow.instrument.plain.call_blocks import LlmCallBlock, ToolCallBlock

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["llm_call", "record_llm_usage", "tool_call"]

_NOT_GIVEN: Any = object()


def llm_call(  # noqa: PLR0913 - what is known of a call, by name
    model: str,
    *,
    provider: str | None = None,
    input: Any = None,  # noqa: A002 - GenAI's word
    output: Any = None,
    response_id: str | None = None,
    error: BaseException | None = None,
    step_id: str | None = None,
    engagement_id: str | None = None,
    **usage: Any,
) -> LlmCallBlock:
    """Record a call to a model: around the code that makes it, or at once when it is over.

    Given what came of it (usage, output, error), it has ended when this returns; else it ends with
    its ``with`` block, or at once where there is none.

    Args:
        model: The model asked for.
        provider: Who serves it, like ``openai``.
        input: What was asked; kept only where message content is captured.
        output: What was answered; kept only where message content is captured.
        response_id: The provider's id of the answer.
        error: What it failed with.
        step_id: The open step that made it, where that is not the one around it.
        engagement_id: The open engagement it belongs to, where that is not the one around it.
        **usage: As :meth:`LlmCallBlock.set_usage` takes it: ``input_tokens``, ``output_tokens``, …

    Returns:
        The call, to tell more of it inside a ``with`` block: ``set_usage``, ``set_answer``,
        ``set_messages``.

    Example:
        >>> import spanflow
        >>> with spanflow.step("answer"):
        ...     with spanflow.llm_call("gpt-5-mini", provider="openai") as call:
        ...         call.set_usage(input_tokens=120, output_tokens=30)
        >>> once = spanflow.llm_call("gpt-5-mini", input_tokens=12, output_tokens=3)
    """
    call = LlmCallBlock(model, provider, step_id=step_id, engagement_id=engagement_id)
    call.set_usage(**usage)
    call.set_messages(input=input, output=output)
    call.set_answer(response_id=response_id)
    if usage or output is not None or error is not None:
        call.end(error)
    return call


def tool_call(  # noqa: PLR0913 - what is known of a call, by name
    name: str,
    *,
    arguments: Any = None,
    result: Any = _NOT_GIVEN,
    call_id: str | None = None,
    error: BaseException | None = None,
    step_id: str | None = None,
    engagement_id: str | None = None,
) -> ToolCallBlock:
    """Record a call of a tool: around the code that makes it, or at once when it is over.

    Given its result or its error, it has ended when this returns; else it ends with its ``with``
    block, or at once where there is none.

    Args:
        name: The tool.
        arguments: What it was given; kept only where message content is captured.
        result: What it answered; kept only where message content is captured.
        call_id: The id under which the model asked for it.
        error: What it failed with.
        step_id: The open step that made it, where that is not the one around it.
        engagement_id: The open engagement it belongs to, where that is not the one around it.

    Returns:
        The call, to tell more of it inside a ``with`` block: ``set_arguments``, ``set_result``.

    Example:
        >>> import spanflow
        >>> with spanflow.step("search"):
        ...     with spanflow.tool_call("look_up", arguments={"area": "Shibuya"}) as call:
        ...         call.set_result({"hits": 3})
        >>> once = spanflow.tool_call("look_up", result={"hits": 3})
    """
    call = ToolCallBlock(name, call_id, step_id=step_id, engagement_id=engagement_id)
    if arguments is not None:
        call.set_arguments(arguments)
    if result is not _NOT_GIVEN:
        call.set_result(result)
    if result is not _NOT_GIVEN or error is not None:
        call.end(error)
    return call


@guarded("api.record_llm_usage")
def record_llm_usage(
    model: str,
    *,
    provider: str | None = None,
    caller: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    **usage: Any,
) -> None:
    """Record what a call spent that was made outside any engagement, by a cron job say.

    It is part of what models and callers cost, and of no funnel. Inside an engagement it belongs to
    that, like every call.

    Args:
        model: The model that was called.
        provider: Who serves it, like ``openai``.
        caller: Who called it; without it the function of the app that calls this.
        metadata: Anything else worth asking for, as JSON-able values.
        **usage: As :meth:`LlmCallBlock.set_usage` takes it: ``input_tokens``, ``output_tokens``, …

    Example:
        >>> import spanflow
        >>> spanflow.record_llm_usage(
        ...     "gpt-5-mini", input_tokens=900, output_tokens=40, caller="nightly.summaries"
        ... )
    """
    block = LlmCallBlock(model, provider)
    block.set_usage(**usage)
    block.say_who_called(caller, metadata)
    block.end()
