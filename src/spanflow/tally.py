"""Says what a model call spent, which records of calls count, and what they add up to.

Pure arithmetic: it knows no telemetry library, does no input or output, keeps nothing between two
questions, and never answers "zero" for what nobody said. `capture` asks it for the totals it writes
on live spans and `ledger` for the totals of what finally arrived, so that both say the same.

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
from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, Final, Literal

from spanflow.matching import same_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REFUSED: Final = "refused"
INCONSISTENT_TOTAL: Final = "inconsistent_total"
# The numbers of a call that somebody wrote onto a span around it, which itself is no call.
BORROWED: Final = "borrowed"

NESTED: Final = "nested"
DUPLICATE: Final = "duplicate"
USAGE_ON_NESTED: Final = "usage_on_nested"

Because = Literal["nested", "duplicate", "usage_on_nested"]

# Far above any context window, and small enough that sums stay inside 64 bits.
_MOST_TOKENS: Final = 10**12
_MOST_USD: Final = 10.0**9

# Costs are added as whole numbers of this: a sum of floats depends on its order, ours must not.
_UNITS_PER_USD: Final = 10**15

_TOKEN_FIELDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call spent; null is unknown.

    `input_tokens` includes cached tokens and `output_tokens` reasoning, as the conventions want it.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None
    flags: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, flags: Iterable[str] = (), **raw: object) -> Usage:
        """Read usage from values of any kind; what is no count is refused, and nothing ever raises.

        Args:
            flags: Flags to begin with, as an earlier reading left them.
            **raw: Any other of this class's fields by name. Other names are ignored, None is
                unknown.

        Returns:
            The usage. Numbers may be of any kind, numpy's and decimals too. Booleans, text,
            negative, fractional, endless and absurd numbers become null and leave the flag
            `refused`. A given total is kept, and flagged `inconsistent_total` where its parts deny
            it; a missing one is the sum of both parts.
        """
        noted = list(flags)
        counts = {name: _count(raw.get(name), noted) for name in _TOKEN_FIELDS}
        given, produced = counts["input_tokens"], counts["output_tokens"]
        total = counts.pop("total_tokens")
        if total is None:
            if given is not None and produced is not None:
                total = given + produced
        elif given is not None and produced is not None:
            if total != given + produced:
                noted.append(INCONSISTENT_TOTAL)
        elif total < (given or 0) or total < (produced or 0):
            noted.append(INCONSISTENT_TOTAL)
        cost = _price(raw.get("cost_usd"), noted)
        once = tuple(dict.fromkeys(noted)) if noted else ()
        return cls(**counts, total_tokens=total, cost_usd=cost, flags=once)

    @property
    def known(self) -> bool:
        """Whether any number of tokens is known; a cost alone is no usage."""
        return (
            self.input_tokens is not None
            or self.output_tokens is not None
            or self.total_tokens is not None
            or self.cache_read_tokens is not None
            or self.cache_write_tokens is not None
            or self.reasoning_tokens is not None
        )


def _count(value: object, flags: list[str]) -> int | None:
    """A number of tokens, or None; what was given and is none is noted in `flags`."""
    if value is None:
        return None
    if type(value) is int and 0 <= value <= _MOST_TOKENS:
        return value
    number = _whole(value)
    if number is not None and 0 <= number <= _MOST_TOKENS:
        return number
    flags.append(REFUSED)
    return None


def _whole(value: object) -> int | None:
    """A whole number of any kind (numpy's, a decimal), or None; nothing that it does escapes."""
    number: Any = value
    try:
        if isinstance(number, bool):
            return None
        if hasattr(number, "__index__"):
            return index(number)
        # Its size is asked first, for a decimal of a few characters may have a million digits.
        if hasattr(number, "as_integer_ratio") and 0 <= number <= _MOST_TOKENS:
            whole = int(number)
            return whole if whole == number else None
    except Exception:  # noqa: BLE001 - a number of somebody else's
        return None
    return None


def _price(value: object, flags: list[str]) -> float | None:
    """An amount in US dollars, or None; what was given and is none is noted in `flags`."""
    if value is None:
        return None
    number: Any = value
    try:
        # Not-a-number fails the comparison too.
        if (
            (hasattr(number, "__index__") or hasattr(number, "as_integer_ratio"))
            and not isinstance(number, bool)
            and 0 <= number <= _MOST_USD
        ):
            return float(number)
    except Exception:  # noqa: BLE001, S110 - a number of somebody else's
        pass
    flags.append(REFUSED)
    return None


@dataclass(slots=True)
class Totals:
    """Sums over calls that skip what is unknown.

    A number is 0 while there is no call at all, and null where there are calls and none of them
    knows it.
    """

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cache_read_tokens: int | None = 0
    cache_write_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    total_tokens: int | None = 0
    llm_calls: int = 0
    tool_calls: int = 0
    calls_without_usage: int = 0
    unpriced_calls: int = 0
    _cost_units: int | None = field(default=0, repr=False)

    @property
    def cost_usd(self) -> float | None:
        """What the priced calls cost together, in US dollars."""
        return None if self._cost_units is None else self._cost_units / _UNITS_PER_USD

    def add(self, usage: Usage) -> None:
        """Add one counted call to a model."""
        cost = usage.cost_usd
        units = None if cost is None else round(cost * _UNITS_PER_USD)
        self._absorb(
            [getattr(usage, name) for name in _TOKEN_FIELDS], units, first=self.llm_calls == 0
        )
        self.llm_calls += 1
        self.calls_without_usage += not usage.known
        self.unpriced_calls += cost is None

    def merge(self, other: Totals) -> None:
        """Add what another sum has, as if its calls had been added here; order never matters."""
        if other.llm_calls:
            self._absorb(
                [getattr(other, name) for name in _TOKEN_FIELDS],
                other._cost_units,
                first=self.llm_calls == 0,
            )
        self.llm_calls += other.llm_calls
        self.tool_calls += other.tool_calls
        self.calls_without_usage += other.calls_without_usage
        self.unpriced_calls += other.unpriced_calls

    def as_dict(self) -> dict[str, int | float | None]:
        """Every number by its name, `cost_usd` among them."""
        counts: dict[str, int | float | None] = {
            name: getattr(self, name) for name in _TOKEN_FIELDS
        }
        return counts | {
            "cost_usd": self.cost_usd,
            "llm_calls": self.llm_calls,
            "tool_calls": self.tool_calls,
            "calls_without_usage": self.calls_without_usage,
            "unpriced_calls": self.unpriced_calls,
        }

    def _absorb(self, counts: list[int | None], units: int | None, *, first: bool) -> None:
        for name, count in zip(_TOKEN_FIELDS, counts, strict=True):
            setattr(self, name, count if first else _plus(getattr(self, name), count))
        self._cost_units = units if first else _plus(self._cost_units, units)


def _plus(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


@dataclass(frozen=True, slots=True)
class Call:
    """One record of a call to a model, as one instrumentation scope reported it.

    Times are nanoseconds since the epoch. Of several instrumentors in one process each must have a
    scope name of its own: two records of one scope are two calls.
    """

    span_id: str
    parent_span_id: str | None
    scope: str
    step_id: str | None
    model: str | None
    response_id: str | None
    started_ns: int
    ended_ns: int
    usage: Usage

    @property
    def borrowed(self) -> bool:
        """Whether a call's numbers were written onto this span, which is wider than the call."""
        return BORROWED in self.usage.flags


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
    known = sum(getattr(usage, name) is not None for name in _TOKEN_FIELDS)
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
