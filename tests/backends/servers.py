"""Programs that `make backends` brings, each run for a test at addresses of its own.

This module starts and stops them and waits until they answer; what they say is read elsewhere. A
program that is not there fails the test by its name.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "collector-config"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spanflow" / "backends"
PATIENCE_S = 120


def program(name: str) -> Path:
    """Return where a program is.

    Raises:
        FileNotFoundError: It is not there.
    """
    found = CACHE / name
    if not found.exists():
        message = f"There is no {name} at {found}; build it with `make backends`."
        raise FileNotFoundError(message)
    return found


def free_address() -> str:
    """Return an address of this host where nobody listens now."""
    return f"127.0.0.1:{free_port()}"


def _answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, int(port))) == 0


@contextmanager
def running(
    command: list[str | Path],
    addresses: list[str],
    log: Path,
    environment: Mapping[str, str],
    *,
    ends_within_s: float = PATIENCE_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program from when it listens at all `addresses` until the test is over.

    It is told to end, and killed where it takes longer than `ends_within_s` seconds.
    """
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not all(_answers(address) for address in addresses):
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"{command[0]} did not start:\n{log.read_text(encoding='utf-8')}"
                raise RuntimeError(message)
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(ends_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def collector(folder: Path, configuration: str, **environment: str) -> Iterator[dict[str, str]]:
    """Run a Collector by one of the project's configurations.

    Yields:
        What a program sets to send its spans there.
    """
    where = {"OTLP_GRPC": free_address(), "OTLP_HTTP": free_address(), **environment}
    log = folder / f"{Path(configuration).stem}.log"
    command = [program("otelcol-spanflow"), "--config", CONFIGURATION / configuration]
    with running(command, [where["OTLP_GRPC"], where["OTLP_HTTP"]], log, where):
        yield sending_to(where["OTLP_GRPC"])


def sending_to(grpc: str) -> dict[str, str]:
    """Return the variables with which a program sends its spans to an OTLP port, and only those."""
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{grpc}",
    }


@dataclass(frozen=True)
class Backend:
    """Where a back end takes spans (OTLP over gRPC) and where it answers questions (HTTP)."""

    otlp: str
    query: str


@contextmanager
def jaeger(folder: Path, otlp: str | None = None) -> Iterator[Backend]:
    """Run a Jaeger that keeps everything in memory, where it takes spans at a given address."""
    here = Backend(otlp=otlp or free_address(), query=free_address())
    where = {
        "OTLP_GRPC": here.otlp,
        "OTLP_HTTP": free_address(),
        "QUERY_HTTP": here.query,
        "QUERY_GRPC": free_address(),
    }
    command = [program("jaeger"), "--config", Path(__file__).with_name("jaeger.yaml")]
    with running(command, [here.otlp, here.query], folder / "jaeger.log", where):
        yield here


@contextmanager
def tempo(folder: Path) -> Iterator[Backend]:
    """Run a Tempo in one process by the configuration that people get for Docker."""
    here = Backend(otlp=free_address(), query=free_address())
    host, port = here.query.split(":")
    where = {
        "OTLP_GRPC": here.otlp,
        "HTTP_HOST": host,
        "HTTP_PORT": port,
        "GRPC_PORT": free_address().split(":")[1],
        "DATA": str(folder / "tempo"),
    }
    configuration = CONFIGURATION / "docker" / "tempo.yaml"
    command = [program("tempo"), f"-config.file={configuration}", "-config.expand-env=true"]
    listens, log = [here.otlp, here.query], folder / "tempo.log"
    with running(command, listens, log, where, ends_within_s=3):  # it would store what it has
        yield here


@contextmanager
def prometheus(folder: Path, configuration: str) -> Iterator[str]:
    """Run a Prometheus by a configuration, which it may also be sent metrics over OTLP.

    Yields:
        Its address.
    """
    address = free_address()
    file = folder / "prometheus.yaml"
    file.write_text(configuration, encoding="utf-8")
    command = [
        *(program("prometheus"), f"--config.file={file}"),
        f"--web.listen-address={address}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        "--web.enable-otlp-receiver",
    ]
    with running(command, [address], folder / "prometheus.log", {}):
        yield address


@contextmanager
def phoenix(folder: Path) -> Iterator[Backend]:
    """Run a Phoenix that keeps what it gets in a folder."""
    here = Backend(otlp=free_address(), query=free_address())
    where = {
        "PHOENIX_WORKING_DIR": str(folder / "phoenix"),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": here.query.split(":")[1],
        "PHOENIX_GRPC_PORT": here.otlp.split(":")[1],
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    command = [program("phoenix") / "bin" / "phoenix", "serve"]
    with running(command, [here.otlp, here.query], folder / "phoenix.log", where):
        yield here
