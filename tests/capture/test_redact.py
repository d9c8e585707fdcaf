"""How texts, names and ids are redacted, cut, and what becomes of what cannot be."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow import guard, settings
from spanflow.capture import redact
from spanflow.capture.payload import (
    clean,
    clean_path,
    free_text,
    identifier,
    jsonable,
    payload_of,
    tail_of,
)
from spanflow.capture.redact import Redactor
from spanflow.errors import ConfigurationError
from spanflow.patterns import nothing_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIL = "ada@example.com"
UUID = "0190a1b2-1234-7123-8123-012345678901"


@pytest.fixture(autouse=True)
def _unredacted() -> Iterator[None]:
    redact.use(())
    yield
    redact.use(())


class Person:
    """Says who it is."""

    def __repr__(self) -> str:
        return f"{'x' * 4_090}{MAIL}"


@given(
    st.integers(0, 3_000),
    st.integers(0, 2_000),
    st.sampled_from([MAIL, "4111 1111 1111 1111", "Bearer abc123def456ghi", "+49 170 1234567"]),
)
def test_nothing_is_cut_apart_unseen(before: int, after: int, secret: str) -> None:
    redact.use(["all"])
    text = f"{'- ' * before}{secret}{' -' * after}"
    for kept in (
        free_text(text, 1_000),
        tail_of(text, 1_000),
        payload_of(text, 1_000).text,
        payload_of([text], 1_000).text,
    ):
        assert len(kept) <= 1_000
        assert not any(part in kept for part in ("ada", "exam", "411", "111", "abc", "170"))


def test_a_text_that_is_cut_keeps_its_size_and_its_beginning() -> None:
    redact.use(["email"])
    kept = payload_of("x" * 20_000_000, 1_000)
    assert (kept.text, kept.truncated, kept.original_size) == ("x" * 1_000, True, 20_000_000)
    nested = payload_of({"a": "x" * 2_000}, 1_000)
    assert (nested.truncated, nested.original_size) == (True, 2_008)
    short = payload_of(f"to {MAIL}", 1_000)
    assert (short.text, short.truncated, short.original_size) == ("to [email]", False, 18)
    redact.use([nothing_kept])
    assert payload_of("x" * 20_000_000, 1_000).text == "[redacted]"
    assert tail_of("x" * 20_000, 1_000) == "[redacted]"


def test_every_text_in_a_value_is_redacted_and_the_value_is_as_it_was() -> None:
    redact.use(["email"])
    value: Any = {MAIL: [MAIL, (MAIL, {MAIL}), MAIL.encode(), 7, None], "p": Person()}
    value["self"] = value
    before = repr(value)
    kept = orjson.dumps(jsonable(value)).decode()
    assert "ada" not in kept
    assert "exam" not in kept
    assert kept.count("[email]") == 6
    assert repr(value) == before


def test_keys_that_differ_still_differ() -> None:
    redact.use(["email"])
    kept: Any = jsonable({"a@x.io": 1, "b@x.io": 2, "c": 3})
    assert sorted(kept.values()) == [1, 2, 3]
    assert kept["c"] == 3


def test_names_and_ids_that_are_replaced_stay_apart_and_the_same() -> None:
    redact.use(["email"])
    for function in (clean, identifier):
        one, other = function("a@x.io"), function("b@x.io")
        assert one.startswith("[email]#")
        assert one != other
        assert function("a@x.io") == one
        assert function(one) == one
        assert function("plain") == "plain"
        assert len(function("a@x.io " * 300, 128)) == 128
        assert function("a@x.io " * 300, 128) != function("a@x.io " * 301, 128)
    assert clean_path("sub/a@x.io") == f"sub/{clean('a@x.io')}"


@pytest.mark.parametrize("function", [nothing_kept, str.swapcase, lambda text: f"<{text}>"])
def test_an_id_that_was_replaced_or_made_by_chance_is_not_replaced_again(function: Any) -> None:
    redact.use([function])
    once = identifier("ada")
    assert once != "ada"
    assert identifier(once) == once
    assert clean(once) == once
    assert identifier(UUID) == UUID


def test_an_ending_like_ours_hides_nothing_from_the_patterns() -> None:
    redact.use(["email", nothing_kept])
    assert MAIL not in clean(f"{MAIL}#abcdefghijklmnop")


@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda _: 7, lambda _: b"x"])
def test_a_function_that_fails_drops_the_text_and_is_counted(broken: Any) -> None:
    redact.use([broken])
    assert free_text("some text", 100) == "[redacted]"
    assert clean("a name").startswith("[redacted]#")
    assert guard.counts() == {"redact.failed": 2}


def test_what_a_function_drops_is_no_failure() -> None:
    redact.use([lambda text: None if "secret" in text else text])
    assert jsonable(["a secret", "b"]) == ["[redacted]", "b"]
    assert guard.counts() == {}


def test_a_function_may_give_any_text() -> None:
    class Text(str):
        __slots__ = ()

    redact.use([lambda text: Text(f"{text}\ud800\0")])
    kept = free_text("a", 100)
    assert type(kept) is str
    assert kept.encode() == b"a?\0"


def test_a_function_is_imported_at_the_first_text(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("late_privacy")
    redact.use(["late_privacy:Rules.upper"])
    module.Rules = type("Rules", (), {"upper": staticmethod(str.upper)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "late_privacy", module)
    assert free_text("a", 100) == "A"


@pytest.mark.parametrize(
    "spec", ["no_such_module:function", "os:no_such", "os:sep", "os.path:join.x"]
)
def test_what_cannot_be_imported_closes_everything(
    caplog: pytest.LogCaptureFixture, spec: str
) -> None:
    redact.use([spec])
    assert free_text("a", 100) == "[redacted]"
    assert jsonable({"k": ["v", 1]}) == {"k": ["[redacted]", 1]}
    assert clean("intake") == "intake"
    assert clean(f"to {MAIL}").startswith("to [email]#")
    assert identifier("ada").startswith("[redacted]#")
    assert identifier(identifier("ada")) == identifier("ada")
    assert identifier(UUID) == UUID
    [message] = caplog.messages
    assert spec in message
    assert "every free text is replaced by [redacted]" in message
    with pytest.raises(ConfigurationError, match=spec):
        redact.use([spec, "email"], at_once=True)


def test_where_nobody_configured_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    state = redact._State  # noqa: SLF001 - a new process
    monkeypatch.setattr(state, "specs", None)
    monkeypatch.setenv("SPANFLOW_REDACT", "email")
    assert free_text(MAIL, 100) == "[email]"
    monkeypatch.setattr(state, "specs", None)
    monkeypatch.setattr(settings, "_warned", set())
    monkeypatch.setenv("SPANFLOW_REDACT", "emial")
    assert free_text("anything", 100) == "[redacted]"


def test_the_same_again_keeps_what_was_imported() -> None:
    redact.use(["email", str.upper])
    before = redact.current()
    redact.use(["email", str.upper])
    assert redact.current() is before
    redact.use([])
    assert redact.current() is None


@given(st.text(), st.integers(0, 50))
def test_any_text_is_redacted_within_its_limit(text: str, limit: int) -> None:
    redactor = Redactor(["all"])
    assert len(redactor.text(text, limit)) <= limit
    assert len(redactor.tail(text, limit)) <= max(limit, 0) or limit == 0
    assert len(redactor.name(text, limit)) <= max(limit, 17)
