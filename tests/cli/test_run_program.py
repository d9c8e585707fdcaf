"""`spanflow run`: real programs, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from spanflow.cli.run_program import set_defaults
from spanflow.ledger.publish import refresh

EXAMPLE = Path(__file__).parents[2] / "examples" / "booking_agent.py"
TELL = """
import json, os, sys
names = [n for n in os.environ if n.startswith(("OTEL_", "SPANFLOW_"))]
told = {"argv": sys.argv, "stdin": sys.stdin.read(), "env": {n: os.environ[n] for n in names}}
print(json.dumps({**told, "name": __name__, "instrumented": "opentelemetry.trace" in sys.modules}))
sys.exit(3)
"""
NONE = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}


def run(tmp_path: Path, *arguments: str, stdin: str = "", **environ: str):
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "SPANFLOW_"))
    }
    return subprocess.run(
        [sys.executable, "-c", "from spanflow.cli import main; main()", "run", *arguments],
        cwd=tmp_path,
        env={**inherited, **environ},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_arguments_input_and_exit_code_are_the_program_s(tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    done = run(tmp_path, "tell.py", "--ledger", "x", "-m", "y", "--help", stdin="hello")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["argv"] == ["tell.py", "--ledger", "x", "-m", "y", "--help"]
    assert told["stdin"] == "hello"
    assert told["name"] == "__main__"
    assert told["instrumented"]


def test_a_module_runs_as_python_would_run_it(tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    done = run(tmp_path, "--ledger", "own.duckdb", "-m", "tell", "--flag")
    told = json.loads(done.stdout)
    assert told["argv"][1:] == ["--flag"]
    assert Path(told["argv"][0]).name == "tell.py"
    assert told["env"]["SPANFLOW_LEDGER"] == "own.duckdb"


def test_defaults_are_set_where_nothing_is_configured(tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    told = json.loads(run(tmp_path, "tell.py").stdout)
    assert told["env"]["SPANFLOW_LEDGER"] == "traces.duckdb"
    assert told["env"].items() >= NONE.items()
    told = json.loads(run(tmp_path, "tell.py", SPANFLOW_LEDGER="mine.duckdb").stdout)
    assert told["env"]["SPANFLOW_LEDGER"] == "mine.duckdb"


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({}, NONE),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host:4317"}, {}),
        ({"OTEL_TRACES_EXPORTER": "console"}, {k: v for k, v in NONE.items() if "TRACES" not in k}),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://host:4317"},
            {k: v for k, v in NONE.items() if "METRICS" not in k},
        ),
        ({"OTEL_CONFIG_FILE": "otel.yaml"}, {}),
    ],
)
def test_what_somebody_configured_stays(given, added):
    environ = dict(given)
    set_defaults(environ)
    assert environ == {**given, **added}


def test_without_a_program_it_is_a_usage_error(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2
    assert "Name a script" in done.stderr


def test_a_script_that_is_not_there_fails_as_python_does(tmp_path):
    done = run(tmp_path, "nope.py")
    assert done.returncode == 2
    assert "nope.py" in done.stderr


def test_signals_reach_the_program(tmp_path):
    (tmp_path / "wait.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-c", "from spanflow.cli import main; main()", "run", "wait.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.terminate()
        assert program.wait(timeout=240) == -signal.SIGTERM


def test_an_unmodified_agent_is_recorded(tmp_path):
    plain = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True, timeout=240
    )
    done = run(tmp_path, str(EXAMPLE), SPANFLOW_GOALS="submitted")
    assert (done.returncode, done.stdout) == (0, plain.stdout)
    assert done.stderr == ""
    # On a busy machine the program may leave before it has loaded its last records.
    refresh(tmp_path / "traces.duckdb")
    with duckdb.connect(str(tmp_path / "traces.duckdb"), read_only=True) as ledger:
        rows = ledger.execute("SELECT name, status, goal, turns FROM engagements").fetchall()
    assert rows == [("booking", "completed", "submitted", 4)]
