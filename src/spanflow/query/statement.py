"""The queries of ``sql``, read once each; what one asks is said in its file."""

from __future__ import annotations

from functools import cache
from importlib import resources

__all__ = ["statement"]


@cache
def statement(name: str) -> str:
    """Return the SQL of one file of ``sql``."""
    folder = resources.files("spanflow.query").joinpath("sql")
    return folder.joinpath(f"{name}.sql").read_text(encoding="utf-8")
