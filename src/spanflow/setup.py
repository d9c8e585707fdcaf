"""Switches spanflow on and off in a process, and brings home what was recorded when it ends.

It holds the entry points, ``configure``, ``uninstrument``, ``flush`` and ``shutdown``. Starting
costs next to nothing: hooks wait for a framework to be imported, and only then are
settings read, a journal named and an ingester started. Everything here is idempotent; nothing here
raises but ``configure``.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from spanflow import switches
from spanflow.errors import ConfigurationError
from spanflow.guard import report

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from spanflow.capture.runtime import Runtime
    from spanflow.ledger.ingest import BackgroundIngester

__all__ = [
    "SpanflowInstrumentor",
    "configure",
    "feeds",
    "flush",
    "shutdown",
    "uninstrument",
]

_logger = logging.getLogger("spanflow")
_EXIT_TIMEOUT_S = 2.0


class _Process:
    """What is switched on in this process."""

    lock = threading.RLock()
    on = False
    at_exit = False
    runtime: Runtime | None = None
    ingester: BackgroundIngester | None = None
    flushing: threading.Thread | None = None
    overrides: dict[str, Any] = {}  # noqa: RUF012 - replaced, never mutated


class SpanflowInstrumentor(BaseInstrumentor):
    """What ``opentelemetry-instrument`` finds: capture is on because spanflow is installed."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: the hooks wait for the frameworks, whichever are installed."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:  # noqa: ARG002 - the base class's signature
        try:
            _switch_on({})
        except Exception as error:  # noqa: BLE001 - an instrumentor must not stop the application
            report("setup.instrument", error)

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002 - the base class's signature
        uninstrument()


def configure(**settings: Any) -> None:
    """Switch capture on in this process.

    With nothing configured yet, OpenTelemetry is set up from its variables too. Reads the same
    variables as ``opentelemetry-instrument`` does; what is given here wins. Calling it again
    changes the settings and doubles nothing.

    Args:
        **settings: Any of spanflow's settings by name: ``ledger``, ``goals``, ``global_steps``,
            ``idle_after``, ``ingest``, ``payload_bytes``, ``redact``, ``metadata_keys``,
            ``accept_baggage``, ``state_keys``, ``enabled``.

    Raises:
        ConfigurationError: A setting is unknown or its value wrong, or a goal misspells a step of
            a graph seen so far.

    Example:
        >>> import spanflow
        >>> spanflow.configure(goals=["submitted"], enabled=False)
    """
    from spanflow.capture import redact  # noqa: PLC0415 - only who configures pays for it
    from spanflow.capture.goals import misspelt  # noqa: PLC0415
    from spanflow.settings import load  # noqa: PLC0415

    loaded = load(**settings)
    for goal, near in misspelt(loaded.goals if "goals" in settings else ()).items():
        msg = (
            f"goals={goal!r}: no graph seen so far has a step of that name; did you mean {near!r}?"
        )
        raise ConfigurationError(msg)
    redact.use(loaded.redact, at_once=settings.get("redact") is not None)
    if loaded.enabled and not switches.sdk_disabled():
        _provide_tracing()
    _switch_on(settings)


def uninstrument() -> None:
    """Restore everything that was wrapped and capture nothing more.

    What was recorded stays and is ingested.

    Example:
        >>> import spanflow
        >>> spanflow.uninstrument()
    """
    with _Process.lock:
        _Process.on = False
        _release()
    goals = sys.modules.get("spanflow.capture.goals")
    if goals is not None:
        goals.forget()


def flush(timeout: float = 10.0) -> bool:
    """Bring everything recorded so far to the back ends and into the ledger.

    Args:
        timeout: Seconds to wait at most.

    Returns:
        Whether it was all brought in within that time, as far as the exporters tell.

    Example:
        >>> import spanflow
        >>> spanflow.flush(timeout=30)
        True
    """
    done = threading.Event()
    brought: list[bool] = []

    def work() -> None:
        brought.append(_flush(timeout))
        done.set()

    # In a thread of its own: a lock held by the interrupted code must not hang whoever flushes.
    thread = threading.Thread(target=work, name="spanflow-flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is going down: no thread can be started any more
        work()
        return brought[0]
    _Process.flushing = thread
    return done.wait(timeout) and brought[0]


def shutdown(timeout: float = _EXIT_TIMEOUT_S) -> None:
    """Ingest what this process recorded, within `timeout` seconds; stop the background ingester.

    A process that ends by itself does this, too.

    Example:
        >>> import spanflow
        >>> spanflow.shutdown()
    """
    with _Process.lock:
        ingester, _Process.ingester = _Process.ingester, None
        flushing, _Process.flushing = _Process.flushing, None
        runtime = _Process.runtime
    if runtime is None or runtime.journal is None:
        return
    try:
        runtime.journal.seal()
        if flushing is not None and flushing.is_alive():
            from spanflow.ledger.ingest import finish  # noqa: PLC0415 - a ledger is in use

            finish(flushing, timeout)
        if ingester is not None and runtime.settings.ingest == "exit":
            ingester.last_round(timeout)  # here: no thread can be started at interpreter exit
        elif ingester is not None:
            ingester.stop(timeout)
    except Exception as error:  # noqa: BLE001 - the interpreter is going down
        report("setup.shutdown", error)


def feeds(ledger: Path) -> bool:
    """Whether capture writes its own spans to `ledger` already."""
    runtime = _Process.runtime
    if not _Process.on or runtime is None or runtime.journal is None:
        return False
    return runtime.journal.path.absolute() == ledger.absolute()


def _switch_on(overrides: dict[str, Any]) -> None:
    with _Process.lock:
        _Process.overrides = dict(overrides)
        if not switches.wanted(overrides.get("enabled")):
            _Process.on = False
            _release()
            return
        _Process.on = True
        from spanflow.instrument import arrivals  # noqa: PLC0415 - nothing where switched off
        from spanflow.instrument.plain import gate  # noqa: PLC0415

        gate.open_with(_activate)
        _watch()
        if _Process.runtime is not None:
            _release()
        arrivals.watch(_activate)


def _watch() -> None:
    """Let spans wake capture, whoever makes them, where a tracer provider hands them out."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        return  # loading it is for whoever sets a provider up
    from spanflow.capture import sentinel  # noqa: PLC0415 - the SDK is loaded by now

    sentinel.post(_activate)


def _activate() -> Runtime | None:
    """Return this process's runtime, made when the first framework turns up."""
    with _Process.lock:
        if not _Process.on:
            return None
        if _Process.runtime is None:
            _Process.runtime = _make_runtime()
        return _Process.runtime


def _make_runtime() -> Runtime:
    from opentelemetry import trace  # noqa: PLC0415 - loaded by now

    from spanflow import __version__  # noqa: PLC0415
    from spanflow.capture import processor, redact  # noqa: PLC0415
    from spanflow.capture.exporter import default_ledger  # noqa: PLC0415
    from spanflow.capture.payload import clean  # noqa: PLC0415
    from spanflow.capture.runtime import Runtime  # noqa: PLC0415
    from spanflow.instrument import workers  # noqa: PLC0415
    from spanflow.ledger.journal import journal_for  # noqa: PLC0415
    from spanflow.settings import load  # noqa: PLC0415

    import_module("spanflow.capture.call_spans")  # the user's first call must not wait for it
    settings = load(**_Process.overrides)
    redact.use(settings.redact)
    ledger = settings.ledger or default_ledger()
    resource = getattr(trace.get_tracer_provider(), "resource", None)
    service = resource.attributes.get("service.name") if resource is not None else None
    journal = (
        journal_for(ledger.absolute(), service_name=clean(service) if service else None)
        if ledger is not None
        else None
    )
    runtime = Runtime(settings, journal, __version__)
    processor.attach(runtime)
    workers.install()
    if journal is not None and settings.ingest != "off":
        from spanflow.ledger.ingest import BackgroundIngester  # noqa: PLC0415

        _Process.ingester = BackgroundIngester(
            journal.path, journal, idle_after=settings.told_idle_after
        )
        if settings.ingest == "background":
            _Process.ingester.start()
    if not _Process.at_exit:
        _Process.at_exit = True
        atexit.register(shutdown)
        _flush_on_sigterm()
    return runtime


def _release() -> None:
    """Unwrap everything and let go of the runtime."""
    gate = sys.modules.get("spanflow.instrument.plain.gate")
    if gate is not None and not _Process.on:
        gate.close()
        sentry = sys.modules.get("spanflow.capture.sentinel")
        if sentry is not None:
            sentry.withdraw()
    arrivals = sys.modules.get("spanflow.instrument.arrivals")
    if arrivals is not None:
        arrivals.withdraw()
    workers = sys.modules.get("spanflow.instrument.workers")
    if workers is not None:
        workers.uninstall()
    module = sys.modules.get("spanflow.capture.processor")
    if module is not None:
        module.attach(None)
    shutdown()
    _Process.runtime = None


def _provide_tracing() -> None:
    """Set OpenTelemetry up from its own variables, unless a provider is there already."""
    from opentelemetry import trace  # noqa: PLC0415

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    from opentelemetry.distro import OpenTelemetryConfigurator  # noqa: PLC0415

    if "OTEL_TRACES_EXPORTER" not in os.environ and any(
        os.environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ):
        os.environ["OTEL_TRACES_EXPORTER"] = "otlp"
    try:
        OpenTelemetryConfigurator().configure()  # pyright: ignore[reportUnknownMemberType]
    except Exception as error:  # noqa: BLE001 - an exporter that cannot be made must not stop the application
        report("setup.tracing", error)


def _flush(timeout: float) -> bool:
    from opentelemetry import trace  # noqa: PLC0415

    try:
        force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
        if callable(force_flush):
            force_flush(int(timeout * 1_000))
    except Exception as error:  # noqa: BLE001 - somebody's exporter
        report("setup.flush", error)
    runtime = _Process.runtime
    if runtime is not None and runtime.journal is not None:
        try:
            runtime.journal.seal()
            return runtime.settings.ingest == "off" or _ingest(runtime, timeout)
        except Exception as error:  # noqa: BLE001 - the state of the file system never raises
            report("setup.flush", error)
            return False
    return True


def _ingest(runtime: Runtime, wait_s: float) -> bool:
    from spanflow.ledger.publish import refresh  # noqa: PLC0415 - duckdb is loaded only where it is needed

    if runtime.journal is None:
        return True
    patience = runtime.settings.told_idle_after
    return refresh(runtime.journal.path, idle_after=patience, wait_s=wait_s)


def _flush_on_sigterm() -> None:
    """Flush before a SIGTERM that nobody handles ends the process, as it then does all the same."""
    if threading.current_thread() is not threading.main_thread():
        return
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)
    except (ValueError, OSError) as error:
        report("setup.sigterm", error)


def _on_sigterm(number: int, _frame: Any) -> None:
    flush(_EXIT_TIMEOUT_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
