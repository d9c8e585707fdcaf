"""The graph app with LangSmith's tracer, which the environment turns on and sends to OpenTelemetry.

LangSmith makes its spans in a thread of its own, after the fact; a program that ends waits for it.
"""

from __future__ import annotations

import graph_app
from langchain_core.tracers.langchain import wait_for_all_tracers

if __name__ == "__main__":
    graph_app.main()
    wait_for_all_tracers()
