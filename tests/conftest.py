"""Fixtures shared by all tests: one tracer provider a process, a fresh ledger for each test."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanflow import guard
from spanflow.ledger import store
from spanflow.ledger.damage import write_ahead_log
from spanflow.ledger.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# How fast examples are drawn is the machine's affair.
settings.register_profile(
    "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

SALTS = 16
"""More ledgers than a test makes, each with a salt of its own."""


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    """Errors of ours are raised in our own tests."""
    guard.set_strict(True)
    guard.reset()
    yield
    guard.set_strict(False)
    guard.reset()


@pytest.fixture(scope="session", autouse=True)
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every new ledger of this process is a copy of one: tables and views take a while to make."""
    import duckdb

    begin = store._begin  # noqa: SLF001 - what is made once is made by it
    empty = Places.of(tmp_path_factory.mktemp("empty") / "traces.duckdb")
    empty.make()
    with store.open_store(empty):
        pass
    salted: list[Path] = []
    nth = itertools.count()

    def with_a_salt() -> Path:
        """Return a file whose salt none of the last few ledgers has."""
        if len(salted) < SALTS:
            salted.append(empty.store.with_name(f"{len(salted)}.duckdb"))
            shutil.copy(empty.store, salted[-1])
            with duckdb.connect(str(salted[-1])) as connection:
                connection.execute(
                    "UPDATE meta SET salt = sha256(uuid()::VARCHAR || uuid()::VARCHAR)"
                )
        return salted[next(nth) % SALTS]

    def copied(places: Places) -> None:
        if places.ledger.exists() or not places.directory.exists():
            begin(places)
            return
        write_ahead_log(places.store).unlink(missing_ok=True)
        shutil.copy(with_a_salt(), places.store)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "_begin", copied)
        # On a busy machine another's ingest takes long, and a test wants what comes after it.
        patched.setattr("spanflow.ledger.publish.REFRESH_WAITS_S", 120.0)
        yield


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """The exporter of the one provider that this process may have."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    trace.set_tracer_provider(provider)
    return made


@dataclass
class Flow:
    """A test's view of what was captured: exported spans, and the ledger through SQL."""

    ledger: Path
    exporter: InMemorySpanExporter

    @property
    def spans(self) -> list[ReadableSpan]:
        """Finished spans in the order they ended."""
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Spans of this name."""
        return [span for span in self.spans if span.name == name]

    def tree(self) -> list[Any]:
        """The spans' names as nested lists by parent, siblings by start."""
        children: dict[int | None, list[ReadableSpan]] = {}
        known = {span.context.span_id for span in self.spans if span.context}
        for span in self.spans:
            parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
            children.setdefault(parent, []).append(span)

        def below(parent: int | None) -> list[Any]:
            found: list[Any] = []
            for span in sorted(children.get(parent, []), key=lambda s: s.start_time or 0):
                nested = below(span.context.span_id if span.context else None)
                found.append([span.name, nested] if nested else span.name)
            return found

        return below(None)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the ledger, after everything written so far is in it."""
        return self._answer(query)[1]

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Ask the same way, for rows by the names of their columns."""
        names, rows = self._answer(query)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _answer(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        from asked import answer

        from spanflow.ledger.journal import journal_for
        from spanflow.ledger.publish import refresh

        journal_for(self.ledger).seal()
        refresh(self.ledger)
        return answer(self.ledger, query)

    def one(self, query: str) -> Any:
        """The only value of the only row."""
        [(value,)] = self.sql(query)
        return value

    def steps(self) -> list[tuple[str, str]]:
        """Path and status of every step, by start."""
        return [
            (p, s) for p, s in self.sql("SELECT path, status FROM steps ORDER BY started_at, path")
        ]


@pytest.fixture
def flow_with(tmp_path: Path, exporter: InMemorySpanExporter) -> Iterator[Callable[..., Flow]]:
    """Switch capture on with settings of the test's own."""
    import spanflow

    def start(**settings: Any) -> Flow:
        ledger = tmp_path / "traces.duckdb"
        spanflow.configure(**{"ledger": ledger, "ingest": "off", **settings})
        exporter.clear()
        return Flow(ledger, exporter)

    yield start
    spanflow.uninstrument()
    exporter.clear()


@pytest.fixture
def flow(flow_with: Callable[..., Flow]) -> Flow:
    """Capture with default settings and a fresh ledger."""
    return flow_with()
