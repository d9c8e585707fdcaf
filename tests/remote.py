"""A service and whoever calls it, as programs: `python remote.py service|caller LEDGER PROVIDER …`.

Both have agents of their own, and HTTP clients and servers that OpenTelemetry instruments.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider


def switch_on(ledger: str) -> None:
    import spanflow

    trace.set_tracer_provider(TracerProvider())
    HTTPXClientInstrumentor().instrument()
    spanflow.configure(ledger=ledger, ingest="off")


def calling(provider: str, said: str) -> Any:
    """A node that asks the provider over HTTP and a model in this process."""
    from graphs import llm

    model = llm(100, 10)

    def node(_: Any) -> dict[str, Any]:
        httpx.post(provider, headers={"x-from": said}).raise_for_status()
        model.invoke("hello")
        return {"log": [said]}

    return node


def service(ledger: str, provider: str, port: str) -> None:
    switch_on(ledger)
    import uvicorn
    from fastapi import FastAPI
    from graphs import chain
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    import spanflow

    app = FastAPI()
    graph = chain("look", look=calling(provider, "service"))

    @app.get("/ready")
    def ready() -> str:
        return "yes"

    @app.post("/graph")
    async def run() -> list[str]:
        return (await graph.ainvoke({"log": []}))["log"]

    @app.post("/plain")
    def plain() -> str:
        with spanflow.engagement("plain"), spanflow.step("look"):
            httpx.post(provider, headers={"x-from": "plain"}).raise_for_status()
            spanflow.llm_call("m", input_tokens=100, output_tokens=10)
        return "done"

    FastAPIInstrumentor.instrument_app(app)
    uvicorn.run(app, port=int(port), log_level="warning")


def caller(ledger: str, provider: str, url: str, ending: str) -> None:
    switch_on(ledger)
    from graphs import State
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, StateGraph
    from langgraph.types import interrupt

    import spanflow

    ask = calling(provider, "caller")

    def node(state: Any) -> dict[str, Any]:
        ask(state)
        httpx.post(url, headers=spanflow.carry({})).raise_for_status()
        if ending == "failed":
            raise ConnectionError(ending)
        if ending == "paused":
            interrupt("sure?")
        return {"log": ["asked"]}

    builder = StateGraph(State)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    graph = builder.compile(InMemorySaver())
    config = {"configurable": {"thread_id": "1"}, "metadata": {"user_id": "ada"}}
    graph.invoke({"log": []}, config)


if __name__ == "__main__":
    {"service": service, "caller": caller}[sys.argv[1]](*sys.argv[2:])
