"""The boundary at which our own errors end: counted, told rarely, raised only in our tests."""

from __future__ import annotations

import inspect
import logging
import threading

import pytest

from spanflow import guard


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The guard's clock, to be set by the test, with errors swallowed as for everybody else."""
    now = [1_000.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    guard.set_strict(False)
    return now


@guard.guarded("tests.divide")
def divide(number: int, /, by: int = 1, *, times: int = 1) -> float:
    """Divide."""
    return number / by * times


def test_what_works_passes_through() -> None:
    assert divide(6, 3, times=2) == 4.0
    assert guard.counts() == {}


def test_a_guarded_function_keeps_its_name_and_signature() -> None:
    assert divide.__name__ == "divide"
    assert divide.__doc__ == "Divide."
    assert list(inspect.signature(divide).parameters) == ["number", "by", "times"]


@pytest.mark.usefixtures("clock")
def test_an_error_is_swallowed_and_counted_where_it_happened() -> None:
    assert divide(1, 0) is None
    assert divide(1, 0) is None
    guard.report("tests.other", ValueError("x"))
    assert guard.counts() == {"tests.divide": 2, "tests.other": 1}
    guard.counts().clear()
    assert guard.counts()["tests.divide"] == 2


def test_under_our_own_tests_an_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    with pytest.raises(ValueError, match="mine"):
        guard.report("tests.x", ValueError("mine"))


def test_something_malformed_never_raises() -> None:
    guard.diagnose("tests.malformed", "strange")
    assert guard.counts() == {"tests.malformed": 1}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_is_no_error_of_ours(leaving: type[BaseException]) -> None:
    @guard.guarded("tests.leave")
    def leave() -> None:
        raise leaving

    with pytest.raises(leaving):
        leave()
    assert guard.counts() == {}


def test_at_most_one_line_a_minute_whatever_goes_wrong(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        guard.diagnose(f"tests.{number % 7}", "strange")
        divide(1, 0)
    clock[0] += 59.9
    divide(1, 0)
    [only] = caplog.messages
    assert only == "spanflow: tests.0: strange. Your run is not affected."
    clock[0] += 0.1
    divide(1, 0)
    [_, second] = caplog.messages
    assert second.startswith("spanflow: tests.divide: ZeroDivisionError: division by zero")
    assert "(200 more since the last line)" in second
    clock[0] += 60
    divide(1, 0)
    assert "more since" not in caplog.messages[2]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@pytest.mark.usefixtures("clock")
def test_the_traceback_is_told_only_where_debug_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    divide(1, 0)
    assert caplog.records[0].exc_info is None
    guard.reset()
    caplog.set_level(logging.DEBUG, "spanflow")
    divide(1, 0)
    assert caplog.records[1].exc_info is not None


@pytest.mark.usefixtures("clock")
def test_a_reset_forgets_counts_and_the_last_line(caplog: pytest.LogCaptureFixture) -> None:
    divide(1, 0)
    divide(1, 0)
    guard.reset()
    assert guard.counts() == {}
    divide(1, 0)
    assert len(caplog.messages) == 2
    assert "more since" not in caplog.messages[1]


@pytest.mark.usefixtures("clock")
def test_threads_count_together(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        for _ in range(500):
            divide(1, 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.counts() == {"tests.divide": 4_000}
    assert len(caplog.messages) == 1
