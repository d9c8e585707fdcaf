"""The config of a run: what its layers say together, and a copy of its callbacks with ours.

What a key means is not decided here, and nothing that was given is changed.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackManager

__all__ = ["merged", "with_handler"]


def with_handler(callbacks: Any, handler: Any) -> Any:
    """Return `callbacks` with our handler added, as a copy."""
    if callbacks is None:
        return [handler]
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(handler, inherit=True)
        return manager
    if isinstance(callbacks, list | tuple):
        return [*callbacks, handler] if handler not in callbacks else list(callbacks)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return callbacks


def merged(layers: list[Any], key: str) -> dict[str, Any]:
    """Return what all layers of a config say under `key`; what is nearer to the run wins."""
    found: dict[str, Any] = {}
    for layer in layers:
        part = layer.get(key)
        if part:
            found.update(part)
    return found
