"""The audit log: every change to it, and to what it tells of, shows."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import duckdb
import pytest

from spanflow.errors import LedgerError
from spanflow.ledger.audit import default_log, head_of
from spanflow.ledger.places import Places
from spanflow.ledger.publish import refresh
from spanflow.ledger.retention import forget
from spanflow.query.proof import check_log, write_log

if TYPE_CHECKING:
    from pathlib import Path

MANY = 4


@pytest.fixture
def audited(ledger, make) -> Path:
    """A ledger of four ended engagements and an active one, and the log of an audit."""
    records = [
        make.turn(one * 10, engagement_id=f"e{one}", trace=one, metadata={"email": "u@x.org"})
        for one in range(1, MANY + 1)
    ]
    records.append(make.turn(90, engagement_id="e9", trace=9, phase="start"))
    make.write(ledger, records)
    assert write_log(ledger).written == MANY
    return ledger


def lines_of(ledger: Path) -> list[bytes]:
    return default_log(ledger).read_bytes().splitlines(keepends=True)


def tamper(ledger: Path, statement: str) -> None:
    """Change the store as somebody would who wants it to be published."""
    with duckdb.connect(str(Places.of(ledger).store)) as connection:
        connection.execute(statement)
        connection.execute("UPDATE meta SET revision = revision + 1")


def test_a_log_holds_one_chained_line_for_each_ended_engagement(audited):
    lines = [json.loads(line) for line in lines_of(audited)]
    assert [(one["seq"], one["engagement_id"], one["change"]) for one in lines] == [
        (number, f"e{number}", "new") for number in range(1, MANY + 1)
    ]
    assert {one["status"] for one in lines} == {"completed"}
    before = "0" * 64
    for line, raw in zip(lines, lines_of(audited), strict=True):
        assert line["prev"] == before
        # Anybody can check it without us: the hash is of the line without it.
        before = hashlib.sha256(raw.rstrip(b"\n").split(b',"hash":')[0] + b"}").hexdigest()
        assert line["hash"] == before
    assert head_of(default_log(audited)) == before
    assert default_log(audited).stat().st_mode & 0o777 == 0o600
    assert default_log(audited).parent == audited.parent
    assert b"u@x.org" not in default_log(audited).read_bytes()


def test_an_audit_without_news_adds_nothing(audited):
    before = lines_of(audited)
    again = write_log(audited)
    assert (again.written, again.engagements, lines_of(audited)) == (0, MANY, before)
    found = check_log(audited)
    assert found.is_clean
    assert set(found.engagements.values()) == {"same"}
    assert (found.lines, found.head, found.unlogged) == (MANY, again.head, 0)


def test_what_was_extended_gets_another_line(audited, make):
    make.write(audited, [make.turn(11, at=99, engagement_id="e1", trace=1)])
    found = check_log(audited)
    assert found.engagements["e1"] == "extended"
    assert found.is_clean
    again = write_log(audited)
    assert (again.written, again.extended, again.altered) == (1, ("e1",), ())
    assert len(lines_of(audited)) == MANY + 1
    assert check_log(audited).engagements["e1"] == "same"


def test_an_alteration_stays_on_record(audited):
    tamper(audited, "UPDATE records SET metadata = '{}' WHERE engagement_id = 'e2'")
    found = check_log(audited)
    assert found.engagements == {"e1": "same", "e2": "altered", "e3": "same", "e4": "same"}
    assert not found.is_clean
    for written in (1, 0):
        again = write_log(audited)
        assert again.written == written
        assert check_log(audited).engagements["e2"] == "altered"
    assert json.loads(lines_of(audited)[-1])["change"] == "altered"


def test_what_never_added_up_is_altered_from_the_first_line(ledger, make):
    make.write(ledger, [make.turn(), make.step(2, "a"), make.llm(3, 2, (1, 1))])
    refresh(ledger)
    tamper(ledger, "UPDATE turn_facts SET total_tokens = 1")
    assert write_log(ledger).altered == ("e1",)
    assert check_log(ledger).engagements == {"e1": "altered"}


def test_the_missing_are_told_from_the_erased(audited):
    forget(audited, engagement_id="e1")
    found = check_log(audited)
    assert found.engagements == {"e1": "erased", "e2": "same", "e3": "same", "e4": "same"}
    assert found.is_clean
    for table in ("records", "turn_facts"):
        tamper(audited, f"DELETE FROM {table} WHERE engagement_id = 'e3'")
    found = check_log(audited)
    assert found.engagements["e3"] == "missing"
    assert not found.is_clean
    assert write_log(audited).written == 0


def edited(lines):
    lines[1] = lines[1].replace(b'"status":"completed"', b'"status":"abandoned"')


def spaced(lines):
    lines[1] = lines[1].replace(b'{"seq"', b'{ "seq"')


def rehashed(lines):
    line = json.loads(lines[1])
    line.pop("hash")
    line["status"] = "failed"
    told = json.dumps(line, separators=(",", ":"))
    own_hash = hashlib.sha256(told.encode()).hexdigest()
    lines[1] = f'{told[:-1]},"hash":"{own_hash}"}}\n'.encode()


def removed(lines):
    del lines[1]


def swapped(lines):
    lines[1], lines[2] = lines[2], lines[1]


def cut_short(lines):
    lines[1] = lines[1][:50] + b"\n"


def doubled(lines):
    lines.insert(2, lines[1])


def added(lines):
    lines.append(lines[-1].replace(b'"seq":4', b'"seq":5'))


def beheaded(lines):
    del lines[0]


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (edited, 2),
        (spaced, 2),
        (rehashed, 3),
        (removed, 2),
        (swapped, 2),
        (cut_short, 2),
        (doubled, 3),
        (added, 5),
        (beheaded, 1),
    ],
)
def test_every_change_to_the_log_is_named(audited, change, number):
    lines = lines_of(audited)
    change(lines)
    default_log(audited).write_bytes(b"".join(lines))
    found = check_log(audited)
    assert not found.is_clean
    assert found.broken[0].startswith(f"Line {number} ")
    with pytest.raises(LedgerError, match=f"Line {number} "):
        write_log(audited)
    assert lines_of(audited) == lines, "nothing is added to a broken log"
    with pytest.raises(LedgerError, match="broken"):
        head_of(default_log(audited))


def test_a_log_cut_off_at_its_end_is_found_by_a_hash_kept_elsewhere(audited, make):
    head = head_of(default_log(audited))
    make.write(audited, [make.turn(50, engagement_id="e5", trace=5)])
    write_log(audited)
    assert check_log(audited, head=head).is_clean, "it has grown since"
    lines = lines_of(audited)
    default_log(audited).write_bytes(b"".join(lines[: MANY - 1]))
    assert check_log(audited).is_clean, "by itself it cannot know"
    found = check_log(audited, head=f" {head.upper()}\n")
    assert not found.is_clean
    assert "cut off" in found.broken[0]


def test_half_a_line_left_by_a_crash_is_taken_off(audited, make):
    log = default_log(audited)
    whole = log.read_bytes()
    log.write_bytes(whole + whole[:70])
    assert check_log(audited).torn
    assert check_log(audited).is_clean
    make.write(audited, [make.turn(50, engagement_id="e5", trace=5)])
    again = write_log(audited)
    assert (again.mended, again.written) == (True, 1)
    assert log.read_bytes().startswith(whole + b'{"seq":5,')
    found = check_log(audited)
    assert (found.torn, found.is_clean, found.lines) == (False, True, MANY + 1)


def test_audits_at_once_write_each_engagement_once(ledger, make):
    make.write(ledger, [make.turn(n, engagement_id=f"e{n}", trace=n) for n in range(1, 101)])
    refresh(ledger)
    code = "import sys; from spanflow.query.proof import write_log; write_log(sys.argv[1])"

    def audit_once(_: int) -> int:
        return subprocess.run([sys.executable, "-c", code, str(ledger)], check=False).returncode

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(audit_once, range(3))) == [0, 0, 0]
    found = check_log(ledger)
    assert (found.lines, len(found.engagements), found.is_clean) == (100, 100, True)


def test_the_active_are_not_logged_before_they_end(audited, make):
    assert "e9" not in check_log(audited).engagements
    make.write(audited, [make.turn(90, engagement_id="e9", trace=9, until=5)])
    assert check_log(audited).unlogged == 1
    assert write_log(audited).written == 1


def test_progress_is_told(audited, make):
    told: list[tuple[int, int]] = []
    check_log(audited, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, MANY) for done in range(1, MANY + 1)]


def test_a_log_that_cannot_be_opened_is_told(audited, tmp_path):
    with pytest.raises(LedgerError, match=r"no audit log .*spanflow audit"):
        check_log(audited, tmp_path / "none.ndjson")
    with pytest.raises(LedgerError, match="cannot be opened"):
        write_log(audited, tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(os.urandom(500) + b"\n")
    assert not check_log(audited, binary).is_clean
