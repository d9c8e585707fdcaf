"""Switched on and off by environment variables only, in real processes.

The combinations of variables are tried in `environment/`; here is what else becomes of a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

APP = textwrap.dedent(
    """
    import json, sys
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    reply = AIMessage("hi", usage_metadata=usage)
    model = GenericFakeChatModel(messages=iter([reply] * 9))
    builder = StateGraph(MessagesState)
    builder.add_node("chat", lambda s: {"messages": [model.invoke(s["messages"])]})
    builder.add_edge(START, "chat")
    app = builder.compile()
    print(app.invoke({"messages": [("user", "hello")]})["messages"][-1].content)
    """
)
TESTS = str(Path(__file__).parent)
PATIENT = f"import sys; sys.path.append({TESTS!r}); import patience; sys.path.pop()\n"
WHAT_IS_LOADED = """
watched = {'spanflow', 'duckdb', 'langgraph', 'litellm'}
print(json.dumps([m for m in sys.modules if m.split('.')[0] in watched]))
"""


def run(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as a program with nothing but these variables set."""
    (tmp_path / "app.py").write_text(PATIENT + code)
    from shutil import which

    launcher = which("opentelemetry-instrument", path=str(Path(sys.executable).parent))
    assert launcher is not None
    command = [launcher, sys.executable, "app.py"]
    quiet = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANFLOW_"))}
    return subprocess.run(
        command,
        cwd=tmp_path,
        env={**kept, **quiet, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def ask(ledger: Path, query: str) -> list[tuple[Any, ...]]:
    import duckdb

    from spanflow.ledger.publish import refresh

    refresh(ledger)
    with duckdb.connect(str(ledger), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_enabled_by_one_variable(tmp_path: Path) -> None:
    done = run(tmp_path, APP, SPANFLOW_LEDGER="traces.duckdb")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
    # At normal exit the process itself ingests and publishes.
    import duckdb

    with duckdb.connect(str(tmp_path / "traces.duckdb"), read_only=True) as connection:
        rows = connection.execute("SELECT status, total_tokens FROM engagements").fetchall()
    assert rows == [("completed", 18)]


def test_a_process_without_a_framework_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import json, sys" + WHAT_IS_LOADED + "\nprint('pydantic' in sys.modules)"
    # Instrumentors of others load what they instrument.
    theirs = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,httpx"}
    done = run(tmp_path, code, SPANFLOW_LEDGER="traces.duckdb", **theirs)
    *_, loaded, pydantic = done.stdout.splitlines()
    assert set(json.loads(loaded)) <= {
        "spanflow",
        "spanflow.setup",
        "spanflow.switches",
        "spanflow.guard",
        "spanflow.errors",
        # what waits for somebody who needs more
        "spanflow.capture",
        "spanflow.capture.sentinel",
        "spanflow.instrument",
        "spanflow.instrument.arrivals",
        "spanflow.instrument.plain",
        "spanflow.instrument.plain.gate",
        "spanflow.semconv",
    }
    assert pydantic == "False"
    assert [p.name for p in tmp_path.iterdir()] == ["app.py"]


def test_an_unreachable_collector_and_an_unwritable_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(
        tmp_path,
        APP,
        SPANFLOW_LEDGER="file/traces.duckdb",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert done.stderr.count("spanflow:") == 1, done.stderr
    assert "Traceback" not in "".join(
        line for line in done.stderr.splitlines() if "spanflow" in line
    )


def test_wrong_values_warn_once_and_defaults_hold(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        APP,
        SPANFLOW_LEDGER="traces.duckdb",
        SPANFLOW_IDLE_AFTER="soon",
        SPANFLOW_GAOLS="submitted",
    )
    assert done.stdout == "hi\n"
    assert "SPANFLOW_IDLE_AFTER='soon' is ignored" in done.stderr
    assert (
        "SPANFLOW_GAOLS is not a variable of spanflow. Did you mean SPANFLOW_GOALS?" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 2
    assert ask(tmp_path / "traces.duckdb", "SELECT status FROM engagements") == [("completed",)]


def test_without_file_locks_traces_work_and_the_ledger_says_that_it_does_not(
    tmp_path: Path,
) -> None:
    """As on Windows, where there is no fcntl."""
    done = run(
        tmp_path,
        "import sys\nsys.modules['fcntl'] = None\n" + APP,
        SPANFLOW_LEDGER="traces.duckdb",
        OTEL_TRACES_EXPORTER="console",
    )
    assert done.returncode == 0
    assert "hi\n" in done.stdout
    assert "invoke_workflow" in done.stdout
    assert "the ledger needs the file locks of Linux or macOS" in done.stderr
    assert done.stderr.count("\n") == 1


# Said without a lock: nobody who ends it meanwhile has to wait for one.
WAITING = APP + "\nimport os, time\nos.write(1, b'ready\\n')\ntime.sleep(600)\n"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_loses_nothing_that_had_ended(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "app.py").write_text(WAITING)
    from shutil import which

    launcher = which("opentelemetry-instrument", path=str(Path(sys.executable).parent))
    environment = {
        **os.environ,
        "SPANFLOW_LEDGER": "traces.duckdb",
        "OTEL_TRACES_EXPORTER": "console",
    }
    environment |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    with subprocess.Popen(
        [str(launcher), sys.executable, "app.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        printed: list[str] = []
        for line in process.stdout:
            printed.append(line)  # on a slow machine a batch may have gone out already
            if line == "ready\n":
                break
        process.send_signal(how)
        printed.append(process.stdout.read())
        assert process.wait(120) == -how
    assert ask(tmp_path / "traces.duckdb", "SELECT status, total_tokens FROM engagements") == [
        ("completed", 18)
    ]
    if how is signal.SIGTERM:
        assert "invoke_workflow" in "".join(printed)  # also what a batch still held


def test_a_process_killed_inside_a_step(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import time
        import spanflow
        spanflow.configure(ledger="traces.duckdb")
        from langgraph.graph import START, StateGraph
        def b(state):
            print("inside", flush=True)
            time.sleep(60)
        builder = StateGraph(dict)
        builder.add_node("a", lambda s: {})
        builder.add_node("b", b)
        builder.add_edge(START, "a")
        builder.add_edge("a", "b")
        builder.compile().invoke({})
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        process.kill()
    deadline = time.monotonic() + 120
    ledger = tmp_path / "traces.duckdb"
    while ask(ledger, "SELECT status FROM engagements") != [("interrupted",)]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert ask(ledger, "SELECT path, status FROM steps ORDER BY path") == [
        ("a", "completed"),
        ("b", "interrupted"),
    ]
    assert ask(ledger, "SELECT outcome FROM turns") == [("interrupted",)]
    assert ask(ledger, "SELECT dropped_at FROM engagements") == [("b",)]


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_litellm_in_a_process_of_its_own(tmp_path: Path, sampler: str) -> None:
    code = """
    import litellm
    def nightly():
        more = {"stream": True, "stream_options": {"include_usage": True}}
        asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}
        litellm.completion(**asked, mock_response="hi")
        list(litellm.completion(**asked, mock_response="hi", **more))
    nightly()
    """
    ended = run(
        tmp_path,
        textwrap.dedent(code),
        SPANFLOW_LEDGER="traces.duckdb",
        SPANFLOW_INGEST="exit",
        OTEL_TRACES_SAMPLER=sampler,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert ended.returncode == 0, ended.stderr
    assert ask(
        tmp_path / "traces.duckdb",
        "SELECT caller, total_tokens, cost_usd > 0, engagement_id FROM llm_calls",
    ) == [("app.nightly", 30, True, None), ("app.nightly", 9, True, None)]
