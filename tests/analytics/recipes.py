"""The recipe book as data: its queries, what it says they print, and what they really print.

Run as a program it writes what they print now into the book.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

BOOK = Path(__file__).parents[2] / "docs" / "analytics.md"
BIN = Path(sys.executable).parent
RECIPE = re.compile(r"```sql\n(?P<query>(?:(?!```).*\n)+)```\n(?:\n(?P<printed>(?:\|.*\n)+))?")
# Whatever differs from run to run.
VARYING = re.compile(r"_ms$|_at$|_ids?$|^cohort$")
# What asks has nothing but duckdb: spanflow cannot be imported.
ASKING = """
import json, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "spanflow":
            raise ImportError("spanflow is not here")
sys.meta_path.insert(0, Nothing())
import duckdb
answers = []
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for query in json.load(sys.stdin):
        cursor = connection.execute(query)
        answers.append([[column[0] for column in cursor.description], cursor.fetchall()])
try:
    import spanflow
except ImportError:
    print(json.dumps(answers, default=str))
"""


def recipes(text: str) -> list[tuple[str, str | None]]:
    """Return each query with the table that the book prints for it."""
    return [(match["query"], match["printed"]) for match in RECIPE.finditer(text)]


def commands(text: str) -> list[list[str]]:
    """Return the commands that make the ledger of the book."""
    [block] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


def make_ledger(text: str, folder: Path) -> Path:
    """Make the ledger of the book, with its own commands."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SPANFLOW_")}
    for command, *arguments in commands(text):
        if command == "spanflow":
            subprocess.run(
                [BIN / command, *arguments],
                cwd=folder,
                env=ours,
                check=True,
                capture_output=True,
                timeout=240,
            )
    return folder / "demo.duckdb"


def ask(ledger: Path, queries: list[str], python: str = sys.executable):
    """Return the columns and rows of each query, asked by a program that has only duckdb."""
    done = subprocess.run(
        [python, "-I", "-c", ASKING, str(ledger)],
        input=json.dumps(queries),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def table(columns: list[str], rows: list[list[object]]) -> str:
    """Write rows as the book shows them."""
    lines = [columns, ["---"] * len(columns)]
    lines += [
        [_cell(name, value) for name, value in zip(columns, row, strict=True)] for row in rows
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(column: str, value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.1f}" if column.endswith("_ms") else f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def masked(printed: str) -> list[list[str]]:
    """Return a table's cells, those that vary as whether there is anything."""
    lines = [line.strip("|\n ").split(" | ") for line in printed.splitlines()]
    columns = lines[0]
    return [columns] + [
        [
            ("…" if cell != "null" else cell) if VARYING.search(column) else cell
            for column, cell in zip(columns, line, strict=True)
        ]
        for line in lines[2:]
    ]


def rewritten(text: str, answers: list[tuple[list[str], list[list[object]]]]) -> str:
    """Return the book with what its queries print now, where it prints anything."""
    fresh = iter(answers)

    def one(match: re.Match[str]) -> str:
        columns, rows = next(fresh)
        query = f"```sql\n{match['query']}```\n"
        return f"{query}\n{table(columns, rows)}" if match["printed"] else query

    return RECIPE.sub(one, text)


def main() -> None:
    """Write what the queries print now into the book."""
    text = BOOK.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        ledger = make_ledger(text, Path(folder))
        answers = ask(ledger, [query for query, _ in recipes(text)])
    BOOK.write_text(rewritten(text, answers), "utf-8")


if __name__ == "__main__":
    main()
