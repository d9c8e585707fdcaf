"""The example agent, alone: nothing of ours is in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command

from spanflow.cli.demo import load_example

EXAMPLE = Path(__file__).parents[2] / "examples" / "booking_agent.py"


@pytest.fixture(scope="module")
def example():
    return load_example()


@pytest.fixture
def talk(example):
    """Say something to a fresh agent whose services always answer."""
    agent = example.build()
    context = example.Context("Aiko", example.Services(seed="7", trouble=0))
    config = {"configurable": {"thread_id": "t"}}

    def say(words):
        says = words if isinstance(words, Command) else {"messages": [HumanMessage(words)]}
        return agent.invoke(says, config, context=context)

    return say


def test_it_knows_nothing_of_spanflow():
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "spanflow" not in text.lower()
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"langchain_core", "langgraph"}


def test_it_holds_the_same_conversation_again():
    once, again = (
        subprocess.run(
            [sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True, timeout=240
        ).stdout
        for _ in range(2)
    )
    assert once == again
    assert once.splitlines()[-1].startswith("agent  > Booked. Your reference is R-")


def test_it_asks_for_what_it_does_not_know(talk):
    state = talk("Hello")
    assert state["messages"][-1].content == "In which area would you like to stay?"


def test_it_waits_for_a_yes_and_books(talk):
    state = talk("A room in Ueno, 2 nights, up to 12000 yen.")
    [question] = state["__interrupt__"]
    assert question.value["awaiting"] == "confirmation"
    state = talk(Command(resume="yes"))
    assert state["reference"].startswith("R-")
    assert talk("Thank you!")["messages"][-1].content == "Enjoy your stay!"


def test_a_no_brings_another_offer(talk):
    offers = []
    state = talk("A room in Ueno, 2 nights, up to 20000 yen.")
    while "__interrupt__" in state:
        offers.append(state["__interrupt__"][0].value["offer"]["hotel"])
        state = talk(Command(resume="no"))
    assert len(offers) == len(set(offers)) == 3
    assert "colleague" in state["messages"][-1].content


@pytest.mark.parametrize("answer", ["a human, please", "get me a human"])
def test_it_escalates_from_anywhere(talk, answer):
    assert "colleague" in talk("I want a human")["messages"][-1].content
    talk("A room in Ueno, 2 nights, up to 12000 yen.")
    assert "colleague" in talk(Command(resume=answer))["messages"][-1].content


def test_a_service_that_never_answers_ends_the_run(example):
    agent = example.build()
    context = example.Context("Ben", example.Services(trouble=1))
    with pytest.raises(example.ServiceTimeoutError, match="rooms in Ueno"):
        agent.invoke(
            {"messages": [HumanMessage("A room in Ueno, 1 nights, up to 9000 yen.")]},
            {"configurable": {"thread_id": "t"}},
            context=context,
        )
    assert context.services.calls == {"rooms in Ueno": 3}


def test_every_reply_tells_its_tokens(example):
    replies = [
        example.INTAKE.invoke("A room in Ueno"),
        example.ADVISER.invoke('[{"hotel": "H", "yen": 1, "nights": 1}]'),
    ]
    for reply in replies:
        usage = reply.usage_metadata
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
