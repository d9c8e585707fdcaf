"""Finds the records in which different instrumentation scopes report one call to a model.

Records are matched one to one between scopes: as many as can be, the nearest in time first. Nothing
is said here of calls within calls, nor of which record counts; that is the tally's.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict, deque
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from spanflow.spending import Call, Usage

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


def _pair(groups: Sequence[list[Call]], newcomers: Sequence[Call]) -> dict[int, int]:
    """Match newcomers to groups, by their indexes: as many as can be, the nearest first.

    Hundreds of calls made at the same time may differ in little or nothing. So newcomers that
    nothing tells apart share their choices, and nobody looks further than to the nearest group that
    is free.
    """
    compared = _Compared()
    kin: dict[int, list[_Ring]] = {}
    known: dict[object, _Choices] = {}
    choices: list[_Choices] = []
    for call in newcomers:
        likeness = compared.likeness(call)
        if likeness not in kin:
            kin[likeness] = _rings(call, groups, compared)
        same = (call.started_ns, call.ended_ns, likeness)
        if same not in known:
            known[same] = _Choices(call, groups, kin[likeness], compared)
        choices.append(known[same])
    taken: dict[int, int] = {}
    partner: dict[int, int] = {}
    nearest = [
        (free[0], index) for index, each in enumerate(choices) if (free := each.first_free(taken))
    ]
    heapify(nearest)
    while nearest:
        distance, index = heappop(nearest)
        free = choices[index].first_free(taken)
        if free is not None and free[0] == distance:
            partner[index], taken[free[1]] = free[1], index
        elif free is not None:
            heappush(nearest, (free[0], index))
    hopeless: set[int] = set()
    for index, each in enumerate(choices):
        if len(taken) == len(groups):
            break
        if index not in partner and id(each) not in hopeless:
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


# Groups as sure to be one call with a newcomer, times apart: when their surest members began, and
# the groups' indexes, by time.
_Ring: TypeAlias = "list[tuple[int, int]]"


def _rings(call: Call, groups: Sequence[list[Call]], compared: _Compared) -> list[_Ring]:
    """Sort groups by how sure it is that they are one call with this one, the surest first."""
    rings: defaultdict[tuple[int, bool], _Ring] = defaultdict(list)
    for place, group in enumerate(groups):
        kinships = [compared.kinship(call, member) for member in group]
        known = [each for each in kinships if each is not None]
        if len(known) < len(group):
            continue
        surest = min(known)
        rings[surest] += [
            (member.started_ns, place)
            for member, kinship in zip(group, kinships, strict=True)
            if kinship == surest
        ]
    return [sorted(rings[kinship]) for kinship in sorted(rings)]


class _Choices:
    """The groups that may be one call with any of several newcomers that nothing tells apart."""

    def __init__(
        self,
        call: Call,
        groups: Sequence[list[Call]],
        rings: Sequence[_Ring],
        compared: _Compared,
    ) -> None:
        self._call = call
        self._groups = groups
        self._rings = rings
        self._compared = compared
        self._ahead = self._nearest_first()
        self._next = next(self._ahead, None)

    @cached_property
    def places(self) -> list[int]:
        """The groups' indexes, nearest first."""
        return [place for _, place in self._nearest_first()]

    def first_free(self, taken: Container[int]) -> tuple[_Distance, int] | None:
        """Return the nearest group that is not taken; what is taken once stays so."""
        while self._next is not None and self._next[1] in taken:
            self._next = next(self._ahead, None)
        return self._next

    def _nearest_first(self) -> Iterator[tuple[_Distance, int]]:
        for ring in self._rings:
            yield from self._outwards(ring)

    def _outwards(self, ring: _Ring) -> Iterator[tuple[_Distance, int]]:
        """Go through a ring from the call's own time to both sides.

        A record is at least as far away as its beginning. So what was found nearer than the next
        beginning is nearest.
        """
        start = self._call.started_ns
        after = bisect_left(ring, (start,))
        before = after - 1
        found: list[tuple[_Distance, int]] = []
        seen: set[int] = set()
        while before >= 0 or after < len(ring):
            gap_before = start - ring[before][0] if before >= 0 else None
            gap_after = ring[after][0] - start if after < len(ring) else None
            if gap_before is None or (gap_after is not None and gap_after <= gap_before):
                gap, place = gap_after or 0, ring[after][1]
                after += 1
            else:
                gap, place = gap_before, ring[before][1]
                before -= 1
            while found and found[0][0][2] < gap:
                yield heappop(found)
            if place in seen:
                continue
            seen.add(place)
            distances = [self._compared.distance(self._call, each) for each in self._groups[place]]
            if None not in distances:
                nearest = min(each for each in distances if each is not None)
                heappush(found, (nearest, place))
        while found:
            yield heappop(found)


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

    def kinship(self, left: Call, right: Call) -> tuple[int, bool] | None:
        """Say how sure it is that two records are one call; None where they cannot be."""
        pair = (self.likeness(left), self.likeness(right))
        if pair not in self._kinships:
            self._kinships[pair] = _kinship(left, right)
        return self._kinships[pair]

    def distance(self, left: Call, right: Call) -> _Distance | None:
        """Say how far two records are from being one call; None where they cannot be."""
        if max(left.started_ns, right.started_ns) > min(left.ended_ns, right.ended_ns):
            return None
        kinship = self.kinship(left, right)
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
