"""Records through journal, ingest and publishing, and macros asked in plain duckdb."""

from __future__ import annotations

import json
import math
import random
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from analytics.answers import chosen, moment
from analytics.drawn import METADATA, USERS, Engagement, standalone
from analytics.reference import Told

from spanflow.ledger.ingest import ingest
from spanflow.ledger.journal import Journal
from spanflow.ledger.publish import refresh

BEGAN = datetime.fromtimestamp(1_790_000_000, UTC).replace(tzinfo=None)


class Asked:
    """A published ledger beside what its records tell.

    Args:
        connection: The published file, opened by plain duckdb.
        told: The same, read slowly.
        dice: Decides what to ask.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, told: Told, dice: random.Random
    ) -> None:
        self.connection, self.told, self.dice = connection, told, dice

    def rows(self, macro, *positional, **named):
        """Return a macro's rows as mappings."""
        given = [*positional, *named.values()]
        words = ["?"] * len(positional) + [f"{name} := ?" for name in named]
        cursor = self.connection.execute(f"FROM {macro}({', '.join(words)})", given)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def moments(self):
        """Return every instant at which anything begins or ends, those beside it, and far ones."""
        edges = {BEGAN - timedelta(days=1), BEGAN + timedelta(days=400)}
        for turns in self.told.by_engagement.values():
            for turn in turns:
                for one in (turn.told, *turn.steps, *turn.calls):
                    for ns in (one["started_ns"], one.get("ended_ns") or one["started_ns"]):
                        edges |= {moment(ns) + timedelta(microseconds=beside) for beside in (-1, 0)}
        return sorted(edges)

    def at(self, *, as_of=None, idle_after=None, **_common):
        """Return all engagements at an instant, read slowly."""
        idle = timedelta(minutes=30) if idle_after is None else idle_after
        return self.told.at(instant_ns(as_of), idle // timedelta(microseconds=1) * 1000)

    def chosen(self, **common):
        """Return the engagements that the common parameters choose, read slowly."""
        return chosen(self.at(**common), **common)


def instant_ns(as_of):
    """Return the last nanosecond of an instant; without one it is now."""
    since = (as_of or datetime.now(UTC).replace(tzinfo=None)) - datetime(1970, 1, 1)  # noqa: DTZ001
    return since // timedelta(microseconds=1) * 1000


def drawn(make, seeds, calls=()):
    """Return the records of engagements and of standalone calls, and the turns that died."""
    records, gone = [], set()
    for index, seed in enumerate(seeds):
        engagement = Engagement(make, seed, index)
        records += engagement.records
        gone |= engagement.gone
    return records + [standalone(make, seed, n) for n, seed in enumerate(calls)], gone


@contextmanager
def published(records, gone, *, seed=0):
    """Write records as two processes, one of which is gone, and ask what was published."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    every = [*records]
    for one in records:
        if one["phase"] == "end" and one["kind"] in ("turn", "step") and dice.random() < 0.3:
            began = {key: value for key, value in one.items() if key not in ("ended_ns", "events")}
            every.append({**began, "phase": "start", "status": None})
    dice.shuffle(every)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "traces.duckdb")
        kept, lost = Journal(path), Journal(path)
        half = dice.randrange(len(every) + 1)
        for some in (every[:half], every[half:]):
            for one in some:
                told = {key: value for key, value in one.items() if value is not None}
                assert (lost if one.get("turn_id") in gone else kept).append(told)
            kept.seal()
            lost.seal()
            ingest(path)
        lost.close()
        refresh(path)
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                yield Asked(connection, Told([dict(one) for one in records], gone), dice)
        finally:
            kept.close()


def same(one, other):
    """Tell whether two cells hold the same; floats to the ninth digit."""
    if isinstance(one, float) or isinstance(other, float):
        if one is None or other is None:
            return one is other
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def restrictions(asked):
    """Draw common parameters, most of them left out; and the same as a macro takes them."""
    dice, moments, common = asked.dice, asked.moments(), {}
    if dice.random() < 0.6:
        common["as_of"] = dice.choice(moments)
    if dice.random() < 0.6:
        patience = [timedelta(0), timedelta(minutes=1), timedelta(days=2), timedelta(days=900)]
        common["idle_after"] = dice.choice(patience)
    if dice.random() < 0.2:
        common["since"] = dice.choice(moments)
    if dice.random() < 0.2:
        common["until"] = dice.choice(moments)
    if dice.random() < 0.15:
        common["name"] = dice.choice(["booking", "検索", "nobody's"])
    if dice.random() < 0.15:
        common["user_id"] = dice.choice(USERS[1:])
    if dice.random() < 0.25:
        told = dice.choice(
            [one for one in METADATA if one] + [{"n": "true"}, {"n": 1.0}, {"z": None}]
        )
        common["metadata"] = dict(dice.sample(sorted(told.items()), 1))
    return common, as_parameters(dice, common)


def as_parameters(dice, common):
    """Return the common parameters as a macro takes them: metadata as JSON text or as a struct."""
    given = dict(common)
    if "metadata" in given:
        is_flat = not any(isinstance(one, list | dict) for one in given["metadata"].values())
        if not is_flat or dice.random() < 0.5:
            given["metadata"] = json.dumps(given["metadata"])
    return given


def agree(found, wanted, *key):
    """Hold rows against the reference's, cell by cell, in any order."""

    def by_key(rows):
        return {tuple(str(row[name]) for name in key): row for row in rows}

    assert len(by_key(found)) == len(found), "the key names one row"
    assert set(by_key(found)) == set(by_key(wanted))
    for name, row in by_key(wanted).items():
        other = by_key(found)[name]
        wrong = {
            column: (other[column], value)
            for column, value in row.items()
            if not same(other[column], value)
        }
        assert not wrong, f"{name}: (found, wanted) {wrong}"
