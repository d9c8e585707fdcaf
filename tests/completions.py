"""LiteLLM for tests: offline, without its banners, with answers of exact numbers."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

# Else it fetches its prices over the network while it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm: Any = pytest.importorskip("litellm")
litellm.suppress_debug_info = True
# What it would tell its callbacks outlives the loop of a test, and nobody here asks for it.
import_module(
    "litellm.litellm_core_utils.logging_worker"
).GLOBAL_LOGGING_WORKER.ensure_initialized_and_enqueue = lambda async_coroutine: (
    async_coroutine.close()
)

ASKED = [{"role": "user", "content": "two tickets, please"}]


def answer(given: int = 10, produced: int = 20, model: str = "gpt-4o-mini", **more: Any) -> Any:
    """Return an answer with exact numbers."""
    return litellm.ModelResponse(
        id="chatcmpl-1",
        model=model,
        choices=[{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        usage=litellm.Usage(
            prompt_tokens=given, completion_tokens=produced, total_tokens=given + produced, **more
        ),
    )


def ask(**more: Any) -> Any:
    """Ask for a completion, of 10 and 20 tokens unless told otherwise."""
    return litellm.completion(
        **{"model": "gpt-4o-mini", "messages": ASKED, "mock_response": answer(), **more}
    )


def reset() -> None:
    """Take back what a test told LiteLLM to do for everybody."""
    litellm.num_retries = None
    litellm.cache = None
    litellm.callbacks = []
    litellm.success_callback = []
    litellm.failure_callback = []
