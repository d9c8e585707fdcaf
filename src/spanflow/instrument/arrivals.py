"""What is done as each framework is imported: LangChain, LangGraph, LiteLLM.

Hooks wait until then and load nothing themselves. Whether anything is captured at all is asked of
whoever set them.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any

import wrapt

from spanflow.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanflow.capture.runtime import Runtime
    from spanflow.instrument.calls import CallHandler

__all__ = ["watch", "withdraw"]


def _nobody() -> Runtime | None:
    return None


class _Arrivals:
    """Who is asked for the runtime, and what outlives switching capture off and on."""

    def __init__(self) -> None:
        self.activate: Callable[[], Runtime | None] = _nobody
        self.hooked = False
        self.calls: CallHandler | None = None


_arrived = _Arrivals()


def watch(activate: Callable[[], Runtime | None]) -> None:
    """Wait for frameworks; what is imported already is served at once.

    Args:
        activate: Returns whom the capture serves, made at the first call, or None where it is off.
    """
    _arrived.activate = activate
    if not _arrived.hooked:
        _arrived.hooked = True
        for module, hook in _HOOKS.items():
            wrapt.register_post_import_hook(hook, module)
        return
    for module, hook in _HOOKS.items():
        if module in sys.modules:
            hook(sys.modules[module])


def withdraw() -> None:
    """Unwrap everything that was wrapped; the hooks stay, since Python has no way to take them."""
    for name in ("langgraph", "fences", "litellm"):
        module = sys.modules.get(f"spanflow.instrument.{name}")
        if module is not None:
            module.uninstall()
    if _arrived.calls is not None:
        _arrived.calls.use(None)


@guarded("arrivals.langchain")
def _on_callbacks(_module: Any) -> None:
    """LangChain's callbacks are there: bring our handler to every call."""
    runtime = _arrived.activate()
    if runtime is None:
        return
    from spanflow.instrument.calls import CallHandler  # noqa: PLC0415 - LangChain is loaded by now

    if _arrived.calls is not None:
        _arrived.calls.use(runtime)
        return
    _arrived.calls = CallHandler(runtime)
    context: ContextVar[Any] = ContextVar("spanflow_calls", default=_arrived.calls)
    import_module("langchain_core.tracers.context").register_configure_hook(
        context, inheritable=True
    )


def _fences(owner: str, *names: str) -> Callable[[Any], None]:
    @guarded(f"arrivals.{owner}")
    def hook(module: Any) -> None:
        if _arrived.activate() is not None:
            from spanflow.instrument import fences  # noqa: PLC0415 - LangChain is loaded by now

            fences.install(getattr(module, owner), names)

    return hook


@guarded("arrivals.embeddings")
def _on_embeddings(_module: Any) -> None:
    if _arrived.activate() is not None and _arrived.calls is not None:
        from spanflow.instrument import fences  # noqa: PLC0415 - LangChain is loaded by now

        fences.install_embeddings(_arrived.calls.begin_embeddings)


@guarded("arrivals.langgraph")
def _on_langgraph(_module: Any) -> None:
    """LangGraph is there: wrap its runs."""
    runtime = _arrived.activate()
    if runtime is not None:
        from spanflow.instrument import langgraph  # noqa: PLC0415 - LangGraph is loaded by now

        langgraph.install(runtime)


@guarded("arrivals.litellm")
def _on_litellm(_module: Any) -> None:
    """LiteLLM is there: make calls of its functions."""
    runtime = _arrived.activate()
    if runtime is not None:
        from spanflow.instrument import litellm  # noqa: PLC0415 - LiteLLM is loaded by now

        litellm.install(runtime)


@guarded("arrivals.litellm_router")
def _on_litellm_router(module: Any) -> None:
    runtime = _arrived.activate()
    if runtime is not None:
        from spanflow.instrument import litellm  # noqa: PLC0415 - LiteLLM is loaded by now

        litellm.install_router(runtime, module)


_HOOKS: dict[str, Callable[[Any], Any]] = {
    "langchain_core.callbacks.manager": _on_callbacks,
    "langchain_core.language_models.chat_models": _fences(
        "BaseChatModel", "generate", "agenerate", "stream", "astream"
    ),
    "langchain_core.language_models.llms": _fences(
        "BaseLLM", "generate", "agenerate", "stream", "astream"
    ),
    "langchain_core.tools.base": _fences("BaseTool", "run", "arun"),
    "langchain_core.retrievers": _fences("BaseRetriever", "invoke", "ainvoke"),
    "langchain_core.embeddings.embeddings": _on_embeddings,
    "langgraph.pregel": _on_langgraph,
    "litellm": _on_litellm,
    "litellm.router": _on_litellm_router,
}
