"""Questions of plain code, which has no thread, beside those of graphs on threads of their own."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow.ledger.waits import Asked, Asking, settle_waits


def asks(make, turn, at, *names, thread=None, kind="new", **fields):
    """A turn that asks each question in a step of its own, at its end, 10 ms later."""
    asked = [
        make.step(
            turn + 1 + nth,
            f"ask_{name}",
            turn=turn,
            at=at,
            until=at + 10,
            status="waiting",
            execution_id=f"{name:>016}",
            events=[
                {
                    "kind": "wait",
                    "name": "wait",
                    "at_ns": make.T0 + (at + 10) * make.MS,
                    "payload": {"id": name},
                }
            ],
        )
        for nth, name in enumerate(names)
    ]
    told = {"turn_kind": kind, "conversation_id": thread, "status": "paused"}
    return [make.turn(turn, at=at, until=at + 10, **told, **fields), *asked]


def goes_on(make, turn, at, thread=None, *, answers=("*",), **fields):
    fields = {"turn_kind": "resume", "answers": list(answers)} | fields
    return [make.turn(turn, at=at, until=at + 10, conversation_id=thread, **fields)]


def begins(make, turn, at, thread=None, **fields):
    told = {"turn_kind": "message", "conversation_id": thread} | fields
    return [make.turn(turn, at=at, until=at + 10, **told)]


def found(make, ledger):
    rows = make.ask(
        ledger, "SELECT interrupt_id, resolution, waited_ms FROM waits ORDER BY interrupt_id"
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize(("asked", "answered"), [(None, "t"), ("t", None), (None, None)])
def test_plain_code_and_graphs_answer_each_other(ledger, make, asked, answered):
    make.write(
        ledger,
        [
            *asks(make, 10, 0, "p", thread=asked),
            *goes_on(make, 20, 100, answered, resolution="gave_up"),
        ],
    )
    assert found(make, ledger) == [("p", "gave_up", 90.0)]
    [step] = make.ask(ledger, "SELECT waiting_ms FROM steps")
    assert step == {"waiting_ms": 90.0}
    turns = make.ask(ledger, "SELECT resolution FROM turns ORDER BY started_at")
    assert [turn["resolution"] for turn in turns] == [None, "gave_up"]


@pytest.mark.parametrize(("asked", "later"), [(None, "t"), ("t", None)])
def test_what_begins_anew_gives_up_what_was_asked_beside_it(ledger, make, asked, later):
    make.write(ledger, [*asks(make, 10, 0, "p", thread=asked), *begins(make, 20, 100, later)])
    assert found(make, ledger) == [("p", "superseded", 90.0)]


def test_threads_of_one_engagement_have_nothing_to_do_with_each_other(ledger, make):
    make.write(
        ledger,
        [
            *asks(make, 10, 0, "p", thread="t"),
            *asks(make, 20, 100, "q", thread="u"),
            *goes_on(make, 30, 200, "v"),
            *begins(make, 40, 300, "w"),
        ],
    )
    assert found(make, ledger) == [("p", None, None), ("q", None, None)]
    rows = make.ask(ledger, "SELECT resolution FROM turns ORDER BY started_at")
    assert [row["resolution"] for row in rows] == [None, None, "conflict", None]
    # Who gives up in plain code gives up all of it.
    make.write(ledger, goes_on(make, 50, 400, resolution="expired"))
    assert found(make, ledger) == [("p", "expired", 390.0), ("q", "expired", 290.0)]


def test_a_thread_with_two_questions_needs_a_name_and_plain_code_means_both(ledger, make):
    answer = goes_on(make, 30, 100, "t", status="left")
    make.write(ledger, [*asks(make, 10, 0, "p", "q", thread="t"), *answer])
    assert found(make, ledger) == [("p", None, None), ("q", None, None)]
    make.write(ledger, goes_on(make, 40, 200))
    assert found(make, ledger) == [("p", "answered", 190.0), ("q", "answered", 190.0)]


@pytest.mark.parametrize("kind", ["remote", None])
def test_a_service_or_a_turn_nobody_knows_ends_no_question_of_plain_code(ledger, make, kind):
    make.write(
        ledger,
        [
            *asks(make, 10, 0, "p"),
            *asks(make, 20, 20, "q", thread="s", kind="remote"),
            *begins(make, 30, 100, "t", turn_kind=kind),
        ],
    )
    assert found(make, ledger) == [("p", None, None), ("q", None, None)]
    # Nor does plain code answer what a service waits for on a thread of its own.
    make.write(ledger, goes_on(make, 40, 200))
    assert found(make, ledger) == [("p", "answered", 190.0), ("q", None, None)]


def test_a_question_that_a_thread_asks_again_was_not_answered_by_plain_code(ledger, make):
    make.write(
        ledger,
        [
            *asks(make, 10, 0, "p", thread="t"),
            *goes_on(make, 20, 100),
            *asks(make, 30, 200, "p", thread="t", kind="retry"),
        ],
    )
    assert found(make, ledger) == [("p", None, None)]


def test_the_order_of_arrival_changes_nothing(tmp_path, make):
    turns = [
        asks(make, 10, 0, "p", thread="t"),
        goes_on(make, 20, 100, resolution="approved"),
        asks(make, 30, 200, "q", kind="message"),
        asks(make, 40, 300, "r", thread="u", kind="message"),
        goes_on(make, 50, 400, "t"),
        goes_on(make, 60, 500),
    ]
    orders = [turns, turns[::-1], turns[3:] + turns[:3], turns[1::2] + turns[::2]]
    answers = []
    for nth, order in enumerate(orders):
        ledger = tmp_path / f"{nth}.duckdb"
        for records in order:
            make.write(ledger, records)
            make.ask(ledger, "FROM waits")
        rows = make.ask(ledger, "SELECT turn_id, kind, resolution FROM turns ORDER BY turn_id")
        answers.append((found(make, ledger), rows))
        make.close(ledger)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == [
        ("p", "approved", 90.0),
        ("q", "superseded", 90.0),
        ("r", "answered", 190.0),
    ]
    assert answers[0][1][4]["resolution"] == "conflict"


TURNS = st.lists(
    st.tuples(
        st.sampled_from([None, "t", "u"]),
        st.sampled_from(["message", "resume", "remote"]),
        st.booleans(),
    ),
    max_size=9,
)


@given(TURNS)
def test_the_first_turn_that_meets_a_question_ends_it(drawn):
    turns = [
        Asking(
            str(number),
            str(number),
            # As a service without a thread, or on one.
            "message" if kind == "remote" and thread else kind,
            "paused" if is_asking else "completed",
            number * 100,
            answers=("*",) if kind == "resume" else None,
            questions=(Asked(f"q{number}", "interrupt", number * 100 + 50),) if is_asking else (),
            conversation_id=thread,
            is_apart=kind == "remote" and thread is not None,
        )
        for number, (thread, kind, is_asking) in enumerate(drawn)
    ]
    threads, kinds = [one[0] for one in drawn], [one[1] for one in drawn]

    def meet(one, other):
        if threads[one] == threads[other]:
            return True
        is_service = any(kinds[n] == "remote" and threads[n] for n in (one, other))
        return not is_service and None in (threads[one], threads[other])

    rows, resolved = settle_waits(turns)
    wanted, told = {}, dict.fromkeys((n for n, kind in enumerate(kinds) if kind == "resume"))
    for asked, later in itertools.product(range(len(drawn)), repeat=2):
        if not drawn[asked][2] or later <= asked or asked in wanted or not meet(asked, later):
            continue
        if kinds[later] == "remote" and threads[later] is None:
            continue
        wanted[asked] = (str(later), "answered" if kinds[later] == "resume" else "superseded")
        if later in told:
            told[later] = "answered"
    assert {
        int(turn): (row.answered_turn_id, row.resolution)
        for (turn, _), row in rows.items()
        if row.resolution
    } == wanted
    assert resolved == {str(number): word or "conflict" for number, word in told.items()}
