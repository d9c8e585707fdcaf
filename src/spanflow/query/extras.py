"""Imports libraries that only some people need, and says what to install where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from spanflow.errors import LedgerError

__all__ = ["needed"]


def needed(module: str, extra: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: Its full name.
        extra: The extra of this package that brings it.

    Raises:
        LedgerError: It is not installed.
    """
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A library that is there and lacks something says so itself.
        if str(error.name).partition(".")[0] != library:
            raise
        message = f'This needs {library}: pip install "spanflow[{extra}]"'
        raise LedgerError(message) from None
