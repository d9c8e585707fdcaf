"""What a real Phoenix shows of a journey, sent there by environment variables alone."""

from __future__ import annotations

from collections import Counter

import pytest
from backends import reading, servers

pytestmark = [pytest.mark.backends, pytest.mark.timeout(300)]


def test_phoenix_has_every_span_where_it_belongs(program, tmp_path):
    with servers.phoenix(tmp_path) as phoenix:
        agent = program(tmp_path, servers.sending_to(phoenix.otlp))
        agent.run("begin", "trip-1")
        agent.run("answer", "trip-1")
        agent.run("break", "trip-2")
        rows = agent.rows("SELECT span_id, trace_id, parent_span_id FROM spans")

        def ask():
            return reading.get(phoenix.query, "/v1/projects/default/spans", limit=1000)["data"]

        spans = reading.within_patience(ask, lambda spans: len(spans) >= len(rows))
    assert {tuple(row.values()) for row in rows} == {
        (s["context"]["span_id"], s["context"]["trace_id"], s["parent_id"]) for s in spans
    }
    failed = Counter(span["name"] for span in spans if span["status_code"] == "ERROR")
    assert failed == {"invoke_workflow trip": 1, "step breaks": 1}
    engagements = agent.rows("SELECT engagement_id FROM engagements")
    assert {_engagement(span["attributes"]) for span in spans} == {
        row["engagement_id"] for row in engagements
    }


def _engagement(attributes):
    flat = attributes.get("spanflow.engagement.id")
    return flat if flat is not None else attributes["spanflow"]["engagement"]["id"]
