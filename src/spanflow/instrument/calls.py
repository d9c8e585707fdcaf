"""LangChain's model, tool and retriever callbacks become calls.

Parents come from the map of run ids that the callbacks themselves build. A call's span is made
current only inside a *fence* (see ``fences``), in the caller's own task, and the fence puts the
caller's context back. This module knows LangChain and nothing of graphs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry import context as otel_context

from spanflow.capture import scope as scopes
from spanflow.capture.call_spans import CallSpans
from spanflow.capture.payload import clean
from spanflow.guard import guarded
from spanflow.instrument import fences, messages
from spanflow.instrument.endings import status_of

if TYPE_CHECKING:
    from uuid import UUID

    from opentelemetry.context import Context

    from spanflow.capture.call import OpenCall
    from spanflow.capture.runtime import Runtime
    from spanflow.capture.scope import Scope

__all__ = ["CallHandler", "Place", "place_of", "places"]


class Place:
    """Where a run of LangChain's stands: its scope, and the context its own work belongs in."""

    __slots__ = ("around", "call", "context", "namespace", "scope", "step_key")

    def __init__(
        self,
        scope: Scope | None,
        context: Context,
        namespace: str | None = None,
        *,
        call: OpenCall | None = None,
        step_key: str | None = None,
    ) -> None:
        self.scope = scope
        self.context = context
        self.namespace = namespace
        self.call = call
        self.step_key = step_key
        self.around = context


places: dict[UUID, Place] = {}
"""Every run that is going on inside a turn or a call, by LangChain's run id."""


def place_of(parent_run_id: UUID | None) -> Place | None:
    """Return where a run with this parent stands; None for a run outside every turn, call or scope.

    The run-id map decides, but for blocks that an app opened inside what it names: LangChain knows
    nothing of these. Where it does not know the parent (a task that outlived its node, callbacks of
    the user's own), the scope of the running code does.
    """
    if parent_run_id is not None:
        known = places.get(parent_run_id)
        if known is not None:
            return _deepest(known)
    scope = scopes.standing()
    if scope is None or scope.turn is None:
        return None
    context = scope.step.context if scope.step is not None else scope.turn.context
    return Place(scope, context)


def _deepest(known: Place) -> Place:
    """Return the place of the running code where an app put it elsewhere, or deeper, itself.

    So does an agent of somebody else's that went to work there.
    """
    here, scope = scopes.here(), known.scope
    if here is None or here.turn is None or scope is None or here is scope:
        return known
    step = here.step
    if here.turn is not scope.turn:
        is_told = step.superstep is None if step is not None else here.turn.is_plain
        if here.turn.ended or not is_told:
            return known
    else:
        while step is not scope.step:
            if step is None or step.superstep is not None:  # a graph's own, which the map knows
                return known
            step = step.parent
        if here.step is scope.step:
            return known
    place = here.step or here.turn
    return Place(here, place.context, known.namespace)


class CallHandler(BaseCallbackHandler):
    """Opens a call when LangChain says one begins and ends it when LangChain says how it ended."""

    run_inline = True
    # Plain attributes where LangChain has properties: it reads them at every callback.
    ignore_chain = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    ignore_agent = False  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, runtime: Runtime) -> None:
        self.runtime: Runtime | None = runtime
        self._spans = CallSpans(runtime)

    def use(self, runtime: Runtime | None) -> None:
        """Serve another runtime, or none: the hook that brings us to LangChain cannot be undone."""
        self.runtime = runtime
        if runtime is not None:
            self._spans = CallSpans(runtime)

    @guarded("calls.on_chat_model_start")
    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a chat call."""
        self._begin_model(
            run_id,
            parent_run_id,
            serialized=serialized,
            inputs=messages,
            metadata=metadata,
            kwargs=kwargs,
            operation="chat",
        )

    @guarded("calls.on_llm_start")
    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a text completion."""
        self._begin_model(
            run_id,
            parent_run_id,
            serialized=serialized,
            inputs=prompts,
            metadata=metadata,
            kwargs=kwargs,
            operation="text_completion",
        )

    def _begin_model(  # noqa: PLR0913 - the callback's own parameters
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        *,
        serialized: dict[str, Any] | None,
        inputs: list[Any],
        metadata: dict[str, Any] | None,
        kwargs: dict[str, Any],
        operation: str,
    ) -> None:
        where = self._where(run_id, parent_run_id, "llm")
        if where is None:
            return
        scope, context = where
        params: dict[str, Any] = kwargs.get("invocation_params") or {}
        call = self._spans.inference(
            scope,
            context,
            provider=messages.provider_of(serialized, metadata),
            model=messages.model_of(metadata, params),
            operation=operation,
            agent_name=_agent(scope, metadata),
        )
        messages.describe_request(call, inputs, params, self._limit)
        self._began(run_id, scope, call)

    @guarded("calls.on_llm_new_token")
    def on_llm_new_token(self, token: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Note the first piece of a streamed answer."""
        place = places.get(run_id)
        if place is not None and place.call is not None:
            place.call.first_token()

    @guarded("calls.on_llm_end")
    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End a call to a model with what it spent."""
        call = self._ended(run_id)
        if call is not None:
            call.end(messages.describe_response(call, response, self._limit))

    @guarded("calls.on_llm_error")
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End a call to a model that failed; what it had spent is kept where it is known."""
        call = self._ended(run_id)
        if call is not None:
            usage = messages.describe_response(call, kwargs.get("response"), self._limit)
            call.end(usage, error, status=status_of(error))

    @guarded("calls.on_tool_start")
    def on_tool_start(  # noqa: PLR0913 - the callback's own parameters
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin the execution of a tool."""
        where = self._where(run_id, parent_run_id, "tool")
        if where is None:
            return
        scope, context = where
        name = (serialized or {}).get("name") or kwargs.get("name") or "tool"
        call_id = kwargs.get("tool_call_id")
        call = self._spans.tool(
            scope,
            context,
            name=clean(name),
            call_id=clean(call_id) if call_id is not None else None,
            agent_name=_agent(scope, metadata),
        )
        call.can_take_in = True
        if call.captures_content:
            call.invocation.arguments = call.keep(  # pyright: ignore[reportAttributeAccessIssue]
                "arguments", inputs if inputs is not None else input_str
            ).text
        self._began(run_id, scope, call)

    @guarded("calls.on_tool_end")
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End the execution of a tool with its result."""
        call = self._ended(run_id)
        if call is None:
            return
        if call.captures_content:
            result = getattr(output, "content", output)
            call.invocation.tool_result = call.keep("result", result).text  # pyright: ignore[reportAttributeAccessIssue]
        failed = getattr(output, "status", None) == "error"
        call.end(error_type="ToolError" if failed else None)

    @guarded("calls.on_tool_error")
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End the execution of a tool that failed, or that waits for a human."""
        call = self._ended(run_id)
        if call is not None:
            call.end(error=error, status=status_of(error))

    @guarded("calls.on_retriever_start")
    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a retrieval."""
        where = self._where(run_id, parent_run_id, "retrieval")
        if where is None:
            return
        scope, context = where
        name = kwargs.get("name") or (serialized or {}).get("name") or "retriever"
        call = self._spans.retrieval(scope, context, name=clean(name))
        if call.captures_content:
            call.invocation.query_text = call.keep("arguments", query).text  # pyright: ignore[reportAttributeAccessIssue]
        self._began(run_id, scope, call)

    @guarded("calls.on_retriever_end")
    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End a retrieval, with the documents found where content is captured."""
        call = self._ended(run_id)
        if call is None:
            return
        if call.captures_content:
            call.keep("result", [getattr(d, "page_content", d) for d in documents or ()])
        call.end()

    @guarded("calls.on_retriever_error")
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """End a retrieval that failed."""
        call = self._ended(run_id)
        if call is not None:
            call.end(error=error, status=status_of(error))

    def begin_embeddings(self, model: object) -> OpenCall | None:
        """Begin a call that embeds texts with `model`, an instance of LangChain's ``Embeddings``.

        LangChain has no callbacks for embeddings; their fence calls this.
        """
        if self.runtime is None or scopes.current.get() is scopes.OFF or others_cover("embeddings"):
            return None
        place = place_of(None)
        scope = place.scope if place is not None else None
        context = _nearest(place)
        return self._spans.embeddings(
            scope,
            context,
            provider=messages.provider_of_class(type(model)),
            model=messages.model_attribute(model),
        )

    @property
    def _limit(self) -> int:
        return self.runtime.payload_bytes if self.runtime is not None else 0

    def _where(
        self, run_id: UUID, parent_run_id: UUID | None, kind: str
    ) -> tuple[Scope | None, Context] | None:
        """Return scope and context for a call that begins; None where it is not ours to open."""
        if self.runtime is None or scopes.current.get() is scopes.OFF:
            return None
        place = place_of(parent_run_id)
        if others_cover(kind):
            if place is not None:
                places[run_id] = Place(place.scope, place.context, place.namespace)
            return None
        return (place.scope if place is not None else None), _nearest(place)

    def _began(self, run_id: UUID, scope: Scope | None, call: OpenCall) -> None:
        places[run_id] = Place(scope, call.context, call=call)
        fences.enter(call.context)

    def _ended(self, run_id: UUID) -> OpenCall | None:
        place = places.pop(run_id, None)
        return place.call if place is not None else None


def others_cover(kind: str) -> bool:
    """Whether another framework instrumentor reports calls of this kind now.

    Asked at each call, never at install. OpenInference and OpenLLMetry report models, tools and
    retrievers of LangChain; the official instrumentor models and tools.
    """
    for module, kinds in _OTHERS.items():
        loaded = sys.modules.get(module)
        if loaded is None or kind not in kinds:
            continue
        instrumentor = getattr(loaded, "LangChainInstrumentor", None) or getattr(
            loaded, "LangchainInstrumentor", None
        )
        if instrumentor is not None and instrumentor().is_instrumented_by_opentelemetry:
            return True
    return False


_OTHERS = {
    "openinference.instrumentation.langchain": ("llm", "tool", "retrieval"),
    "opentelemetry.instrumentation.langchain": ("llm", "tool", "retrieval"),
    "opentelemetry.instrumentation.genai.langchain": ("llm", "tool"),
}


def _nearest(place: Place | None) -> Context:
    """Return the context a call's span starts in."""
    if place is None or place.scope is None:
        return otel_context.get_current()
    return scopes.nearest(place.scope, place.context)


def _agent(scope: Scope | None, metadata: dict[str, Any] | None) -> str | None:
    """Return the agent that makes a call: its step's, else the one that LangChain names."""
    if scope is not None and scope.step is not None:
        return scope.step.agent_name
    name = (metadata or {}).get("lc_agent_name")
    return clean(name) if isinstance(name, str) else None
