"""The errors spanflow raises on purpose, and nothing else.

Telemetry never raises into a user's run. What is here is raised where a person asked for something
in code or on the command line and can mend it::

    SpanflowError
    ├── ConfigurationError (also a ValueError)   a wrong value given in code
    ├── PauseInGraphError (also a RuntimeError)  pause() called where only interrupt() can pause
    └── LedgerError                              a ledger that cannot be read or written as asked
        └── LedgerNotFoundError                  there is no ledger at that path
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "LedgerError",
    "LedgerNotFoundError",
    "PauseInGraphError",
    "SpanflowError",
]


class SpanflowError(Exception):
    """Base of every error spanflow raises on purpose.

    Example:
        >>> import spanflow
        >>> try:
        ...     spanflow.connect("nowhere.duckdb")
        ... except spanflow.SpanflowError as error:
        ...     print(type(error).__name__)
        LedgerNotFoundError
    """


class ConfigurationError(SpanflowError, ValueError):
    """A value given to ``configure()`` or an ``Extractor`` is wrong; the message names the fix.

    Example:
        >>> import spanflow
        >>> try:
        ...     spanflow.configure(idle_after="a while")
        ... except spanflow.ConfigurationError as error:
        ...     print("idle_after" in str(error).lower())
        True
    """


class LedgerError(SpanflowError):
    """A ledger cannot be read or written as asked; the message says what to do next.

    Example:
        >>> import spanflow
        >>> with spanflow.connect("desk.duckdb") as ledger:
        ...     try:
        ...         ledger.sql("DROP VIEW engagements")
        ...     except spanflow.LedgerError:
        ...         print("a ledger is only read")
        a ledger is only read
    """


class LedgerNotFoundError(LedgerError):
    """There is no ledger at the given path; the message says how to make one.

    Example:
        >>> import spanflow
        >>> try:
        ...     spanflow.connect("nowhere.duckdb")
        ... except spanflow.LedgerNotFoundError as error:
        ...     print(str(error).partition(".")[0])
        There is no ledger at nowhere
    """


class PauseInGraphError(SpanflowError, RuntimeError):
    """``spanflow.pause()`` was called inside a LangGraph node, which it cannot pause.

    It is a ``RuntimeError`` so that LangGraph's default policy does not retry the node.

    Example:
        >>> import spanflow
        >>> def confirm(state):
        ...     try:
        ...         spanflow.pause("approval")
        ...     except spanflow.PauseInGraphError:  # only in a graph, and only while captured
        ...         return {"answer": "ask with interrupt() instead"}
        >>> confirm({})
    """

    def __init__(self) -> None:
        super().__init__(
            "spanflow.pause() cannot pause a LangGraph run: call interrupt() from langgraph.types "
            "in the node instead; spanflow records its wait by itself."
        )
