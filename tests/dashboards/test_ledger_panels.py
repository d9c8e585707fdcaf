"""Every SQL query of every panel, asked of a real ledger: it says what the views say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dashboards import grafana

pytestmark = pytest.mark.timeout(600)  # two days of the demo come first

LEDGER = "motherduck-duckdb-datasource"
NUMBERS = {"BIGINT", "INTEGER", "DOUBLE"}
# What the data source surely turns into Grafana's fields: no HUGEINT, no lists, no JSON.
READ = NUMBERS | {"VARCHAR", "TIMESTAMP", "DATE", "BOOLEAN"}

every_query = pytest.mark.parametrize("query", grafana.queries(LEDGER), ids=lambda query: query.id)


@every_query
def test_a_panel_shows_something_that_grafana_can_read(query, asked):
    columns, rows = asked.shown(query.target["rawSql"])
    assert rows
    assert {kind for _, kind in columns} <= READ
    filled = grafana.filled(query.target["rawSql"], asked.variables, "sqlstring")
    assert "$" not in re.sub(r"\$[nsm]\$", "", filled)
    for position, (name, _) in enumerate(columns):
        assert any(row[position] is not None for row in rows), name


@every_query
def test_columns_have_a_title_and_numbers_a_unit(query, asked):
    columns, _ = asked.shown(query.target["rawSql"])
    panel = query.panel
    titles, units = grafana.titles(panel), grafana.units(panel)
    if panel["type"] in {"table", "stat"}:
        assert list(titles) == [name for name, _ in columns]
    for name, kind in columns:
        if kind in NUMBERS:
            assert units.get(name) or units[""], name
        else:
            assert name not in units, name
    if panel["type"] == "barchart":
        by, *drawn = [name for name, _ in columns]
        assert panel["options"]["xField"] == by
        assert list(titles) == drawn
        assert panel["options"]["legend"]["showLegend"] == (len(drawn) > 1)
    if panel["type"] == "timeseries":
        assert query.target["format"] == 0
        assert columns[0] == ("time", "TIMESTAMP")
        labels = [name for name, kind in columns if kind == "VARCHAR"]
        named = panel["fieldConfig"]["defaults"].get("displayName", "")
        assert named == "".join(f"${{__field.labels.{name}}}" for name in labels)
    else:
        assert query.target["format"] == 1


@every_query
def test_times_and_names_are_taken_in_any_form(query, asked):
    """The data source may quote a time; a name may hold quotes; nobody of that name came."""
    sql = query.target["rawSql"]
    _, rows = asked.shown(sql)
    bare = grafana.filled(sql, asked.variables | {"steps": grafana.ALL}, "raw")
    if "${steps" not in sql:
        assert len(asked.answer(bare)[1]) == len(rows)
    for name in ("o'hara", '"; DROP TABLE records; --', "a$b", "näme", "research"):
        columns, chosen = asked.shown(sql, engagement=name, step="o'hara", metadata_key="it's")
        assert columns
        assert len(chosen) <= len(rows)


def _titled(title):
    [query] = [q for q in grafana.queries(LEDGER) if q.title == title and q.target["refId"] == "A"]
    return query.target["rawSql"]


# A panel's title, what to take of it, and the same from the plain views.
SAME = [
    (
        "Engagements that began in this range",
        "FROM panel",
        """SELECT count(*), avg((status = 'completed')::INT), avg((status = 'abandoned')::INT),
            avg((status = 'failed')::INT), avg((status = 'interrupted')::INT),
            (SELECT count(*) FROM waits WHERE is_open),
            (SELECT count(*) / (SELECT count(DISTINCT user_id) FROM engagements) FROM (
                SELECT user_id FROM engagements GROUP BY user_id HAVING count(*) > 1))
        FROM engagements""",
    ),
    (
        "Engagements by status",
        "SELECT sum(completed), sum(active), sum(paused), sum(abandoned), sum(failed) FROM panel",
        """SELECT count(*) FILTER (status = 'completed'), count(*) FILTER (status = 'active'),
            count(*) FILTER (status = 'paused'), count(*) FILTER (status = 'abandoned'),
            count(*) FILTER (status = 'failed') FROM engagements""",
    ),
    (
        "Engagements that reached each step",
        "SELECT step, reached FROM panel",
        """SELECT path, count(DISTINCT engagement_id) FROM steps
        WHERE path NOT LIKE '%/%' GROUP BY 1""",
    ),
    (
        "What became of those who reached it",
        "SELECT step, advanced + waiting + active + failed + interrupted + dropped FROM panel",
        """SELECT path, count(DISTINCT engagement_id) FROM steps
        WHERE path NOT LIKE '%/%' GROUP BY 1""",
    ),
    (
        "Funnel in numbers",
        "SELECT step, total_tokens, dropped FROM panel WHERE step IN ('compare', 'confirm')",
        """SELECT path, sum(total_tokens), (
                SELECT count(*) FROM engagements WHERE status = 'abandoned' AND dropped_at = s.path)
        FROM steps AS s WHERE path IN ('compare', 'confirm') GROUP BY path""",
    ),
    (
        "Drop-off points",
        "SELECT step, abandoned, failed FROM panel",
        """SELECT dropped_at, count(*) FILTER (status = 'abandoned'),
            count(*) FILTER (status = 'failed')
        FROM engagements WHERE dropped_at IS NOT NULL GROUP BY 1""",
    ),
    (
        "Drop-off points in numbers",
        "SELECT step, status, engagements, total_tokens FROM panel",
        """SELECT dropped_at, status, count(*), sum(total_tokens) FROM engagements
        WHERE dropped_at IS NOT NULL GROUP BY ALL""",
    ),
    (
        "Paths",
        """SELECT sum(engagements), sum(completed), sum(abandoned), sum(total_tokens), sum(share)
        FROM panel""",
        """SELECT count(*), count(*) FILTER (status = 'completed'),
            count(*) FILTER (status = 'abandoned'), sum(total_tokens), 1.0 FROM engagements""",
    ),
    (
        "Open at the end of this range",
        "SELECT engagement_id, path, label, status FROM panel",
        """SELECT engagement_id, path, label, status
        FROM waits JOIN engagements USING (engagement_id) WHERE is_open""",
    ),
    (
        "Who comes back",
        "SELECT sum(users) FILTER (period = 0) FROM panel",
        "SELECT count(DISTINCT user_id) FROM engagements",
    ),
    (
        "Users by their first day",
        """SELECT sum(users), sum(engagements), sum(completed), sum(total_tokens), sum(cost_usd)
        FROM panel""",
        """SELECT count(DISTINCT user_id), count(*), count(*) FILTER (status = 'completed'),
            sum(total_tokens), sum(cost_usd) FROM engagements""",
    ),
    (
        "Latest engagements",
        "SELECT engagement_id, status, turns, total_tokens, cost_usd FROM panel",
        "SELECT engagement_id, status, turns, total_tokens, cost_usd FROM engagements",
    ),
    (
        "Working time of visits",
        "SELECT step, p50, p95, p99 FROM panel WHERE step IN ('quote', 'compare', 'search/think')",
        """SELECT path, quantile_cont(duration_ms, 0.5), quantile_cont(duration_ms, 0.95),
            quantile_cont(duration_ms, 0.99) FROM steps
        WHERE path IN ('quote', 'compare', 'search/think') GROUP BY path""",
    ),
    (
        "Steps in numbers",
        "SELECT step, executions, engagements, llm_calls, tool_calls, total_tokens FROM panel",
        """SELECT path, count(*), count(DISTINCT engagement_id), sum(llm_calls), sum(tool_calls),
            sum(total_tokens) FROM steps GROUP BY path""",
    ),
    (
        "Attempts beyond the first",
        "SELECT step, retries FROM panel WHERE retries > 0",
        "SELECT path, sum(attempts - 1) AS retries FROM steps GROUP BY path HAVING retries > 0",
    ),
    (
        "What went wrong",
        "SELECT path, error_type, failed FROM panel",
        "SELECT path, error_type, count(*) FROM steps WHERE status = 'failed' GROUP BY ALL",
    ),
    (
        "What follows what",
        "SELECT id, mainstat FROM panel",
        "SELECT path, count(*) FROM steps GROUP BY path",
    ),
    (
        "Transitions in numbers",
        "SELECT from_step, to_step, times FROM panel",
        "SELECT from_step, to_step, count(*) FROM transitions GROUP BY ALL",
    ),
    (
        "Model calls in this range",
        "SELECT * EXCLUDE (cost_per_engagement) FROM panel",
        """SELECT count(*), sum(total_tokens), sum(cost_usd), count(*) FILTER (cost_usd IS NULL),
            count(*) FILTER (total_tokens IS NULL),
            sum(total_tokens) FILTER (repeats IS NOT NULL) / sum(total_tokens)
        FROM llm_calls WHERE counted""",
    ),
    (
        "Cost by model",
        "SELECT model, sum(cost_usd) FROM panel WHERE cost_usd IS NOT NULL GROUP BY model",
        """SELECT model, sum(cost_usd) FROM llm_calls WHERE counted AND cost_usd IS NOT NULL
        GROUP BY model""",
    ),
    (
        "By model",
        "FROM panel",
        """SELECT model, count(*), sum(input_tokens), sum(output_tokens), sum(total_tokens),
            sum(cost_usd), count(*) FILTER (cost_usd IS NULL)
        FROM llm_calls WHERE counted GROUP BY model""",
    ),
    (
        "By step",
        "SELECT step, calls, total_tokens, cost_usd FROM panel",
        """SELECT s.path, count(*), sum(c.total_tokens), sum(c.cost_usd)
        FROM llm_calls AS c JOIN steps AS s USING (step_id) WHERE counted GROUP BY s.path""",
    ),
    (
        "By engagement name",
        "SELECT name, calls, total_tokens, cost_usd, cost_each_usd FROM panel",
        """SELECT name, sum(llm_calls), sum(total_tokens), sum(cost_usd), sum(cost_usd) / count(*)
        FROM engagements WHERE llm_calls > 0 GROUP BY name""",
    ),
    (
        "By $metadata_key",
        "SELECT value, engagements, calls, total_tokens, cost_usd FROM panel",
        """SELECT coalesce(metadata->>'tier', '(none)'), count(*), sum(llm_calls),
            sum(total_tokens), sum(cost_usd)
        FROM engagements WHERE llm_calls > 0 GROUP BY 1""",
    ),
    (
        "The most expensive engagements",
        "SELECT engagement_id, cost_usd FROM panel LIMIT 5",
        """SELECT engagement_id, cost_usd FROM engagements
        ORDER BY cost_usd DESC NULLS LAST, total_tokens DESC NULLS LAST, engagement_id LIMIT 5""",
    ),
    (
        "Calls that are not in the cost",
        "SELECT model, calls, without_usage, total_tokens FROM panel",
        """SELECT model, count(*), count(*) FILTER (total_tokens IS NULL), sum(total_tokens)
        FROM llm_calls WHERE counted AND cost_usd IS NULL GROUP BY model""",
    ),
    (
        "Tokens that were spent again, by step",
        "SELECT step, replayed_tokens, retried_tokens FROM panel",
        """SELECT s.path, coalesce(sum(c.total_tokens) FILTER (c.repeats = 'replay'), 0),
            coalesce(sum(c.total_tokens) FILTER (c.repeats = 'retry'), 0)
        FROM llm_calls AS c JOIN steps AS s USING (step_id) WHERE counted AND repeats IS NOT NULL
        GROUP BY s.path HAVING sum(c.total_tokens) > 0""",
    ),
    (
        "The same in numbers",
        "SELECT step, share FROM panel WHERE share > 0",
        """SELECT s.path, sum(c.total_tokens) FILTER (repeats IS NOT NULL) / sum(c.total_tokens)
            AS share
        FROM llm_calls AS c JOIN steps AS s USING (step_id)
        WHERE counted GROUP BY s.path HAVING share > 0""",
    ),
    (
        "The ledger, since it began",
        "SELECT lost_records, refused_records, quarantined_segments, conflicts FROM panel",
        """SELECT
            (SELECT count FROM diagnostics WHERE name = 'lost_records'),
            (SELECT count FROM diagnostics WHERE name = 'refused_records'),
            (SELECT count FROM diagnostics WHERE name = 'quarantined_segments'),
            (SELECT count(*) FROM usage_conflicts)""",
    ),
    ("Diagnostics", "FROM panel", "SELECT name, count FROM diagnostics"),
    (
        "Services",
        "SELECT sum(engagements), sum(turns), sum(open_turns), sum(errors) FROM panel",
        """SELECT (SELECT count(*) FROM engagements), count(*),
            count(*) FILTER (outcome IS NULL), sum(errors) FROM turns""",
    ),
    (
        "Where numbers disagree",
        "SELECT reason, what, conflicts FROM panel",
        "SELECT reason, what, count(*) FROM usage_conflicts GROUP BY ALL",
    ),
]


@pytest.mark.parametrize(("title", "taken", "plain"), SAME, ids=[case[0] for case in SAME])
def test_a_panel_equals_the_ledgers_views(title, taken, plain, asked):
    shown = grafana.filled(_titled(title), asked.variables, "sqlstring")
    _, found = asked.answer(f"WITH panel AS ({shown}) {taken}")
    _, expected = asked.answer(plain)
    assert expected
    found, expected = _sorted(found), _sorted(expected)
    assert [[v for v in row if isinstance(v, str)] for row in found] == [
        [v for v in row if isinstance(v, str)] for row in expected
    ]
    assert [_numbers(row) for row in found] == [pytest.approx(_numbers(row)) for row in expected]


def _sorted(rows):
    return sorted(rows, key=lambda row: [str(value) for value in row if isinstance(value, str)])


def _numbers(row):
    """Numbers and nulls; null is not 0."""
    return [-1.0 if v is None else float(v) for v in row if not isinstance(v, str)]


def test_every_panel_of_the_ledger_is_held_against_the_views():
    assert {title for title, _, _ in SAME} == {query.title for query in grafana.queries(LEDGER)}


def test_the_names_to_choose_from_are_the_ledgers(asked):
    offered = grafana.variables("steps")
    assert [row[0] for row in asked.shown(offered["engagement"]["query"])[1]] == [
        "booking",
        "research",
    ]
    paths = {row[0] for row in asked.shown(offered["step"]["query"])[1]}
    assert {"intake", "search/think", "report"} <= paths
    steps = [row[0] for row in asked.shown(grafana.variables("engagements")["steps"]["query"])[1]]
    assert [s for s in steps if s in {"intake", "search", "confirm", "pay", "submitted"}] == [
        "intake",
        "search",
        "confirm",
        "pay",
        "submitted",
    ]
    only = asked.shown(grafana.variables("engagements")["steps"]["query"], engagement="research")[1]
    assert only == [("research",), ("agree",), ("report",)]


def test_the_plain_shell_answers_the_same(asked):
    """An older DuckDB than ours, as the data source may bring one."""
    [(file,)] = asked.answer("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL")[1]
    shell = Path(sys.executable).with_name("duckdb")
    for query in grafana.queries(LEDGER):
        sql = grafana.filled(query.target["rawSql"], asked.variables, "sqlstring")
        command = [shell, "-readonly", "-json", file, sql]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{query.id}: {done.stderr}"
        columns, rows = asked.answer(sql)
        told = json.loads(done.stdout)
        assert len(told) == len(rows), query.id
        assert list(told[0]) == [name for name, _ in columns], query.id
