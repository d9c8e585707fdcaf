"""A ClickHouse, and questions that are asked of it and of a ledger alike."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

pytest.register_assert_rewrite("analytics.asking", "analytics.holding")

from exported import Exported  # noqa: E402
from ledger.conftest import make  # noqa: E402, F401 - the factory of records, here too

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanflow.query.engine import Engine, Result


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Iterator[Exported]:
    """One server for all tests of a process."""
    made = Exported(tmp_path_factory.mktemp("clickhouse"))
    yield made
    made.close()


def differences(ledger: Engine, other: Engine, question: str, arguments: Mapping[str, Any]) -> Any:
    """Return how many rows the ledger answered, and every cell in which another engine differs."""
    wanted, found = ledger.ask(question, arguments), other.ask(question, arguments)
    wrong: list[Any] = []
    if wanted.columns != found.columns:
        wrong.append((wanted.columns, found.columns))
    if len(wanted) != len(found):
        wrong.append((len(wanted), len(found)))
    wrong += list(_cells(wanted, found))
    return len(wanted), wrong


def _cells(wanted: Result, found: Result) -> Iterator[Any]:
    for row, other in zip(wanted, found, strict=False):
        for column, value in row.items():
            if not _same(value, other.get(column)):
                yield column, value, other.get(column), row


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        if one is None or other is None:
            return one is other
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(one, str) and isinstance(other, str) and one.startswith("{"):
        return json.loads(one) == json.loads(other)
    return type(one) is type(other) and one == other


@pytest.fixture(scope="session")
def differ():
    return differences
