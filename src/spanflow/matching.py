"""Finds the records in which different instrumentation scopes report one call to a model.

Records are matched one to one between scopes: as many as can be, the nearest in time first. Nothing
is said here of calls within calls, nor of which record counts; that is the tally's.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spanflow.tally import Call, Usage

# Records of one instant call are this close: their callbacks run one after the other.
_CLOSE_NS: Final = 5_000_000

# How two records are known as one call, the surest first: by the provider's id of the answer, by
# what was spent, or (where one of them says nothing of that) by their times alone.
_BY_ID: Final = 0
_BY_USAGE: Final = 1
_BY_TIME: Final = 2

_Distance: TypeAlias = "tuple[int, bool, int]"

_DATED: Final = re.compile(r"[-@:_](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{3,4})(?:-preview)?$")


def same_calls(leaders: Sequence[Call]) -> list[list[Call]]:
    """Group the records of one call: at most one of a scope, and at least two in a group.

    Args:
        leaders: Records of calls, none of them inside another. Their order does not matter.
    """
    if len({_reporter(call) for call in leaders}) == 1:
        return []
    return [group for cluster in _overlapping(leaders) for group in _grouped(cluster)]


def _overlapping(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Split calls where time does: records of one call overlap, so they are never apart."""
    cluster: list[Call] = []
    until = 0
    for call in sorted(calls, key=lambda each: (each.started_ns, each.ended_ns, each.span_id)):
        if cluster and call.started_ns > until:
            yield cluster
            cluster = []
        until = max(until, call.ended_ns) if cluster else call.ended_ns
        cluster.append(call)
    yield cluster


def _grouped(cluster: Sequence[Call]) -> list[list[Call]]:
    by_scope: defaultdict[tuple[bool, str], list[Call]] = defaultdict(list)
    for call in cluster:
        by_scope[_reporter(call)].append(call)
    groups: list[list[Call]] = []
    for _, newcomers in sorted(by_scope.items()):
        partner = _pair(groups, newcomers)
        for index, call in enumerate(newcomers):
            if index in partner:
                groups[partner[index]].append(call)
            else:
                groups.append([call])
    return [group for group in groups if len(group) > 1]


def _reporter(call: Call) -> tuple[bool, str]:
    """Tell who reports a call: its scope, unless somebody else wrote on that scope's span."""
    return call.borrowed, call.scope


@dataclass(frozen=True, slots=True)
class _Choices:
    """The groups that may be one call with any of several newcomers that nothing tells apart.

    Attributes:
        places: The groups' indexes, nearest first.
        rings: The same, by distance: the distance, and an iterator over the places so far away.
    """

    places: list[int]
    rings: list[tuple[_Distance, Iterator[int]]]


def _pair(groups: Sequence[list[Call]], newcomers: Sequence[Call]) -> dict[int, int]:
    """Match newcomers to groups, by their indexes: as many as can be, the nearest first.

    Newcomers that nothing tells apart share their choices, so that hundreds of equal calls at the
    same time cost no more than they must.
    """
    compared = _Compared()
    known: dict[object, _Choices] = {}
    choices: list[_Choices] = []
    for call in newcomers:
        same = (call.started_ns, call.ended_ns, compared.likeness(call))
        if same not in known:
            known[same] = _choices(call, groups, compared)
        choices.append(known[same])
    taken: dict[int, int] = {}
    partner: dict[int, int] = {}
    for _, index, ring in sorted(
        (distance, index, ring)
        for index, found in enumerate(choices)
        for ring, (distance, _) in enumerate(found.rings)
    ):
        if index in partner:
            continue
        place = next((at for at in choices[index].rings[ring][1] if at not in taken), None)
        if place is not None:
            partner[index], taken[place] = place, index
    hopeless: set[int] = set()
    for index, found in enumerate(choices):
        if found.places and index not in partner and id(found) not in hopeless:
            _make_room(index, choices, partner, taken, hopeless)
    return partner


def _make_room(
    index: int,
    choices: Sequence[_Choices],
    partner: dict[int, int],
    taken: dict[int, int],
    hopeless: set[int],
) -> None:
    """Match one more record by moving others to another choice, where that leaves nobody without.

    An augmenting path, searched breadth first. Choices that one search has looked through in vain
    can help no later one, and in one search none is looked through twice.
    """
    came_from: dict[int, int] = {}
    seen: set[int] = set()
    waiting = deque([index])
    while waiting:
        asking = waiting.popleft()
        if id(choices[asking]) in seen or id(choices[asking]) in hopeless:
            continue
        seen.add(id(choices[asking]))
        for place in choices[asking].places:
            if place in came_from:
                continue
            came_from[place] = asking
            if place in taken:
                waiting.append(taken[place])
                continue
            moving: int | None = place
            while moving is not None:
                mover = came_from[moving]
                left = partner.get(mover)
                partner[mover], taken[moving] = moving, mover
                moving = left
            return
    hopeless.update(seen)


def _choices(call: Call, groups: Sequence[list[Call]], compared: _Compared) -> _Choices:
    """Find the groups that may be this very call, nearest first."""
    found: list[tuple[_Distance, int]] = []
    for place, group in enumerate(groups):
        distances = [compared.distance(call, member) for member in group]
        if None not in distances:
            found.append((min(each for each in distances if each is not None), place))
    found.sort()
    rings: list[tuple[_Distance, Iterator[int]]] = [
        (distance, iter([place for _, place in ring]))
        for distance, ring in groupby(found, key=itemgetter(0))
    ]
    return _Choices([place for _, place in found], rings)


class _Compared:
    """Says how far two records are from being one call, and remembers it but for their times."""

    def __init__(self) -> None:
        self._likenesses: dict[object, int] = {}
        self._of: dict[str, int] = {}
        self._kinships: dict[tuple[int, int], tuple[int, bool] | None] = {}

    def likeness(self, call: Call) -> int:
        """Return a number that records have in common which only their times tell apart."""
        number = self._of.get(call.span_id)
        if number is None:
            said = (call.step_id, call.model, call.response_id, call.usage)
            number = self._likenesses.setdefault(said, len(self._likenesses))
            self._of[call.span_id] = number
        return number

    def distance(self, left: Call, right: Call) -> _Distance | None:
        """Say how far two records are from being one call; None where they cannot be."""
        if max(left.started_ns, right.started_ns) > min(left.ended_ns, right.ended_ns):
            return None
        pair = (self.likeness(left), self.likeness(right))
        if pair not in self._kinships:
            self._kinships[pair] = _kinship(left, right)
        kinship = self._kinships[pair]
        if kinship is None:
            return None
        apart = (abs(left.started_ns - right.started_ns), abs(left.ended_ns - right.ended_ns))
        # Believe the clock, but only where it leaves no doubt.
        if kinship[0] == _BY_TIME and max(apart) > _CLOSE_NS and not _one_holds_other(left, right):
            return None
        return (*kinship, sum(apart))


def _kinship(left: Call, right: Call) -> tuple[int, bool] | None:
    """Say how sure it is that two records are one call, times apart; None where they cannot be."""
    # A span that is wider than the call may well be outside the call's step, and one that was made
    # after the fact does not know it.
    other_step = left.step_id != right.step_id
    if left.response_id and left.response_id == right.response_id:
        return (_BY_ID, other_step)
    if other_step and not (
        left.borrowed or right.borrowed or left.step_id is None or right.step_id is None
    ):
        return None
    if not _same_model(left.model, right.model):
        return None
    same_usage = _same_usage(left.usage, right.usage)
    if same_usage is None:
        return (_BY_TIME, other_step)
    return (_BY_USAGE, other_step) if same_usage else None


def _one_holds_other(left: Call, right: Call) -> bool:
    return (left.started_ns - right.started_ns) * (left.ended_ns - right.ended_ns) <= 0


def _same_usage(left: Usage, right: Usage) -> bool | None:
    """Whether both spent the same; None where they have no number in common.

    Some instrumentors leave cached tokens out of the input, or reasoning out of the output, against
    the convention: those still agree.
    """
    if left.input_tokens == right.input_tokens is not None:
        outputs = left.output_tokens, right.output_tokens
        if outputs[0] == outputs[1] or None in outputs:
            return True
    answers = [
        _same_count(left.input_tokens, right.input_tokens, _cached(left, right)),
        _same_count(left.output_tokens, right.output_tokens, _reasoned(left, right)),
    ]
    if answers == [None, None]:
        answers = [
            _same_count(
                left.total_tokens, right.total_tokens, _cached(left, right) + _reasoned(left, right)
            )
        ]
    said = [answer for answer in answers if answer is not None]
    return all(said) if said else None


def _same_count(left: int | None, right: int | None, left_out: int) -> bool | None:
    if left is None or right is None:
        return None
    return left == right or (left_out > 0 and abs(left - right) == left_out)


def _cached(left: Usage, right: Usage) -> int:
    return max(
        (each.cache_read_tokens or 0) + (each.cache_write_tokens or 0) for each in (left, right)
    )


def _reasoned(left: Usage, right: Usage) -> int:
    return max(each.reasoning_tokens or 0 for each in (left, right))


def _same_model(left: str | None, right: str | None) -> bool:
    """Whether two names may mean one model: unknown is any, and undated is any of its dates."""
    if left == right or _unnamed(left) or _unnamed(right):
        return True
    one, other = _short(left or ""), _short(right or "")
    return one == other or _DATED.sub("", one) == other or one == _DATED.sub("", other)


def _unnamed(model: str | None) -> bool:
    return not model or model.lower() == "unknown"


def _short(model: str) -> str:
    """Cut who serves a model, and `latest`, off its name."""
    return model.lower().rpartition("/")[2].removesuffix("-latest").removesuffix(":latest")
