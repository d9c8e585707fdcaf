"""What a run's metadata says of it: names, ids, lists of steps, and what is the user's own.

Whatever somebody put there is read without raising; what is not what it should be is counted and
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, cast

from spanflow.capture.identity import Said
from spanflow.capture.payload import clean, clean_path, identifier, json_payload
from spanflow.guard import diagnose

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from spanflow.capture.runtime import Runtime

__all__ = [
    "engagement_id_of",
    "given_names",
    "identity_of",
    "kept",
    "mapping",
    "names",
    "said_of",
    "text",
]

# What is not the user's own metadata: the frameworks' keys, ours, and those that have a field.
_OTHERS_PREFIXES = ("langgraph_", "ls_", "lc_", "checkpoint_", "__", "spanflow_")
_NOT_METADATA = {"thread_id", "user_id", "session_id", "run_id", "assistant_id", "graph_id"}
_LONGEST_GIVEN = 4_096
_LONGEST_ID_BYTES = 128


def text(value: object, limit: int = 128) -> str | None:
    """Return what something is called, or None where nothing is said."""
    if value is None or value == "":
        return None
    return clean(value, limit)


def engagement_id_of(value: object) -> str:
    """Return an id that a checkpoint gives back as it was: short, and without NUL.

    What is too long keeps its beginning and is told apart by a digest.
    """
    text = identifier(value, _LONGEST_GIVEN).replace("\0", "\ufffd")
    raw = text.encode()
    if len(raw) <= _LONGEST_ID_BYTES:
        return text
    digest = blake2b(raw, digest_size=8).hexdigest()
    return f"{raw[: _LONGEST_ID_BYTES - 17].decode('utf-8', 'ignore')}~{digest}"


def identity_of(value: object) -> str | None:
    """Return the id of a person or a session, or None where none is given."""
    return identifier(value, 128) if value is not None and value != "" else None


def names(value: object, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of step names given in a run's metadata, or `default` where none is given."""
    given = given_names(value)
    return given if given is not None else tuple(clean_path(item) for item in default)


def given_names(value: object) -> tuple[str, ...] | None:
    """Read a list of step names, or None where none is given; what is none is counted."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        if value is not None:
            diagnose("metadata.names", f"expected a list of step names, got {type(value).__name__}")
        return None
    return tuple(clean_path(item) for item in cast("Iterable[object]", value))


def mapping(value: object) -> dict[str, Any]:
    """Read the metadata that an app gave; what is no mapping is refused and counted."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in cast("Mapping[object, Any]", value).items()}
    if value is not None:
        diagnose("metadata", f"expected a mapping, got {type(value).__name__}")
    return {}


def _step_tools(value: object) -> dict[str, tuple[str, ...]]:
    """Read which tools steps have at hand; what says nothing of the kind is refused and counted."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        diagnose("metadata.step_tools", f"expected a dict, got {type(value).__name__}")
        return {}
    return {clean_path(step): names(tools, ()) for step, tools in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def said_of(metadata: dict[str, Any], runtime: Runtime) -> Said:
    """Return what a run's metadata, the frameworks' and ours included, says of whose it is."""
    return Said(
        user_id=identity_of(metadata.get("user_id")),
        session_id=identity_of(metadata.get("session_id")),
        metadata=kept(metadata, runtime.settings.metadata_keys, runtime.payload_bytes),
        goals=given_names(metadata.get("spanflow_goals")),
        global_steps=given_names(metadata.get("spanflow_global_steps")),
        step_tools=_step_tools(metadata.get("spanflow_step_tools")),
    )


def kept(metadata: dict[str, Any], allowed: tuple[str, ...] | None, limit: int) -> dict[str, Any]:
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
