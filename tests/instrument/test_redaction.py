"""What redaction takes out is on no span of ours and nowhere in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from graphs import FakeLLM, State, chain, usage
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.util.genai.handler import TelemetryHandler
from opentelemetry.util.genai.types import InputMessage, TextPart

from spanflow.capture import call_spans, payload, redact
from spanflow.capture.exporter import DuckDBSpanExporter
from spanflow.guard import counts
from spanflow.patterns import nothing_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Flow

MARK = "zqxalice@zqxhost.example"
"""Every part of it is looked for."""
PART = "zqx"
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
TABLES = (
    "SELECT schema_name || '.' || table_name FROM duckdb_tables() UNION ALL "
    "SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal"
)


@pytest.fixture(autouse=True)
def _unredacted() -> Iterator[None]:
    """No test after this one is redacted."""
    yield
    redact.use(())


def told(flow: Flow) -> str:
    """All that our spans, the journal and the ledger say."""
    ours = [s for s in flow.spans if s.instrumentation_scope.name == "spanflow"]  # type: ignore[union-attr]
    assert ours
    said = [span.to_json() for span in ours]
    folder = flow.ledger.with_name(f"{flow.ledger.name}.d")
    said += [path.read_text() for path in folder.rglob("*") if path.parent.name == "journal"]
    assert len("".join(said)) > 10_000
    said += [repr(flow.sql(f"SELECT * FROM {name}")) for (name,) in flow.sql(TABLES)]
    return "".join(said)


class Shelf(BaseRetriever):
    """Finds what was asked for."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [Document(query)]


class Words(Embeddings):
    """Embeds nothing."""

    model = f"embed {MARK}"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(len(text))]


class InnerLLM(FakeLLM):
    """A model whose provider is instrumented with OpenTelemetry's own library too."""

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        inner: Any = TelemetryHandler().inference(f"inner {MARK}", request_model=MARK)
        inner.input_messages = [InputMessage("user", [TextPart(MARK)])]
        inner.attributes[f"key {MARK}"] = [MARK]
        inner.response_id = MARK
        inner.stop()
        return super()._generate(messages, *args, **kwargs)


class OddError(ValueError):
    """Says what must not be kept, from another error that does."""


def fails(word: str) -> str:
    """Fail with an error whose very class says it."""
    raise type(f"Err{MARK}", (OddError,), {})(word)


def model() -> FakeLLM:
    """A model that says it in every field it has."""
    reply = AIMessage(
        MARK,
        usage_metadata=usage(1, 1),
        response_metadata={"model_name": MARK, "id": MARK, "finish_reason": MARK},
        tool_calls=[{"name": MARK, "args": {MARK: MARK}, "id": MARK}],
    )
    return InnerLLM(replies=[reply], model_name=MARK)


def calls(state: State) -> State:
    """Call everything that can be called."""
    asked = [HumanMessage(MARK), ToolMessage([MARK], tool_call_id=MARK)]
    model().invoke(asked)
    list(model().stream([MARK]))
    tool = StructuredTool.from_function(
        lambda word: {word: [word]}, name=f"tool {MARK}", description=MARK
    )
    seen = {"word": MARK}
    assert tool.invoke(seen) == {MARK: [MARK]}
    assert seen == {"word": MARK}
    failed = StructuredTool.from_function(fails, name="fails", description="Fails.")
    with contextlib.suppress(OddError):
        failed.invoke({"word": MARK})
    assert Shelf(name=MARK).invoke(MARK)[0].page_content == MARK
    assert Words().embed_query(MARK) == [len(MARK)]
    return {"log": [MARK]}


def others(state: State) -> State:
    """Open spans of our own making, in several dialects."""
    tracer = trace.get_tracer("theirs")
    for kind in ("chat", "execute_tool", "embeddings", None):
        attributes = {f"{MARK}.key": MARK, "list": (MARK, MARK), "n": 1}
        if kind is not None:
            fields = "request.model response.model response.id provider.name tool.name tool.call.id"
            attributes |= {f"gen_ai.{field}": MARK for field in fields.split()}
            attributes |= {
                "gen_ai.operation.name": kind,
                "gen_ai.input.messages": f'[{{"a":"b\\n{MARK}"}}]',
                "gen_ai.tool.call.arguments": MARK,
                "gen_ai.tool.call.result": MARK,
                "gen_ai.agent.name": MARK,
                "user.id": MARK,
                "session.id": MARK,
                "gen_ai.conversation.id": MARK,
            }
        with (
            contextlib.suppress(OddError),
            tracer.start_as_current_span(f"span {MARK}", attributes=attributes) as span,
        ):
            span.add_event(MARK, {MARK: MARK})
            raise OddError(MARK)
    return {}


def failing(attempts: list[int]) -> Callable[[State], State]:
    """Fail in every way there is, then succeed."""

    def node(state: State) -> State:
        attempts.append(1)
        if len(attempts) == 1:
            raise OddError({"to": MARK}) from KeyError(MARK)
        if len(attempts) == 2:
            raise type(f"Err{MARK}", (ExceptionGroup,), {})(MARK, [OddError(MARK)])
        return {"log": [interrupt({"awaiting": MARK, MARK: [MARK, MARK.encode()]})]}

    return node


def everything(attempts: list[int]) -> Any:
    """A graph that says it everywhere, one step a way."""
    builder = StateGraph(State)
    builder.add_node(MARK, calls)
    builder.add_node("others", others)
    builder.add_node("sub", chain(f"inner {MARK}", **{f"inner {MARK}": calls}))
    retries = RetryPolicy(max_attempts=3, initial_interval=0.0, retry_on=lambda _: True)
    builder.add_node("odd", failing(attempts), retry_policy=retries)
    for source, target in itertools.pairwise([START, MARK, "others", "sub", "odd", END]):
        builder.add_edge(source, target)
    return builder.compile(name=f"graph {MARK}", checkpointer=InMemorySaver())


CONFIG: dict[str, Any] = {
    "run_name": f"run {MARK}",
    "tags": [MARK],
    "configurable": {"thread_id": MARK, MARK: MARK},
    "metadata": {
        "user_id": MARK,
        "session_id": f"s {MARK}",
        "lc_agent_name": MARK,
        "plan": {MARK: [MARK, ("x", MARK), {MARK}, MARK.encode(), OddError(MARK)]},
        f"key {MARK}": MARK,
        f"key2 {MARK}": 2,
        "spanflow_goals": [MARK],
        "spanflow_global_steps": [f"sub/inner {MARK}"],
        "spanflow_step_tools": {"others": [MARK]},
    },
}


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_AND_EVENT"])
@pytest.mark.parametrize("wanted", ["email", "all", str.swapcase, nothing_kept, "unusable", ()])
async def test_what_is_redacted_stands_nowhere(
    flow_with: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch, wanted: Any, mode: str
) -> None:
    monkeypatch.setenv(CONTENT, mode)
    logs = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    monkeypatch.setattr(
        call_spans,
        "TelemetryHandler",
        functools.partial(TelemetryHandler, logger_provider=provider),
    )
    if wanted == "unusable":
        monkeypatch.setenv("SPANFLOW_REDACT", "no.such.module:function")
        flow = flow_with()
    else:
        flow = flow_with(redact=wanted)
    app = everything([])
    before = repr(CONFIG)
    await app.ainvoke({"log": [MARK]}, CONFIG)
    out = await asyncio.to_thread(app.invoke, Command(resume=MARK), CONFIG)
    assert out["log"].count(MARK) == 6  # the user's own values are as they were
    assert repr(CONFIG) == before
    said = told(flow) + "".join(log.to_json() for log in logs.get_finished_logs())
    assert bool(logs.get_finished_logs()) == (mode == "SPAN_AND_EVENT")
    at = said.find(PART)
    if wanted == ():
        assert said.count(PART) > 500
    else:
        assert at < 0, said[max(0, at - 300) : at + 100]
    # What is counted is what it would be without redaction.
    numbers = "turns, steps, llm_calls, tool_calls, goal IS NULL"
    assert flow.sql(f"SELECT {numbers} FROM engagements") == [(2, 6, 8, 5, False)]
    assert flow.one("SELECT count(DISTINCT path) FROM steps") == 5
    assert flow.one("SELECT count(*) FROM waits WHERE NOT is_open") == 1


async def test_what_ends_a_run_is_redacted(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(redact="email")

    waits = asyncio.Event()

    async def node(state: State) -> State:
        try:
            if state["log"]:
                waits.set()
                await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            raise asyncio.CancelledError(MARK) from error
        raise OddError(MARK)

    app = chain("boom", boom=node)
    with pytest.raises(OddError, match=MARK):
        await app.ainvoke({"log": []}, {"metadata": {"spanflow_engagement_id": MARK}})
    task = asyncio.create_task(app.ainvoke({"log": [1]}))
    await waits.wait()
    task.cancel(MARK)
    with pytest.raises(asyncio.CancelledError):
        await task
    said = told(flow)
    assert PART not in said
    assert flow.sql("SELECT status, error_message FROM steps ORDER BY started_at") == [
        ("failed", "[email]"),
        ("cancelled", None),
    ]
    turn = flow.named(next(s.name for s in flow.spans if s.name.startswith("invoke_workflow")))[0]
    assert turn.status.description == "[email]"


def test_the_exporter_redacts_what_the_app_itself_put_on_a_span_of_ours(
    flow_with: Callable[..., Flow], tmp_path: Path
) -> None:
    def node(state: State) -> State:
        span = trace.get_current_span()
        span.add_event(MARK, {MARK: MARK})
        span.record_exception(OddError(MARK))
        return {"log": []}

    flow = flow_with(redact="email")
    other = DuckDBSpanExporter(tmp_path / "other.duckdb")
    chain("a", a=node).invoke({"log": []}, {"metadata": {"user_id": MARK}})
    other.export(flow.spans)
    other.shutdown()
    [journal] = (tmp_path / "other.duckdb.d" / "journal").glob("*.ndjson")
    assert "[email]" in journal.read_text()
    assert PART not in journal.read_text()
    # Who it was is the same for both feeds.
    assert flow.one("SELECT user_id FROM engagements") in journal.read_text()


def test_one_user_stays_one_user_and_two_stay_two(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(redact="email")
    app = chain("a")
    for user in ("ada@example.com", "bob@example.com", "ada@example.com", "carol"):
        app.invoke({"log": []}, {"metadata": {"user_id": user}})
    users = [user for (user,) in flow.sql("SELECT user_id FROM engagements ORDER BY started_at")]
    assert users == [users[0], users[1], users[0], "carol"]
    assert users[0] != users[1]
    assert users[0].startswith("[email]#")
    assert users[0] == payload.identifier("ada@example.com")


def test_a_thread_keeps_its_engagement_whatever_its_ids_become(
    flow_with: Callable[..., Flow],
) -> None:
    saver = InMemorySaver()
    flow = flow_with()
    app = chain("a").builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": MARK}}
    first: Any = {**config, "metadata": {"spanflow_engagement_id": MARK}}
    app.invoke({"log": []}, first)
    [before] = flow.sql("SELECT engagement_id FROM engagements")
    assert before == (MARK,)
    flow.exporter.clear()
    # From now on redacted: the thread's checkpoints still know the old id.
    flow_with(redact=str.swapcase)
    for _ in range(3):
        app.invoke({"log": []}, config)
    [(_, one), (_, three)] = flow.sql(
        "SELECT min(started_at), count(*) FROM turns GROUP BY engagement_id ORDER BY 1"
    )
    assert (one, three) == (1, 3)
    assert all(PART not in span.to_json() for span in flow.spans)


@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda _: 7, str.encode])
def test_a_failing_redactor_drops_the_value_and_never_the_run(
    flow_with: Callable[..., Flow], broken: Any
) -> None:
    flow = flow_with(redact=["email", broken])

    def node(state: State) -> State:
        raise OddError(MARK)

    with pytest.raises(OddError, match=MARK):
        chain("a", a=node).invoke({"log": []}, {"metadata": {"plan": "gold"}})
    assert flow.one("SELECT error_message FROM steps") == "[redacted]"
    assert flow.one("SELECT metadata FROM engagements").count("[redacted]") == 2
    assert counts()["redact.failed"] > 5


def test_what_is_not_personal_is_left_as_it_is(flow_with: Callable[..., Flow]) -> None:
    flow = flow_with(redact="all")
    metadata = {"plan": "gold", "n": 4111111111111111, "ok": True, "none": None}
    chain("a", "b").invoke({"log": []}, {"run_name": "checkout", "metadata": metadata})
    assert flow.steps() == [("a", "completed"), ("b", "completed")]
    [(name, kept)] = flow.sql("SELECT name, metadata FROM engagements")
    assert (name, json.loads(kept)) == ("checkout", metadata)


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        (None, {"plan": "gold", "secret": "s", "7": 7}),
        (["plan", "7"], {"plan": "gold", "7": 7}),
        ([], None),
    ],
)
def test_only_the_listed_metadata_is_kept(
    flow_with: Callable[..., Flow], keys: Any, kept: Any
) -> None:
    flow = flow_with(metadata_keys=keys)
    metadata = {
        "plan": "gold",
        "secret": "s",
        7: 7,
        "user_id": "ada",
        "session_id": "s-1",
        "spanflow_goals": ["a"],
    }
    chain("a").invoke({"log": []}, {"metadata": metadata})
    columns = "user_id, session_id, goal, metadata"
    [(*who, found)] = flow.sql(f"SELECT {columns} FROM engagements")
    assert who == ["ada", "s-1", "a"]
    assert (json.loads(found) if found else None) == kept
    attributes = next(s.attributes for s in flow.spans if s.name.startswith("invoke_workflow"))
    assert attributes is not None
    text = attributes.get("spanflow.engagement.metadata")
    assert (json.loads(str(text)) if text else None) == kept
