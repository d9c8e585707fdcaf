"""The support agent as a plain WSGI application, for servers that fork.

    opentelemetry-instrument gunicorn --workers 2 wsgi_service:application

Nothing here knows of spanflow. It answers with the worker's process id, so that one can see who did
the work.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from agent import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

support = build()


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Answer one message; the path names the user."""
    user = environ["PATH_INFO"].strip("/") or "somebody"
    state = support.invoke({"messages": [("user", "Help!")]}, {"metadata": {"user_id": user}})
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"answer": state["messages"][-1].content, "worker": os.getpid()}).encode()]
