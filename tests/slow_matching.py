"""The matching as it was before it took equal records together: every pair, one by one.

The tests hold the matching in use against it.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spanflow.spending import Call, Usage

# Records of one instant call are this close: their callbacks run one after the other.
_CLOSE_NS: Final = 5_000_000

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
    """Match newcomers to groups, by their indexes: as many as can be, the nearest first."""
    options = [_options(call, groups) for call in newcomers]
    taken: dict[int, int] = {}
    partner: dict[int, int] = {}
    for _, index, place in sorted(
        (distance, index, place) for index, found in enumerate(options) for distance, place in found
    ):
        if index not in partner and place not in taken:
            partner[index], taken[place] = place, index
    hopeless: set[int] = set()
    for index, found in enumerate(options):
        if found and index not in partner:
            _make_room(index, options, partner, taken, hopeless)
    return partner


def _make_room(
    index: int,
    options: Sequence[Sequence[tuple[object, int]]],
    partner: dict[int, int],
    taken: dict[int, int],
    hopeless: set[int],
) -> None:
    """Match one more record by moving others to another choice, where that leaves nobody without.

    An augmenting path, searched breadth first. Groups that one search in vain has seen can help no
    later one, so all searches together look at each pair once.
    """
    came_from: dict[int, int] = {}
    waiting = deque([index])
    while waiting:
        asking = waiting.popleft()
        for _, place in options[asking]:
            if place in came_from or place in hopeless:
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
    hopeless.update(came_from)


def _options(call: Call, groups: Sequence[list[Call]]) -> list[tuple[tuple[int, ...], int]]:
    """Find the groups that may be this very call, nearest first."""
    found: list[tuple[tuple[int, ...], int]] = []
    for place, group in enumerate(groups):
        distances = [_distance(call, member) for member in group]
        if None not in distances:
            found.append((min(each for each in distances if each is not None), place))
    return sorted(found)


def _distance(left: Call, right: Call) -> tuple[int, ...] | None:
    """Say how far two records are from being one call; None where they cannot be."""
    if max(left.started_ns, right.started_ns) > min(left.ended_ns, right.ended_ns):
        return None
    apart = (abs(left.started_ns - right.started_ns), abs(left.ended_ns - right.ended_ns))
    # A span that is wider than the call may well be outside the call's step, and one that was made
    # after the fact does not know it.
    other_step = left.step_id != right.step_id
    elsewhere = other_step and not (
        left.borrowed or right.borrowed or left.step_id is None or right.step_id is None
    )
    if left.response_id and left.response_id == right.response_id:
        return (0, other_step, sum(apart))
    if elsewhere or not _same_model(left.model, right.model):
        return None
    same_usage = _same_usage(left.usage, right.usage)
    if same_usage:
        return (1, other_step, sum(apart))
    # One of them says nothing of usage: believe the clock, but only where it leaves no doubt.
    if same_usage is None and (max(apart) <= _CLOSE_NS or _one_holds_other(left, right)):
        return (2, other_step, sum(apart))
    return None


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
