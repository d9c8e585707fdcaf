"""What a real Phoenix shows of a journey, sent there by environment variables alone."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter

import pytest
from backends import reading, servers

PAGE = servers.ROOT / "docs" / "backends.md"
pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]


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
        assert _filtered(phoenix.query) == ["step search"]
    assert {tuple(row.values()) for row in rows} == {
        (s["context"]["span_id"], s["context"]["trace_id"], s["parent_id"]) for s in spans
    }
    failed = Counter(span["name"] for span in spans if span["status_code"] == "ERROR")
    assert failed == {"invoke_workflow trip": 1, "step breaks": 1}
    engagements = agent.rows("SELECT engagement_id FROM engagements")
    assert {_engagement(span["attributes"]) for span in spans} == {
        row["engagement_id"] for row in engagements
    }

    kinds = Counter(span["span_kind"] for span in spans)
    assert (kinds["LLM"], kinds["TOOL"]) == (3, 3)
    spent = sum(span["attributes"].get("llm.token_count.total", 0) for span in spans)
    [told] = agent.rows("SELECT sum(total_tokens) AS n FROM engagements")
    assert spent == told["n"] > 0


def _filtered(address):
    """Return the names of the spans that the page's filter finds by the documented condition."""
    [condition] = re.findall(r"Filter spans with `(.*)`", PAGE.read_text(encoding="utf-8"))
    asked = f"first: 99, filterCondition: {json.dumps(condition)}"
    spans = f"spans({asked}) {{ edges {{ node {{ name }} }} }}"
    question = f"{{ projects {{ edges {{ node {{ {spans} }} }} }} }}"
    request = urllib.request.Request(
        f"http://{address}/graphql",
        json.dumps({"query": question}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=240) as answer:  # noqa: S310
        told = json.load(answer)
    assert "errors" not in told, told["errors"]
    [project] = told["data"]["projects"]["edges"]
    return [edge["node"]["name"] for edge in project["node"]["spans"]["edges"]]


def _engagement(attributes):
    flat = attributes.get("spanflow.engagement.id")
    return flat if flat is not None else attributes["spanflow"]["engagement"]["id"]
