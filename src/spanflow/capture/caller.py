"""Who made a call outside any engagement: the nearest function that is the application's own.

It looks at the stack and at nothing else; what a call costs is not its question.
"""

from __future__ import annotations

import inspect
from pathlib import PurePath

from spanflow.capture.payload import clean

__all__ = ["caller"]

_BETWEEN = frozenset(
    {
        "anyio",
        "asyncio",
        "concurrent",
        "contextlib",
        "functools",
        "langchain",
        "langchain_core",
        "langchain_litellm",
        "langgraph",
        "litellm",
        "opentelemetry",
        "spanflow",
        "tenacity",
        "threading",
        "wrapt",
    }
)
"""Packages that stand between an application and the call it makes."""
_DEEPEST = 200


def caller() -> str | None:
    """Return `module.function` of the nearest frame outside the libraries in between, or None."""
    frame = inspect.currentframe()
    for _ in range(_DEEPEST):
        if frame is None:
            break
        module = frame.f_globals.get("__name__")
        package = module.partition(".")[0] if isinstance(module, str) else ""
        if package and package not in _BETWEEN and not package.startswith("langchain_"):
            name = frame.f_code.co_qualname.replace(".<locals>", "")
            where = PurePath(frame.f_code.co_filename).stem if module == "__main__" else module
            return clean(where if name == "<module>" else f"{where}.{name}")
        frame = frame.f_back
    return None
