"""A LangGraph app that talks to a model provider's own client, to be run beside its instrumentors.

It knows nothing of tracing. The provider is a web server of its own that answers as OpenAI does and
notes what each answer spends. One run invokes, one awaits, one streams, and one calls the
provider's client directly, without LangChain. At the end it prints, as one line of JSON, the calls
and tokens of each run.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from openai import OpenAI

MODEL = "gpt-4o-mini"
ANSWERED = "gpt-4o-mini-2024-07-18"

books: defaultdict[str, Counter[str]] = defaultdict(Counter)


class Provider(BaseHTTPRequestHandler):
    """Answers every chat with one word and a usage that depends on the question."""

    def do_POST(self) -> None:
        """Answer one request, in one piece or streamed."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = asked["messages"][-1]["content"]
        run, _, given = question.partition(" ")
        spent = {
            "prompt_tokens": int(given),
            "completion_tokens": 7,
            "total_tokens": int(given) + 7,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
        books[run] += Counter(calls=1, input_tokens=int(given), output_tokens=7)
        common = {"id": f"chatcmpl-{run}-{given}", "created": 1, "model": ANSWERED}
        choice = {"index": 0, "finish_reason": "stop"}
        if asked.get("stream"):
            chunk = common | {"object": "chat.completion.chunk"}
            says = choice | {"delta": {"role": "assistant", "content": "yes"}}
            pieces = [chunk | {"choices": [says]}, chunk | {"choices": [], "usage": spent}]
            body = (
                "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
            )
            kind = "text/event-stream"
        else:
            says = choice | {"message": {"role": "assistant", "content": "yes"}}
            reply = common | {"object": "chat.completion", "choices": [says], "usage": spent}
            body, kind = json.dumps(reply), "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Say nothing of requests."""


class State(TypedDict):
    """The name of the run."""

    run: str


def main() -> None:
    """Run the graph in four ways and close the books."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{server.server_port}/v1"
    model = ChatOpenAI(model=MODEL, base_url=where, api_key="none", stream_usage=True)
    client = OpenAI(base_url=where, api_key="none")

    def ask(state: State) -> dict[str, Any]:
        run = state["run"]
        if run == "direct":
            for given in (10, 20):
                client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": f"{run} {given}"}]
                )
        elif run == "streamed":
            for given in (10, 20):
                for _ in model.stream(f"{run} {given}"):
                    pass
        else:
            # Two calls that differ, and two that do not, at the same time.
            model.batch([f"{run} 10", f"{run} 20", f"{run} 20"])
        return {}

    async def ask_awaiting(state: State) -> dict[str, Any]:
        run = state["run"]
        await asyncio.gather(*(model.ainvoke(f"{run} {given}") for given in (10, 20, 20)))
        return {}

    def graph(ask: Any) -> Any:
        return StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile()

    for run in ("sync", "streamed", "direct"):
        graph(ask).invoke(State(run=run), {"run_name": run})
    asyncio.run(graph(ask_awaiting).ainvoke(State(run="async"), {"run_name": "async"}))
    server.shutdown()
    json.dump(books, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
