"""Ports for servers that must be told where to listen before they do.

A port that the kernel picks may be anybody's a moment later: it hands out the same range to every
connection that is made. So ports are taken from below that range, and no port twice.
"""

from __future__ import annotations

import random
import socket

_LOWEST, _HIGHEST = 12_000, 30_000
_chance = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """Return a port of this host where nobody listens, and which is given to nobody else here."""
    while True:
        port = _chance.randrange(_LOWEST, _HIGHEST)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
