"""The `spanflow` command: looking at a ledger in a terminal, and starting programs.

It asks `query` and prints; it knows no framework and stores nothing.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    # Imported here so that `import spanflow.cli` stays free of the terminal libraries.
    from spanflow.cli.app import run

    run()
