"""Says what a call to a model spent, as its record tells it, and what calls add up to.

Pure arithmetic: it knows no telemetry library, does no input or output, never raises at what a
stranger calls a number, and never answers "zero" for what nobody said. Which of several records
counts is for the tally to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BORROWED", "INCONSISTENT_TOTAL", "REFUSED", "TOKEN_FIELDS", "Call", "Totals", "Usage"]

REFUSED: Final = "refused"
INCONSISTENT_TOTAL: Final = "inconsistent_total"
# The numbers of a call that somebody wrote onto a span around it, which itself is no call.
BORROWED: Final = "borrowed"

# Far above any context window, and small enough that sums stay inside 64 bits.
_MOST_TOKENS: Final = 10**12
_MOST_USD: Final = 10.0**9

# Costs are added as whole numbers of this: a sum of floats depends on its order, ours must not.
_UNITS_PER_USD: Final = 10**15

TOKEN_FIELDS: Final = (
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
        counts = {name: _count(raw.get(name), noted) for name in TOKEN_FIELDS}
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
            [getattr(usage, name) for name in TOKEN_FIELDS], units, first=self.llm_calls == 0
        )
        self.llm_calls += 1
        self.calls_without_usage += not usage.known
        self.unpriced_calls += cost is None

    def merge(self, other: Totals) -> None:
        """Add what another sum has, as if its calls had been added here; order never matters."""
        if other.llm_calls:
            self._absorb(
                [getattr(other, name) for name in TOKEN_FIELDS],
                other._cost_units,
                first=self.llm_calls == 0,
            )
        self.llm_calls += other.llm_calls
        self.tool_calls += other.tool_calls
        self.calls_without_usage += other.calls_without_usage
        self.unpriced_calls += other.unpriced_calls

    def as_dict(self) -> dict[str, int | float | None]:
        """Every number by its name, `cost_usd` among them."""
        counts: dict[str, int | float | None] = {name: getattr(self, name) for name in TOKEN_FIELDS}
        return counts | {
            "cost_usd": self.cost_usd,
            "llm_calls": self.llm_calls,
            "tool_calls": self.tool_calls,
            "calls_without_usage": self.calls_without_usage,
            "unpriced_calls": self.unpriced_calls,
        }

    def _absorb(self, counts: list[int | None], units: int | None, *, first: bool) -> None:
        for name, count in zip(TOKEN_FIELDS, counts, strict=True):
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
