"""Imported by a program: its last ingest may take as long as a busy machine needs.

An app that ends gives its ledger two seconds. That is right for an app, and too short for a test
that wants to see what comes of it while others keep the machine busy.
"""

from __future__ import annotations

import sys
import threading

PATIENCE_S = 120.0


def be_patient() -> None:
    """Let whatever is switched on in this process take its time at the end."""
    setup = sys.modules.get("spanflow.setup")
    if setup is not None:
        setup._EXIT_TIMEOUT_S = PATIENCE_S  # noqa: SLF001 - what a signal gives it
        setup.shutdown.__defaults__ = (PATIENCE_S,)


# Before anything that the program itself does at exit, and only then: nothing is imported for it.
threading._register_atexit(be_patient)  # noqa: SLF001 - there is no other way to be the first
