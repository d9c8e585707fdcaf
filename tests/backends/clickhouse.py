"""A ClickHouse without a server: its engine (chdb) behind as much HTTP as the Collector speaks.

What a table may be and what may be inserted, ClickHouse's own engine decides; only the carrying of
questions and blocks is ours. It is for nobody but a test: there are no users and no locks.
"""

from __future__ import annotations

import json
import re
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_CUSTOM_SERIALIZATION = 54_454
"""From this revision on a block says of each column whether it is written in a special way."""
_REVISION = _CUSTOM_SERIALIZATION - 1
_BLOCK_INFO = b"\x01\x00\x02" + struct.pack("<i", -1) + b"\x00"


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _text(value: str) -> bytes:
    return _uvarint(len(value.encode())) + value.encode()


def _block(columns: Sequence[tuple[str, list[Any]]], *, says_serialization: bool) -> bytes:
    """Write a block of texts and small whole numbers as the HTTP interface sends it."""
    rows = len(columns[0][1])
    written = _BLOCK_INFO + _uvarint(len(columns)) + _uvarint(rows)
    for name, values in columns:
        number = values and isinstance(values[0], int)
        written += _text(name) + _text("UInt32" if number else "String")
        written += b"\x00" if says_serialization else b""
        written += b"".join(
            struct.pack("<I", value) if number else _text(value) for value in values
        )
    return written


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
        body = self._body()
        try:
            answer = self.server.answer(asked.get("query") or body.decode(), body)
        except Exception as error:  # noqa: BLE001 - the client is told what ClickHouse said
            self._reply(500, str(error).encode())
        else:
            self._reply(200, answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        read = b""
        while size := int(self.rfile.readline(), 16):
            read += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return read

    def _reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing of each request."""


class _Server(HTTPServer):
    """One request after the other, all in one thread: the engine is embedded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.refused: list[str] = []
        self._session: Any = None

    def answer(self, question: str, block: bytes) -> bytes:
        """Answer as ClickHouse would, with a block of its native format."""
        if "displayName()" in question:
            told: list[tuple[str, list[Any]]] = [
                ("displayName()", ["chdb"]),
                ("version()", [str(self._run("SELECT version()", "TSVRaw")).strip()]),
                ("revision()", [_REVISION]),
                ("timezone()", ["UTC"]),
            ]
            return _block(told, says_serialization=True)
        if question.startswith("DESC"):
            table = json.loads(self._run(question, "JSONCompact"))
            names = [column["name"] for column in table["meta"]]
            columns = [list(column) for column in zip(*table["data"], strict=True)]
            return _block(list(zip(names, columns, strict=True)), says_serialization=False)
        if question.startswith("INSERT"):
            file = self.folder / "block.native"
            file.write_bytes(block)
            into = re.sub(r"(?is)\s(VALUES|FORMAT\s+Native).*$", "", question)
            question = f"{into} SELECT * FROM file('{file}', Native)"
        self._run(question, "Null")
        return b""

    def _run(self, question: str, form: str) -> str:
        if self._session is None:
            from chdb import session

            self._session = session.Session(str(self.folder / "chdb"))
        try:
            return str(self._session.query(question, form))
        except Exception as error:
            self.refused.append(f"{error}\n{question}")
            raise

    def rows(self, question: str) -> list[list[Any]]:
        """Ask the engine directly."""
        return json.loads(self._run(question, "JSONCompact"))["data"]


class ClickHouse:
    """Where it listens, what it refused, and what is in it once nobody writes any more."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.address = f"http://127.0.0.1:{server.server_address[1]}"

    @property
    def refused(self) -> list[str]:
        """What was asked and could not be done."""
        return self._server.refused

    def rows(self, question: str) -> list[list[Any]]:
        """Ask it."""
        return self._server.rows(question)


@contextmanager
def serving(folder: Path) -> Iterator[ClickHouse]:
    """Run it in a thread of this process."""
    server = _Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield ClickHouse(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
