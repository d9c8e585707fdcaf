"""A notebook, whose cells people run again and again in one kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(600)]


def test_cells_run_twice_record_each_run_once(recipe, monkeypatch):
    source = Path(__file__).parents[2] / "examples" / "recipes" / "notebook.ipynb"
    for name, value in recipe.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SPANFLOW_LEDGER")  # the notebook names its ledger itself
    folder = recipe.ledger.parent
    notebook = nbformat.read(source, as_version=4)
    once = list(notebook.cells)
    # The kernel stays the same: every cell is run, and then every cell is run again.
    notebook.cells = [*once, *(nbformat.v4.new_code_cell(cell.source) for cell in once)]

    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()

    answers = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "execute_result" and "Answer" in str(output["data"])
    ]
    assert len(answers) == 2
    told = replace(recipe, ledger=folder / "notebook.duckdb")
    assert (
        told.rows("SELECT user_id, turns, steps, llm_calls, total_tokens FROM engagements")
        == [{"user_id": "ada", "turns": 1, "steps": 2, "llm_calls": 1, "total_tokens": 18}] * 2
    )
    assert told.rows("SELECT count(*) AS n FROM spans") == [{"n": 8}]
