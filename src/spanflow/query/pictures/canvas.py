"""The paper that pictures are drawn on: sizes, fonts, colours, titles, and how it is saved.

It uses matplotlib's own figures, not its state of a session, so nothing that a person has set up is
changed. What is drawn is others' affair.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len, chop_cells

from spanflow.errors import LedgerError
from spanflow.query import units
from spanflow.query.extras import needed
from spanflow.query.shown import cut

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from datetime import timedelta

__all__ = [
    "ENDS",
    "FAINT",
    "HATCHES",
    "INK",
    "LEGEND_IN",
    "LINE",
    "MANY",
    "ONE",
    "REST",
    "Picture",
    "described",
    "heading",
    "inches_of",
    "label",
    "legend",
    "library",
    "nothing",
    "sheet",
    "style",
]

INK = "#1f2933"
FAINT = "#66727f"
LINE = "#d5dbe1"
ONE = "#34506b"
REST = "#9AA5B1"
# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
ENDS = {
    "advanced": "#0072B2",
    "completed": "#009E73",
    "waiting": "#CC79A7",
    "paused": "#CC79A7",
    "active": "#56B4E9",
    "dropped": "#E69F00",
    "abandoned": "#E69F00",
    "failed": "#D55E00",
    "interrupted": "#7F1D1D",
    "open": REST,
}
"""The colour of what became of an engagement."""
HATCHES = {"failed": "////", "interrupted": "xxxx"}
"""What tells an end apart where colours cannot."""
LEGEND_IN = 0.55
"""How much room a legend needs below the title."""
MANY = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7A5195")
"""Colours of things that have no meaning in common."""

_DPI = 144
_FORMATS = ("png", "svg", "pdf")
_TITLE_IN = 0.85
_FONT_PT = 9.0
# Width of a letter, in parts of its height; measured on DejaVu Sans.
_LETTER = 0.62
_PT_PER_IN = 72
# What has letters that DejaVu lacks; only what is installed is used.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Yu Gothic",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "Arial Unicode MS",
    "Noto Emoji",
    "Segoe UI Emoji",
)


@dataclass(frozen=True)
class Picture:
    """A picture that is finished: a notebook shows it, :meth:`save` writes it."""

    figure: Any
    """The ``matplotlib.figure.Figure``, for whoever wants to change it."""

    def save(self, path: str | Path) -> Path:
        """Write it, as what the file's name ends in: ``.png``, ``.svg`` or ``.pdf``.

        Raises:
            LedgerError: The name ends in something else, or the file cannot be written.
        """
        target = Path(path)
        kind = target.suffix.removeprefix(".").lower()
        if kind not in _FORMATS:
            message = f"{target} is no picture's name; let it end in .png, .svg or .pdf."
            raise LedgerError(message)
        try:
            target.write_bytes(self._drawn(kind))
        except OSError as error:
            message = f"{target} cannot be written: {error.strerror or error}"
            raise LedgerError(message) from None
        return target

    def _repr_png_(self) -> bytes:
        return self._drawn("png")

    def _drawn(self, kind: str) -> bytes:
        paper = io.BytesIO()
        # The same rows give the same file.
        told = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with style():
            self.figure.savefig(paper, format=kind, dpi=_DPI, metadata=told[kind])
        return paper.getvalue()


def library(name: str) -> Any:
    """Return a module of matplotlib."""
    return needed(f"matplotlib.{name}" if name else "matplotlib", "plot")


@contextlib.contextmanager
def style() -> Generator[None]:
    """Draw our way while the block runs, whatever a person's own settings are."""
    chosen = {
        "font.family": _fonts(),
        "font.size": _FONT_PT,
        "text.color": INK,
        # A dollar is a dollar, not the beginning of a formula.
        "text.parse_math": False,
        "axes.edgecolor": LINE,
        "axes.labelcolor": FAINT,
        "axes.facecolor": "white",
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "savefig.bbox": None,
        "xtick.color": FAINT,
        "ytick.color": INK,
        "hatch.linewidth": 0.6,
        # Text stays text: it can be searched, and the reader's fonts have every letter.
        "svg.fonttype": "none",
        "svg.hashsalt": "spanflow",
        "pdf.fonttype": 42,
    }
    matplotlib = library("")
    default = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(("backend", "interactive", "toolbar", "date.epoch"))
    }
    with warnings.catch_warnings():
        # Letters that no font here has are drawn as boxes; in SVG the reader's fonts have them.
        warnings.filterwarnings("ignore", message="Glyph")
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        with matplotlib.rc_context({**default, **chosen}):
            yield


@cache
def _fonts() -> list[str]:
    installed = set(library("font_manager").fontManager.get_font_names())
    return [name for name in _FONTS if name in installed] or ["sans-serif"]


def sheet(title: str, told: str, width_in: float, height_in: float) -> Any:
    """Return an empty figure with a title; `height_in` is what is left below it."""
    tall = height_in + _TITLE_IN
    figure = library("figure").Figure(figsize=(width_in, tall))
    heading(figure, title, told, tall)
    return figure


def heading(figure: Any, title: str, told: str, tall_in: float) -> None:
    """Write the title and, smaller, what the picture is about."""
    room = int((figure.get_figwidth() - 0.5) / inches_of("m"))
    figure.text(0.25 / figure.get_figwidth(), 1 - 0.38 / tall_in, title, size=14, weight="bold")
    figure.text(
        0.25 / figure.get_figwidth(),
        1 - 0.66 / tall_in,
        cut(units.plain(told), room),
        color=FAINT,
    )


def legend(figure: Any, parts: Mapping[str, tuple[str, str | None]]) -> None:
    """Write below the title which colour and hatch is what."""
    patch = library("patches").Patch
    room = (figure.get_figwidth() - 0.5) / len(parts) - 0.45
    most = max(int(room / inches_of("m")), 4)
    figure.legend(
        handles=[
            patch(facecolor=color, hatch=hatch, edgecolor="white", label=label(word, most))
            for word, (color, hatch) in parts.items()
        ],
        loc="upper left",
        bbox_to_anchor=(0.17 / figure.get_figwidth(), 1 - 0.8 / figure.get_figheight()),
        ncols=len(parts),
        frameon=False,
        handlelength=1.1,
        handleheight=1.1,
        columnspacing=1.6,
        handletextpad=0.5,
    )


def nothing(title: str, told: str) -> Picture:
    """Return a picture that says that there is nothing to draw."""
    figure = sheet(title, told, 8.0, 1.6)
    figure.text(0.5, 0.3, "Nothing was recorded that this asks for.", color=FAINT, ha="center")
    return Picture(figure)


def label(text: str, most: int = 30) -> str:
    """Return a name that cannot harm a picture; of a long one, both ends."""
    whole = units.plain(text)
    if cell_len(whole) <= most:
        return whole
    # Long names are often alike at the beginning, or at the end.
    return chop_cells(whole, most // 2)[0] + "…" + _end(whole, most - most // 2 - 1)


def _end(text: str, most: int) -> str:
    while cell_len(text) > most:
        text = text[1:]
    return text


def inches_of(text: str, size_pt: float = _FONT_PT) -> float:
    """Return about how wide text is drawn."""
    return cell_len(text) * _LETTER * size_pt / _PT_PER_IN


def described(arguments: Mapping[str, object]) -> str:
    """Return what was asked for, in words, for below a title."""
    parts: list[str] = []
    for name, word in (("since", "since"), ("until", "until"), ("as_of", "as of")):
        if name in arguments:
            parts.append(f"{word} {units.day(cast('Any', arguments[name]))} UTC")
    if "name" in arguments:
        parts.append(str(arguments["name"]))
    if "user_id" in arguments:
        parts.append(f"user {arguments['user_id']}")
    if "idle_after" in arguments:
        silence = cast("timedelta", arguments["idle_after"]).total_seconds() * 1_000
        parts.append(f"abandoned after {units.duration(silence)} of silence")
    metadata = cast("Mapping[str, object]", arguments.get("metadata", {}))
    parts += [f"{key} = {value}" for key, value in metadata.items()]
    return " · ".join(parts)
