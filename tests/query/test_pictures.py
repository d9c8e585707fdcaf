"""Pictures can be read: every label is there, none covers another, and they are what they say."""

from __future__ import annotations

import io
import random
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from handmade import LONG, funnel, paths, row, steps, usage
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from spanflow.errors import LedgerError
from spanflow.query import figures, rows
from spanflow.query.answers import Answer
from spanflow.query.journeys import connect
from spanflow.query.pictures.canvas import style

WHITE = (255, 255, 255)
NAMES = [LONG.format(at) for at in range(20)]
DAYS = [f"2026-11-{day:02}" for day in range(1, 29)]


def walks() -> Answer:
    drawn = random.Random(7)  # noqa: S311 - paths that look like nobody's
    ways = {
        tuple(drawn.choice(NAMES) for _ in range(drawn.randint(1, 12))): [
            drawn.randint(0, 40) for _ in range(4)
        ]
        for _ in range(300)
    }
    return paths([(path, *ends) for path, ends in ways.items()])


def drop_offs(lines) -> Answer:
    made = [
        row(rows.DropOff, step=step, status=status, engagements=count, share=count / 1e7)
        for step, status, count in lines
    ]
    return Answer("drop_offs", rows.DropOff, tuple(made))


def compared(lines) -> Answer:
    made = [
        row(figures.Compared, metric=metric, a=a, b=b, ratio=b / a if a and b else None)
        for metric, a, b in lines
    ]
    return Answer("compare", figures.Compared, tuple(made), {"a": {"v": 1}, "b": {LONG: None}})


PICTURES = {
    "funnel": funnel([("intake", 156, 12, 3, 27, 1, 1), ("search", 156), ("pay", 0)], ordered=True),
    "funnel, many": funnel([(name, 10**7 - at * 10**5, 9) for at, name in enumerate(NAMES)]),
    "funnel, one": funnel([("intake", 1)]),
    "funnel, none": funnel([("intake", 0)]),
    "paths": paths([(("in", "search", "pay"), 9, 0, 0, 0), (("in",), 0, 5, 1, 2)]),
    "paths, many": walks(),
    "paths, one": paths([(("intake",), 1, 0, 0, 0)]),
    "paths, none": paths([]),
    "steps": steps([("search", 20, 12.0, 90.0, None), ("pay", 1, 3.0, None, 9e7)]),
    "steps, many": steps([(name, 10**6, 1.0, 1e9, 5.0) for name in NAMES]),
    "steps, one": steps([("search", 0, None, None, None)]),
    "steps, none": steps([]),
    "days": usage("day", [(day, m, 9999, 1, 0.1) for day in DAYS for m in "ab"], "model"),
    "hour": usage("hour", [("2026-11-01 09:00", None, 1, 0, None)]),
    "months": usage("month", [("2026-11", None, 10**9, 1, 9.0), ("2027-02", None, 5, 1, None)]),
    "week": usage("week", [("2026-11-16", None, 5, 5, 0.1), (None, None, 5, 5, 0.1)]),
    "models": usage("model", [("large", None, 10, 5, 0.0001), (None, None, 3, 4, None)]),
    "usage, many": usage("step", [(n, m, 10**8, 7, 99.5) for n in NAMES for m in NAMES], "model"),
    "usage, none": usage("model", []),
    "drop-offs": drop_offs([("pay", "failed", 2), ("pay", "abandoned", 9), (None, "failed", 1)]),
    "drop-offs, many": drop_offs([(name, "abandoned", 10**6) for name in NAMES * 2]),
    "drop-offs, none": drop_offs([]),
    "compare": compared(
        [("engagements", 10, 9), ("p50_working_ms", 1, 1e6), ("failure_rate", 0, None)]
    ),
    "compare, none": compared([]),
}
every_picture = pytest.mark.parametrize("name", PICTURES)


def words(figure):
    """Every text of a figure with the room it takes, in pixels."""
    with style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        found = [text for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
        return [
            (text.get_text(), text.get_window_extent(canvas.get_renderer()))
            for text in found
            if text.get_visible()
        ]


@every_picture
def test_no_label_covers_another_or_leaves_the_picture(name):
    figure = PICTURES[name].plot().figure
    found = words(figure)
    assert found
    width, height = figure.get_size_inches() * figure.dpi
    for at, (text, box) in enumerate(found):
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
        for other, there in found[:at]:
            across = min(box.x1, there.x1) - max(box.x0, there.x0)
            along = min(box.y1, there.y1) - max(box.y0, there.y0)
            assert across < 2 or along < 2, (text, other)


@every_picture
def test_it_is_a_png_on_white(name, tmp_path):
    written = PICTURES[name].plot().save(tmp_path / "picture.png")
    with Image.open(written) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width >= 1000
        assert picture.convert("RGB").getpixel((2, 2)) == WHITE


def texts(svg):
    root = ET.fromstring(svg)  # noqa: S314 - our own
    assert root.tag.endswith("svg")
    return [(one.text or "").strip() for one in root.iter("{http://www.w3.org/2000/svg}text")]


@every_picture
def test_it_is_an_svg_whose_text_is_text(name, tmp_path):
    picture = PICTURES[name].plot()
    said = texts(picture.save(tmp_path / "picture.svg").read_bytes())
    for text, _ in words(picture.figure):
        assert " ".join(text.split()) in [" ".join(one.split()) for one in said]


def test_the_numbers_are_in_the_picture(tmp_path):
    made = funnel(
        [("intake", 1200, 0, 0, 300), ("pay", 900, 0, 0, 0, 75)], metadata={"tier": "$5 to $9_x"}
    )
    said = texts(made.plot().save(tmp_path / "f.svg").read_bytes())
    assert {"intake", "pay", "1,200", "300", "900", "75", "1,500", "65.0%"} <= set(said)
    assert "Engagements by step · each step on its own · tier = $5 to $9_x" in said


def test_the_same_rows_give_the_same_file(tmp_path):
    for kind in ("png", "svg", "pdf"):
        first = PICTURES["funnel"].plot().save(tmp_path / f"a.{kind}").read_bytes()
        assert PICTURES["funnel"].plot().save(tmp_path / f"b.{kind}").read_bytes() == first


def test_a_persons_own_settings_are_neither_used_nor_changed(tmp_path):
    picture = PICTURES["paths"].plot().save(tmp_path / "plain.png").read_bytes()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "text.usetex": True}):
        before = dict(mpl.rcParams)
        again = PICTURES["paths"].plot().save(tmp_path / "again.png").read_bytes()
        assert dict(mpl.rcParams) == before
    assert again == picture


def test_a_total_alone_is_drawn_as_well():
    told = row(figures.Usage, key="m", calls=1, total_tokens=70)
    figure = Answer("usage_by", figures.Usage, (told,), {"by": "model"}).plot().figure
    said = [text for text, _ in words(figure)]
    assert "not told apart" in said
    assert "70" in said


def test_what_cannot_be_drawn_or_written_is_said(tmp_path):
    cohorts = Answer("cohorts", figures.Cohort, ())
    with pytest.raises(LedgerError, match="no picture of cohorts; there is one of funnel"):
        cohorts.plot()
    with pytest.raises(LedgerError, match=r"let it end in \.png, \.svg or \.pdf"):
        PICTURES["paths"].plot().save(tmp_path / "picture.jpg")
    with pytest.raises(LedgerError, match="cannot be written: No such file"):
        PICTURES["paths"].plot().save(tmp_path / "nowhere" / "picture.png")


def test_every_question_of_a_ledger_that_has_a_picture_is_drawn(ledger):
    with connect(ledger) as opened:
        drawn = [
            opened.funnel(["intake", "検索🔍[/]", "confirm"]).plot(),
            opened.journeys().plot(),
            opened.paths().plot(),
            opened.drop_offs().plot(),
            opened.step_stats().plot(),
            opened.usage_by("day", split="model").plot(),
            opened.compare({"plan": "pro"}, {}).plot(),
        ]
    for picture in drawn:
        with Image.open(io.BytesIO(picture._repr_png_())) as shown:
            shown.verify()
