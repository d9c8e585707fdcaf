"""The shape of the house: who may import whom, how long a module may grow, who spells a key."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import spanflow

PACKAGE = Path(next(iter(spanflow.__path__)))
TESTS = Path(__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_demo" not in path.parts)

# What each room may import besides itself and the small modules at the root.
ROOMS = {
    "instrument": {"capture"},
    "capture": {"ledger"},
    "ledger": set(),
    "query": {"ledger"},
    "cli": {"query", "ledger", "capture"},
}
# The only root modules which know rooms: what people import, and what puts everything together.
DOORS = {"__init__.py", "extraction.py", "setup.py", "testing.py"}
# Of several modules, and yet one of the small ones at the root.
ROOT_PACKAGES = {"model"}
FORBIDDEN_WORDS = {"util", "utils", "helper", "helpers", "manager", "data", "info"}
SPELLERS = ("semconv.py", "capture/dialects/")
LONGEST = 600

_KEY = re.compile(r"(gen_ai|spanflow)\.[\w.]*")
_QUOTED_KEY = re.compile(r"\bgen_ai\.\w")

every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imported(path: Path) -> set[str]:
    """Absolute names of everything a module imports, in functions and under TYPE_CHECKING too."""
    package = ["spanflow", *path.relative_to(PACKAGE).parent.parts]
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


def _room(path: Path) -> str | None:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 and parts[0] not in ROOT_PACKAGES else None


def _imports_of(path: Path, library: str) -> set[str]:
    return {name for name in _imported(path) if name.split(".")[0] == library}


@every_module
def test_imports_point_one_way(path):
    room = _room(path)
    if path.relative_to(PACKAGE).as_posix() in DOORS:
        return
    allowed = {room} | ROOMS[room] if room else set()
    reached = {name.split(".")[1] for name in _imports_of(path, "spanflow") if name.count(".") >= 1}
    assert reached & ROOMS.keys() <= allowed


def test_every_folder_is_a_known_room():
    assert {_room(path) for path in MODULES} - {None} <= ROOMS.keys()


@pytest.mark.parametrize(
    ("files", "library"),
    [
        ("ledger/*.py", "opentelemetry"),
        ("query/*.py", "opentelemetry"),
        ("tally.py", "opentelemetry"),
        ("ledger/*.py", "langgraph"),
        ("ledger/*.py", "langchain_core"),
        ("capture/*.py", "langgraph"),
        ("capture/*.py", "langchain_core"),
        ("capture/*.py", "duckdb"),
        ("instrument/*.py", "duckdb"),
        ("ledger/journal.py", "duckdb"),
        ("ledger/process.py", "duckdb"),
        ("*.py", "duckdb"),
    ],
)
def test_a_room_knows_only_its_own_trade(files, library):
    paths = sorted(PACKAGE.glob(files))
    assert paths
    assert [path.name for path in paths if _imports_of(path, library)] == []


@pytest.mark.parametrize("root", [PACKAGE, TESTS], ids=["src", "tests"])
def test_no_module_is_too_long(root):
    lengths = {
        path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in root.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@every_module
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(_tree(path))


@every_module
def test_all_is_sorted(path):
    for node in _tree(path).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            names = ast.literal_eval(node.value)
            assert names == sorted(names, key=_rank)


def _rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order ruff asks for."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@every_module
def test_names_say_something(path):
    classes = [node.name for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    words = set(path.stem.lower().split("_"))
    for name in classes:
        words.update(word.lower() for word in re.findall(r"[A-Z][a-z]+", name))
    assert words & FORBIDDEN_WORDS == set()


@every_module
def test_nobody_else_spells_a_key(path):
    if path.relative_to(PACKAGE).as_posix().startswith(SPELLERS):
        return
    assert _keys_in(_tree(path)) == []


def _keys_in(tree: ast.Module) -> list[str]:
    """String literals that are attribute keys; docstrings, modules, loggers and files are none."""
    passed_over: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring, also one under a field or a constant
            passed_over.add(id(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
            passed_over.update(id(argument) for argument in node.args)
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in passed_over
        and (_KEY.fullmatch(node.value) or _QUOTED_KEY.search(node.value))
        and not _is_no_key(node.value)
    ]


def _is_no_key(name: str) -> bool:
    """Whether a dotted name is a module of ours, imported lazily by name, or a file's name."""
    if name.endswith(".duckdb"):
        return True
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.is_dir() or Path(f"{place}.py").exists()


def test_the_rule_about_keys_sees_keys():
    keys = """a = f"spanflow.usage.{x}"; b = "gen_ai.system"; c = "SELECT 'gen_ai.system'" """
    assert len(_keys_in(ast.parse(keys))) == 3
    no_keys = """'spanflow.usage.x'; log = getLogger("spanflow.x"); m = "spanflow.setup()" """
    assert _keys_in(ast.parse(no_keys)) == []
