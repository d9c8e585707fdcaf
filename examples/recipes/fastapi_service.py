"""The support agent behind FastAPI.

    opentelemetry-instrument uvicorn fastapi_service:app

Nothing here knows of spanflow. The user goes into the run's metadata, as it would for any tracing.
"""

from __future__ import annotations

from agent import build
from fastapi import FastAPI

app = FastAPI()
support = build()


@app.post("/chat/{user}")
async def chat(user: str, message: str) -> dict[str, str]:
    """Answer one message."""
    state = await support.ainvoke(
        {"messages": [("user", message)]}, {"metadata": {"user_id": user}}
    )
    return {"answer": state["messages"][-1].content}
