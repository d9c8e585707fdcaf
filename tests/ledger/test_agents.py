"""Several agents in one graph: who handed over to whom, and how often."""

from __future__ import annotations


def handoffs(make, ledger):
    rows = make.ask(ledger, "SELECT from_agent, to_agent, handoffs FROM handoffs ORDER BY ALL")
    return [tuple(row.values()) for row in rows]


def acts(make, number, name, *when_and_who, **fields):
    at, agent = when_and_who
    return make.step(number, name, at=at, agent_name=agent, **fields)


def test_ping_pong_between_two_agents_is_seen(ledger, make):
    agents = ["desk", "billing", "desk", "billing", "desk"]
    make.write(
        ledger,
        [
            make.turn(until=99),
            *(acts(make, 2 + nth, agent, nth * 2, agent) for nth, agent in enumerate(agents)),
            # Nobody's step stands between them, and an agent that goes on hands nothing over.
            make.step(20, "route", at=3),
            acts(make, 21, "again", 10, "desk"),
        ],
    )
    assert handoffs(make, ledger) == [("billing", "desk", 2), ("desk", "billing", 2)]
    [row] = make.ask(ledger, "SELECT first_at, last_at FROM handoffs WHERE to_agent = 'billing'")
    assert (row["last_at"] - row["first_at"]).total_seconds() == 0.004


def test_only_who_acts_counts_and_not_who_is_around_it(ledger, make):
    make.write(
        ledger,
        [
            make.turn(until=99),
            acts(make, 2, "supervisor", 0, "supervisor"),
            acts(make, 3, "team", 2, "supervisor"),
            acts(make, 4, "model", 3, "writer", path="team/model", parent_step_id=3),
            acts(make, 5, "tools", 5, "writer", path="team/tools", parent_step_id=3),
            acts(make, 6, "supervisor", 8, "supervisor"),
        ],
    )
    assert handoffs(make, ledger) == [("supervisor", "writer", 1), ("writer", "supervisor", 1)]


def test_a_pause_is_no_handoff_and_a_new_message_begins_anew(ledger, make):
    make.write(
        ledger,
        [
            make.turn(1, until=10, status="paused"),
            acts(make, 2, "a", 1, "desk", status="waiting"),
            make.turn(11, at=20, until=30, turn_kind="resume"),
            acts(make, 12, "a", 21, "desk", turn=11),
            acts(make, 13, "b", 23, "billing", turn=11),
            make.turn(21, at=40, until=50, turn_kind="message"),
            acts(make, 22, "a", 41, "desk", turn=21),
        ],
    )
    assert handoffs(make, ledger) == [("desk", "billing", 1)]
