"""What is taken out of every text before it reaches a span or the journal.

One redactor a process, made of built-in patterns and of the user's own callables. It fails closed:
a text that cannot be redacted is dropped, and where redaction was asked for and cannot be had at
all, every free text is. It decides nothing about where texts come from.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, cast

from spanflow.errors import ConfigurationError
from spanflow.guard import diagnose
from spanflow.patterns import BUILT_IN, Replacement, nothing_kept

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DROPPED", "Redactor", "current", "use"]

DROPPED = "[redacted]"
"""What stands where a text was dropped."""

_MARGIN = 1_024
"""Of a text that will be cut, so many characters more are read: nothing is cut apart unseen."""

# What needs no second look: an id made by chance, and what a replaced name or id ends in.
_MADE_BY_CHANCE = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_REPLACED = re.compile(r".*#[a-p]{16}", re.DOTALL)

_logger = logging.getLogger("spanflow")


class Redactor:
    """Replaces what must not be kept in texts, names and identifiers.

    Args:
        specs: Names of built-in patterns, ``all``, ``package.module:function``, or callables.
    """

    def __init__(self, specs: Iterable[str | Replacement]) -> None:
        asked = list(specs)
        self._patterns = [
            pattern for name, pattern in BUILT_IN.items() if name in asked or "all" in asked
        ]
        self._unresolved = [spec for spec in asked if isinstance(spec, str) and ":" in spec]
        self._callables: list[Replacement] = [s for s in asked if not isinstance(s, str)]
        self._closed = False
        if nothing_kept in self._callables:
            self._close()

    def resolve(self) -> None:
        """Import what was given by name.

        Raises:
            ConfigurationError: It cannot be imported or is no function.
        """
        while self._unresolved:
            found = _imported(self._unresolved[0])
            self._callables.append(found)
            del self._unresolved[:1]

    def text(self, text: str, limit: int | None = None) -> str:
        """Return a free text without what must not be kept, at most `limit` characters of it."""
        if self._unresolved:
            self._resolve_late()
        if limit is None or len(text) <= limit + _MARGIN:
            return self._replaced(text)[:limit]
        kept = self._replaced(text[: limit + _MARGIN])
        # The end may hold the beginning of something that only its rest would have given away.
        return kept if kept == DROPPED else kept[:-_MARGIN][:limit]

    def tail(self, text: str, limit: int) -> str:
        """Return the last `limit` characters of a free text without what must not be kept."""
        if self._unresolved:
            self._resolve_late()
        if len(text) <= limit + _MARGIN:
            return self._replaced(text)[-limit:]
        kept = self._replaced(text[-limit - _MARGIN :])
        return kept if kept == DROPPED else kept[_MARGIN:][-limit:]

    def name(self, text: str, limit: int) -> str:
        """Return a name of something in the user's code.

        One that is replaced ends in a tag that always is the same for the same name, so that two
        steps or tools never become one.
        """
        if self._unresolved:
            self._resolve_late()
        if _MADE_BY_CHANCE.fullmatch(text):
            return text[:limit]
        replaced = self._by_patterns(text)
        if not self._closed and not _REPLACED.fullmatch(replaced):
            replaced = self._by_callables(replaced)
        return text[:limit] if replaced == text else _tagged(replaced, text, limit)

    def identifier(self, text: str, limit: int) -> str:
        """Return the id of a person, a session or a conversation, replaced like a name."""
        if self._unresolved:
            self._resolve_late()
        if not self._closed or _MADE_BY_CHANCE.fullmatch(text) or _REPLACED.fullmatch(text):
            return self.name(text, limit)
        return _tagged(DROPPED, text, limit)

    def _replaced(self, text: str) -> str:
        return self._by_callables(self._by_patterns(text))

    def _by_patterns(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern(text)
        return text

    def _by_callables(self, text: str) -> str:
        for function in self._callables:
            try:
                found = cast("object", function(text))
            except Exception as error:  # noqa: BLE001 - the user's code; its message may hold the text
                diagnose("redact.failed", f"{type(error).__name__} raised; a text is dropped")
                return DROPPED
            if found is None:
                return DROPPED
            if not isinstance(found, str):
                diagnose("redact.failed", f"{type(found).__name__} returned; a text is dropped")
                return DROPPED
            text = _plain(found)
        return text

    def _resolve_late(self) -> None:
        """Import what was named, at the first text: the program's own modules are there by now."""
        try:
            self.resolve()
        except ConfigurationError as error:
            self._close()
            _logger.warning(
                "spanflow: %s Until it is mended, every free text is replaced by %s.",
                error,
                DROPPED,
            )

    def _close(self) -> None:
        self._closed = True
        self._unresolved = []
        self._patterns = list(BUILT_IN.values())
        self._callables = [nothing_kept]


class _State:
    """What this process redacts with; the environment is asked at the first text."""

    specs: tuple[str | Replacement, ...] | None = None
    redactor: Redactor | None = None


def use(specs: Iterable[str | Replacement], *, at_once: bool = False) -> None:
    """Redact with `specs` from now on; none means not at all.

    Args:
        specs: What :class:`Redactor` takes.
        at_once: Whether what is named by ``package.module:function`` is imported now, and not at
            the first text.

    Raises:
        ConfigurationError: It cannot be imported at once; nothing has changed.
    """
    asked = tuple(specs)
    if asked == _State.specs:
        return
    redactor = Redactor(asked) if asked else None
    if redactor is not None and at_once:
        redactor.resolve()
    _State.specs, _State.redactor = asked, redactor


def current() -> Redactor | None:
    """Return this process's redactor, or None where nobody asked for one."""
    if _State.specs is None:
        _ask_environment()
    return _State.redactor


def _ask_environment() -> None:
    """Redact as the environment says, wherever nobody has called :func:`use`: an exporter alone."""
    if "SPANFLOW_REDACT" not in os.environ:
        use(())
        return
    from spanflow.settings import load  # noqa: PLC0415 - heavy, and only where it is asked for

    use(load().redact)


def _imported(spec: str) -> Replacement:
    module, _, path = spec.partition(":")
    try:
        found: object = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:
        msg = f"redact={spec!r} cannot be imported ({type(error).__name__}: {error})."
        raise ConfigurationError(msg) from error
    if not callable(found):
        msg = f"redact={spec!r} is a {type(found).__name__} and no function."
        raise ConfigurationError(msg)
    return cast("Replacement", found)


def _tagged(replaced: str, text: str, limit: int) -> str:
    """Return `replaced` with a tag of `text`, in letters no pattern takes for a number."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    tag = digest.translate(_LETTERS)
    return f"{replaced[: max(limit - len(tag) - 1, 0)]}#{tag}"


_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def _plain(text: str) -> str:
    """Return what a callable gave as text that UTF-8 can encode."""
    return str.encode(text, "utf-8", "replace").decode("utf-8")
