"""`spanflow version`: which version is installed."""

from __future__ import annotations

import sys
from importlib import metadata

__all__ = ["print_version"]


def print_version() -> None:
    """Print the version.

    Example: [bold]spanflow version[/bold]
    """
    sys.stdout.write(f"{metadata.version('spanflow')}\n")
