"""Fixtures of the tests of what an app says itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import spanflow
from spanflow.capture import agents
from spanflow.capture import scope as scopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Flow


@pytest.fixture(params=[True, False], ids=["sampled", "unsampled"])
def sampled(request: pytest.FixtureRequest, flow: Flow, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether traces are sampled: the ledger has all of it either way."""
    if not request.param:
        provider = trace.get_tracer_provider()
        monkeypatch.setattr(provider, "sampler", ALWAYS_OFF)
        monkeypatch.setattr(provider, "_tracers", {})  # each keeps the sampler it was made with
        spanflow.uninstrument()
        spanflow.configure(ledger=flow.ledger, ingest="off")
    return request.param


@pytest.fixture
def nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After the test nothing of ours stands where it ran."""
    before = otel_context.get_current()
    with caplog.at_level(logging.DEBUG, logger="opentelemetry"):
        yield
    assert "Failed to detach" not in caplog.text
    assert scopes.current.get() is None
    assert agents.current.get() is None
    assert otel_context.get_current() == before
