"""Opens calls: one ``util-genai`` handler, whose invocations become calls of ours.

What a call is and what is written of it is said elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import get_value, set_value
from opentelemetry.util.genai.completion_hook import (  # pyright: ignore[reportMissingTypeStubs]
    load_completion_hook,
)
from opentelemetry.util.genai.handler import (  # pyright: ignore[reportMissingTypeStubs]
    TelemetryHandler,
)

from spanflow.capture.call import REPORTED_ONCE, OpenCall
from spanflow.capture.content import captures_content
from spanflow.capture.runtime import SCOPE_NAME
from spanflow.capture.scope import OPEN_CALL

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope

__all__ = ["CallSpans"]


class CallSpans:
    """Opens call spans with one ``util-genai`` handler.

    The handler is made at the first call, so that providers are all set up.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._made: TelemetryHandler | None = None

    @property
    def _handler(self) -> TelemetryHandler:
        if self._made is None:
            self._made = TelemetryHandler(
                instrumentation_scope_name=SCOPE_NAME,
                instrumentation_scope_version=self._runtime.version,
                # A hook makes util-genai collect content: only where that is switched on at all.
                completion_hook=load_completion_hook() if captures_content() else None,
            )
        return self._made

    def inference(  # noqa: PLR0913 - the parts of a request, by name
        self,
        scope: Scope | None,
        context: Context,
        *,
        provider: str,
        model: str | None,
        operation: str = "chat",
        agent_name: str | None = None,
    ) -> OpenCall:
        """Begin a call to a model."""
        context = _apart("llm", context)
        invocation = self._handler.inference(
            provider, request_model=model, operation_name=operation, context=context
        )
        fields = {
            "operation": operation,
            "provider": provider,
            "model": model,
            "request_model": model,
            "agent_name": agent_name,
        }
        return OpenCall(self._runtime, "llm", invocation, scope, context=context, fields=fields)

    def embeddings(
        self, scope: Scope | None, context: Context, *, provider: str, model: str | None
    ) -> OpenCall:
        """Begin a call that embeds texts."""
        context = _apart("embeddings", context)
        invocation = self._handler.embedding(
            provider=provider, request_model=model, context=context
        )
        fields = {
            "operation": "embeddings",
            "provider": provider,
            "model": model,
            "request_model": model,
        }
        return OpenCall(
            self._runtime, "embeddings", invocation, scope, context=context, fields=fields
        )

    def tool(
        self,
        scope: Scope | None,
        context: Context,
        *,
        name: str,
        call_id: str | None,
        agent_name: str | None = None,
    ) -> OpenCall:
        """Begin the execution of a tool."""
        invocation = self._handler.tool(
            name, tool_type="function", agent_name=agent_name, context=context
        )
        invocation.tool_call_id = call_id
        fields = {
            "operation": "execute_tool",
            "name": name,
            "call_id": call_id,
            "agent_name": agent_name,
        }
        return OpenCall(self._runtime, "tool", invocation, scope, context=context, fields=fields)

    def retrieval(self, scope: Scope | None, context: Context, *, name: str) -> OpenCall:
        """Begin a retrieval of documents from the source called `name`."""
        context = _apart("retrieval", context)
        invocation = self._handler.retrieval(data_source_id=name, context=context)
        return OpenCall(
            self._runtime,
            "retrieval",
            invocation,
            scope,
            context=context,
            fields={"operation": "retrieval", "name": name},
        )


def _apart(kind: str, context: Context) -> Context:
    """Return `context` for a call of this kind, without one around it that has ended since."""
    call = get_value(OPEN_CALL, context)
    if isinstance(call, OpenCall) and call.ended and call.kind == kind:
        return set_value(REPORTED_ONCE[kind], None, context)
    return context
