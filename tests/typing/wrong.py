# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What a type checker must refuse: where it does not, its comment here is an error itself."""

from __future__ import annotations

import spanflow


@spanflow.tool
def look_up(area: str, limit: int = 3) -> list[str]:
    return [area] * limit


@spanflow.step("qualify")
async def qualify(question: str) -> int:
    return len(question)


@spanflow.tool(5)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def by_number() -> None: ...


@spanflow.llm  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def without_model() -> None: ...


@spanflow.llm(model=None)  # pyright: ignore[reportArgumentType]
def model_of_none() -> None: ...


@spanflow.step("s", tool=["t"])  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
def misspelt() -> None: ...


class Desk:
    @spanflow.tool  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
    @property
    def title(self) -> str:
        return "Desk"


async def calls() -> None:
    look_up(3)  # pyright: ignore[reportArgumentType]
    look_up("a", limits=3)  # pyright: ignore[reportCallIssue]
    look_up("a").upper()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    number: int = qualify("q")  # pyright: ignore[reportAssignmentType]
    text: str = await qualify("q")  # pyright: ignore[reportAssignmentType]
    assert [number, text]


def blocks() -> None:
    spanflow.engagement()  # pyright: ignore[reportCallIssue]
    spanflow.engagement("e", user=1)  # pyright: ignore[reportCallIssue]
    spanflow.engagement("e", goals=1)  # pyright: ignore[reportArgumentType]
    spanflow.tool_call(3)  # pyright: ignore[reportArgumentType]
    spanflow.error("a text")  # pyright: ignore[reportArgumentType]
    spanflow.agent("a", rôle="r")  # pyright: ignore[reportCallIssue]
    spanflow.flush("soon")  # pyright: ignore[reportArgumentType]
    with spanflow.step("s") as step:
        assert step.id  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    spanflow.nothing()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
