"""Documentation that cannot rot: every setting is told, with its default and its sentence."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import spanflow
from spanflow.cli.run_program import _SIGNALS
from spanflow.instrument import opening
from spanflow.settings import Settings, load

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PACKAGE = Path(next(iter(spanflow.__path__)))
VARIABLE = re.compile(r"\b(?:OTEL|SPANFLOW)_[A-Z_]+")
TYPES: dict[Any, str] = {
    bool: "true or false",
    int: "number",
    str: "word",
    timedelta: "duration",
    tuple: "list",
}
UNSET = {"ledger": "path", "metadata_keys": "list"}
"""Types of what has no value by default."""


def rows() -> dict[str, list[str]]:
    """Type, default and meaning of every variable in a table of the page."""
    return {
        cells[1].strip("`"): cells[2:5]
        for line in (DOCS / "configuration.md").read_text().splitlines()
        if line.startswith(("| `SPANFLOW_", "| `OTEL_"))
        for cells in [[cell.strip() for cell in line.split("|")]]
        if VARIABLE.fullmatch(cells[1].strip("`"))
    }


def test_every_setting_is_documented() -> None:
    told = {name: row for name, row in rows().items() if name.startswith("SPANFLOW_")}
    assert set(told) == {f"SPANFLOW_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        kind, default, meaning = told[f"SPANFLOW_{name.upper()}"]
        assert meaning.replace("`", "").split()[:6] == str(field.description).split()[:6], name
        assert kind == (UNSET.get(name) or TYPES[type(field.default)])
        plain = default.strip("`")
        if plain not in ("none", "unset", "all"):
            assert getattr(load(**{name: plain}), name) == field.default
        else:
            assert not field.default


def test_every_variable_that_is_read_or_tried_is_documented() -> None:
    sources = [*PACKAGE.rglob("*.py"), *(TESTS / "environment").glob("*.py")]
    named = {
        name
        for source in sources
        for name in VARIABLE.findall(source.read_text("utf-8"))
        if name.startswith("OTEL_")
    }
    named |= {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in _SIGNALS}
    named |= {f"OTEL_{signal}_EXPORTER" for signal in _SIGNALS}
    named -= {"OTEL_", "OTEL_EXPORTER_OTLP_"}  # the beginnings of several
    assert len(named) > 15
    told = rows()
    assert named <= set(told)
    for name, cells in told.items():
        assert all(cells), name
        assert cells[2].endswith("."), name


def test_the_matrix_is_of_variables_that_are_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    matrix = text.split("### What each combination gives")[1].split("###")[0]
    assert set(VARIABLE.findall(matrix)) <= set(rows())
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "SPANFLOW_ENABLED"):
        assert name in matrix


def test_the_configuration_file_of_the_page_is_one(tmp_path: Path) -> None:
    from opentelemetry.configuration import load_config_file

    text = (DOCS / "configuration.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "otel.yaml").write_text(example)
    provider = load_config_file(tmp_path / "otel.yaml").tracer_provider
    assert provider is not None
    ours = provider.processors[1].batch
    assert ours is not None
    assert ours.exporter.additional_properties == {"duckdb": {}}


def test_every_key_of_a_runs_metadata_is_documented() -> None:
    text = (DOCS / "configuration.md").read_text()
    source = Path(str(opening.__file__)).read_text()
    keys = {part.split('"')[0] for part in source.split('"spanflow_')[1:]} - {""}
    assert keys
    for key in keys:
        assert f"`spanflow_{key}`" in text
