"""Fixtures of the tests of what an app says itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import spanflow

if TYPE_CHECKING:
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
