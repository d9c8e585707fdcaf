"""Answers as people see them: printed, and in a notebook."""

from __future__ import annotations

import re
from datetime import datetime
from html.parser import HTMLParser

import pytest
from handmade import funnel, paths, usage
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from rich.cells import cell_len

from spanflow.query import figures, rows, units
from spanflow.query.answers import Answer
from spanflow.query.journeys import connect
from spanflow.query.shown import COLUMNS, fitting, total_width

NOON = datetime(2026, 11, 18, 12)  # noqa: DTZ001 - a time of the ledger's


def test_a_funnel_prints_as_an_aligned_table():
    made = funnel([("intake", 156, 12, 0, 27, 5), ("search/look_up", 140, 0, 0, 8), ("pay", 0)])
    assert repr(made) == str(made)
    assert [line[:87] for line in str(made).splitlines()] == [
        "step                          reached  visits  advanced  waiting  failed  dropped  kept",
        "intake          ████████████      200     200       156       12       5       27     –",
        "search/look_up  ████████▉         148     148       140        0       0        8     –",
        "pay                                 0       0         0        0       0        0     –",
    ]


def test_what_is_empty_says_so():
    assert str(paths([])) == "paths: no rows"


def test_long_answers_are_cut_and_say_so():
    many = usage("step", [(f"s{at}", None, at, 0, None) for at in range(1000)])
    assert str(many).endswith("… and 940 more rows")
    assert "… and 940 more rows" in many._repr_html_()


def test_every_answer_of_a_ledger_prints(ledger):
    with connect(ledger) as opened:
        answers = [
            opened.funnel(["intake", "検索🔍[/]"], as_of=NOON),
            opened.journeys(as_of=NOON),
            opened.paths(as_of=NOON),
            opened.step_stats(as_of=NOON),
            opened.usage_by("model", as_of=NOON),
            opened.group_by("user_id", as_of=NOON),
            opened.compare({}, {"plan": "pro"}, as_of=NOON),
        ]
    for answer in answers:
        lines = str(answer).splitlines()
        assert len(lines) == len(answer) + 1
        assert max(map(cell_len, lines)) <= 120
        assert not set("".join(lines)) & {"\x1b", "\x07", "\u202e", "\r"}


class Reader(HTMLParser):
    """Checks that tags are balanced, and notes them and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)
        assert {name for name, _ in attrs} <= {"style"}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_notebook_shows_a_table_without_scripts():
    nasty = "<script>alert(1)</script>&\"'"
    made = funnel([(nasty, 100, 0, 0, 100), ("b", 50)])
    shown, _ = DisplayFormatter().format(made)
    assert shown["text/plain"] == str(made)
    reader = Reader()
    reader.feed(shown["text/html"])
    reader.close()
    assert reader.open == []
    assert reader.seen == {"table", "thead", "tbody", "tr", "th", "td"}
    assert nasty in reader.text
    assert {"200", "50"} <= set(reader.text)
    bars = re.findall(r"transparent ([\d.]+)%", shown["text/html"])
    assert bars == ["100.0", "25.0"]


def test_a_notebook_shows_a_picture_as_it_is():
    shown, _ = DisplayFormatter().format(funnel([("a", 1)]).plot())
    assert shown["image/png"]


def test_every_column_shown_is_a_field():
    models = {
        "funnel": rows.FunnelStep,
        "funnel_engagements": rows.FunnelEngagement,
        "journeys": rows.Journey,
        "paths": rows.PathTaken,
        "drop_offs": rows.DropOff,
        "step_stats": figures.StepFigures,
        "usage_by": figures.Usage,
        "cohorts": figures.Cohort,
        "retention": figures.Returned,
        "compare": figures.Compared,
        "engagements_by": figures.Group,
    }
    assert models.keys() == COLUMNS.keys()
    for question, columns in COLUMNS.items():
        assert {column.name for column in columns} <= models[question].model_fields.keys()


@given(
    st.lists(st.lists(st.text(min_size=1), min_size=1, max_size=9).map(tuple), min_size=1),
    st.integers(70, 200),
)
def test_a_table_fits_wherever_there_is_room_for_its_numbers(found, width):
    table = fitting(paths([(path, 1, 2, 3, 4) for path in found]).shown(), width)
    assert total_width(table) <= width
    assert {"engagements", "share", "path"} <= {column.name for column in table.columns}


@pytest.mark.parametrize(
    ("metric", "values", "said"),
    [
        ("completion_rate", (0.4, 0.6), ["40.0%", "60.0%", "+20.0 pp", "×1.50"]),
        ("p50_working_ms", (2000.0, 1000.0), ["2.0 s", "1.0 s", "−1.0 s", "×0.50"]),
        ("cost_usd_per_engagement", (0.01, None), ["$0.0100", "–", "–", "–"]),
        ("engagements", (120.0, 120.0), ["120", "120", "0", "×1"]),
    ],
)
def test_what_is_compared_has_its_unit(metric, values, said):
    a, b = values
    known = None not in values
    compared = figures.Compared(
        metric=metric,
        a=a,
        b=b,
        difference=b - a if known else None,
        ratio=b / a if known else None,
    )
    table = Answer("compare", figures.Compared, (compared,)).shown()
    assert table.lines == [[metric, *said]]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (None, "–"),
        (0, "0%"),
        (1, "100%"),
        (0.00001, "<0.1%"),
        (0.99999, ">99.9%"),
        (2 / 3, "66.7%"),
    ],
)
def test_only_nothing_is_none_and_only_the_whole_is_all(part, said):
    assert units.share(part) == said


@given(st.floats(0, 1))
def test_a_share_never_claims_all_or_nothing(part):
    assert (units.share(part) in {"0%", "0.0%"}) == (part == 0)
    assert (units.share(part) in {"100%", "100.0%"}) == (part == 1)
