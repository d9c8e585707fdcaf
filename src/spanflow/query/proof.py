"""Digests of engagements, and the audit log, asked of a ledger's published file.

Every question opens the file anew, on a connection of its own, as counting needs room in memory
beside it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from spanflow.errors import LedgerError
from spanflow.ledger import audit
from spanflow.ledger.digest import CURRENT, FORMS, Digest, Form, Verdict, compare
from spanflow.ledger.publish import refresh
from spanflow.ledger.recount import Facts, prepare, recounted
from spanflow.query.opening import Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import duckdb

__all__ = ["check_log", "digest_of", "verdict_on", "write_log"]


def digest_of(ledger: Path, engagement_id: str) -> str:
    """Return the digest of one engagement as it is now.

    Args:
        ledger: The published file.
        engagement_id: Its whole id.

    Raises:
        LedgerError: There is no such engagement.
    """
    facts = _facts(ledger, engagement_id, FORMS[CURRENT])
    return str(Digest.of(CURRENT, engagement_id, facts.entries))


def verdict_on(ledger: Path, engagement_id: str, digest: str) -> Verdict:
    """Return what became of one engagement since a digest of it was made.

    Args:
        ledger: The published file.
        engagement_id: Its id, or as much of its beginning or end as tells it from others.
        digest: What :func:`digest_of` returned.

    Raises:
        LedgerError: The digest is none, or another engagement's, or the engagement is not there.
    """
    then = Digest.read(digest)
    whole = then.engagement_id
    if not engagement_id or not (whole.startswith(engagement_id) or whole.endswith(engagement_id)):
        message = f"The digest is of {whole}, not of {engagement_id}. Give the digest of that one."
        raise LedgerError(message)
    facts = _facts(ledger, whole, FORMS[then.version])
    return compare(then, facts.entries, sound=facts.sound)


def write_log(
    ledger: Path, log: Path | None = None, on_progress: Callable[[int, int], None] | None = None
) -> audit.Audited:
    """Bring the ledger up to date and write the audit log; :func:`audit.audit` says what it is."""
    with _opened(ledger) as connection:
        return audit.audit(connection, log or audit.default_log(ledger), on_progress)


def check_log(
    ledger: Path,
    log: Path | None = None,
    head: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> audit.Checked:
    """Bring the ledger up to date and check the audit log, and the ledger against it."""
    with _opened(ledger) as connection:
        return audit.check(connection, log or audit.default_log(ledger), head, on_progress)


def _facts(ledger: Path, engagement_id: str, form: Form) -> Facts:
    with _opened(ledger) as connection:
        prepare(connection)
        [facts] = recounted(connection, [engagement_id], form)
    if not facts.entries:
        message = f"There is no engagement {engagement_id} in {ledger}. `spanflow ls` lists them."
        raise LedgerError(message)
    return facts


@contextlib.contextmanager
def _opened(ledger: Path) -> Generator[duckdb.DuckDBPyConnection]:
    refresh(ledger)
    opened = Opened(Path(ledger))
    try:
        yield opened.connection
    finally:
        opened.close()
