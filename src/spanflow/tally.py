"""Decides which records of calls to models count, so that no call counts twice and none is lost.

Pure logic: it knows no telemetry library, does no input or output, keeps nothing between two
questions, and adds nothing up. `capture` asks it for the totals it writes on live spans and
`ledger` for the totals of what finally arrived, so that both say the same.

Three rules decide what counts (`judge`):

1. *Nested.* A call made inside another call is that call seen from further inside; the outer one
   counts. Where the outer one knows no usage and calls within it do, the outermost of those count
   instead.
2. *Duplicate.* Two instrumentations may each report one call, neither inside the other. Such
   records are matched one to one between instrumentation scopes, and the one that knows more
   counts: usage first, then the step, then the rest.
3. *Everything else counts.* Two equal records of one scope are two calls.

The answer depends on what the records say, never on their order.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from spanflow.matching import same_calls
from spanflow.spending import TOKEN_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spanflow.spending import Call

__all__ = ["DUPLICATE", "NESTED", "USAGE_ON_NESTED", "Because", "Verdict", "judge"]

NESTED: Final = "nested"
DUPLICATE: Final = "duplicate"
USAGE_ON_NESTED: Final = "usage_on_nested"

Because = Literal["nested", "duplicate", "usage_on_nested"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a record counts; if not, why, and the span id of the one that counts instead."""

    counted: bool
    because: Because | None = None
    counted_by: str | None = None


def judge(calls: Sequence[Call], parents: Mapping[str, str | None]) -> dict[str, Verdict]:
    """Decide which records of calls count, so that no call counts twice and none is lost.

    Args:
        calls: The records of the calls to judge together (a turn's, say), in any order. Of several
            records with one span id the one that knows most is taken.
        parents: The parent of any span between the calls, by span id. Spans that are not in it end
            the walk to the root, and spans on a circle of parents count as roots.

    Returns:
        One verdict for each span id in `calls`.
    """
    if len(calls) == 1:
        return {calls[0].span_id: Verdict(counted=True)}
    by_id: dict[str, Call] = {}
    for call in sorted(calls, key=_richness, reverse=True):
        by_id.setdefault(call.span_id, call)
    leaders, verdicts = _settle_nested(by_id, _enclosing(by_id, parents))
    for group in same_calls(leaders):
        best = max(group, key=_richness)
        for call in group:
            if call is not best:
                verdicts[call.span_id] = Verdict(
                    counted=False, because=DUPLICATE, counted_by=best.span_id
                )
    # A nested call may point at a record that turned out to be a duplicate.
    return {
        span_id: _pointing_at_counted(verdict, verdicts) for span_id, verdict in verdicts.items()
    }


def _pointing_at_counted(verdict: Verdict, verdicts: Mapping[str, Verdict]) -> Verdict:
    if verdict.counted_by is None:
        return verdict
    next_verdict = verdicts[verdict.counted_by]
    if next_verdict.counted_by is None:
        return verdict
    return Verdict(counted=False, because=verdict.because, counted_by=next_verdict.counted_by)


def _richness(call: Call) -> tuple[object, ...]:
    """Order records by what they know, and ties by everything else they say."""
    usage = call.usage
    known = sum(getattr(usage, name) is not None for name in TOKEN_FIELDS)
    return (
        usage.known,
        # Else the step would seem to have spent nothing.
        call.step_id is not None,
        known + (usage.cost_usd is not None),
        -len(usage.flags),
        # Where one leaves cached tokens out of the input, the larger number is the whole.
        -1 if usage.total_tokens is None else usage.total_tokens,
        call.response_id is not None,
        bool(call.model),
        -call.started_ns,
        repr(call),
    )


def _enclosing(calls: Mapping[str, Call], parents: Mapping[str, str | None]) -> dict[str, str]:
    """Find the nearest call around each call that has one, by span id."""
    nearest: dict[str, str | None] = {}
    for span_id in calls:
        path: list[str] = []
        place: dict[str, int] = {}
        at: str | None = span_id
        while at is not None and at not in nearest and at not in place:
            place[at] = len(path)
            path.append(at)
            own = calls[at].parent_span_id if at in calls else None
            at = parents.get(at) or own
        if at is not None and at in place:
            # A circle of parents: nobody on it is inside anybody.
            nearest.update(dict.fromkeys(path[place[at] :]))
            del path[place[at] :]
        outer = None if at is None else at if _encloses(at, calls) else nearest.get(at)
        for inner in reversed(path):
            nearest[inner] = outer
            if _encloses(inner, calls):
                outer = inner
    return {span_id: outer for span_id in calls if (outer := nearest[span_id]) is not None}


def _encloses(span_id: str, calls: Mapping[str, Call]) -> bool:
    """Whether this span is a call with an inside, and not one with borrowed numbers."""
    return span_id in calls and not calls[span_id].borrowed


def _settle_nested(
    calls: Mapping[str, Call], enclosing: Mapping[str, str]
) -> tuple[list[Call], dict[str, Verdict]]:
    """Find the calls that stand for themselves and all within them, and every verdict so far."""
    within: defaultdict[str | None, list[str]] = defaultdict(list)
    for span_id in sorted(calls, key=lambda each: (calls[each].started_ns, each)):
        within[enclosing.get(span_id)].append(span_id)

    outside_in = deque(within[None])
    order: list[str] = []
    while outside_in:
        order.append(outside_in.popleft())
        outside_in.extend(within.get(order[-1], ()))

    # Who speaks for a call: itself, or the first within it that knows usage where it does not.
    speaker: dict[str, str] = {}
    for span_id in reversed(order):
        if calls[span_id].usage.known:
            speaker[span_id] = span_id
        else:
            inner = (speaker[each] for each in within.get(span_id, ()) if each in speaker)
            first = next(inner, None)
            if first is not None:
                speaker[span_id] = first

    leaders: list[Call] = []
    verdicts: dict[str, Verdict] = {}
    around: dict[str, str] = {}
    for span_id in order:
        outer = enclosing.get(span_id)
        leader = around.get(outer) if outer is not None else None
        if leader is None and outer is not None and span_id not in speaker:
            leader = speaker[outer]
        if leader is not None:
            around[span_id] = leader
            verdicts[span_id] = Verdict(counted=False, because=NESTED, counted_by=leader)
        elif (within_it := speaker.get(span_id, span_id)) != span_id:
            verdicts[span_id] = Verdict(
                counted=False, because=USAGE_ON_NESTED, counted_by=within_it
            )
        else:
            around[span_id] = span_id
            verdicts[span_id] = Verdict(counted=True)
            leaders.append(calls[span_id])
    return leaders, verdicts
