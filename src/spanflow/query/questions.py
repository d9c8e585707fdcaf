"""The questions one asks of many engagements, in Python: funnels, paths, drop-offs, usage, cohorts.

It checks and names what is asked for, and makes frozen rows of the answer. How a question is
answered is the engine's affair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict, TypeVar, Unpack, cast

from spanflow.errors import LedgerError
from spanflow.query import figures, rows
from spanflow.query.answers import Answer, Funnel

if TYPE_CHECKING:
    from spanflow.query.conditions import Condition
    from spanflow.query.engine import Engine

__all__ = ["Chosen", "Questions"]

R = TypeVar("R", bound=rows.Row)


class Chosen(TypedDict, total=False):
    """Which engagements a question is about, and when it is asked; None and absent are the same."""

    since: datetime | None
    """Only those that started then or later; a time without a zone is UTC."""
    until: datetime | None
    """Only those that started before."""
    name: str | None
    """Only those of this agent."""
    user_id: str | None
    """Only those of this user."""
    metadata: Mapping[str, Condition] | None
    """Only those with these keys and values; 1, "1" and true are three values, None is a null."""
    as_of: datetime | None
    """Answer as at this instant."""
    idle_after: timedelta | None
    """After how much silence an engagement counts as abandoned."""


class Questions:
    """Answers questions about many engagements with whatever engine it is given.

    Every question takes the words of :class:`Chosen`: ``since``, ``until``, ``name``, ``user_id``,
    ``metadata``, ``as_of`` and ``idle_after``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def funnel(
        self,
        steps: Sequence[str],
        *,
        ordered: bool = False,
        within: timedelta | None = None,
        **chosen: Unpack[Chosen],
    ) -> Funnel:
        """Return how many engagements reached each step, and what became of them there.

        Args:
            steps: Full paths of steps, or last parts that only one step has.
            ordered: Count those alone that came to the steps one after the other.
            within: Count those alone that did so in this time; means `ordered`.
            **chosen: See :class:`Chosen`.

        Raises:
            LedgerError: A step's name could be any of several, or an argument is wrong.
        """
        if isinstance(steps, str) or not steps:
            message = "A funnel needs a list of steps, like ['intake', 'search', 'submitted']."
            raise LedgerError(message)
        asked = _arguments(
            chosen, steps=list(steps), ordered=ordered or None, within=_period("within", within)
        )

        def drill() -> Answer[rows.FunnelEngagement]:
            return self._ask("funnel_engagements", rows.FunnelEngagement, asked)

        found = self._ask("funnel", rows.FunnelStep, asked)
        return Funnel(found.question, found.row, found.rows, asked, drill)

    def journeys(
        self,
        *,
        status: str | None = None,
        reached: str | None = None,
        newest: int | None = None,
        **chosen: Unpack[Chosen],
    ) -> Answer[rows.Journey]:
        """Return the engagements, one a row, with the way each took, the newest first.

        Args:
            status: The status it must have.
            reached: A step it must have reached.
            newest: How many at most; without it, all.
            **chosen: See :class:`Chosen`.
        """
        asked = _arguments(chosen, status=status, reached=reached, newest=newest)
        return self._ask("journeys", rows.Journey, asked)

    def group_by(self, key: str, **chosen: Unpack[Chosen]) -> Answer[figures.Group]:
        """Return the engagements together by what they have in common.

        Args:
            key: ``user_id``, ``session_id``, ``name``, ``status``, ``day``, …, else a key of the
                metadata.
            **chosen: See :class:`Chosen`.
        """
        return self._ask("engagements_by", figures.Group, _arguments(chosen, key=key))

    def paths(
        self, *, depth: int | None = None, nested: bool = False, **chosen: Unpack[Chosen]
    ) -> Answer[rows.PathTaken]:
        """Return the ways that were taken, the most frequent first.

        Args:
            depth: How many steps of a way are told apart; 20 where not given.
            nested: Show the innermost steps instead of those at the top.
            **chosen: See :class:`Chosen`.
        """
        if depth is not None and depth < 1:
            message = f"depth={depth} shows nothing; give 1 or more."
            raise LedgerError(message)
        return self._ask(
            "paths", rows.PathTaken, _arguments(chosen, depth=depth, nested=nested or None)
        )

    def drop_offs(self, **chosen: Unpack[Chosen]) -> Answer[rows.DropOff]:
        """Return where engagements were abandoned, failed or died, the most frequent first."""
        return self._ask("drop_offs", rows.DropOff, _arguments(chosen))

    def step_stats(self, **chosen: Unpack[Chosen]) -> Answer[figures.StepFigures]:
        """Return how long each step takes, how often it fails, and what it costs."""
        return self._ask("step_stats", figures.StepFigures, _arguments(chosen))

    def usage_by(
        self, by: str, *, split: str | None = None, **chosen: Unpack[Chosen]
    ) -> Answer[figures.Usage]:
        """Return tokens and cost by what the calls of models have in common.

        ``since`` and ``until`` are about the calls here. Calls outside engagements are in it unless
        ``name``, ``user_id`` or ``metadata`` is given.

        Args:
            by: ``model``, ``provider``, ``operation``, ``step``, ``engagement`` (its name),
                ``user_id``, ``session_id``, ``agent``, ``caller``, ``service``, ``status``,
                ``hour``, ``day``, ``week``, ``month``, else a key of the metadata.
            split: Another one of these, for a row each.
            **chosen: See :class:`Chosen`.
        """
        return self._ask("usage_by", figures.Usage, _arguments(chosen, by=by, split=split))

    def cohorts(self, by: str = "week", **chosen: Unpack[Chosen]) -> Answer[figures.Cohort]:
        """Return the users by the period in which they first came: ``day``, ``week``, ``month``."""
        return self._ask("cohorts", figures.Cohort, _arguments(chosen, by=by))

    def retention(self, by: str = "week", **chosen: Unpack[Chosen]) -> Answer[figures.Returned]:
        """Return which part of each cohort came again, period by period."""
        return self._ask("retention", figures.Returned, _arguments(chosen, by=by))

    def compare(
        self,
        a: Mapping[str, Condition | datetime],
        b: Mapping[str, Condition | datetime],
        **chosen: Unpack[Chosen],
    ) -> Answer[figures.Compared]:
        """Return the numbers of two sets of engagements beside each other.

        Args:
            a: What must hold in the first: ``name``, ``user_id``, ``session_id``,
                ``conversation_id``, ``service_name``, ``graph_version``, ``since``, ``until``, else
                a key of the metadata.
            b: What must hold in the second.
            **chosen: What must hold in both; see :class:`Chosen`.
        """
        return self._ask(
            "compare", figures.Compared, _arguments(chosen, a=_filter("a", a), b=_filter("b", b))
        )

    def _ask(self, question: str, row: type[R], arguments: Mapping[str, object]) -> Answer[R]:
        result = self._engine.ask(question, arguments)
        return Answer(question, row, tuple(map(row.model_validate, result)), arguments)


def _arguments(chosen: Chosen, **own: object) -> dict[str, object]:
    """Return what a question is asked with: checked, times in UTC, what is not given left out."""
    unknown = chosen.keys() - Chosen.__annotations__.keys()
    if unknown:
        message = f"unexpected keyword arguments: {', '.join(sorted(unknown))}"
        raise TypeError(message)
    metadata = chosen.get("metadata")
    common: dict[str, object] = {
        "since": _moment("since", chosen.get("since")),
        "until": _moment("until", chosen.get("until")),
        "name": chosen.get("name"),
        "user_id": chosen.get("user_id"),
        "metadata": None if metadata is None else _filter("metadata", metadata),
        "as_of": _moment("as_of", chosen.get("as_of")),
        "idle_after": _period("idle_after", chosen.get("idle_after")),
    }
    together = {**own, **common}
    return {name: value for name, value in together.items() if value is not None}


def _moment(name: str, value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        message = f"{name}={value!r} is no datetime."
        raise LedgerError(message)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _period(name: str, value: object) -> timedelta | None:
    if value is None:
        return None
    if not isinstance(value, timedelta) or value < timedelta(0):
        message = f"{name}={value!r} is no timedelta of zero or more."
        raise LedgerError(message)
    return value


def _filter(name: str, given: object) -> dict[str, object]:
    if not isinstance(given, Mapping):
        message = f"{name}={given!r} is no mapping; write it like {{'tier': 'pro'}}."
        raise LedgerError(message)
    read: dict[str, object] = {}
    for key, value in cast("Mapping[str, object]", given).items():
        if isinstance(value, datetime):
            read[key] = _moment(key, value)
        elif value is None or isinstance(value, str | int) or _is_finite(value):
            read[key] = value
        else:
            message = f"{key}={value!r} cannot be compared; give text, a number, a bool or None."
            raise LedgerError(message)
    return read


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
