"""A tool of a framework's over a function of the app's that is told as one: the same call, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.tools import tool as langchain_tool

import spanflow

if TYPE_CHECKING:
    from conftest import Flow

CALLS = "SELECT name, status, count(*) FROM tool_calls GROUP BY ALL ORDER BY ALL"


def test_a_decorated_function_below_a_tool_of_langchains_is_that_call(flow: Flow) -> None:
    @langchain_tool
    @spanflow.tool
    def lookup(area: str) -> str:
        """Look an area up."""
        return f"3 in {area}"

    with spanflow.engagement("e"), spanflow.step("search"):
        assert lookup.invoke({"area": "Shibuya"}) == "3 in Shibuya"
        assert lookup.invoke({"area": "Ueno"}) == "3 in Ueno"
    assert flow.sql(CALLS) == [("lookup", "ok", 2)]
    assert flow.one("SELECT tool_calls FROM engagements") == 2


async def test_so_is_a_coroutine(flow: Flow) -> None:
    @langchain_tool
    @spanflow.tool
    async def lookup(area: str) -> str:
        """Look an area up."""
        return f"3 in {area}"

    with spanflow.engagement("e"):
        assert await lookup.ainvoke({"area": "Shibuya"}) == "3 in Shibuya"
    assert flow.sql(CALLS) == [("lookup", "ok", 1)]


def test_a_failure_is_told_once(flow: Flow) -> None:
    @langchain_tool
    @spanflow.tool
    def lookup(area: str) -> str:
        """Look an area up."""
        raise LookupError(area)

    with spanflow.engagement("e"), pytest.raises(LookupError):
        lookup.invoke({"area": "Shibuya"})
    assert flow.sql(CALLS) == [("lookup", "error", 1)]


def test_what_is_called_again_inside_is_a_call_of_its_own(flow: Flow) -> None:
    @spanflow.tool
    def count(n: int) -> int:
        """Count down."""
        return count(n - 1) + 1 if n else 0

    tool: Any = langchain_tool(count)
    with spanflow.engagement("e"):
        assert tool.invoke({"n": 2}) == 2
        assert count(1) == 1
    assert flow.sql(CALLS) == [("count", "ok", 3 + 2)]


def test_another_name_is_another_call(flow: Flow) -> None:
    @langchain_tool
    def lookup(area: str) -> str:
        """Look an area up."""
        spanflow.tool_call("search_db", result={"hits": 3})
        spanflow.tool_call("lookup", result={"hits": 3})
        return area

    with spanflow.engagement("e"):
        lookup.invoke({"area": "Shibuya"})
    assert flow.sql(CALLS) == [("lookup", "ok", 1), ("search_db", "ok", 1)]
