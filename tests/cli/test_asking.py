"""What all questions share: filters by type, times, JSON, CSV and pictures."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len

from spanflow.cli.asking import conditions, duration, moment
from spanflow.query.journeys import connect

AT = ("--as-of", "2026-11-18T12:00")
COMMANDS = [
    ("funnel", "intake", "検索🔍[/]"),
    ("journeys",),
    ("paths",),
    ("drop-offs",),
    ("steps",),
    ("usage", "--by", "day", "--split", "model"),
    ("compare", "plan=pro", "user_id=u1"),
]
every_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("tier=pro", {"tier": "pro"}),
        ("tries=1", {"tries": 1}),
        ("tries=1.5", {"tries": 1.5}),
        ('tries="1"', {"tries": "1"}),
        ("tries=true", {"tries": True}),
        ("tries=True", {"tries": "True"}),
        ("tries=null", {"tries": None}),
        ("tries=", {"tries": ""}),
        ("zip=01234", {"zip": "01234"}),
        ("a=b=c", {"a": "b=c"}),
        ("x=NaN", {"x": "NaN"}),
        ("x=[1]", {"x": "[1]"}),
        ("user_id=7", {"user_id": "7"}),
    ],
)
def test_conditions_are_read_with_their_type(text, read):
    found = conditions([text], named=("user_id",))
    assert found == read
    assert [type(value) for value in found.values()] == [type(value) for value in read.values()]


@given(
    st.text(min_size=1).filter(lambda key: "=" not in key), st.text() | st.integers() | st.none()
)
def test_every_value_can_be_asked_for(key, value):
    assert conditions([f"{key}={json.dumps(value)}"]) == {key: value}


def test_a_time_is_a_date_a_time_or_how_long_ago():
    assert moment("2026-11-01") == datetime(2026, 11, 1)  # noqa: DTZ001 - read as UTC later
    assert moment("20261101") == moment("2026-11-01")
    assert moment("2026-11-01T09:30Z") == datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
    assert abs(datetime.now(UTC) - moment("7d") - timedelta(days=7)) < timedelta(minutes=5)
    assert duration("90s") == timedelta(seconds=90)
    for wrong in ("", "yesterday", "7", "99999999999d"):
        with pytest.raises(typer.BadParameter):
            moment(wrong)


@every_command
def test_nothing_is_wider_than_the_terminal(spanflow, ledger, monkeypatch, command):
    for columns in (80, 120, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        answer = spanflow(*command, "--ledger", ledger, *AT)
        assert answer.code == 0
        assert len(answer.lines) > 1
        assert max(map(cell_len, answer.lines)) <= columns


@every_command
def test_json_is_every_column_of_every_row(spanflow, ledger, command):
    found = json.loads(spanflow(*command, "--json", "--ledger", ledger, *AT).out)
    assert isinstance(found, list)
    assert len({tuple(row) for row in found}) == 1
    assert len(found[0]) >= 5


@every_command
def test_csv_holds_what_json_holds(spanflow, ledger, command):
    rows = json.loads(spanflow(*command, "--json", "--ledger", ledger, *AT).out)
    header, *lines = csv.reader(
        io.StringIO(spanflow(*command, "--csv", "--ledger", ledger, *AT).out)
    )
    assert header == list(rows[0])
    for row, line in zip(rows, lines, strict=True):
        for value, cell in zip(row.values(), line, strict=True):
            if value is None:
                assert cell == ""
            elif isinstance(value, str):
                assert cell == value
            else:
                assert json.loads(cell) == value


@every_command
def test_pictures_are_written_beside_the_answer(spanflow, ledger, tmp_path, command):
    png, svg = tmp_path / "p.png", tmp_path / "p.svg"
    plain = spanflow(*command, "--ledger", ledger, *AT)
    answer = spanflow(*command, "--ledger", ledger, *AT, "--png", png, "--svg", svg)
    assert answer.out == plain.out
    assert answer.err == f"Wrote {png}\nWrote {svg}\n"
    with Image.open(png) as picture:
        picture.verify()
    assert svg.read_text(encoding="utf-8").startswith("<?xml")


@every_command
def test_help_shows_an_example(spanflow, command):
    answer = spanflow(command[0], "--help")
    assert f"Example: spanflow {command[0]}" in answer.out
    assert "--idle-after" in answer.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--where", "tier"), "'tier' is no condition; write it like tier=pro"),
        (("--where", "session_id=s1"), "session_id is no metadata"),
        (("--since", "monday"), "'monday' is no time"),
        (("--json", "--csv"), "either --json or --csv"),
        (("--png", "picture.svg"), "end in .png"),
    ],
)
def test_what_is_wrong_is_told_with_the_next_step(spanflow, ledger, options, said):
    answer = spanflow("paths", "--ledger", ledger, *options)
    assert answer.code == 2
    assert said in " ".join(answer.err.replace("│", "").split())


def test_filters_choose_engagements(spanflow, ledger):
    def found(*options):
        answer = spanflow("journeys", "--json", "--ledger", ledger, *options, *AT)
        return [row["name"] for row in json.loads(answer.out)]

    assert len(found()) == 3
    assert found("--where", "tries=1") == ["booking"]
    assert len(found("--where", 'tries="1"')) == 1
    assert found("--where", "tries=1", "--where", "plan=pro") == ["booking"]
    assert found("--where", "user_id=u1") == found("--user", "u1") == ["booking"] * 2
    assert found("--user", "u1", "--status", "completed") == ["booking"]
    assert found("--name", "booking", "--since", "2026-11-18T11:08") == ["booking"]
    assert found("--until", "2026-11-18T11:08", "--reached", "confirm") == ["booking"]


def test_the_table_tells_what_it_leaves_out_and_csv_leaves_out_nothing(spanflow, ledger):
    answer = spanflow("journeys", "--limit", "1", "--ledger", ledger, *AT)
    header, line, more = [line.split() for line in answer.lines]
    assert header[:3] == ["engagement", "status", "path"]
    assert line[:3] == ["000000000003", "active", "intake"]
    assert more == ["…", "and", "more", "(--limit)"]
    assert len(spanflow("journeys", "--limit", "1", "--csv", "--ledger", ledger).lines) == 4
    none = spanflow("paths", "--user", "nobody", "--ledger", ledger)
    assert (none.code, none.out) == (0, "Nothing was found.\n")


def test_paths_and_usage_and_compare_look_like_this(spanflow, ledger):
    assert [line.rstrip() for line in spanflow("paths", "--ledger", ledger, *AT).lines] == [
        "              engagements  share  path",
        "████████████            1  33.3%  intake",
        "████████████            1  33.3%  intake → search → confirm → submitted",
        "████████████            1  33.3%  検索🔍[/]",
    ]
    assert [line.rstrip() for line in spanflow("usage", "--ledger", ledger, *AT).lines] == [
        "model       calls  input  output  tokens     cost  no usage  unpriced",
        "desk-large      4     99      34     133  $0.0004         0         3",
        "desk-small      1      –       –       –        –         1         1",
    ]
    compared = spanflow("compare", "plan=pro", "user_id=u1", "--ledger", ledger, *AT)
    said = {line.split()[0]: line.split()[1:] for line in compared.lines}
    assert said["completion_rate"] == ["100%", "50.0%", "−50.0", "pp", "×0.50"]
    assert said["cost_usd_per_engagement"] == ["$0.0004", "$0.0004", "$0.00", "×1"]


@pytest.mark.parametrize(
    ("a", "b", "engagements"),
    [
        ("plan=pro,tries=1", "plan=pro,tries=2", (1, 0)),
        ('a/b=deep,tries="1"', 'tries="1"', (0, 1)),
        ('plan="pro,x"', "name=booking,user_id=u1", (0, 2)),
        ("until=2026-11-18T11:08", "since=2026-11-18T11:08", (1, 2)),
    ],
)
def test_sides_of_a_comparison_have_several_conditions(spanflow, ledger, a, b, engagements):
    answer = spanflow("compare", a, b, "--json", "--ledger", ledger, *AT)
    first = json.loads(answer.out)[0]
    assert (first["metric"], first["a"], first["b"]) == ("engagements", *engagements)


def test_the_command_line_says_what_python_says(spanflow, ledger):
    told = json.loads(spanflow("steps", "--json", "--ledger", ledger, *AT).out)
    with connect(ledger) as opened:
        at = datetime(2026, 11, 18, 12, tzinfo=UTC)
        assert told == [row.model_dump() for row in opened.step_stats(as_of=at)]
