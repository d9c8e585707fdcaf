"""One journey through five processes, and everything that must hold of it whatever the saver.

A pause; its answer on another worker; a further message whose process is killed inside a node; the
retry on a fourth; and a fork on a fifth that leaves from the killed one's checkpoint. The numbers
come from the program's script of tokens, not from ours.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from journeys.apps.approval import APPROVE, BOOK, INTAKE

if TYPE_CHECKING:
    from journeys.processes import Workers

INTAKE_TOKENS, APPROVE_TOKENS, BOOK_TOKENS = sum(INTAKE), sum(APPROVE), sum(BOOK)
HUMAN_S = 0.3


@dataclass
class Crossing:
    """What the five processes reported, and the ledger they left."""

    workers: Workers
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    asleep_ms: float = 0.0
    """No process ran for so long between question and answer,"""
    elapsed_ms: float = 0.0
    """and question and answer both lie within this."""

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        return self.workers.sql(query)

    @property
    def turns(self) -> dict[str, str]:
        """Each turn's id by what its process did."""
        ids = self.sql("SELECT turn_id FROM turns ORDER BY started_at")
        return dict(
            zip(("start", "answer", "say", "retry", "fork"), [i for (i,) in ids], strict=True)
        )


def cross(workers: Workers) -> Crossing:
    """Let five processes serve the thread."""
    made = Crossing(workers)
    began = time.monotonic()
    made.reports["start"] = workers.work("start")
    left = time.monotonic()
    time.sleep(HUMAN_S)
    made.asleep_ms = (time.monotonic() - left) * 1e3
    made.reports["answer"] = workers.work("answer")
    made.elapsed_ms = (time.monotonic() - began) * 1e3
    workers.work("say", returns=-signal.SIGKILL, DIE_IN="book")
    made.reports["retry"] = workers.work("retry")
    made.reports["fork"] = workers.work("fork")
    return made


def it_is_one_engagement(crossing: Crossing) -> None:
    assert crossing.sql(
        "SELECT name, status, turns, steps, errors, llm_calls, user_id, conversation_id "
        "FROM engagements"
    ) == [("booking", "completed", 5, 9, 0, 9, "ada", "t-1")]
    ids = crossing.sql("SELECT DISTINCT engagement_id FROM spans")
    assert len(ids) == 1
    exported = {span["attributes"]["spanflow.engagement.id"] for span in crossing.workers.spans}
    assert exported == {ids[0][0]}


def the_user_got_what_the_graph_returns(crossing: Crossing) -> None:
    first = ["hello", "intake"]
    done = [*first, "yes", "approved", "booked"]
    again = [*done, "again", "intake", "as before"]
    assert crossing.reports["start"]["log"] == first
    assert crossing.reports["start"]["asks"] == 1
    assert crossing.reports["answer"]["log"] == done
    assert crossing.reports["retry"]["log"] == [*again, "booked"]
    assert crossing.reports["fork"]["log"] == [*again, "cheaper", "booked"]


def every_turn_says_what_it_was(crossing: Crossing) -> None:
    assert crossing.sql(
        "SELECT kind, outcome, resolution, answers IS NOT NULL FROM turns ORDER BY started_at"
    ) == [
        ("new", "paused", None, False),
        ("resume", "completed", "approved", True),
        ("message", "interrupted", None, False),
        ("retry", "completed", None, False),
        ("fork", "completed", None, False),
    ]
    turns = crossing.turns
    previous = crossing.sql("SELECT previous_turn_id FROM turns ORDER BY started_at")
    assert [p for (p,) in previous] == [None, *list(turns.values())[:-1]]


def every_step_says_how_it_ended(crossing: Crossing) -> None:
    assert crossing.sql(
        "SELECT path, visit, status, replayed, total_tokens FROM steps ORDER BY started_at"
    ) == [
        ("intake", 1, "completed", False, INTAKE_TOKENS),
        ("approve", 1, "waiting", False, APPROVE_TOKENS),
        ("approve", 1, "completed", True, APPROVE_TOKENS),
        ("book", 1, "completed", False, BOOK_TOKENS),
        ("intake", 1, "completed", False, INTAKE_TOKENS),
        ("approve", 1, "completed", False, APPROVE_TOKENS),
        ("book", 1, "interrupted", False, BOOK_TOKENS),
        ("book", 1, "completed", True, BOOK_TOKENS),
        ("book", 1, "completed", False, BOOK_TOKENS),
    ]


def what_is_repeated_is_one_execution(crossing: Crossing) -> None:
    executions = dict(
        crossing.sql(
            "SELECT execution_id, list(path || ' ' || status ORDER BY started_at) "
            "FROM steps GROUP BY execution_id"
        )
    )
    assert None not in executions
    assert sorted(executions.values()) == [
        ["approve completed"],
        ["approve waiting", "approve completed"],
        ["book completed"],
        ["book completed"],
        ["book interrupted", "book completed"],
        ["intake completed"],
        ["intake completed"],
    ]


def the_wait_is_measured(crossing: Crossing) -> None:
    turns = crossing.turns
    [row] = crossing.sql(
        "SELECT kind, step_name, label, payload, resolution, is_open, turn_id, answered_turn_id, "
        "waited_ms, epoch_ns(answered_at) - epoch_ns(asked_at) FROM waits"
    )
    *facts, waited_ms, between_ns = row
    assert facts == [
        *("interrupt", "approve", "approval", None, "approved", False),
        *(turns["start"], turns["answer"]),
    ]
    assert crossing.asleep_ms <= waited_ms <= crossing.elapsed_ms
    assert abs(between_ns / 1e6 - waited_ms) < 0.01
    [(waiting_ms, working_ms)] = crossing.sql("SELECT waiting_ms, working_ms FROM engagements")
    assert crossing.asleep_ms <= waiting_ms <= crossing.elapsed_ms
    assert working_ms < crossing.elapsed_ms


def every_token_is_counted_once(crossing: Crossing) -> None:
    columns = "total_tokens, replayed_tokens, retried_tokens, forked_tokens"
    spent = [
        (INTAKE_TOKENS + APPROVE_TOKENS, 0, 0, 0),
        (APPROVE_TOKENS + BOOK_TOKENS, APPROVE_TOKENS, 0, 0),
        (INTAKE_TOKENS + APPROVE_TOKENS + BOOK_TOKENS, 0, 0, 0),
        (BOOK_TOKENS, 0, BOOK_TOKENS, 0),
        (BOOK_TOKENS, 0, 0, BOOK_TOKENS),
    ]
    assert crossing.sql(f"SELECT {columns} FROM turns ORDER BY started_at") == spent
    total = tuple(sum(column) for column in zip(*spent, strict=True))
    assert crossing.sql(f"SELECT {columns} FROM engagements") == [total]
    assert total == (142, 30, 4, 4)
    assert crossing.sql("SELECT sum(total_tokens) FROM llm_calls WHERE counted") == [(142,)]
    assert crossing.sql("SELECT sum(total_tokens) FROM llm_calls WHERE replayed") == [(30,)]


def the_fork_knows_where_it_left_from(crossing: Crossing) -> None:
    turns = crossing.turns
    [(origin, step)] = crossing.sql(
        "SELECT t.origin_turn_id, s.path FROM turns t "
        "LEFT JOIN steps s ON s.step_id = t.origin_step_id WHERE t.kind = 'fork'"
    )
    assert (origin, step) == (turns["say"], "approve")
    assert crossing.sql("SELECT count(*) FROM turns WHERE origin_turn_id IS NOT NULL") == [(1,)]


def the_history_has_every_change(crossing: Crossing) -> None:
    [(engagement,)] = crossing.sql("SELECT engagement_id FROM engagements")
    statuses = crossing.sql(f"SELECT status FROM status_history('{engagement}') ORDER BY since")
    assert [status for (status,) in statuses] == [
        *("active", "paused", "active", "completed", "active"),
        *("interrupted", "active", "completed", "active", "completed"),
    ]


def every_turn_links_to_the_one_before(crossing: Crossing) -> None:
    turns = crossing.turns
    exported = {
        span["context"]["span_id"].removeprefix("0x"): [
            (
                link["attributes"]["spanflow.link.kind"],
                link["context"]["span_id"].removeprefix("0x"),
            )
            for link in span["links"]
        ]
        for span in crossing.workers.spans
        if span["name"] == "invoke_workflow booking"
    }
    # What was killed exported nothing; those after it still point to it.
    assert exported == {
        turns["start"]: [],
        turns["answer"]: [("previous_turn", turns["start"])],
        turns["retry"]: [("previous_turn", turns["say"])],
        turns["fork"]: [("previous_turn", turns["retry"]), ("left_from", turns["say"])],
    }


def no_pause_is_an_error(crossing: Crossing) -> None:
    for span in crossing.workers.spans:
        assert span["status"] == {"status_code": "UNSET"}, span["name"]
        assert not [event for event in span["events"] if event["name"] == "exception"]


def one_read_on_another_worker_finds_the_thread(crossing: Crossing) -> None:
    reads = {does: len(report["reads"]) for does, report in crossing.reports.items()}
    assert reads["start"] <= 1  # a thread nobody has seen yet
    assert reads["answer"] == reads["retry"] == 1
    assert reads["fork"] <= 3  # what `update_state` wrote names nobody


CHECKS = [
    it_is_one_engagement,
    the_user_got_what_the_graph_returns,
    every_turn_says_what_it_was,
    every_step_says_how_it_ended,
    what_is_repeated_is_one_execution,
    the_wait_is_measured,
    every_token_is_counted_once,
    the_fork_knows_where_it_left_from,
    the_history_has_every_change,
    every_turn_links_to_the_one_before,
    no_pause_is_an_error,
    one_read_on_another_worker_finds_the_thread,
]
