"""What the system tells of the disk under a ledger: its kind, its locks, and who holds them.

It only looks; what an answer means for a ledger is decided elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path

from spanflow.ledger.process import lock_file

__all__ = ["REMOTE", "file_system", "holders", "locks_work"]

REMOTE = {
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "glusterfs", "lustre",
    "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
}  # fmt: skip
"""File systems whose locks do not reach across hosts, or not at all."""

_MOUNTS = Path("/proc/self/mounts")
_LOCKS = Path("/proc/locks")


def locks_work(folder: Path) -> bool:
    """Return whether files in a folder can be locked; the folder itself is tried."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lock_file(descriptor, shared=True)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def holders(file: Path) -> list[int]:
    """Return the processes that have locked a file, where the system tells."""
    try:
        inode = str(file.stat().st_ino)
        rows = [line.split() for line in _LOCKS.read_text("ascii").splitlines()]
    except OSError:
        return []
    return sorted({int(row[4]) for row in rows if row[5].rpartition(":")[2] == inode})


def file_system(folder: Path) -> str | None:
    """Return the kind of file system that holds a folder, where the system tells."""
    try:
        rows = [line.split() for line in _MOUNTS.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return None
    path = folder.resolve()
    # The last of those that hold the path most closely: a later mount covers an earlier one.
    kinds = [
        (len(row[1]), at, row[2])
        for at, row in enumerate(rows)
        if path.is_relative_to(row[1].replace("\\040", " "))
    ]
    return max(kinds)[2] if kinds else None
