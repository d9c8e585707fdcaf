"""The command line's frame: which commands there are, and how an error is told."""

from __future__ import annotations

import sys

import typer

from spanflow.cli import (
    audit,
    compare,
    demo,
    doctor,
    export,
    funnel,
    ingest,
    journeys,
    ls,
    paths,
    prices,
    reconcile,
    retention,
    run_program,
    show,
    sql,
    tail,
    usage,
    version,
)
from spanflow.errors import SpanflowError

__all__ = ["app", "run"]

app = typer.Typer(
    name="spanflow",
    help="The journeys of your agent's users: who came, where they left, what it cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("ls")(ls.list_engagements)
app.command("show")(show.show_engagement)
app.command("funnel")(funnel.show_funnel)
app.command("journeys")(journeys.show_journeys)
app.command("paths")(paths.show_paths)
app.command("drop-offs")(paths.show_drop_offs)
app.command("steps")(usage.show_steps)
app.command("usage")(usage.show_usage)
app.command("compare")(compare.compare_engagements)
app.command("sql")(sql.ask)
app.command("tail")(tail.follow_ledger)
app.command("ingest")(ingest.ingest_records)
app.command("export")(export.export_ledger)
app.command(
    "run",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)(run_program.run_program)
app.command("purge")(retention.purge_engagements)
app.command("forget")(retention.forget_engagements)
app.add_typer(prices.app, name="prices", help="What models cost, from when on.")
app.command("audit")(audit.audit_engagements)
app.command("reconcile")(reconcile.reconcile_usage)
app.command("doctor")(doctor.examine_ledger)
app.command("demo")(demo.demo)
app.command("version")(version.print_version)


def run() -> None:
    """Run the command line; what a person can mend is told in one line, with the next step."""
    try:
        app()
    except SpanflowError as error:
        sys.stderr.write(f"spanflow: {error}\n")
        raise SystemExit(1) from None
