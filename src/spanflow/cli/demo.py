"""`spanflow demo`: simulated users talk to an agent, and the ledger is held against the truth.

It drives the example agent through the same capture path as any program, prints what was recorded,
and fails when a single cell of the ledger differs from the agent's own log.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanflow.cli import terminal
from spanflow.cli.run_program import set_defaults
from spanflow.cli.terminal import JsonOption, LedgerOption
from spanflow.errors import SpanflowError

if TYPE_CHECKING:
    from types import ModuleType

    from spanflow.cli.crowd import Visit

__all__ = ["demo"]

_AT_ONCE = 4
_FLUSH_S = 60.0
_DIFFERENCES_SHOWN = 20


def demo(
    users: Annotated[int, typer.Option(min=1, help="How many users talk to the agent.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same users.")] = 7,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let simulated users book hotels, record their journeys, and check every recorded number.

    Example: [bold]spanflow demo --users 50 --ledger demo.duckdb[/bold] and then [bold]spanflow ls
    --ledger demo.duckdb[/bold]
    """
    import spanflow
    from spanflow import guard
    from spanflow.cli.recorded import found_in, report, summary
    from spanflow.cli.truth import GLOBAL_STEP, GOAL, differences, expected
    from spanflow.query.journeys import connect

    path = terminal.ledger_path(ledger)
    set_defaults(os.environ)
    spanflow.configure(enabled=True, ledger=path, goals=(GOAL,), global_steps=(GLOBAL_STEP,))
    example = load_example()
    session = f"demo-{uuid.uuid4().hex[:12]}"
    visits = simulate(example, session, users=users, seed=seed, quiet=as_json)
    spanflow.flush(_FLUSH_S)
    with connect(path) as opened:
        found = found_in(opened, session)
        wrong = [
            line
            for visit in visits
            for line in differences(
                visit.user.name, expected(visit), found.pop(visit.user.name, {})
            )
        ]
        wrong += [f"{user}: nobody of that name was simulated" for user in found]
        wrong += [
            f"{site}: {times} problems were counted" for site, times in guard.counts().items()
        ]
        recorded = summary(opened, session)
    if as_json:
        terminal.print_json({**recorded, "users": users, "seed": seed, "differences": wrong})
    else:
        report(terminal.console(), recorded)
        _conclude(path, len(visits), wrong)
    if wrong:
        raise typer.Exit(1)


def load_example() -> ModuleType:
    """Return the example agent's module: out of the installed package, else out of a checkout.

    Raises:
        SpanflowError: LangGraph is not installed, or the example is not there.
    """
    package = Path(__file__).parents[1]
    places = (
        package / "_demo" / "booking_agent.py",
        package.parents[1] / "examples" / "booking_agent.py",
    )
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        message = "The booking agent is not part of this installation. Install spanflow again."
        raise SpanflowError(message)
    if importlib.util.find_spec("langgraph") is None:
        message = 'The demo needs LangGraph: pip install "spanflow[langgraph]"'
        raise SpanflowError(message)
    spec = importlib.util.spec_from_file_location("booking_agent", place)
    if spec is None or spec.loader is None:
        message = f"{place} cannot be loaded."
        raise SpanflowError(message)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pydantic look their own module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def simulate(
    example: ModuleType, session: str, *, users: int, seed: int, quiet: bool
) -> list[Visit]:
    """Let every user talk to one agent, a few at a time, behind a progress bar.

    Args:
        example: The agent's module.
        session: The session id all of them share.
        users: How many there are.
        seed: Decides who they are.
        quiet: Show no progress.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from spanflow.cli.crowd import Visit, Witness, crowd, talk

    agent = example.build()
    visits = {user.name: Visit(user) for user in crowd(users, seed)}
    witness = Witness(visits)
    example.log.addHandler(witness)
    example.log.setLevel(logging.INFO)
    example.log.propagate = False

    def serve(visit: Visit) -> None:
        name = visit.user.name
        config = {
            "configurable": {"thread_id": f"{session}-{name}"},
            "metadata": {"user_id": name, "session_id": session, "tier": visit.user.tier},
        }
        talk(visit, agent, example, config, seed)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with (
            Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
            ThreadPoolExecutor(_AT_ONCE) as pool,
        ):
            task = progress.add_task("users", total=users)
            for _ in pool.map(serve, visits.values()):
                progress.advance(task)
    finally:
        example.log.removeHandler(witness)
    return list(visits.values())


def _conclude(path: Path, users: int, wrong: list[str]) -> None:
    if not wrong:
        sys.stdout.write(
            f"\nEvery number agrees with what the {users} users and their agent really did.\n"
            f"Look closer: spanflow ls --ledger {path}\n"
        )
        return
    sys.stdout.flush()
    for line in wrong[:_DIFFERENCES_SHOWN]:
        sys.stderr.write(f"{terminal.plain(line)}\n")
    more = len(wrong) - _DIFFERENCES_SHOWN
    if more > 0:
        sys.stderr.write(f"… and {more} more\n")
    sys.stderr.write(f"The ledger differs from the truth in {len(wrong)} cells.\n")
