"""How a run of a graph becomes a turn: whose it is, what was said about it, what is handed on.

The run's config is copied, never changed; into the copy go our callback handler and, where a
checkpointer will save it, one short scalar.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command

from spanflow import semconv
from spanflow.capture import carried, processor
from spanflow.capture import lineage as lineages
from spanflow.capture import scope as scopes
from spanflow.capture.frame import Nested
from spanflow.capture.goals import note_shape
from spanflow.capture.identity import Identity
from spanflow.capture.learning import learn, tools_inside
from spanflow.capture.lineage import Lineage
from spanflow.capture.payload import identifier
from spanflow.capture.runtime import new_engagement_id
from spanflow.capture.turn import Turn
from spanflow.guard import diagnose, report
from spanflow.instrument import metadata as said
from spanflow.instrument import remembered, threads
from spanflow.instrument.configs import merged, with_handler
from spanflow.instrument.plain.turns import passed_on
from spanflow.instrument.topology import shape_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from spanflow.capture.identity import GraphShape
    from spanflow.capture.lineage import Read
    from spanflow.capture.runtime import Runtime

__all__ = ["Opening", "prepare"]

_CHECKPOINTER = "__pregel_checkpointer"
_INTERRUPT = re.compile(r"[0-9a-f]{32}")
_BROKEN = ("failed", "cancelled", "left")
_UNDONE = ("paused", *_BROKEN)
_LONGEST_RESOLUTION = 64


def prepare(
    runtime: Runtime, graph: Any, args: tuple[Any, ...], kwargs: dict[str, Any], handler: Any
) -> Opening | None:
    """Return how to capture a run, or None where it is to be left alone.

    Args:
        runtime: Whom the capture serves.
        graph: The compiled graph that runs.
        args: The positional arguments of ``stream``/``astream``: input, config.
        kwargs: Its keyword arguments.
        handler: The callback handler to hand on.
    """
    scope = scopes.current.get()
    if scope is scopes.OFF:
        return None
    processor.attach(runtime)  # the user's provider may have come after us
    given = args[1] if len(args) > 1 else kwargs.get("config")
    if given is not None and not isinstance(given, dict):
        return None
    config: dict[str, Any] = dict(given or {})  # pyright: ignore[reportUnknownArgumentType]
    value = args[0] if args else kwargs.get("input")
    nested = scopes.live()
    run = Opening(runtime, graph, value, config, nested)
    if run.enabled:
        config["callbacks"] = with_handler(config.get("callbacks"), handler)
    if len(args) > 1:
        run.args, run.kwargs = (args[0], config, *args[2:]), kwargs
    else:
        run.args, run.kwargs = args, {**kwargs, "config": config}
    return run


class Opening:
    """A run of a graph that is about to begin."""

    def __init__(
        self,
        runtime: Runtime,
        graph: Any,
        value: Any,
        config: dict[str, Any],
        nested: scopes.Scope | None,
    ) -> None:
        self._runtime = runtime
        self._graph = graph
        self._value = value
        self._config = config
        self._nested = nested
        self._saver: Any = None
        self._thread: str | None = None
        self._namespace = ""
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        layers: list[Any] = [var_child_runnable_config.get() or {}, graph.config or {}, config]
        self._metadata = merged(layers, "metadata")
        self._configurable = merged(layers, "configurable")
        self._run_name = next((c["run_name"] for c in reversed(layers) if c.get("run_name")), None)
        self.enabled = self._metadata.get("spanflow_enabled", True) is not False

    def find(self) -> Lineage | None:
        """Find the thread's engagement through a synchronous checkpointer."""
        try:
            search = self._search()
            if search is None:
                return self._known
            wanted = next(search)
            while True:
                wanted = search.send(_newest(self._reader(), wanted))
        except StopIteration as stop:
            return stop.value
        except Exception as error:  # noqa: BLE001 - a checkpointer that cannot be read must not stop the run
            report("lineage.find", error)
            return None

    async def afind(self) -> Lineage | None:
        """Find the thread's engagement through an asynchronous checkpointer."""
        try:
            search = self._search()
            if search is None:
                return self._known
            wanted = next(search)
            while True:
                wanted = search.send(await _anewest(self._reader(), wanted))
        except StopIteration as stop:
            return stop.value
        except Exception as error:  # noqa: BLE001 - a checkpointer that cannot be read must not stop the run
            report("lineage.find", error)
            return None

    def _reader(self) -> Any:
        resolve = getattr(self._graph, "_resolve_checkpointer", None)
        found = resolve({"configurable": self._configurable}) if callable(resolve) else None
        return cast("Any", found) if isinstance(found, BaseCheckpointSaver) else self._saver

    def _search(self) -> Generator[Read, Any, Lineage | None] | None:
        """Return the search to drive, or None where nothing needs to be read.

        Then ``_known`` has what is known.
        """
        self._known: Lineage | None = None
        thread = self._configurable.get("thread_id")
        if self._nested is not None or not self.enabled or thread is None:
            return None
        saver = self._checkpointer()
        if not isinstance(saver, BaseCheckpointSaver):
            return None
        self._saver = saver
        # As text, which is what LangGraph makes of it.
        self._thread = str(thread)
        self._namespace = str(self._configurable.get("checkpoint_ns") or "")
        checkpoint = self._configurable.get("checkpoint_id")
        if checkpoint is None:
            self._known = lineages.recall(saver, self._thread, self._namespace)
            if self._known is not None:
                return None
        threads.cover(cast("Any", saver))
        where = {"thread_id": self._thread, "checkpoint_ns": self._namespace}
        return lineages.search(self._thread, where, checkpoint)

    def _checkpointer(self) -> Any:
        own = self._graph.checkpointer
        return self._configurable.get(_CHECKPOINTER, own) if own is not False else None

    def _own_thread(self, where: scopes.Scope) -> object | None:
        """Return the thread that a graph inside a plain turn runs on, where it has checkpoints."""
        if where.turn is None or not where.turn.is_plain:
            return None
        kept = isinstance(self._checkpointer(), BaseCheckpointSaver)
        return self._configurable.get("thread_id") if kept else None

    def open(self, lineage: Lineage | None) -> Nested | Turn | None:
        """Open the turn (inside a live step, the nested graph) and complete the copied config.

        Returns:
            The frame, or None for a run that is left out.
        """
        if not self.enabled:
            return None
        shape = shape_of(self._graph)
        if self._nested is not None:
            return self._open_nested(self._nested, shape)
        brought = carried.engagement_id(self._runtime)
        engagement_id, lineage = self._engagement(lineage, brought)
        origin = lineage.origin if lineage is not None else None
        kind, answers = self._kind(lineage), self._answers()
        is_remote = engagement_id == brought and kind != "fork"
        settings = self._runtime.settings
        told = said.said_of(self._metadata, self._runtime)
        seen = remembered.seen(self._runtime, engagement_id)
        before, marks = seen or remembered.Seen(), told.global_steps
        own_goals = told.goals if told.goals is not None else before.goals
        goals = own_goals if own_goals is not None else said.names(None, settings.goals)
        conversation = self._configurable.get("thread_id")
        identity = Identity(
            engagement_id=engagement_id,
            name=said.text(self._metadata.get("spanflow_engagement_name"))
            or said.text(self._run_name)
            or before.name
            or shape.name,
            kind="remote" if is_remote else kind,
            on_thread=self._thread is not None,
            conversation_id=identifier(conversation) if conversation is not None else None,
            user_id=told.user_id,
            session_id=told.session_id,
            metadata=told.metadata,
            goals=goals,
            # What was declared before may be a mark, which no graph has as a step.
            goals_hold=told.goals is None and before.goals is not None,
            global_steps=marks if marks is not None else said.names(None, settings.global_steps),
            step_tools=told.step_tools,
            previous=lineage.previous if lineage is not None else None,
            origin=origin,
            left_from=(lineages.step_of(origin) or origin.turn) if origin is not None else None,
            answers=answers,
            resolution=self._resolution() if kind == "resume" or answers else None,
        )
        if shape.version is not None:
            note_shape(shape.version, shape.paths, goals)
        turn = Turn(self._runtime, shape, identity)
        at = lineages.context_of(turn.trace_id, turn.span_id)
        if seen is not None:
            now = remembered.Seen(identity.name, own_goals, at)
            remembered.note(self._runtime, engagement_id, now)
        if self._thread is not None:
            self._tell(engagement_id, turn, self._thread)
            lineages.remember(
                self._saver,
                self._thread,
                self._namespace,
                Lineage(engagement_id, at),
            )
        return turn

    def _open_nested(self, where: scopes.Scope, shape: GraphShape) -> Nested:
        own = self._own_thread(where)
        thread = identifier(own) if own is not None else None
        # Without input a run goes on where the last one stopped.
        goes_on = self._answer() is not None or self._value is None
        if thread is not None and where.turn is not None and thread in where.turn.holding:
            where = passed_on(where, goes_on=goes_on)
        elif thread is not None and self._answer() is not None:
            _check_known(where)
        self._tell_own_thread(where)
        nested = Nested(self._runtime, shape, where, thread, step_tools=self._teach(where, shape))
        if thread is not None:
            nested.turn.continues(
                "resume" if goes_on else None,
                self._answers(),
                self._resolution() if goes_on else None,
                thread,
            )
        return nested

    def _teach(
        self, where: scopes.Scope, shape: GraphShape
    ) -> Mapping[str, tuple[str, ...]] | None:
        """Let a plain turn around learn from the config; return which tools the steps have."""
        turn = where.turn
        if turn is None or not turn.is_plain or where.frame is not turn:
            return None
        told = said.said_of(self._metadata, self._runtime)
        learn(turn, shape, told, where.step)
        if shape.version is not None:
            note_shape(shape.version, shape.paths, told.goals or ())
        if turn.identity.goals_from == "graph":
            remembered.note_goals(self._runtime, turn.identity)
        return tools_inside(told.step_tools, where.step)

    def closed(self, turn: Turn, outcome: str) -> None:
        """Remember how the thread's turn ended, for its next one on this worker."""
        if self._thread is not None:
            lineages.settle(self._saver, self._thread, self._namespace, turn.span_id, outcome)

    def _engagement(
        self, lineage: Lineage | None, brought: str | None
    ) -> tuple[str, Lineage | None]:
        """Return the engagement's id, and the lineage to go on from.

        What the app gives comes first, then what its caller brought along, then the thread's own.
        """
        given = self._metadata.get("spanflow_engagement_id")
        if given is not None and given != "":
            return said.engagement_id_of(given), lineage
        if brought is not None:
            return brought, lineage
        if lineage is None:
            made = new_engagement_id()
            if self._thread is None:
                return made, None
            # Another turn may have begun on this new thread while its checkpoints were read.
            new = Lineage(made, None)
            lineage = lineages.claim(self._saver, self._thread, self._namespace, new)
            if lineage is None:
                return made, None
        # A thread may remember an id from before redaction was asked for.
        return identifier(lineage.engagement_id), lineage

    def _tell(self, engagement_id: str, turn: Turn, thread: str) -> None:
        scalar = lineages.encode(engagement_id, turn.trace_id, turn.span_id, thread)
        self._config["configurable"] = {
            **(self._config.get("configurable") or {}),
            semconv.LINEAGE_KEY: scalar,
        }

    def _tell_own_thread(self, where: scopes.Scope) -> None:
        """Let the checkpoints of a nested graph that runs on another thread say so."""
        thread, turn = self._configurable.get("thread_id"), where.turn
        if thread is None or turn is None:
            return
        told = lineages.decode(self._configurable.get(semconv.LINEAGE_KEY))
        if told is None:
            told_apart = isinstance(self._graph.checkpointer, BaseCheckpointSaver)
        else:
            told_apart = told.thread != lineages.mark_of(str(thread))
        if told_apart:
            self._tell(turn.identity.engagement_id, turn, str(thread))
            lineages.forget(str(thread))

    def _kind(self, lineage: Lineage | None) -> str:
        """Return what kind of turn this is as far as is known now; SQL knows more."""
        if lineage is not None and lineage.origin is not None:
            return "fork"
        command = isinstance(self._value, Command)
        if self._answer() is not None:
            return "resume"
        outcome = lineage.outcome if lineage is not None else None
        # Without input a run goes on where the last one stopped; so does a command, where that did.
        if self._thread is not None and (self._value is None or (command and outcome in _UNDONE)):
            return "retry" if outcome in _BROKEN else "resume"
        return "message" if lineage is not None else "new"

    def _resolution(self) -> str | None:
        return said.text(self._metadata.get("spanflow_resolution"), _LONGEST_RESOLUTION)

    def _answer(self) -> Any:
        return self._value.resume if isinstance(self._value, Command) else None  # pyright: ignore[reportUnknownMemberType]

    def _answers(self) -> tuple[str, ...]:
        """Return the ids of the interrupts that are answered; ``*`` for the one that is pending."""
        answer = self._answer()
        if answer is None:
            return ()
        # As LangGraph tells them apart: a map of ids answers those, and an empty one nothing.
        if isinstance(answer, dict):
            keys = cast("dict[object, object]", answer)
            ids = tuple(key for key in keys if isinstance(key, str) and _INTERRUPT.fullmatch(key))
            if len(ids) == len(keys):
                return ids
        return ("*",)


def _check_known(where: scopes.Scope) -> None:
    """Say so where a graph is resumed in an engagement that cannot be the one that paused."""
    if where.turn is not None and where.turn.identity.is_unheard_of:
        diagnose(
            "resume.elsewhere",
            f"a graph is resumed inside {where.turn.identity.name!r}, which began an engagement "
            "of its own and cannot know the pause: put spanflow.engagement(…, id=…) with the "
            "conversation's id around it, or take @spanflow.trace",
        )


def _newest(saver: Any, wanted: Read) -> Any:
    """Read the checkpoint that is wanted; None also where a checkpointer cannot list."""
    if wanted.before is None:
        return saver.get_tuple(wanted.config)
    try:
        return next(iter(list(saver.list(wanted.config, before=wanted.before, limit=1))), None)
    except NotImplementedError:
        return None


async def _anewest(saver: Any, wanted: Read) -> Any:
    if wanted.before is None:
        return await saver.aget_tuple(wanted.config)
    try:
        listed = [one async for one in saver.alist(wanted.config, before=wanted.before, limit=1)]
    except NotImplementedError:
        return None
    return next(iter(listed), None)
