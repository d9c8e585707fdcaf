"""Web servers, as people really run agents: an async one, and one that forks."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(600)]

REQUESTS = 12
ENGAGEMENTS = "SELECT user_id, status, steps, llm_calls, total_tokens FROM engagements"


def _expected(users):
    return [
        {"user_id": user, "status": "completed", "steps": 2, "llm_calls": 1, "total_tokens": 18}
        for user in sorted(users)
    ]


def _engagements(recipe):
    return sorted(recipe.rows(ENGAGEMENTS), key=lambda row: row["user_id"])


def _ask_all(post, users):
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(post, users))
    assert [answer.status_code for answer in answers] == [200] * len(users)
    return [answer.json() for answer in answers]


def test_every_request_to_fastapi_is_an_engagement(recipe):
    users = [f"user-{n:02}" for n in range(REQUESTS)]
    with recipe.serving(
        *("uvicorn", "fastapi_service:app", "--host", "127.0.0.1", "--port", "{port}")
    ) as url:
        _ask_all(lambda user: httpx.post(f"{url}/chat/{user}?message=Help", timeout=240), users)
        # The server is still running: another process reads while it may write. The file is there
        # a few seconds after the first run, and complete as soon as the server next publishes.
        seen = []
        deadline = time.monotonic() + 120
        while len(seen) < REQUESTS and time.monotonic() < deadline:
            time.sleep(0.5)
            seen = _engagements(recipe) if recipe.ledger.exists() else []
        assert seen == _expected(users)
        httpx.post(f"{url}/chat/zoe?message=Last", timeout=240)
    assert _engagements(recipe) == _expected([*users, "zoe"])
    turns = recipe.rows("SELECT trace_id FROM turns")
    assert len({turn["trace_id"] for turn in turns}) == REQUESTS + 1


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["prefork", "preload"])
def test_no_run_of_a_forked_worker_is_lost(recipe, preload):
    users: list[str] = []
    workers: Counter[int] = Counter()
    with recipe.serving(
        *("gunicorn", "--workers", "2", *preload),
        *("--bind", "127.0.0.1:{port}", "wsgi_service:application"),
    ) as url:
        deadline = time.monotonic() + 120
        while len(workers) < 2 and time.monotonic() < deadline:
            more = [f"user-{len(users) + n:04}" for n in range(REQUESTS)]
            for answer in _ask_all(lambda user: httpx.get(f"{url}/{user}", timeout=240), more):
                workers[answer["worker"]] += 1
            users += more
    assert len(workers) == 2, "one worker answered everything"
    # Asked after the shutdown: whatever the workers had not loaded yet is adopted now.
    assert _engagements(recipe) == _expected(users)
    by_process = recipe.rows(
        "SELECT process_id, count(*) AS n FROM spans WHERE kind = 'turn' GROUP BY 1"
    )
    assert sorted(row["n"] for row in by_process) == sorted(workers.values())
