"""A real PostgreSQL server of a test's own: found, made in a folder, started, stopped.

As a program (`python postgres.py`) it says where the server is, and where there is none it installs
the distribution's package if it may do that without asking; it never goes on without one.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 120
PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
MISSING = (
    "There is no PostgreSQL server here (no initdb on PATH, by pg_config, or in its usual places); "
    "`make backends` installs Debian's package `postgresql`, elsewhere install it by hand."
)
# Nothing here outlives the test: what protects from power loss only takes time.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def programs() -> Path | None:
    """Return the folder that has both initdb and postgres, the newest where there are several."""
    folders: list[Path] = []
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    if asked := shutil.which("pg_config"):
        told = subprocess.run([asked, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(told.stdout.strip()))
    for place in PLACES:
        root, _, pattern = place[1:].partition("/")
        folders += sorted(Path("/", root).glob(pattern), reverse=True)
    for folder in folders:
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK):
            return folder
    return None


@contextmanager
def serving() -> Iterator[str]:
    """Run a server that nobody else can reach, and yield the address for its clients."""
    found = programs()
    if found is None:
        raise FileNotFoundError(MISSING)
    # Not below pytest's folder: a socket's path has 107 bytes, and another user must enter.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        account = _account(folder)
        log = folder / "log"
        _run([found / "initdb", "-D", folder / "data", "-U", "spanflow", "-A", "trust"], account)
        with log.open("w", encoding="utf-8") as output:
            server = subprocess.Popen(
                [
                    *(found / "postgres", "-D", folder / "data", "-k", folder),
                    *("-c", "listen_addresses="),
                    *(part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                **account,
            )
        try:
            _wait(server, folder, log)
            yield f"postgresql:///postgres?host={folder}&user=spanflow"
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients to leave
            try:
                server.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _account(folder: Path) -> dict[str, Any]:
    """Return who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": folder}
    msg = "PostgreSQL does not run as root, and there is neither a user postgres nor nobody."
    raise PermissionError(msg)


def _run(command: list[Any], account: dict[str, Any]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **account)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)


def _wait(server: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    """Wait until the server takes clients."""
    import psycopg

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            psycopg.connect(host=str(folder), user="spanflow", dbname="postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(encoding="utf-8")) from None
            time.sleep(0.1)
        else:
            return


def install() -> int:
    """Say where the server is; install it where that needs no question."""
    found = programs()
    if found is None and shutil.which("apt-get"):
        before = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if not before or shutil.which("sudo"):
            quietly = [*before, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
            subprocess.run([*quietly, "update"], check=False)
            subprocess.run(
                [*quietly, "install", "-y", "--no-install-recommends", "postgresql"], check=False
            )
            found = programs()
    sys.stdout.write(f"PostgreSQL is in {found}\n" if found else f"{MISSING}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(install())
