"""Arguments and addresses: read strictly, handed over as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanflow.errors import LedgerError
from spanflow.query.clickhouse import open_engine
from spanflow.query.clickhouse.arguments import parameters_of, sides_of
from spanflow.query.clickhouse.servers import connect_to

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(TEXT, max_size=4), text=st.none() | TEXT, number=st.integers(-(2**63), 2**63 - 1)
)
def test_a_parameter_arrives_as_it_was_given(exported, texts, text, number):
    server = connect_to(f"clickhouse://127.0.0.1:{exported.port}")
    told = server.query(
        "SELECT {texts:Array(String)}, {text:Nullable(String)}, {number:Int64} "
        "SETTINGS output_format_json_quote_64bit_integers = 0",
        {"texts": texts, "text": text, "number": number},
    )
    server.close()
    assert told["data"] == [[texts, text, number]]


EMBEDDED = """
import json, sys
from spanflow.query.clickhouse.servers import connect_to
server = connect_to("chdb://" + sys.argv[1])
texts = json.loads(sys.argv[2])
told = server.query("SELECT {a:Array(String)}, {b:String}", {"a": texts, "b": texts[0]})
print(json.dumps(told["data"]))
server.close()
"""


def test_a_parameter_arrives_in_the_embedded_one_too(tmp_path):
    texts = ["it's", 'a "b"', "\\N", "tab\there", "line\nbreak", "検索🔍", "", "NULL", "nul\0"]
    told = subprocess.run(
        [sys.executable, "-c", EMBEDDED, str(tmp_path), json.dumps(texts)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(told.stdout) == [[texts, texts[0]]]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "begins with 'nothing'"),
        ("http://localhost:8123", "begins with 'http'"),
        ("clickhouse://host:port/db", "Port could not be cast"),
        ("clickhouse://host/db?tabel=spans", "nobody knows tabel"),
    ],
)
def test_a_wrong_address_is_told(url, why):
    with pytest.raises(LedgerError, match=why) as told:
        open_engine(url)
    assert "clickhouse://user:password@host:8123/database?table=otel_traces" in str(told.value)


def test_a_server_that_does_not_answer_is_told():
    with pytest.raises(LedgerError, match=r"127\.0\.0\.1 does not answer"):
        open_engine("clickhouse://127.0.0.1:9/db")


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    with pytest.raises(LedgerError, match=r'pip install "spanflow\[clickhouse\]"'):
        open_engine("clickhouse://127.0.0.1:9/db")


def test_unknown_questions_and_arguments_are_refused(exported):
    engine = open_engine(f"clickhouse://127.0.0.1:{exported.port}")
    with pytest.raises(LedgerError, match="is not asked for 'critical_path'"):
        engine.ask("critical_path", {})
    with pytest.raises(LedgerError, match="funnel knows no since_when"):
        engine.ask("funnel", {"steps": ["a"], "since_when": 1})
    with pytest.raises(LedgerError, match="by='hour' is none of day, week, month"):
        engine.ask("cohorts", {"by": "hour"})
    with pytest.raises(LedgerError, match="cannot be compared"):
        engine.ask("journeys", {"metadata": {"n": [1]}})
    engine.close()


def test_an_instant_is_the_last_nanosecond_of_its_microsecond():
    given_ = parameters_of("journeys", {"as_of": datetime(2026, 1, 1, 0, 0, 0, 1)})  # noqa: DTZ001
    assert given_["instant_ns"] == given_["horizon_ns"] == 1_767_225_600_000_001_999


def test_the_sides_of_a_comparison_narrow_what_both_must_be():
    noon, later = datetime(2026, 1, 1, 12), datetime(2026, 1, 2)  # noqa: DTZ001
    a, b = sides_of(
        {
            "a": {"since": noon, "name": "booking", "tier": "pro"},
            "b": {"since": later, "user_id": 7},
            "since": later,
            "until": later,
            "metadata": {"n": 1},
        }
    )
    assert a["since_us"] == b["since_us"] == a["until_us"]
    assert (a["metadata_keys"], a["metadata_kinds"]) == (["n", "tier"], ["number", "text"])
    assert (a["columns"], a["column_values"]) == (["name"], ["booking"])
    # These columns hold text, and no text equals a number.
    assert b["columns"] == [""]
