"""The errors spanflow raises on purpose, and nothing else.

Telemetry never raises into a user's run. What is here is raised where a person asked for something
in code or on the command line and can mend it::

    SpanflowError
    ├── ConfigurationError (also a ValueError)   a wrong value given to configure()
    └── LedgerError                              a ledger that cannot be read or written as asked
        └── LedgerNotFoundError                  there is no ledger at that path
"""

from __future__ import annotations

__all__ = ["ConfigurationError", "LedgerError", "LedgerNotFoundError", "SpanflowError"]


class SpanflowError(Exception):
    """Base of every error spanflow raises on purpose."""


class ConfigurationError(SpanflowError, ValueError):
    """A value given to ``configure()`` is wrong; the message names the variable and the fix."""


class LedgerError(SpanflowError):
    """A ledger cannot be read or written as asked; the message says what to do next."""


class LedgerNotFoundError(LedgerError):
    """There is no ledger at the given path; the message says how to make one."""
