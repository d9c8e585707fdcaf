"""Documentation that cannot rot: every setting is told, with its default and its sentence."""

from __future__ import annotations

from pathlib import Path

from spanflow.instrument import opening
from spanflow.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"


def test_every_setting_is_documented() -> None:
    rows = {
        cells[1].strip("`"): cells[3]
        for line in (DOCS / "configuration.md").read_text().splitlines()
        if line.startswith("| `SPANFLOW_")
        for cells in [[cell.strip() for cell in line.split("|")]]
    }
    assert set(rows) == {f"SPANFLOW_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        told, meant = rows[f"SPANFLOW_{name.upper()}"], str(field.description)
        assert told.replace("`", "").split()[:6] == meant.split()[:6], name


def test_every_key_of_a_runs_metadata_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    source = Path(str(opening.__file__)).read_text()
    keys = {part.split('"')[0] for part in source.split('"spanflow_')[1:]} - {""}
    assert keys
    for key in keys:
        assert f"`spanflow_{key}`" in text
