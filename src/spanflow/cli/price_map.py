"""Reads prices from where people keep them: LiteLLM's map, or a list of our own, as JSON.

LiteLLM itself is never run for that (it takes seconds): its map is a file beside it. What prices
mean for a ledger is not decided here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from spanflow.capture.providers import provider_name
from spanflow.errors import LedgerError
from spanflow.ledger.pricing import Price

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_prices"]

_MAP = "model_prices_and_context_window_backup.json"
_MODES = {"chat", "completion", "responses", "embedding", None}
_COSTS = {
    "input_usd_per_million": "input_cost_per_token",
    "output_usd_per_million": "output_cost_per_token",
    "cache_read_usd_per_million": "cache_read_input_token_cost",
    "cache_write_usd_per_million": "cache_creation_input_token_cost",
    "reasoning_usd_per_million": "output_cost_per_reasoning_token",
}
_STEP = re.compile(r"(?P<cost>\w+_cost|\w+_cost_per(?:_reasoning)?_token)_above_(?P<k>\d+)k_tokens")
_MILLION = 1_000_000


def read_prices(source: str) -> list[Price]:
    """Return the prices that a source tells, those of one model together.

    Args:
        source: ``litellm`` for its own map, or a file: a map like that, or a list of prices with
            the names of :class:`~spanflow.ledger.pricing.Price`.

    Raises:
        LedgerError: It is not there, or holds no prices.
    """
    file = _litellms_map() if source == "litellm" else Path(source)
    try:
        told: Any = json.loads(file.read_text("utf-8"), parse_float=Decimal, parse_int=Decimal)
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}."
        raise LedgerError(message) from None
    except ValueError as error:
        message = f"{file} is no JSON: {error}."
        raise LedgerError(message) from None
    name = "litellm" if source == "litellm" else file.name
    found = list(
        _from_map(cast("dict[str, Any]", told))
        if isinstance(told, dict)
        else _from_list(told, file)
    )
    if not found:
        message = f"{file} holds no prices: neither a map like LiteLLM's, nor a list of prices."
        raise LedgerError(message)
    return [replace(price, source=name) for price in found]


def _litellms_map() -> Path:
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        message = (
            'LiteLLM is not installed. Install it (pip install "spanflow[litellm]"), or name a '
            "file of prices with --from."
        )
        raise LedgerError(message)
    return Path(spec.origin).with_name(_MAP)


def _from_map(told: dict[str, Any]) -> Iterator[Price]:
    """Read LiteLLM's map; a model of one provider's may stand in it under several names."""
    seen: set[tuple[str, str | None]] = set()
    # Names with the provider in front go before plain ones, as LiteLLM itself looks them up.
    for key, entry in sorted(told.items(), key=lambda item: ("/" not in item[0], item[0])):
        if key == "sample_spec" or not isinstance(entry, dict):
            continue
        costs = cast("dict[str, Any]", entry)
        if costs.get("mode") not in _MODES or "input_cost_per_token" not in costs:
            continue
        served_by = costs.get("litellm_provider")
        model, provider = key, None
        if isinstance(served_by, str) and served_by:
            family = "vertex_ai" if served_by.startswith("vertex_ai") else served_by
            model = key.removeprefix(f"{served_by}/").removeprefix(f"{family}/")
            provider = provider_name(family)
        if (model, provider) not in seen:
            seen.add((model, provider))
            yield from _steps(model, provider, costs)


def _steps(model: str, provider: str | None, costs: dict[str, Any]) -> Iterator[Price]:
    """Yield a model's price, and those above each step of its input."""
    steps: defaultdict[int, dict[str, Any]] = defaultdict(dict, {0: costs})
    for key, value in costs.items():
        step = _STEP.fullmatch(key)
        if step is not None:
            steps[int(step["k"]) * 1_000][step["cost"]] = value
    rates: dict[str, Any] = {}
    for above in sorted(steps):
        # What a step does not say is as it was below it.
        rates |= {
            ours: _per_million(steps[above][theirs])
            for ours, theirs in _COSTS.items()
            if theirs in steps[above]
        }
        yield Price(model=model, provider=provider, above_input_tokens=above, **rates)


def _per_million(cost: object) -> Decimal | None:
    return cost * _MILLION if isinstance(cost, Decimal) and cost.is_finite() else None


def _from_list(told: Any, file: Path) -> Iterator[Price]:
    names = {field.name for field in fields(Price)} - {"source"}
    for row in cast("list[Any]", told) if isinstance(told, list) else []:
        try:
            given = {k: v for k, v in dict(row).items() if k in names}
            given |= {
                name: Decimal(value)
                for name, value in given.items()
                if name.endswith("_million") and value is not None
            }
            if "valid_from" in given:
                given["valid_from"] = date.fromisoformat(str(given["valid_from"])[:10])
            if "above_input_tokens" in given:
                given["above_input_tokens"] = int(given["above_input_tokens"])
            yield Price(**given)
        except (TypeError, ValueError, InvalidOperation) as error:
            message = f"{file}: {row!r} is no price: {error}."
            raise LedgerError(message) from None
