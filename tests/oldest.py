"""The oldest shape of a ledger: the tables of the first version, and its views as they were."""

from __future__ import annotations

from pathlib import Path

from spanflow.ledger.store import migrations

_VIEWS = Path(__file__).parent / "ledger" / "shapes" / "0002_views.sql"

OLDEST = (migrations()[0], (_VIEWS.name, _VIEWS.read_text("utf-8")))
"""The name and text of each migration it had."""
