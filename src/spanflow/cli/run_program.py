"""`spanflow run`: a Python program under OpenTelemetry's auto-instrumentation, with a ledger.

The quickest look: it sets in the environment what nobody configured, and becomes
`opentelemetry-instrument python …`. Arguments, exit code, input and signals are the program's own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.terminal import LedgerOption

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["run_program", "set_defaults"]

_SIGNALS = ("TRACES", "METRICS", "LOGS")
_ELSEWHERE = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_CONFIG_FILE",
)


def run_program(
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT [ARGS]", help="The script and its arguments."),
    ] = None,
    module: Annotated[
        str | None, typer.Option("-m", metavar="MODULE", help="Run a module instead of a script.")
    ] = None,
    ledger: LedgerOption = None,
) -> None:
    """Run a Python program with capture on.

    Where nothing is configured, the ledger is traces.duckdb and exporters are off; exporters and
    OTLP endpoints that you configured are used as they are.

    Example: [bold]spanflow run app.py --its-own-option[/bold] and then [bold]spanflow ls[/bold]
    """
    arguments = program or []
    if module is not None:
        arguments = ["-m", module, *arguments]
    if not arguments:
        message = "Name a script, or a module with -m."
        raise typer.BadParameter(message, param_hint="SCRIPT")
    os.environ["SPANFLOW_LEDGER"] = str(terminal.ledger_path(ledger))
    set_defaults(os.environ)

    from opentelemetry.instrumentation import auto_instrumentation

    # The very function behind the command `opentelemetry-instrument`; it replaces this process.
    sys.argv = ["opentelemetry-instrument", sys.executable, *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    auto_instrumentation.run()


def set_defaults(environ: MutableMapping[str, str]) -> None:
    """Switch off the exporter of every signal for which nothing is configured.

    OpenTelemetry's own default is to send to a Collector on this host, and to complain for as long
    as there is none.

    Args:
        environ: The environment to complete.
    """
    if any(environ.get(name) for name in _ELSEWHERE):
        return
    for signal in _SIGNALS:
        if not environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"):
            environ.setdefault(f"OTEL_{signal}_EXPORTER", "none")
