"""Content whole, by reference: OpenTelemetry's own hook uploads it, where it may be captured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

APP = textwrap.dedent(
    """
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langgraph.graph import START, MessagesState, StateGraph
    model = GenericFakeChatModel(messages=iter([AIMessage("answer " * 1000)]))
    builder = StateGraph(MessagesState)
    builder.add_node("chat", lambda s: {"messages": [model.invoke(s["messages"])]})
    builder.add_edge(START, "chat")
    said = "ask ada@example.com " + "why " * 1000
    builder.compile().invoke({"messages": [("user", said)]})
    """
)


def _run(folder: Path, **environment: str) -> dict[str, object]:
    """Run the app with the hook on, and return the attributes of its only call."""
    (folder / "app.py").write_text(APP)
    uploads = folder / "uploads"
    uploads.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANFLOW_"))}
    done = subprocess.run(
        [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, "app.py"],
        cwd=folder,
        env={
            **kept,
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK": "upload",
            "OTEL_INSTRUMENTATION_GENAI_UPLOAD_BASE_PATH": uploads.as_uri(),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    decoder, spans, text = json.JSONDecoder(), [], done.stdout.strip()
    while text:
        span, end = decoder.raw_decode(text)
        spans.append(span)
        text = text[end:].strip()
    [call] = [span["attributes"] for span in spans if span["name"].startswith("chat")]
    return call


def _uploaded(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted((folder / "uploads").iterdir())]


@pytest.mark.parametrize("redacted", [False, True])
def test_the_span_has_a_reference_and_the_file_has_it_whole(tmp_path: Path, redacted: bool) -> None:
    call = _run(
        tmp_path,
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="EVENT_ONLY",
        **({"SPANFLOW_REDACT": "email"} if redacted else {}),
    )
    assert "gen_ai.input.messages" not in call
    assert max(len(value) for value in call.values() if isinstance(value, str)) <= 2_048
    asked, answered = _uploaded(tmp_path)
    assert str(call["gen_ai.input.messages_ref"]).endswith("_inputs.json")
    assert asked.count("why") == answered.count("answer") == 1000
    assert ("ada@example.com" in asked) is not redacted


def test_nothing_is_uploaded_where_content_is_not_captured(tmp_path: Path) -> None:
    call = _run(tmp_path)
    assert not [key for key in call if "messages" in key]
    assert _uploaded(tmp_path) == []
