"""How a run of a graph becomes a turn: whose it is, what was said about it, what is handed on.

The run's config is copied, never changed; into the copy go our callback handler and, where a
checkpointer will save it, one short scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command

from spanflow import semconv
from spanflow.capture import lineage as lineages
from spanflow.capture import processor
from spanflow.capture import scope as scopes
from spanflow.capture.frame import Nested
from spanflow.capture.goals import note_shape
from spanflow.capture.identity import Identity
from spanflow.capture.payload import clean, clean_path, identifier, json_payload
from spanflow.capture.runtime import new_engagement_id
from spanflow.capture.turn import Turn
from spanflow.guard import diagnose, report
from spanflow.instrument.topology import shape_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from spanflow.capture.lineage import Lineage
    from spanflow.capture.runtime import Runtime

__all__ = ["Opening", "prepare"]

_CHECKPOINTER = "__pregel_checkpointer"
# What is not the user's own metadata: the frameworks' keys, ours, and those that have a field.
_OTHERS_PREFIXES = ("langgraph_", "ls_", "lc_", "checkpoint_", "__", "spanflow_")
_NOT_METADATA = {"thread_id", "user_id", "session_id", "run_id", "assistant_id", "graph_id"}


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
        config["callbacks"] = _with_handler(config.get("callbacks"), handler)
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
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        layers: list[Any] = [var_child_runnable_config.get() or {}, graph.config or {}, config]
        self._metadata = _merged(layers, "metadata")
        self._configurable = _merged(layers, "configurable")
        self._run_name = next((c["run_name"] for c in reversed(layers) if c.get("run_name")), None)
        self.enabled = self._metadata.get("spanflow_enabled", True) is not False

    def find(self) -> Lineage | None:
        """Find the thread's engagement through a synchronous checkpointer."""
        search = self._search()
        if search is None:
            return self._known
        try:
            wanted = next(search)
            while True:
                wanted = search.send(self._reader().get_tuple(wanted))
        except StopIteration as stop:
            return stop.value
        except Exception as error:  # noqa: BLE001 - a checkpointer that cannot be read must not stop the run
            report("lineage.find", error)
            return None

    async def afind(self) -> Lineage | None:
        """Find the thread's engagement through an asynchronous checkpointer."""
        search = self._search()
        if search is None:
            return self._known
        try:
            wanted = next(search)
            while True:
                wanted = search.send(await self._reader().aget_tuple(wanted))
        except StopIteration as stop:
            return stop.value
        except Exception as error:  # noqa: BLE001 - a checkpointer that cannot be read must not stop the run
            report("lineage.find", error)
            return None

    def _reader(self) -> Any:
        resolve = getattr(self._graph, "_resolve_checkpointer", None)
        found = resolve({"configurable": self._configurable}) if callable(resolve) else None
        return cast("Any", found) if isinstance(found, BaseCheckpointSaver) else self._saver

    def _search(self) -> Generator[Any, Any, Lineage | None] | None:
        """Return the search to drive, or None where nothing needs to be read.

        Then ``_known`` has what is known.
        """
        self._known: Lineage | None = None
        thread = self._configurable.get("thread_id")
        if self._nested is not None or not self.enabled or thread is None:
            return None
        saver = self._configurable.get(_CHECKPOINTER, self._graph.checkpointer)
        if not isinstance(saver, BaseCheckpointSaver):
            return None
        self._saver = saver
        namespace = self._configurable.get("checkpoint_ns") or ""
        self._thread = f"{namespace}\0{thread}"
        checkpoint = self._configurable.get("checkpoint_id")
        if checkpoint is None:
            self._known = lineages.recall(saver, self._thread)
            if self._known is not None:
                return None
        where = {"thread_id": thread, "checkpoint_ns": namespace}
        if checkpoint is not None:
            where["checkpoint_id"] = checkpoint
        return lineages.search({"configurable": where})

    def open(self, lineage: Lineage | None) -> Nested | Turn | None:
        """Open the turn (inside a live step, the nested graph) and complete the copied config.

        Returns:
            The frame, or None for a run that is left out.
        """
        if not self.enabled:
            return None
        shape = shape_of(self._graph)
        if self._nested is not None:
            return Nested(self._runtime, shape, self._nested)
        given = _id(self._metadata.get("spanflow_engagement_id"))
        # A thread may remember an id from before redaction was asked for.
        engagement_id = given or (
            identifier(lineage.engagement_id) if lineage is not None else new_engagement_id()
        )
        settings = self._runtime.settings
        goals = _names(self._metadata.get("spanflow_goals"), settings.goals)
        conversation = self._configurable.get("thread_id")
        identity = Identity(
            engagement_id=engagement_id,
            name=_text(self._metadata.get("spanflow_engagement_name"))
            or _text(self._run_name)
            or shape.name,
            kind=self._kind(lineage),
            on_thread=self._thread is not None,
            conversation_id=identifier(conversation) if conversation is not None else None,
            user_id=_id(self._metadata.get("user_id")),
            session_id=_id(self._metadata.get("session_id")),
            metadata=_kept_metadata(
                self._metadata, settings.metadata_keys, self._runtime.payload_bytes
            ),
            goals=goals,
            global_steps=_names(self._metadata.get("spanflow_global_steps"), settings.global_steps),
            step_tools=_step_tools(self._metadata.get("spanflow_step_tools")),
            previous=lineage.previous if lineage is not None else None,
        )
        note_shape(shape.version, shape.paths, goals)
        turn = Turn(self._runtime, shape, identity)
        if self._thread is not None:
            scalar = lineages.encode(engagement_id, turn.trace_id, turn.span_id)
            self._config["configurable"] = {
                **(self._config.get("configurable") or {}),
                semconv.LINEAGE_KEY: scalar,
            }
        return turn

    def closed(self, turn: Turn) -> None:
        """Remember the thread's lineage for its next turn on this worker."""
        if self._thread is not None:
            scalar = lineages.encode(turn.identity.engagement_id, turn.trace_id, turn.span_id)
            found = lineages.decode(scalar)
            if found is not None:
                lineages.remember(self._saver, self._thread, found)

    def _kind(self, lineage: Lineage | None) -> str:
        if self._thread is not None and self._value is None:
            return "resume"
        if isinstance(self._value, Command) and self._value.resume is not None:  # pyright: ignore[reportUnknownMemberType]
            return "resume"
        return "message" if lineage is not None else "new"


def _with_handler(callbacks: Any, handler: Any) -> Any:
    """Return `callbacks` with our handler added, as a copy."""
    if callbacks is None:
        return [handler]
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        manager.add_handler(handler, inherit=True)
        return manager
    if isinstance(callbacks, list | tuple):
        return [*callbacks, handler] if handler not in callbacks else list(callbacks)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return callbacks


def _merged(layers: list[Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for layer in layers:
        part = layer.get(key)
        if part:
            found.update(part)
    return found


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    return clean(value, 128)


def _id(value: object) -> str | None:
    return identifier(value, 128) if value is not None and value != "" else None


def _names(value: object, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of step names given in a run's metadata; what is none is refused and counted."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        if value is not None:
            diagnose("metadata.names", f"expected a list of step names, got {type(value).__name__}")
        value = default
    return tuple(clean_path(item) for item in cast("Iterable[object]", value))


def _step_tools(value: object) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        diagnose("metadata.step_tools", f"expected a dict, got {type(value).__name__}")
        return {}
    return {clean_path(step): _names(tools, ()) for step, tools in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _kept_metadata(
    metadata: dict[str, Any], allowed: tuple[str, ...] | None, limit: int
) -> dict[str, Any]:
    """Return the user's own metadata as JSON data; what JSON cannot say becomes its repr.

    Args:
        metadata: The run's, the frameworks' and ours included.
        allowed: The keys that may be kept; None for all.
        limit: The longest value kept, in bytes.
    """
    return {
        clean(key): json_payload(value, limit)
        for key, value in metadata.items()
        if key not in _NOT_METADATA
        and not str(key).startswith(_OTHERS_PREFIXES)
        and (allowed is None or str(key) in allowed)
    }
