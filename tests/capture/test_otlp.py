"""Spans as OTLP's JSON tells them: every kind of value, other languages' turns, and nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanflow.capture.otlp import read_document, spans_in

LIMIT = 16_384
CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def attributes(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key.replace("__", "."), "value": value} for key, value in values.items()]


def plain(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def span(**fields: Any) -> dict[str, Any]:
    return {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "name": "chat m",
        "kind": 3,
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000000005000000",
        "attributes": plain(CALL),
        **fields,
    }


def request(*spans: Any, scope: Any = None, resource: Any = None) -> dict[str, Any]:
    told = {"scope": scope or {"name": "my.agent"}, "spans": list(spans)}
    about = resource or {"attributes": plain({"service.name": "shop"})}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [told]}]}


def only(*spans: Any, **parts: Any) -> dict[str, Any]:
    told = read_document(request(*spans, **parts), LIMIT)
    assert told.refused == []
    [record] = told.records
    return record


def test_a_call_is_read_as_an_exporter_reads_it():
    spent = attributes(
        gen_ai__usage__input_tokens={"intValue": "12"},
        gen_ai__usage__output_tokens={"intValue": 5},
        spanflow__engagement__id={"stringValue": "e1"},
        spanflow__turn__id={"stringValue": "00f067aa0ba902b7"},
        spanflow__step__id={"stringValue": "00f067aa0ba902b8"},
    )
    record = only(span(attributes=[*plain(CALL), *spent], parentSpanId="00f067aa0ba902b8"))
    expected = {
        "source": "otlp",
        "phase": "end",
        "kind": "llm",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "parent_span_id": "00f067aa0ba902b8",
        "engagement_id": "e1",
        "turn_id": "00f067aa0ba902b7",
        "step_id": "00f067aa0ba902b8",
        "started_ns": 1790000000000000000,
        "ended_ns": 1790000000005000000,
        "scope": "my.agent",
        "service_name": "shop",
        "operation": "chat",
        "model": "m",
        "input_tokens": 12,
        "output_tokens": 5,
        "total_tokens": 17,
        "status": "ok",
    }
    assert {key: record[key] for key in expected} == expected


@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR"])
def test_a_status_is_a_number_or_its_name(code: Any):
    record = only(span(status={"code": code, "message": "no rooms"}))
    assert (record["status"], record["error_message"]) == ("error", "no rooms")
    assert only(span(status={"code": 1, "message": "ignored"}))["status"] == "ok"
    assert only(span(status=None))["status"] == "ok"


def test_every_kind_of_value_is_read():
    values = attributes(
        text={"stringValue": "エ"},
        flag={"boolValue": True},
        whole={"intValue": "-9007199254740993"},
        number={"doubleValue": 1},
        odd={"doubleValue": "NaN"},
        many={"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}, {}]}},
        none={"arrayValue": {}},
        inner={"kvlistValue": {"values": plain({"a": "b"})}},
        raw={"bytesValue": "aGk="},
        wrong={"intValue": "many"},
        nothing={},
    )
    (read,) = spans_in(request(span(attributes=values)))
    found = dict(read.attributes or {})
    assert str(found.pop("odd")) == "nan"
    assert found == {
        "text": "エ",
        "flag": True,
        "whole": -9007199254740993,
        "number": 1.0,
        "many": ("a", 2, None),
        "none": (),
        "inner": {"a": "b"},
        "raw": b"hi",
    }
    record = only(span(attributes=[*plain(CALL), *values]))
    assert record["attributes"]["inner"] == {"a": "b"}


def test_what_was_said_is_kept_only_where_content_is(monkeypatch: pytest.MonkeyPatch):
    said = {"gen_ai.input.messages": "a secret", "gen_ai.operation.name": "execute_tool"}
    tool = {**said, "gen_ai.tool.name": "pay", "gen_ai.tool.call.arguments": "another secret"}
    assert "secret" not in json.dumps(only(span(attributes=plain(tool))))
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    assert only(span(attributes=plain(tool)))["arguments"] == "another secret"


def test_another_languages_turns_and_steps_are_turns_and_steps():
    ids = {"spanflow.engagement.id": "e1", "spanflow.turn.id": "00f067aa0ba902b7"}
    turn = only(
        span(
            spanId="00f067aa0ba902b7",
            attributes=plain(
                {**ids, "spanflow.turn.kind": "new", "spanflow.turn.outcome": "paused"}
            ),
        )
    )
    assert (turn["kind"], turn["status"], turn["turn_kind"]) == ("turn", "paused", "new")
    says = {"spanflow.step.name": "ask", "spanflow.step.path": "a/ask"}
    step = only(
        span(
            attributes=plain({**ids, **says, "spanflow.step.status": "completed"}),
            events=[{"name": "said", "attributes": plain({"gen_ai.input.messages": "a secret"})}],
        )
    )
    assert (step["kind"], step["path"], step["step_id"]) == ("step", "a/ask", "b7ad6b7169203331")
    assert "secret" not in json.dumps(step)


def test_a_span_that_is_no_call_and_of_no_engagement_is_left_out():
    told = read_document(request(span(attributes=[])), LIMIT)
    assert (told.spans, told.records, told.refused) == (1, [], [])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"traceId": "xyz"}, "valid trace id"),
        ({"traceId": None}, "valid trace id"),
        ({"spanId": "0000000000000000"}, "valid trace id"),
        ({"spanId": "b7ad6b71692033310"}, "valid trace id"),
        ({"startTimeUnixNano": "0", "endTimeUnixNano": None}, "no time"),
        ({"startTimeUnixNano": "soon", "endTimeUnixNano": True}, "no time"),
    ],
)
def test_a_span_without_ids_or_times_is_refused_alone(change: dict[str, Any], why: str):
    told = read_document(request(span(**change), span()), LIMIT)
    assert len(told.records) == 1
    [reason] = told.refused
    assert why in reason


def test_ids_in_base64_are_read_too():
    """As scripts write them that take protobuf's JSON for OTLP's."""
    record = only(span(traceId="CvdlGRbNQ92ESOshHIAxnA==", spanId="t61rcWkgMzE="))
    assert record["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert record["span_id"] == "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("document", "refused"),
    [
        ({}, 0),
        ({"resourceSpans": None}, 0),
        ({"resourceMetrics": []}, 0),
        ({"resourceLogs": [{}]}, 0),
        ({"spans": []}, 1),
        ([], 1),
        ("x", 1),
        (None, 1),
    ],
)
def test_a_document_without_spans_says_nothing(document: Any, refused: int):
    told = read_document(document, LIMIT)
    assert (told.spans, told.records, len(told.refused)) == (0, [], refused)


def test_a_value_that_nests_without_end_is_cut():
    value: Any = {"stringValue": "deep"}
    for _ in range(400):
        value = {"arrayValue": {"values": [value]}}
    assert "deep" not in json.dumps(only(span(attributes=[*plain(CALL), *attributes(a=value)])))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = [*span(), "events", "links", "status", "parentSpanId"]


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING), ANYTHING, ANYTHING)
def test_nothing_that_stands_in_a_span_makes_it_raise(changes: Any, scope: Any, resource: Any):
    told = read_document(request(span(**changes), span(), scope=scope, resource=resource), LIMIT)
    assert told.spans == 2
    assert len(told.records) >= 1


@given(ANYTHING)
def test_nothing_that_is_no_request_makes_it_raise(document: Any):
    assert read_document({"resourceSpans": document}, LIMIT).records == []
