"""Which answer belongs to which question: the arithmetic of an engagement's waits.

It knows turns and questions as they were told, and neither files nor SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Asked", "Asking", "Settled", "settle_waits"]

ANSWERED = "answered"
SUPERSEDED = "superseded"
CONFLICT = "conflict"
# What a resume says that names no question: the one that is open.
PENDING = "*"

_CUT_OFF = frozenset({"failed", "interrupted", "cancelled", "left"})
_GOES_ON = frozenset({"resume", "retry"})
_REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as one turn asked it.

    Attributes:
        interrupt_id: Its name; None where nobody told it.
        kind: ``interrupt``, ``before`` or ``after``.
        asked_ns: When.
    """

    interrupt_id: str | None
    kind: str
    asked_ns: int


@dataclass(frozen=True, slots=True)
class Asking:
    """A turn, as far as it asks and answers.

    Attributes:
        turn_id: Which one.
        chain_id: The first turn of its chain.
        kind: How it began: ``new``, ``message``, ``resume``, ``fork`` or ``retry``; ``remote`` for
            one that works for another turn and has nothing to do with what people are asked.
        outcome: How it ended; None while it is open.
        started_ns: When it began.
        steps: How many steps it took.
        answers: The questions it answers; None where it brings no answer.
        resolution: What the app calls its answer.
        questions: What it paused for.
        ended_ns: When it ended; None while that is unknown.
        conversation_id: Its thread. None for plain code, which speaks with every thread.
        is_apart: Whether it has to do with turns of its own thread only, as a service that is
            called on a thread of its own, or a turn of which nobody knows how it began.
    """

    turn_id: str
    chain_id: str
    kind: str | None
    outcome: str | None
    started_ns: int
    steps: int = 1
    answers: tuple[str, ...] | None = None
    resolution: str | None = None
    questions: tuple[Asked, ...] = ()
    ended_ns: int | None = None
    conversation_id: str | None = None
    is_apart: bool = False

    def meets(self, other: Asking) -> bool:
        """Tell whether what one of the two asks can be answered or given up by the other."""
        if self.conversation_id == other.conversation_id:
            return True
        if self.is_apart or other.is_apart:
            return False
        return self.conversation_id is None or other.conversation_id is None


@dataclass(slots=True)
class Settled:
    """What became of one question as one turn asked it.

    Attributes:
        is_first: Whether it was not merely asked again.
        answered_turn_id: The turn that ended the wait; None while it is open.
        answered_ns: When that turn began.
        resolution: ``answered``, what the app called its answer, or ``superseded``.
    """

    is_first: bool = True
    answered_turn_id: str | None = None
    answered_ns: int | None = None
    resolution: str | None = None


@dataclass(slots=True, eq=False)
class _Wait:
    question: Asked
    asked_by: Asking
    rows: list[Settled] = field(default_factory=list[Settled])
    closed_by: Asking | None = None

    def close(self, turn: Asking, resolution: str) -> None:
        self.closed_by = turn
        for row in self.rows:
            row.answered_turn_id, row.answered_ns = turn.turn_id, turn.started_ns
            row.resolution = resolution

    def reopen(self) -> None:
        for row in self.rows:
            row.answered_turn_id = row.answered_ns = row.resolution = None


def settle_waits(
    turns: list[Asking],
) -> tuple[dict[tuple[str, int], Settled], dict[str, str]]:
    """Return what became of each question, and of each turn's answer.

    Args:
        turns: All turns of an engagement, in the order in which they began.

    Returns:
        By turn and the question's number in it; and by turn, where it brought an answer:
        ``answered`` or what the app called it, or ``conflict`` where nothing was open any more.
    """
    # When; a question before a turn that begins at once; which turn; which of its questions.
    moments: list[tuple[int, int, int, int]] = []
    for number, turn in enumerate(turns):
        moments.append((turn.started_ns, 1, number, 0))
        moments += [(asked.asked_ns, 0, number, n) for n, asked in enumerate(turn.questions)]
    rows: dict[tuple[str, int], Settled] = {}
    resolved: dict[str, str] = {}
    open_: list[_Wait] = []
    closed: list[_Wait] = []
    for _, is_start, number, nth in sorted(moments):
        turn = turns[number]
        if is_start:
            met = [wait for wait in open_ if turn.meets(wait.asked_by)]
            cut_off = turn.answers is not None and _was_cut_off(turns, number)
            ended, told = _begin(turn, met, was_cut_off=cut_off)
            if told is not None:
                resolved[turn.turn_id] = told
            closed += ended
            open_ = [wait for wait in open_ if wait not in ended]
        else:
            rows[turn.turn_id, nth] = _ask(turn, turn.questions[nth], open_, closed)
    return rows, resolved


def _was_cut_off(turns: list[Asking], number: int) -> bool:
    """Tell whether what went on before a turn did not come to its end."""
    turn = turns[number]
    before = (turns[nth] for nth in range(number - 1, -1, -1) if turn.meets(turns[nth]))
    return (last := next(before, None)) is not None and last.outcome in _CUT_OFF


def _begin(
    turn: Asking, open_: list[_Wait], *, was_cut_off: bool
) -> tuple[list[_Wait], str | None]:
    """Return those of the open waits it meets that a turn ends, and what became of its answer."""
    if turn.kind == _REMOTE:
        return [], None
    if turn.kind not in _GOES_ON:
        for wait in open_:
            wait.close(turn, SUPERSEDED)
        return list(open_), None
    if turn.outcome == "failed" and not turn.steps:
        return [], None
    resolution = turn.resolution or ANSWERED
    answered = _answered(turn, open_)
    for wait in answered:
        wait.close(turn, resolution)
    told = None
    if turn.answers is not None:
        is_unclear = PENDING in turn.answers and bool(open_)
        if answered:
            told = resolution
        elif not is_unclear and not was_cut_off:
            told = CONFLICT
    moot = [wait for wait in open_ if wait not in answered and _is_moot(turn, wait)]
    for wait in moot:
        wait.close(turn, SUPERSEDED)
    return answered + moot, told


def _is_moot(turn: Asking, wait: _Wait) -> bool:
    """Tell whether nobody waits for an answer any more once a turn has gone on."""
    if turn.outcome != "paused":
        return turn.outcome == "completed"
    # Going on asks again what is still open; what it does not, an edit of the state took away.
    asked = {question.interrupt_id for question in turn.questions}
    return bool(asked) and wait.question.interrupt_id not in asked


def _answered(turn: Asking, open_: list[_Wait]) -> list[_Wait]:
    # A breakpoint, or a question without a name, is passed by going on.
    passed = [
        wait
        for wait in open_
        if wait.question.kind != "interrupt" or wait.question.interrupt_id is None
    ]
    named = [wait for wait in open_ if wait not in passed]
    given = turn.answers or ()
    if PENDING in given:
        # A thread with two questions cannot tell which of them is meant; plain code means them all.
        there = [
            wait
            for wait in named
            if turn.conversation_id is not None
            and wait.asked_by.conversation_id == turn.conversation_id
        ]
        return passed + [wait for wait in named if len(there) == 1 or wait not in there]
    return passed + [wait for wait in named if wait.question.interrupt_id in given]


def _ask(turn: Asking, question: Asked, open_: list[_Wait], closed: list[_Wait]) -> Settled:
    row = Settled()
    known = _known(turn, question, open_, closed)
    if known is None:
        known = _Wait(question, turn)
        open_.append(known)
    else:
        row.is_first = False
        if known in closed and _is_beside(turn, known.closed_by):
            first = known.rows[0]
            row.answered_turn_id, row.answered_ns = first.answered_turn_id, first.answered_ns
            row.resolution = first.resolution
        elif known in closed:
            closed.remove(known)
            known.reopen()
            open_.append(known)
    known.rows.append(row)
    return row


def _is_beside(turn: Asking, answering: Asking | None) -> bool:
    """Tell whether a turn ran beside the one that answered: what it asks again says nothing."""
    return (
        answering is not None
        and answering is not turn
        and answering.ended_ns is not None
        and answering.ended_ns > turn.started_ns
    )


def _known(turn: Asking, question: Asked, open_: list[_Wait], closed: list[_Wait]) -> _Wait | None:
    """Return the wait that a question asks again; an answer it had did not take."""
    if question.interrupt_id is None:
        return None

    def is_same(wait: _Wait) -> bool:
        return (
            wait.question.interrupt_id == question.interrupt_id
            and wait.asked_by.conversation_id == turn.conversation_id
        )

    for wait in open_:
        if is_same(wait):
            return wait
    # The same breakpoint again is another pause, and so is the same task in a fork.
    if question.kind != "interrupt":
        return None
    again = (wait for wait in closed if is_same(wait) and wait.asked_by.chain_id == turn.chain_id)
    return next(again, None)
