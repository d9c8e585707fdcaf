"""Reads files of OTLP JSON: one export request a line, or one in the whole file, packed or not.

It tells what is in each line and which lines it refuses; a bad line never stops the rest. Only one
line is held in memory. What a request says is :mod:`spanflow.capture.otlp`'s.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

import orjson

from spanflow.capture.otlp import Told, read_document
from spanflow.errors import SpanflowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Line", "read_file"]

LONGEST_LINE_BYTES = 128 * 1024 * 1024
"""Longer lines are refused: a request must fit into memory several times."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LENGTH_BYTES = 4
_TOO_LONG = f"longer than {LONGEST_LINE_BYTES // 1024**2} MiB"


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a file said.

    Attributes:
        number: Which line: 1-based.
        position: How far into the file, in bytes as they lie on disk, this line was read.
        told: Its records and refusals.
    """

    number: int
    position: int
    told: Told


def read_file(path: Path, limit: int) -> Iterator[Line]:
    """Yield what every line of a file says; compression is known by the file's first bytes.

    Args:
        path: Lines as the Collector's ``file`` exporter writes them, plain, with its ``zstd``
            compression, or packed whole by gzip or zstd; or a file that is one document.
        limit: The longest payload kept, in bytes.

    Raises:
        OSError: The file cannot be read.
        SpanflowError: It is packed in a way this Python cannot unpack.
    """
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), 1):
            if line is None:
                yield Line(number, file.tell(), _refused(_TOO_LONG))
                continue
            if isinstance(line, Exception):
                # What is packed ends where it is torn; the Collector may still be writing it.
                yield Line(number, file.tell(), _refused(f"cannot be unpacked further: {line}"))
                return
            if not line.strip():
                continue
            told = _read(line, limit)
            if told is None and number == 1 and (whole := _whole(path)) is not None:
                told = _read(whole, limit)
                if told is not None:
                    yield Line(number, path.stat().st_size, told)
                    return
            yield Line(number, file.tell(), told or _refused("not JSON"))


def _read(line: bytes, limit: int) -> Told | None:
    try:
        document = _parsed(line)
    except (ValueError, RecursionError):
        return None
    return read_document(document, limit)


def _parsed(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # Python's own reader is slower and takes what orjson does not: half characters, NaN.
        return json.loads(line.decode("utf-8", "replace"))


def _whole(path: Path) -> bytes | None:
    """Return the whole file, for where it is one document on many lines."""
    parts: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for part in _lines(file):
            if not isinstance(part, bytes) or size > LONGEST_LINE_BYTES:
                return None
            parts.append(part)
            size += len(part)
    return b"".join(parts)


def _lines(file: IO[bytes]) -> Iterator[bytes | Exception | None]:
    """Yield lines; None for one that is too long, an error where it cannot be unpacked further."""
    start = file.read(_LENGTH_BYTES * 2)
    file.seek(0)
    if start.startswith(_GZIP):
        yield from _split(cast("IO[bytes]", gzip.GzipFile(fileobj=file)))
    elif start.startswith(_ZSTD):
        yield from _split(_unzstd(file))
    elif start[_LENGTH_BYTES:].startswith(_ZSTD):
        for part in _framed(file):
            if isinstance(part, bytes):
                yield from _split(_unzstd(io.BytesIO(part)))
            else:
                yield part
    else:
        yield from _split(file)


def _split(stream: IO[bytes]) -> Iterator[bytes | Exception | None]:
    while True:
        try:
            line = stream.readline(LONGEST_LINE_BYTES + 1)
            if len(line) > LONGEST_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST_LINE_BYTES)
                yield None
                continue
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            yield error
            return
        if not line:
            return
        yield line


def _framed(file: IO[bytes]) -> Iterator[bytes | Exception | None]:
    """Yield the Collector's own frames: the length in four bytes, then that many bytes."""
    while head := file.read(_LENGTH_BYTES):
        length = int.from_bytes(head, "big")
        if length > LONGEST_LINE_BYTES:
            yield None
            file.seek(length, io.SEEK_CUR)
            continue
        part = file.read(length)
        if len(head) < _LENGTH_BYTES or len(part) < length:
            yield EOFError("the file ends within a frame")
            return
        yield part


def _unzstd(file: IO[bytes]) -> IO[bytes]:
    for name in ("compression.zstd", "zstandard"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        if name == "zstandard":
            reader: Any = module.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            return cast("IO[bytes]", io.BufferedReader(reader))
        return cast("IO[bytes]", module.ZstdFile(file))
    message = "It is compressed with zstd: install `zstandard`, or unpack it with `zstd -d` first."
    raise SpanflowError(message)


def _refused(reason: str) -> Told:
    return Told(refused=[reason])
