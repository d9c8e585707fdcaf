"""The public face: sorted, complete, documented, and cheap to import."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import spanflow
from spanflow import errors


def test_the_public_names_are_sorted_and_there() -> None:
    assert spanflow.__all__ == sorted(spanflow.__all__)
    assert len(set(spanflow.__all__)) == len(spanflow.__all__)
    for name in spanflow.__all__:
        assert getattr(spanflow, name) is not None
    assert set(spanflow.__all__) < set(dir(spanflow))
    assert spanflow.__version__ == version("spanflow")


@pytest.mark.parametrize("name", spanflow.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    public = getattr(spanflow, name)
    doc = inspect.getdoc(public)
    assert doc
    assert doc.splitlines()[0].rstrip().endswith((".", ":"))
    assert public.__name__.rpartition(".")[2] == name  # one of them is a module as well
    if inspect.isclass(public):
        for method, function in inspect.getmembers(public, inspect.isfunction):
            if not method.startswith("_") and function.__module__.startswith("spanflow"):
                assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize("name", spanflow.__all__)
def test_every_public_name_comes_from_a_module_that_lists_it(name: str) -> None:
    public = getattr(spanflow, name)
    assert name in sys.modules[public.__module__].__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = spanflow.nothing


def test_every_error_of_ours_can_be_caught_as_one() -> None:
    ours = [
        public
        for name in errors.__all__
        if issubclass(public := getattr(errors, name), BaseException)
    ]
    assert ours
    for error in ours:
        assert issubclass(error, errors.SpanflowError)
        assert error.__name__ in str(errors.__doc__)


LOADED = """
import json, sys
before = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("code", ["import spanflow", "import spanflow; dir(spanflow)"])
def test_importing_it_imports_nothing_heavy(code: str) -> None:
    loaded = loaded_by(code)
    heavy = {"pydantic", "pydantic_settings", "duckdb", "langgraph", "langchain_core", "litellm"}
    assert not loaded & {*heavy, "opentelemetry.sdk", "opentelemetry.trace", "orjson", "wrapt"}
    assert {name for name in loaded if name.startswith("spanflow")} == {"spanflow"}


def test_catching_our_errors_imports_nothing_heavy() -> None:
    loaded = loaded_by("from spanflow import SpanflowError")
    assert {name for name in loaded if name.startswith("spanflow")} == {
        "spanflow",
        "spanflow.errors",
    }
