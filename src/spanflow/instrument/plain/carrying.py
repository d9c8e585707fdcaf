"""Carries the running engagement to a service that the app names, in one request's headers.

Nothing is put where an HTTP client would find it by itself: whom it is told to is the app's choice,
request by request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from spanflow.guard import diagnose, report
from spanflow.instrument.plain import gate

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["carry"]

_Headers = TypeVar("_Headers", bound="MutableMapping[str, str]")
_HEADER: Final = "baggage"
_LONGEST_HEADER: Final = 8_192
"""What all must hand on (W3C Baggage); many drop all of a header that is longer."""


def carry(headers: _Headers) -> _Headers:
    """Write the running engagement into the headers of a request to another service of yours.

    A service with ``SPANFLOW_ACCEPT_BAGGAGE=true`` then joins it: what it does there is part of the
    same engagement. Only the engagement's id travels. Outside every engagement, or where nothing is
    captured, the headers stay as they are.

    Args:
        headers: Any mutable mapping, such as a dict or a client's own headers; changed in place.
            What else stands in its ``baggage`` is kept.

    Returns:
        The same headers.

    Example:
        >>> import spanflow
        >>> with spanflow.engagement("support", id="case 17"):
        ...     headers = spanflow.carry({"accept": "application/json"})
        >>> # httpx.post("https://search.internal/run", headers=headers, json={...})
    """
    try:
        _write(headers)
    except Exception as error:  # noqa: BLE001 - the fail-open boundary
        report("api.carry", error)
    return headers


def _write(headers: MutableMapping[str, str]) -> None:
    if gate.runtime() is None:
        return
    from urllib.parse import quote

    from spanflow import semconv
    from spanflow.capture import scope as scopes
    from spanflow.capture.carried import is_portable

    scope = scopes.live()
    if scope is None or scope.turn is None:
        return
    engagement_id = scope.turn.identity.engagement_id
    if not is_portable(engagement_id):
        diagnose("api.carry", "this engagement's id would not arrive as it is, and is not carried")
        return
    # By items: a mapping that holds a header several times shows only one of them by its name.
    standing = [(name, text) for name, text in headers.items() if name.lower() == _HEADER]
    members = [
        member.strip()
        for _, text in standing
        for member in text.split(",")
        if member.strip() and member.partition("=")[0].strip() != semconv.BAGGAGE_ENGAGEMENT_ID
    ]
    ours = f"{semconv.BAGGAGE_ENGAGEMENT_ID}={quote(engagement_id, safe='')}"
    written = ",".join([*members, ours])
    if len(written.encode()) > _LONGEST_HEADER:
        diagnose("api.carry", "a request's baggage has no room left; it is sent as it was")
        return
    names = dict.fromkeys(name for name, _ in standing) or {_HEADER: None}
    first, *others = names
    for name in others:
        headers.pop(name, None)
    headers[first] = written
