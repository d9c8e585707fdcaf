"""An engagement that is carried to a service: two processes, and nothing told to others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from ports import free_port

from spanflow.ledger.publish import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = str(Path(__file__).parents[1] / "remote.py")


class Provider(ThreadingHTTPServer):
    """A provider of models that notes the headers it is sent."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                self.got.append({name.lower(): text for name, text in handler.headers.items()})
                handler.send_response(204)
                handler.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/chat"

    def heard_from(self, who: str) -> list[dict[str, str]]:
        return [headers for headers in self.got if headers["x-from"] == who]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def started(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, PROGRAM, *map(str, arguments)],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    end(processes)


@pytest.fixture
def serve(
    tmp_path: Path, provider: Provider, running: list[subprocess.Popen[str]]
) -> Callable[..., str]:

    def start(**environment: str) -> str:
        port = free_port()
        ledger = tmp_path / "traces.duckdb"
        running.append(started("service", ledger, provider.url, port, **environment))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and running[-1].poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return f"http://127.0.0.1:{port}"
        raise AssertionError(running[-1].communicate(timeout=5)[1])

    return start


def end(running: list[subprocess.Popen[str]]) -> None:
    while running:
        process = running.pop()
        process.terminate()
        process.communicate(timeout=240)


def asked(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    refresh(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(query).fetchall()


def call(ledger: Path, provider: Provider, url: str, ending: str = "completed") -> None:
    process = started("caller", ledger, provider.url, url, ending)
    _, complaints = process.communicate(timeout=240)
    assert (process.returncode == 0) is (ending != "failed"), complaints


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", ["graph", "plain"])
@pytest.mark.parametrize("ending", ["completed", "failed", "paused"])
def test_two_processes_share_an_engagement_and_the_caller_says_how_it_went(  # noqa: PLR0913, PLR0917
    tmp_path, provider, serve, running, ending, path
):
    ledger = tmp_path / "traces.duckdb"
    url = serve(SPANFLOW_ACCEPT_BAGGAGE="true")
    call(ledger, provider, f"{url}/{path}", ending)
    end(running)
    [(status, name_is_callers, user, turns, tokens, calls)] = asked(
        ledger,
        "SELECT status, name <> 'plain', user_id, turns, total_tokens, llm_calls FROM engagements",
    )
    assert (status, name_is_callers, user) == (ending, True, "ada")
    assert (turns, tokens, calls) == (2, 220, 2)
    assert asked(ledger, "SELECT kind, outcome FROM turns ORDER BY started_at") == [
        ("new", ending),
        ("remote", "completed"),
    ]
    [(traces, under_a_call)] = asked(
        ledger,
        "SELECT count(DISTINCT t.trace_id), count(DISTINCT t.process_id) FROM turns t",
    )
    assert (traces, under_a_call) == (1, 2)
    steps = asked(ledger, "SELECT path, status FROM steps ORDER BY started_at")
    assert steps == [
        ("ask", {"paused": "waiting"}.get(ending, ending)),
        ("look", "completed"),
    ]
    # The providers were called with trace headers, and with nothing of ours.
    heard = provider.heard_from("caller") + provider.heard_from(
        "service" if path == "graph" else path
    )
    assert len(heard) == 2
    assert all("traceparent" in headers for headers in heard)
    assert all("baggage" not in headers for headers in heard)


@pytest.mark.timeout(600)
def test_a_service_that_was_not_told_to_believes_nobody_and_hands_nothing_on(
    tmp_path, provider, serve, running
):
    ledger = tmp_path / "traces.duckdb"
    call(ledger, provider, f"{serve()}/graph")
    end(running)
    assert asked(ledger, "SELECT count(*), sum(turns), sum(total_tokens) FROM engagements") == [
        (2, 2, 220)
    ]
    assert {kind for (kind,) in asked(ledger, "SELECT kind FROM turns")} == {"new"}
    [headers] = provider.heard_from("service")
    assert "traceparent" in headers
    assert "baggage" not in headers
