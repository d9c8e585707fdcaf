"""Connections to ClickHouse: a server over HTTP, or the embedded one, each by its address.

Both take a query and its parameters, which go there apart from it, and return what ClickHouse
wrote as JSON. What is asked is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from spanflow.errors import LedgerError
from spanflow.query.extras import needed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

__all__ = ["Parameter", "Server", "connect_to"]

Parameter = str | int | Sequence[str | None] | None

_SCHEMES = ("clickhouse", "clickhouses", "chdb")
_KNOWN = {"table", "secure", "database"}
_HTTP, _HTTPS = 8123, 8443
_TAKEN = {"\\": "\\\\", "'": "\\'", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


class Server(Protocol):
    """Whatever answers queries in ClickHouse's SQL."""

    database: str
    """Where the table is."""
    table: str
    """The table of spans."""

    def query(self, text: str, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
        """Return ``meta`` and ``data``, as ClickHouse's ``JSONCompact`` has them."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True)
class _Address:
    database: str
    table: str
    is_secure: bool


def connect_to(url: str) -> Server:
    """Open the server at an address.

    Raises:
        LedgerError: The address cannot be read, or nobody answers there.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise LedgerError(_wrong_address(str(error))) from None
    if parts.scheme not in _SCHEMES:
        raise LedgerError(_wrong_address(f"it begins with {parts.scheme or 'nothing'!r}"))
    told = parse_qs(parts.query)
    unknown = told.keys() - _KNOWN
    if unknown:
        raise LedgerError(_wrong_address(f"nobody knows {', '.join(sorted(unknown))}"))
    path = unquote(parts.path).strip("/")
    is_embedded = parts.scheme == "chdb"
    address = _Address(
        database=told.get("database", [path if path and not is_embedded else "default"])[-1],
        table=told.get("table", ["otel_traces"])[-1],
        is_secure=parts.scheme == "clickhouses" or told.get("secure", ["0"])[-1] in ("1", "true"),
    )
    if is_embedded:
        return _Embedded(unquote(parts.path), address)
    return _Remote(parts, port, address)


class _Embedded:
    """ClickHouse inside this process, on a folder; one a process."""

    def __init__(self, folder: str, address: _Address) -> None:
        self.database, self.table = address.database, address.table
        session = needed("chdb.session", "chdb").Session
        try:
            self._session: Any = session(folder or None)
        except RuntimeError as error:
            message = (
                f"ClickHouse cannot open {folder}: {_in_one_line(error)} "
                "Let go of it where another program has it open."
            )
            raise LedgerError(message) from None

    def query(self, text: str, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
        try:
            told = self._session.query(
                text,
                "JSONCompact",
                params={name: _written(value) for name, value in parameters.items()},
            )
            return json.loads(bytes(told.bytes()))
        except RuntimeError as error:
            # What a query wrote before it failed would stand before the next one's answer.
            self._session.query("SELECT 1")
            raise LedgerError(_in_one_line(error)) from None

    def close(self) -> None:
        self._session.close()


class _Remote:
    """A server, asked over HTTP."""

    def __init__(self, parts: SplitResult, port: int | None, address: _Address) -> None:
        self.database, self.table = address.database, address.table
        driver = needed("clickhouse_connect", "clickhouse")
        try:
            self._client: Any = driver.get_client(
                host=parts.hostname or "localhost",
                port=port or (_HTTPS if address.is_secure else _HTTP),
                username=unquote(parts.username or "default"),
                password=unquote(parts.password or ""),
                secure=address.is_secure,
            )
        except Exception as error:  # noqa: BLE001 - errors of several libraries come through here
            message = f"{parts.hostname or 'localhost'} does not answer: {_in_one_line(error)}"
            raise LedgerError(message) from None

    def query(self, text: str, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
        try:
            told = self._client.raw_query(text, parameters=dict(parameters), fmt="JSONCompact")
            return json.loads(told)
        except Exception as error:  # noqa: BLE001 - errors of several libraries come through here
            raise LedgerError(_in_one_line(error)) from None

    def close(self) -> None:
        self._client.close()


def _written(value: Parameter) -> str:
    """Return a parameter as ClickHouse reads it from text."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return _escaped(value)
    if isinstance(value, int):
        return str(value)
    return f"[{', '.join(_quoted(one) for one in value)}]"


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else f"'{_escaped(text)}'"


def _escaped(text: str) -> str:
    return "".join(_TAKEN.get(letter, letter) for letter in text)


def _wrong_address(why: str) -> str:
    return (
        f"This is no address of ClickHouse: {why}. "
        "Write clickhouse://user:password@host:8123/database?table=otel_traces"
    )


def _in_one_line(error: BaseException) -> str:
    """Return the beginning of what ClickHouse says, without the query that it repeats."""
    said = " ".join(str(error).split())
    return f"ClickHouse: {said.partition(' In scope ')[0][:500]}"
