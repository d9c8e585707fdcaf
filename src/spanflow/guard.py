"""The one fail-open boundary: swallow, count and log what goes wrong in our own code.

Wherever our code runs inside the user's it stands behind :func:`guarded` or a ``try`` that ends in
:func:`report`. This module refuses to decide anything else: it never looks at what failed, only
that it did.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["counts", "diagnose", "guarded", "report", "reset", "set_strict"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

LOG_EVERY_S = 60.0
"""At most one line of ours in this many seconds, whatever goes wrong."""

_logger = logging.getLogger("spanflow")
_lock = threading.RLock()  # the collector may close an abandoned run in here


class _State:
    """What is counted in this process."""

    strict = False
    last_logged = float("-inf")
    suppressed = 0
    errors: ClassVar[Counter[str]] = Counter()


def set_strict(value: bool) -> None:  # noqa: FBT001 - a switch for tests, read aloud as a sentence
    """Make :func:`report` raise what it is given (our own tests) or swallow it (everybody else)."""
    _State.strict = value


def report(site: str, error: BaseException) -> None:
    """Count an error of ours at `site` and log it, at most one line a minute.

    Args:
        site: Where it happened, as a short dotted name.
        error: What happened. Re-raised when strict.
    """
    if _State.strict:
        raise error
    _count(site, f"{type(error).__name__}: {error}", error)


def diagnose(site: str, message: str) -> None:
    """Count something malformed that was handed to us; never raises, strict or not.

    Args:
        site: A short dotted name, like ``usage.refused``.
        message: What was wrong and what was done instead.
    """
    _count(site, message, None)


def guarded(site: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R | None]]:
    """Return a decorator that makes a function fail open: on an error it returns None.

    Args:
        site: The name under which errors are counted.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - this is the boundary
                report(site, error)
                return None

        return call

    return decorate


def counts() -> dict[str, int]:
    """Return how often each site failed or was handed something malformed in this process."""
    with _lock:
        return dict(_State.errors)


def reset() -> None:
    """Forget all counts (a new process after ``fork``, a new test)."""
    with _lock:
        _State.errors.clear()
        _State.last_logged = float("-inf")
        _State.suppressed = 0


def _count(site: str, message: str, error: BaseException | None) -> None:
    now = time.monotonic()
    with _lock:
        _State.errors[site] += 1
        if now - _State.last_logged < LOG_EVERY_S:
            _State.suppressed += 1
            return
        suppressed, _State.suppressed = _State.suppressed, 0
        _State.last_logged = now
    more = f" ({suppressed} more since the last line)" if suppressed else ""
    trace: Any = error if error is not None and _logger.isEnabledFor(logging.DEBUG) else None
    _logger.warning(
        "spanflow: %s: %s%s. Your run is not affected.", site, message, more, exc_info=trace
    )


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - absent on Windows only
    os.register_at_fork(after_in_child=_after_fork_in_child)
