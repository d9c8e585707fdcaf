"""Questions and answers: which resume answered what, when, and what is left open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spanflow.ledger.waits import Asked, Asking, settle_waits
from spanflow.query.journeys import connect
from spanflow.query.proof import digest_of, verdict_on


def question(make, name, at, /, **payload):
    return {
        "kind": "wait",
        "name": "wait",
        "at_ns": make.T0 + at * make.MS,
        "payload": {"id": name, **payload},
    }


def pause(make, turn, at, *names, kind="new", **fields):
    """A turn that asks each question in a step of its own, at its end, 10 ms later."""
    until = at + 10
    return [
        make.turn(
            turn, at=at, until=until, status="paused", turn_kind=kind, on_thread=True, **fields
        ),
        *(
            make.step(
                turn + 1 + nth,
                f"ask_{name}",
                turn=turn,
                at=at + 1,
                until=until,
                status="waiting",
                execution_id=f"{name:>016}",
                events=[question(make, name, until, awaiting=f"about {name}")],
            )
            for nth, name in enumerate(names)
        ),
    ]


def goes_on(make, turn, at, *answers, **fields):
    given = {"answers": list(answers)} if answers else {}
    fields = {"turn_kind": "resume", "on_thread": True} | given | fields
    return [make.turn(turn, at=at, until=at + 10, **fields), make.step(turn + 1, "b", turn=turn)]


def found(make, ledger, columns="interrupt_id, resolution, is_open, waited_ms"):
    rows = make.ask(ledger, f"SELECT {columns} FROM waits ORDER BY asked_at, interrupt_id")
    return [tuple(row.values()) for row in rows]


def resolutions(make, ledger):
    rows = make.ask(ledger, "SELECT resolution FROM turns ORDER BY started_at")
    return [row["resolution"] for row in rows]


def test_questions_asked_side_by_side_are_answered_one_by_one(ledger, make):
    make.write(
        ledger,
        [
            *pause(make, 10, 0, "p", "q"),
            *pause(make, 20, 100, "q", kind="resume", answers=["p"]),
            *goes_on(make, 30, 200, "q", resolution="approved"),
        ],
    )
    assert found(make, ledger, "interrupt_id, label, resolution, is_open, waited_ms, turn_id") == [
        ("p", "about p", "answered", False, 90.0, make.ident(10)),
        ("q", "about q", "approved", False, 190.0, make.ident(10)),
    ]
    assert resolutions(make, ledger) == [None, "answered", "approved"]
    steps = make.ask(ledger, "SELECT name, waiting_ms FROM steps ORDER BY started_at, name")
    assert [tuple(row.values()) for row in steps[:3]] == [
        ("b", None),
        ("ask_p", 90.0),
        ("ask_q", 190.0),
    ]


def test_an_answer_without_a_name_answers_the_only_question_and_none_of_two(ledger, make):
    make.write(
        ledger,
        [
            *pause(make, 10, 0, "p", "q"),
            # The framework refuses to guess, before any step.
            make.turn(20, at=100, until=101, status="failed", turn_kind="resume", answers=["*"]),
            *pause(make, 30, 200, "q", kind="resume", answers=["p"]),
            *goes_on(make, 40, 300, "*"),
        ],
    )
    assert found(make, ledger) == [("p", "answered", False, 190.0), ("q", "answered", False, 290.0)]
    assert resolutions(make, ledger) == [None, None, "answered", "answered"]


def test_two_who_answer_one_question(ledger, make):
    make.write(
        ledger,
        [*pause(make, 10, 0, "p"), *goes_on(make, 20, 100, "p"), *goes_on(make, 30, 105, "*")],
    )
    assert found(make, ledger) == [("p", "answered", False, 90.0)]
    assert resolutions(make, ledger) == [None, "answered", "conflict"]


def test_new_input_supersedes_what_is_open(ledger, make):
    make.write(ledger, [*pause(make, 10, 0, "p"), *goes_on(make, 20, 100, turn_kind="message")])
    assert found(make, ledger) == [("p", "superseded", False, 90.0)]
    assert make.ask(ledger, "SELECT count(*) AS n FROM engagements") == [{"n": 1}]


def test_a_fork_asks_anew(ledger, make):
    make.write(
        ledger,
        [
            *pause(make, 10, 0, "p"),
            *goes_on(make, 20, 100, "p"),
            *pause(make, 30, 200, "p", kind="fork"),
        ],
    )
    assert found(make, ledger) == [
        ("p", "answered", False, 90.0),
        ("p", None, True, None),
    ]


def test_breakpoints_are_waits_of_their_turn(ledger, make):
    def stop(turn, at, place, **fields):
        note = question(make, f"{place}:pay/check", at + 10, at=place, step="pay/check", **fields)
        return note, make.turn(
            turn,
            at=at,
            until=at + 10,
            status="paused",
            on_thread=True,
            turn_kind="resume" if at else "new",
            events=[note],
        )

    _, before = stop(10, 0, "before")
    _, after = stop(20, 100, "after", step_id=make.ident(21))
    _, again = stop(30, 200, "before")
    make.write(
        ledger,
        [before, after, make.step(21, "check", path="pay/check", turn=20, at=101), again],
    )
    columns = "kind, step_id, step_name, path, resolution, is_open"
    assert found(make, ledger, columns) == [
        ("before", None, "check", "pay/check", "answered", False),
        ("after", make.ident(21), "check", "pay/check", "answered", False),
        ("before", None, "check", "pay/check", None, True),
    ]
    late = "as_of := TIMESTAMP '2100-01-01'"
    asked = make.ask(ledger, f"SELECT status, dropped_at FROM engagements({late})")
    assert asked == [{"status": "abandoned", "dropped_at": "pay/check"}]
    with connect(ledger) as opened:
        first, second, _ = opened.engagement("e1").history
    assert [one.kind for one in first.waits + second.waits] == ["before", "after"]


def test_what_is_asked_of_the_past_was_open_then(ledger, make):
    make.write(ledger, [*pause(make, 10, 0, "p"), *goes_on(make, 20, 100, "p")])
    for ms, wanted in ((5, []), (50, [(True, None, None)]), (100, [(False, "answered", 90.0)])):
        moment = f"TIMESTAMP '2026-09-21 14:13:20.{ms:03}'"
        rows = make.ask(
            ledger, f"SELECT is_open, resolution, waited_ms FROM waits(as_of := {moment})"
        )
        assert [tuple(row.values()) for row in rows] == wanted, ms


def test_only_the_innermost_step_asks_and_all_around_it_wait(ledger, make):
    records = pause(make, 10, 0, "p")
    records[1] |= {"parent_step_id": make.ident(15), "path": "sub/ask_p"}
    records.append(make.step(15, "sub", turn=10, at=0, until=10, status="waiting"))
    make.write(ledger, [*records, *goes_on(make, 20, 100, "p")])
    assert found(make, ledger, "path, waited_ms") == [("sub/ask_p", 90.0)]
    steps = make.ask(ledger, "SELECT path, waiting_ms FROM steps WHERE status = 'waiting'")
    assert sorted(tuple(row.values()) for row in steps) == [("sub", 90.0), ("sub/ask_p", 90.0)]


def test_a_resume_without_an_answer_after_what_was_cut_off_is_a_retry(ledger, make):
    make.write(
        ledger,
        [
            make.turn(10, at=0, until=10, status="failed"),
            make.turn(20, at=20, until=30, turn_kind="resume"),
            make.turn(30, at=40, until=50, turn_kind="resume"),
        ],
    )
    kinds = make.ask(ledger, "SELECT kind FROM turns ORDER BY started_at")
    assert [row["kind"] for row in kinds] == ["new", "retry", "resume"]


def test_the_order_of_arrival_changes_no_wait(ledger, make):
    records = [
        *pause(make, 10, 0, "p", "q"),
        *pause(make, 20, 100, "q", kind="resume", answers=["p"]),
        *goes_on(make, 30, 200, "q"),
    ]
    other = ledger.with_name("other.duckdb")
    make.write(ledger, records)
    for one in reversed(records):
        make.write(other, [one])
        make.ask(other, "FROM waits")
    both = [make.ask(path, "FROM waits ORDER BY ALL") for path in (ledger, other)]
    assert both[0] == both[1]
    assert verdict_on(other, "e1", digest_of(other, "e1")) == "same"
    make.close(other)


def test_two_people_answer_two_questions_at_once():
    def turn(name, at, until, kind, answers, **asked_at):
        asked = tuple(Asked(one, "interrupt", when) for one, when in asked_at.items())
        return Asking(name, "a", kind, "paused", at, 1, answers, None, asked, until)

    # Each runs the other's task again, and asks its question once more.
    turns = [
        turn("a", 0, 1_000, "new", None, p=900, q=900),
        turn("b", 2_000, 4_000, "resume", ("p",), q=3_000),
        turn("c", 2_500, 4_000, "resume", ("q",), p=3_100),
    ]
    rows, resolved = settle_waits(turns)
    assert {(name, row.is_first, row.answered_turn_id) for (name, _), row in rows.items()} == {
        ("a", True, "b"),
        ("a", True, "c"),
        ("b", False, "c"),
        ("c", False, "b"),
    }
    assert resolved == {"b": "answered", "c": "answered"}
    # What begins after an answer was through, and asks again, tells that it did not hold.
    rows, _ = settle_waits([*turns, turn("d", 5_000, 6_000, "retry", None, p=5_100)])
    assert rows["d", 0].resolution is None


NAMES = st.sampled_from(["p", "q", "r"])
TURNS = st.lists(
    st.tuples(
        st.sampled_from(["new", "message", "resume", "retry", "fork"]),
        st.sampled_from(["paused", "completed", "failed", None]),
        st.one_of(st.none(), st.lists(st.one_of(NAMES, st.just("*")), max_size=2).map(tuple)),
        st.lists(NAMES, max_size=3, unique=True),
        st.integers(0, 1),
    ),
    max_size=8,
)


@given(TURNS)
def test_whatever_happens_no_wait_ends_before_it_begins_and_none_is_told_twice(drawn):
    turns: list[Asking] = []
    chain = ""
    for number, (kind, outcome, answers, names, steps) in enumerate(drawn):
        chain = chain if chain and kind in ("resume", "retry") else str(number)
        asked = tuple(Asked(name, "interrupt", number * 100 + 50) for name in names)
        turns.append(
            Asking(
                str(number), chain, kind, outcome, number * 100, steps, answers, None,
                asked if outcome == "paused" else (),
            )
        )  # fmt: skip
    rows, resolved = settle_waits(turns)
    assert set(rows) == {
        (turn.turn_id, nth) for turn in turns for nth in range(len(turn.questions))
    }
    for (turn_id, _), row in rows.items():
        assert (row.answered_ns is None) == (row.resolution is None)
        if row.answered_ns is not None:
            assert row.answered_ns > turns[int(turn_id)].questions[0].asked_ns
    assert all(turns[int(turn)].answers is not None for turn in resolved)
    # Waits that are open at the end carry names of their own.
    still = [
        (turns[int(turn)].chain_id, turns[int(turn)].questions[nth].interrupt_id)
        for (turn, nth), row in rows.items()
        if row.is_first and row.resolution is None
    ]
    assert len(still) == len(set(still))
