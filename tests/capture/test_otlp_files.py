"""Files of OTLP JSON: plain and packed, whole and torn."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from spanflow.capture import otlp_files
from spanflow.capture.otlp_files import read_file

if TYPE_CHECKING:
    from pathlib import Path

zstandard = pytest.importorskip("zstandard")


def line(number: int) -> bytes:
    call = [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
    ]
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "startTimeUnixNano": "1790000000000000000",
        "attributes": call,
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode() + b"\n"


def read(path: Path) -> tuple[list[int], dict[int, str]]:
    """The numbers of the spans, and the lines that were refused."""
    spans: list[int] = []
    refused: dict[int, str] = {}
    for one in read_file(path, 1_000):
        spans += [int(record["span_id"], 16) for record in one.told.records]
        for reason in one.told.refused:
            refused[one.number] = reason
        assert one.position <= path.stat().st_size
    return spans, refused


def framed(*parts: bytes) -> bytes:
    packed = [zstandard.ZstdCompressor().compress(part) for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in packed)


THREE = line(1) + line(2) + line(3)


@pytest.mark.parametrize(
    "content",
    [
        THREE,
        THREE.rstrip(b"\n"),
        b"\n" + THREE.replace(b"\n", b"\r\n\n"),
        gzip.compress(THREE),
        gzip.compress(line(1)) + gzip.compress(line(2) + line(3)),
        zstandard.ZstdCompressor().compress(THREE),
        zstandard.ZstdCompressor().compress(line(1))
        + zstandard.ZstdCompressor().compress(line(2) + line(3)),
        framed(line(1).strip(), line(2).strip(), line(3).strip()),
    ],
    ids=["lines", "no end", "empty lines", "gz", "gz twice", "zst", "zst twice", "collector's zst"],
)
def test_lines_are_read_however_they_are_packed(content: bytes, tmp_path: Path):
    (tmp_path / "spans").write_bytes(content)
    assert read(tmp_path / "spans") == ([1, 2, 3], {})


def test_a_document_on_many_lines_is_read_whole(tmp_path: Path):
    pretty = json.dumps(json.loads(line(7)), indent=2).encode()
    (tmp_path / "spans.json").write_bytes(pretty)
    assert read(tmp_path / "spans.json") == ([7], {})


def test_bad_lines_are_refused_by_their_number(tmp_path: Path):
    half = b'{"resourceSpans":[{"scopeSpans":[\n'
    content = half + line(1) + b"\xff\xfe\n" + b'"text"\n' + line(2) + line(3)[:40]
    (tmp_path / "spans.json").write_bytes(content)
    spans, refused = read(tmp_path / "spans.json")
    assert spans == [1, 2]
    assert refused == {
        1: "not JSON",
        3: "not JSON",
        4: "no export request: it is not an object",
        6: "not JSON",
    }


def test_half_a_character_costs_no_line(tmp_path: Path):
    content = line(1).replace(b'"m"', b'"\\ud83d"') + line(2).replace(b'"m"', b'"\xe3\x82"')
    (tmp_path / "spans.json").write_bytes(content)
    assert read(tmp_path / "spans.json") == ([1, 2], {})


@pytest.mark.parametrize("content", [gzip.compress(THREE * 500), framed(line(1), line(2))])
def test_a_torn_package_gives_what_is_whole(content: bytes, tmp_path: Path):
    (tmp_path / "spans").write_bytes(content[:-40])
    spans, refused = read(tmp_path / "spans")
    assert set(spans) <= {1, 2, 3}
    assert len(refused) == 1


def test_a_line_too_long_for_memory_is_skipped(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(otlp_files, "LONGEST_LINE_BYTES", 1_000)
    long = line(1).replace(b'"m"', b'"' + b"m" * 5_000 + b'"')
    (tmp_path / "spans.json").write_bytes(line(2) + long + line(3))
    spans, refused = read(tmp_path / "spans.json")
    assert (spans, list(refused)) == ([2, 3], [2])


def test_without_an_unpacker_it_says_what_to_do(tmp_path: Path, monkeypatch: Any):
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(otlp_files.importlib, "import_module", missing)
    (tmp_path / "spans").write_bytes(zstandard.ZstdCompressor().compress(THREE))
    with pytest.raises(otlp_files.SpanflowError, match="zstd -d"):
        read(tmp_path / "spans")


def test_an_empty_file_says_nothing(tmp_path: Path):
    (tmp_path / "spans").write_bytes(b"")
    assert read(tmp_path / "spans") == ([], {})
