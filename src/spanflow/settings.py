"""Every environment variable spanflow reads: its name, type, default and one sentence.

Values from the environment never raise: a wrong one warns once and that setting's default holds.
Wrong values given in code raise :class:`~spanflow.errors.ConfigurationError`. Heavy to import
(pydantic), so nobody imports it at start-up.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from spanflow.errors import ConfigurationError
from spanflow.patterns import BUILT_IN, Replacement, nothing_kept

__all__ = ["Settings", "load", "parse_duration"]

_logger = logging.getLogger("spanflow")
_PREFIX = "SPANFLOW_"
_NAMED = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*").fullmatch
_INSTEAD: dict[str, Any] = {"redact": (nothing_kept,)}
"""What holds where a variable is wrong and the default would keep what was not to be kept."""
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_warned: set[str] = set()

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What can be set, in code or by environment (``SPANFLOW_`` and the name in capitals)."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    enabled: bool = Field(default=True, description="Whether runs are captured at all.")
    ledger: Path | None = Field(
        default=None, description="Path of the DuckDB ledger; unset means no ledger and no file."
    )
    goals: Names = Field(
        default=(),
        description="Steps (comma-separated) that mean the user got what they came for.",
    )
    global_steps: Names = Field(
        default=(),
        description="Steps (comma-separated) that can fire from anywhere and re-route the user's "
        "intent.",
    )
    idle_after: timedelta = Field(
        default=timedelta(minutes=30),
        description="Silence after which a paused or unfinished engagement counts as abandoned "
        "(30m, 2h, 90s).",
    )
    ingest: Literal["background", "exit", "off"] = Field(
        default="background",
        description="When this process loads its journal into the ledger: every few seconds, "
        "at exit, or never.",
    )
    redact: Annotated[tuple[str | Replacement, ...], NoDecode] = Field(
        default=(),
        description="What is taken out of every text before it is kept: built-in patterns "
        f"(comma-separated: {', '.join(BUILT_IN)}, all), or package.module:function.",
    )
    metadata_keys: Names | None = Field(
        default=None,
        description="The only keys (comma-separated) of a run's metadata that are kept; unset "
        "means all.",
    )
    payload_bytes: int = Field(
        default=16_384,
        ge=256,
        le=16_777_216,
        description="Longest payload kept in the ledger; longer ones are cut and their size is "
        "noted.",
    )

    accept_baggage: bool = Field(
        default=False,
        description="Whether a request's baggage may say which engagement it is part of.",
    )
    state_keys: bool = Field(
        default=False,
        description="Whether tool_calls, llm_calls, events and extraction that a node returns in "
        "its state are recorded.",
    )

    @field_validator("goals", "global_steps", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _listed(value)

    @field_validator("metadata_keys", mode="before")
    @classmethod
    def _no_empty_list(cls, value: object) -> object:
        return None if value == "" else _listed(value)

    @field_validator("redact", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if callable(value) else _listed(value)

    @field_validator("redact")
    @classmethod
    def _known(cls, value: tuple[str | Replacement, ...]) -> tuple[str | Replacement, ...]:
        for spec in value:
            if isinstance(spec, str) and spec not in {*BUILT_IN, "all"} and not _NAMED(spec):
                msg = f"{spec!r} is neither a built-in pattern nor package.module:function"
                raise ValueError(msg)
        return value

    @field_validator("ledger", mode="before")
    @classmethod
    def _no_empty_path(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("idle_after", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return parse_duration(value) if isinstance(value, str) else value

    @field_validator("idle_after")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            msg = "must be longer than nothing"
            raise ValueError(msg)
        return value

    @property
    def told_idle_after(self) -> timedelta | None:
        """What somebody said of idleness; None leaves a ledger's own value alone."""
        return self.idle_after if "idle_after" in self.model_fields_set else None


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``30m``, ``2h``, ``7d`` or plain seconds.

    Raises:
        ValueError: The text is no duration.
    """
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "s")
    try:
        return timedelta(seconds=float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        msg = f"{text!r} is no duration; write it like 90s, 30m, 2h or 7d"
        raise ValueError(msg) from None


def load(**overrides: Any) -> Settings:
    """Read the environment, with `overrides` from code on top.

    Raises:
        ConfigurationError: An override is unknown or wrong. What the environment says wrongly only
            warns.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    for name in given:
        if name not in Settings.model_fields:
            msg = f"configure() has no setting {name!r}.{_near(name, Settings.model_fields)}"
            raise ConfigurationError(msg)
    _warn_unknown()
    try:
        return Settings(**given)
    except pydantic.ValidationError as error:
        fallback = dict(given)
        for problem in error.errors():
            name = str(problem["loc"][0])
            if name in given:
                msg = f"{name}={given[name]!r}: {problem['msg']} ({_describe(name)})"
                raise ConfigurationError(msg) from None
            variable = _variable(name)
            default: Any = _INSTEAD.get(name, Settings.model_fields[name].default)
            holds = repr(default) if name not in _INSTEAD else "until it is mended, [redacted]"
            _warn_once(
                variable,
                f"{variable}={os.environ.get(variable, '')!r} is ignored: {problem['msg']}; "
                f"{holds} holds. {_describe(name)}",
            )
            fallback[name] = default
        return Settings(**fallback)


def _warn_unknown() -> None:
    known = {_variable(name) for name in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith(_PREFIX) and variable not in known:
            _warn_once(
                variable, f"{variable} is not a variable of spanflow.{_near(variable, known)}"
            )


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else f" It reads {', '.join(sorted(known))}."


def _variable(name: str) -> str:
    return _PREFIX + name.upper()


def _describe(name: str) -> str:
    return Settings.model_fields[name].description or ""


def _warn_once(key: str, message: str) -> None:
    if key not in _warned:
        _warned.add(key)
        _logger.warning("spanflow: %s", message)
