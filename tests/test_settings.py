"""Every setting by environment and in code, and what becomes of wrong ones."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow import settings
from spanflow.errors import ConfigurationError, SpanflowError
from spanflow.patterns import nothing_kept
from spanflow.settings import Settings, load, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULTS: dict[str, Any] = {
    "enabled": True,
    "ledger": None,
    "goals": (),
    "global_steps": (),
    "idle_after": timedelta(minutes=30),
    "ingest": "background",
    "redact": (),
    "metadata_keys": None,
    "payload_bytes": 16_384,
    "accept_baggage": False,
    "state_keys": False,
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of ours is set, and no warning has been given yet."""
    for name in [name for name in os.environ if name.startswith("SPANFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "_warned", set())
    return None


def test_the_defaults_are_known_and_each_setting_says_what_it_is() -> None:
    assert load().model_dump() == DEFAULTS
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


_REDACT = ("email", "all", "app.privacy:clean")
GOOD = [
    ("enabled", "false", False, False),
    ("ledger", "traces.duckdb", Path("traces.duckdb"), Path("traces.duckdb")),
    ("ledger", "", "", None),
    ("goals", " submitted, ,paid,", ["submitted", "paid"], ("submitted", "paid")),
    ("goals", "one", "one", ("one",)),
    ("global_steps", "escalate", ("escalate",), ("escalate",)),
    ("idle_after", "2h", timedelta(hours=2), timedelta(hours=2)),
    ("idle_after", "90", "90s", timedelta(seconds=90)),
    ("ingest", "exit", "exit", "exit"),
    ("ingest", "off", "off", "off"),
    ("redact", "email, all,app.privacy:clean", "email,all,app.privacy:clean", _REDACT),
    ("metadata_keys", "plan, tier", ["plan", "tier"], ("plan", "tier")),
    ("metadata_keys", ",", [], ()),
    ("metadata_keys", "", "", None),
    ("payload_bytes", "1024", 1024, 1024),
    ("accept_baggage", "true", True, True),
    ("state_keys", "1", True, True),
]


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_a_setting_by_variable_and_in_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: tuple[Any, ...]
) -> None:
    name, text, value, expected = case
    assert getattr(load(**{name: value}), name) == expected
    monkeypatch.setenv(f"SPANFLOW_{name.upper()}", text)
    assert load().model_dump() == {**DEFAULTS, name: expected}
    assert caplog.messages == []


def test_what_is_given_in_code_wins_and_none_means_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPANFLOW_GOALS", "from_environment")
    assert load(goals=["in_code"]).goals == ("in_code",)
    assert load(goals=None).goals == ("from_environment",)
    assert load(goals=()).goals == ()


WRONG = [
    ("enabled", "perhaps", "perhaps"),
    ("idle_after", "soon", "soon"),
    ("idle_after", "-5m", timedelta(0)),
    ("ingest", "later", "later"),
    ("payload_bytes", "many", "many"),
    ("payload_bytes", "0", 0),
    ("payload_bytes", "1e9", 10**9),
]


@pytest.mark.parametrize(("name", "text"), [case[:2] for case in WRONG])
def test_a_wrong_variable_warns_once_and_its_default_holds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    monkeypatch.setenv(f"SPANFLOW_{name.upper()}", text)
    monkeypatch.setenv("SPANFLOW_GOALS", "submitted")
    for _ in range(3):
        assert load().model_dump() == {**DEFAULTS, "goals": ("submitted",)}
    [message] = caplog.messages
    assert f"SPANFLOW_{name.upper()}={text!r} is ignored" in message
    assert repr(DEFAULTS[name]) in message
    assert str(Settings.model_fields[name].description) in message


@pytest.mark.parametrize(("name", "value"), [(case[0], case[2]) for case in WRONG])
def test_a_wrong_value_in_code_raises_and_says_what_to_do(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(**{name: value})
    message = str(raised.value)
    assert message.startswith(f"{name}={value!r}: ")
    assert str(Settings.model_fields[name].description) in message
    assert isinstance(raised.value, SpanflowError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("text", ["emial", "email,no such", "os.path", "1x:y", "a:b:c", ":"])
def test_a_wrong_redaction_redacts_everything(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setenv("SPANFLOW_REDACT", text)
    assert load().redact == (nothing_kept,)
    assert load().redact == (nothing_kept,)
    [message] = caplog.messages
    assert f"SPANFLOW_REDACT={text!r} is ignored" in message
    assert "until it is mended, [redacted] holds" in message
    monkeypatch.delenv("SPANFLOW_REDACT")
    with pytest.raises(ConfigurationError, match="neither a built-in pattern nor"):
        load(redact=text)


def test_a_redaction_in_code_is_a_function_or_a_list_of_names_and_functions() -> None:
    assert load(redact=str.upper).redact == (str.upper,)
    assert load(redact=["email", str.upper]).redact == ("email", str.upper)
    for wrong in (1, [1], {"email": 2.5}.values()):
        with pytest.raises(ConfigurationError, match="redact="):
            load(redact=wrong)


def test_several_wrong_variables_are_each_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANFLOW_INGEST", "later")
    monkeypatch.setenv("SPANFLOW_IDLE_AFTER", "soon")
    assert load().model_dump() == DEFAULTS
    assert len(caplog.messages) == 2


def test_a_right_value_in_code_saves_from_a_wrong_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANFLOW_IDLE_AFTER", "soon")
    assert load(idle_after="1h").idle_after == timedelta(hours=1)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SPANFLOW_GAOLS", "Did you mean SPANFLOW_GOALS?"),
        ("SPANFLOW_IDLE", "Did you mean SPANFLOW_IDLE_AFTER?"),
        ("SPANFLOW_XYZZY_QUUX_42", "SPANFLOW_PAYLOAD_BYTES"),
    ],
)
def test_an_unknown_variable_warns_once_with_the_near_miss(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "x")
    load()
    load()
    [message] = caplog.messages
    assert f"{variable} is not a variable of spanflow." in message
    assert hint in message


@pytest.mark.parametrize(("name", "hint"), [("gaols", "goals"), ("xyzzy", "payload_bytes")])
def test_an_unknown_setting_in_code_raises_with_the_near_miss(name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no setting '{name}'.*{hint}"):
        load(**{name: 1})


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().goals = ("other",)  # type: ignore[misc]


UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@given(st.integers(0, 10_000), st.sampled_from(sorted(UNITS)))
def test_durations_are_read_as_they_are_written(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") == timedelta(seconds=number * UNITS[unit])
    assert parse_duration(f"{number}.5{unit}") == timedelta(seconds=(number + 0.5) * UNITS[unit])


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_plain_seconds_are_a_duration(duration: timedelta) -> None:
    assert parse_duration(repr(duration.total_seconds())) == duration
    assert parse_duration(f"{duration.total_seconds()!r}s") == duration


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        found = parse_duration(text)
    except ValueError:
        with pytest.raises(ValueError, match="is no duration; write it like 90s"):
            parse_duration(text)
    else:
        assert isinstance(found, timedelta)


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_no_value_in_the_environment_raises(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in DEFAULTS:
            patch.setenv(f"SPANFLOW_{name.upper()}", text)
        load()
