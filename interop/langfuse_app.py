"""The graph app with Langfuse's callback handler, as its documentation wants it.

Nothing leaves the process: what Langfuse would send is kept in memory and dropped.
"""

from __future__ import annotations

import graph_app
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if __name__ == "__main__":
    client = Langfuse(span_exporter=InMemorySpanExporter())
    graph_app.main([CallbackHandler()])
    client.flush()
