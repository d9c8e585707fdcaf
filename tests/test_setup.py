"""Switching on, changing one's mind, flushing, leaving: in this process and in real ones."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import wrapt
from graphs import calling, chain, llm
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel

import spanflow
from spanflow import setup
from spanflow.ledger.election import elected
from spanflow.ledger.places import Places
from spanflow.ledger.publish import REFRESH_WAITS_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Flow

PATH = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\nimport patience\n"


def run(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as a program with nothing but these variables set."""
    quiet = {f"OTEL_{what}_EXPORTER": "none" for what in ("TRACES", "METRICS", "LOGS")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANFLOW_"))}
    return subprocess.run(
        [sys.executable, "-c", PATH + textwrap.dedent(code)],
        cwd=tmp_path,
        env={**kept, **quiet, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def ask(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a ledger as it was published, without bringing it up to date."""
    import duckdb

    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(query).fetchall()


def is_wrapped() -> bool:
    return isinstance(vars(Pregel)["stream"], wrapt.FunctionWrapper)


# -- configure and uninstrument --------------------------------------------------------------------


def test_configuring_again_doubles_nothing(flow: Flow) -> None:
    for _ in range(3):
        spanflow.configure(ledger=flow.ledger, ingest="off")
    chain("a", a=calling(llm(1, 1))).invoke({"log": []})
    assert flow.one("SELECT count(*) FROM turns") == 1
    assert flow.one("SELECT total_tokens FROM engagements") == 2
    assert len(flow.named("step a")) == len(flow.named("chat fake-1")) == 1
    assert not isinstance(vars(Pregel)["stream"].__wrapped__, wrapt.FunctionWrapper)


def test_configuring_again_changes_the_settings(
    flow_with: Callable[..., Flow], tmp_path: Path
) -> None:
    flow = flow_with(goals=["b"])
    chain("a", "b").invoke({"log": []})
    spanflow.configure(ledger=flow.ledger, ingest="off", goals=["a"], global_steps=["b"])
    chain("a", "b").invoke({"log": []})
    assert flow.sql("SELECT goal FROM engagements ORDER BY started_at") == [("b",), ("a",)]
    assert flow.sql("SELECT is_global FROM steps WHERE name = 'b' ORDER BY started_at") == [
        (False,),
        (True,),
    ]
    other = tmp_path / "other.duckdb"
    spanflow.configure(ledger=other, ingest="exit")
    chain("c").invoke({"log": []})
    assert spanflow.flush()
    assert ask(other, "SELECT path FROM steps") == [("c",)]
    assert flow.one("SELECT count(*) FROM turns") == 2


def test_a_run_in_flight_ends_where_it_began(flow: Flow, tmp_path: Path) -> None:
    stream = chain("a", "b").stream({"log": []})
    next(stream)
    spanflow.configure(ledger=tmp_path / "other.duckdb", ingest="off")
    assert len(list(stream)) == 1
    assert flow.sql("SELECT outcome FROM turns") == [("completed",)]


def test_uninstrumenting_restores_what_was_wrapped(flow: Flow) -> None:
    assert is_wrapped()
    spanflow.uninstrument()
    spanflow.uninstrument()
    for owner in (Pregel, BaseChatModel, BaseTool):
        assert not [n for n, v in vars(owner).items() if isinstance(v, wrapt.FunctionWrapper)]
    chain("a", a=calling(llm(1, 1))).invoke({"log": []})
    assert flow.spans == []
    spanflow.configure(ledger=flow.ledger, ingest="off")
    assert is_wrapped()
    chain("b", b=calling(llm(1, 1))).invoke({"log": []})
    assert flow.sql("SELECT path, total_tokens FROM steps") == [("b", 2)]


def test_a_run_in_flight_survives_uninstrumenting(flow: Flow) -> None:
    stream = chain("a", "b").stream({"log": []})
    next(stream)
    spanflow.uninstrument()
    assert len(list(stream)) == 1
    assert flow.sql("SELECT count(*) FROM turns") == [(1,)]


@pytest.mark.parametrize("how", ["code", "environment"])
def test_not_enabled_nothing_is_captured(
    flow: Flow, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("SPANFLOW_ENABLED", "False")
        spanflow.configure(ledger=flow.ledger)
    else:
        spanflow.configure(ledger=flow.ledger, enabled=False)
    assert not is_wrapped()
    chain("a").invoke({"log": []})
    assert flow.spans == []


def test_a_misspelt_goal_raises_once_its_graph_was_seen(flow: Flow) -> None:
    chain("ask", "submitted").invoke({"log": []})
    with pytest.raises(spanflow.ConfigurationError, match="did you mean 'submitted'"):
        spanflow.configure(ledger=flow.ledger, goals=["submited"])
    spanflow.configure(ledger=flow.ledger, ingest="off", goals=["of_another_graph"])
    spanflow.configure(ledger=flow.ledger, ingest="off", goals=["submitted"])


@pytest.mark.parametrize(
    "wrong", [{"gaols": ["x"]}, {"ingest": "later"}, {"idle_after": "soon"}, {"payload_bytes": 1}]
)
def test_a_wrong_setting_raises_and_changes_nothing(flow: Flow, wrong: dict[str, Any]) -> None:
    with pytest.raises(spanflow.ConfigurationError):
        spanflow.configure(**wrong)
    chain("a").invoke({"log": []})
    assert flow.steps() == [("a", "completed")]


def test_the_state_of_the_file_system_never_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spanflow.configure(ledger=tmp_path / "file" / "traces.duckdb", ingest="off")
    assert chain("a").invoke({"log": []}) == {"log": ["a"]}
    spanflow.flush()
    spanflow.uninstrument()


def test_patience_reaches_the_ledger(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(idle_after=timedelta(hours=2), ingest="exit")
    chain("a").invoke({"log": []})
    assert spanflow.flush()
    assert ask(flow.ledger, "SELECT idle_after FROM meta") == [(timedelta(hours=2),)]


def test_an_instrumentor_like_any_other(flow: Flow) -> None:
    spanflow.uninstrument()
    instrumentor = setup.SpanflowInstrumentor()
    assert list(instrumentor.instrumentation_dependencies()) == []
    instrumentor.instrument()
    try:
        assert is_wrapped()
    finally:
        instrumentor.uninstrument()
    assert not is_wrapped()


# -- tracing ---------------------------------------------------------------------------------------

GRAPH = """
import spanflow
from graphs import chain
"""


def test_without_a_provider_tracing_is_set_up_from_its_variables(tmp_path: Path) -> None:
    code = GRAPH + textwrap.dedent(
        """
        spanflow.configure()
        chain("a").invoke({"log": []})
        """
    )
    done = run(tmp_path, code, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="shop")
    assert done.returncode == 0, done.stderr
    assert '"name": "step a"' in done.stdout
    assert '"service.name": "shop"' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_provider_stays_the_only_one(tmp_path: Path) -> None:
    code = GRAPH + textwrap.dedent(
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        mine = TracerProvider()
        trace.set_tracer_provider(mine)
        spanflow.configure(ledger="traces.duckdb")
        assert trace.get_tracer_provider() is mine
        chain("a").invoke({"log": []})
        """
    )
    done = run(tmp_path, code, OTEL_TRACES_EXPORTER="console")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ask(tmp_path / "traces.duckdb", "SELECT path FROM steps") == [("a",)]


def test_a_provider_set_later_stamps_identity_too(tmp_path: Path) -> None:
    """Whoever instruments first and sets the provider afterwards is served all the same."""
    code = """
        from spanflow import setup
        setup.SpanflowInstrumentor().instrument()
        from graphs import chain
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        memory, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        trace.set_tracer_provider(provider)
        def node(state):
            with trace.get_tracer("mine").start_as_current_span("mine"):
                return {"log": ["x"]}
        chain("a", a=node).invoke({"log": []})
        [mine] = [span for span in memory.get_finished_spans() if span.name == "mine"]
        print(sorted(mine.attributes))
        """
    done = run(tmp_path, code, SPANFLOW_LEDGER="traces.duckdb")
    assert done.returncode == 0, done.stderr
    expected = ["spanflow.engagement.id", "spanflow.step.id", "spanflow.turn.id"]
    assert done.stdout.strip() == str(expected)
    rows = ask(tmp_path / "traces.duckdb", "SELECT kind FROM spans ORDER BY kind")
    assert rows == [("span",), ("step",), ("turn",)]


# -- flush, shutdown, exit, fork -------------------------------------------------------------------


def test_a_flush_makes_rows_visible_to_another_process(tmp_path: Path) -> None:
    code = GRAPH + textwrap.dedent(
        """
        import subprocess
        spanflow.configure(ledger="traces.duckdb")
        reader = (
            "import duckdb; connection = duckdb.connect('traces.duckdb', read_only=True);"
            "print(connection.execute('SELECT path FROM steps ORDER BY started_at').fetchall())"
        )
        for name in ("a", "b"):
            chain(name).invoke({"log": []})
            assert spanflow.flush(120)
            print(subprocess.check_output([sys.executable, "-c", reader], text=True), end="")
        """
    )
    done = run(tmp_path, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[('a',)]\n[('a',), ('b',)]\n", "")


@pytest.mark.usefixtures("flow")
def test_a_flush_waits_for_a_long_round_of_the_ingester(tmp_path: Path) -> None:
    ledger = tmp_path / "busy.duckdb"
    spanflow.configure(ledger=ledger, ingest="exit")
    chain("a").invoke({"log": []})
    assert spanflow.flush(60)
    chain("b").invoke({"log": []})
    at_work = threading.Event()

    def work() -> None:
        with elected(Places.of(ledger)) as won:
            assert won
            at_work.set()
            time.sleep(REFRESH_WAITS_S + 1)  # longer than a reader waits

    (ingester := threading.Thread(target=work)).start()
    at_work.wait()
    assert not spanflow.flush(0.1)
    assert spanflow.flush(60)
    assert ask(ledger, "SELECT path FROM steps ORDER BY started_at") == [("a",), ("b",)]
    ingester.join()


def test_flushing_a_process_that_captured_nothing_is_no_error(tmp_path: Path) -> None:
    done = run(tmp_path, "import spanflow\nassert spanflow.flush()\nspanflow.shutdown()")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_after_a_shutdown_what_was_recorded_is_in_the_ledger(tmp_path: Path) -> None:
    code = GRAPH + textwrap.dedent(
        """
        import os
        spanflow.configure(ledger="traces.duckdb")
        chain("a").invoke({"log": []})
        spanflow.shutdown(120)
        spanflow.shutdown(120)
        chain("b").invoke({"log": []})
        sys.stdout.flush()
        os._exit(0)
        """
    )
    done = run(tmp_path, code)
    assert (done.returncode, done.stderr) == (0, "")
    ledger = tmp_path / "traces.duckdb"
    assert ask(ledger, "SELECT path FROM steps") == [("a",)]
    from spanflow.ledger.publish import refresh

    refresh(ledger)
    assert ask(ledger, "SELECT path FROM steps ORDER BY started_at") == [("a",), ("b",)]


@pytest.mark.parametrize(("ingest", "published"), [("off", False), ("exit", True)])
def test_how_and_when_the_journal_is_ingested(tmp_path: Path, ingest: str, published: bool) -> None:
    code = GRAPH + textwrap.dedent(
        """
        import threading
        spanflow.configure()
        chain("a").invoke({"log": []})
        from pathlib import Path
        assert not Path("traces.duckdb").exists()
        assert not [t for t in threading.enumerate() if t.name.startswith("spanflow")]
        """
    )
    done = run(tmp_path, code, SPANFLOW_LEDGER="traces.duckdb", SPANFLOW_INGEST=ingest)
    assert (done.returncode, done.stderr) == (0, "")
    ledger = tmp_path / "traces.duckdb"
    assert ledger.exists() == published
    segments = list((tmp_path / "traces.duckdb.d" / "journal").glob("*.ndjson"))
    assert bool(segments) != published
    from spanflow.ledger.publish import refresh

    refresh(ledger)
    assert ask(ledger, "SELECT path, status FROM steps") == [("a", "completed")]
    assert not list((tmp_path / "traces.duckdb.d" / "journal").iterdir())


def test_a_forked_child_records_as_a_process_of_its_own(tmp_path: Path) -> None:
    code = GRAPH + textwrap.dedent(
        """
        import os
        spanflow.configure(ledger="traces.duckdb")
        app = chain("a")
        app.invoke({"log": []}, {"run_name": "parent"})
        child = os.fork()
        app.invoke({"log": []}, {"run_name": "child" if child == 0 else "parent again"})
        if child == 0:
            sys.exit(0)  # by way of atexit
        assert os.waitpid(child, 0)[1] == 0

        def forks(state):
            inside = os.fork()
            if inside == 0:
                os._exit(0)
            os.waitpid(inside, 0)
            return {"log": ["x"]}
        chain("b", b=forks).invoke({"log": []}, {"run_name": "within a step"})
        """
    )
    done = run(tmp_path, code)
    assert done.returncode == 0, done.stderr
    ledger = tmp_path / "traces.duckdb"
    assert ask(ledger, "SELECT name, outcome, steps FROM turns ORDER BY name") == [
        ("child", "completed", 1),
        ("parent", "completed", 1),
        ("parent again", "completed", 1),
        ("within a step", "completed", 1),
    ]
    [(processes, engagements)] = ask(
        ledger, "SELECT count(DISTINCT process_id), count(DISTINCT engagement_id) FROM turns"
    )
    assert (processes, engagements) == (2, 4)


def test_flushing_while_the_interpreter_goes_down(tmp_path: Path) -> None:
    """From 3.12 on, no thread can be started then."""
    code = GRAPH + textwrap.dedent(
        """
        import atexit
        spanflow.configure()
        chain("a").invoke({"log": []})
        atexit.register(lambda: print(spanflow.flush(120)))
        """
    )
    done = run(tmp_path, code, SPANFLOW_LEDGER="traces.duckdb", SPANFLOW_INGEST="exit")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert ask(tmp_path / "traces.duckdb", "SELECT path FROM steps") == [("a",)]
