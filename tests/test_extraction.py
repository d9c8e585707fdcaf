"""What an extraction notes on its step, what it raises, and the two things called `extraction`."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import instructor
import pytest
from completions import litellm
from extractors import BAD, GOOD, BudgetInfo, Server
from graphs import FakeLLM, calling, chain, llm
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError, field_validator

import spanflow
from spanflow import guard
from spanflow.errors import ConfigurationError
from spanflow.extraction import Extractor

if TYPE_CHECKING:
    from conftest import Flow

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's and Instructor's own

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SHAPE = {
    "title": "BudgetInfo",
    "description": "What somebody may spend, and where.",
    "type": "object",
    "properties": {
        "budget": {"title": "Budget", "type": "integer"},
        "area": {"title": "Area", "type": "string"},
    },
    "required": ["budget", "area"],
}


def extractions(flow: Flow) -> list[dict[str, Any]]:
    rows = flow.sql("SELECT payload FROM events WHERE kind = 'extraction' ORDER BY occurred_at")
    return [json.loads(payload) for (payload,) in rows]


def extract(client: Any, schema: Any = BudgetInfo, said: Any = "95,000", **options: Any) -> Any:
    extractor = Extractor(client, model="gpt-4o-mini")
    with spanflow.engagement("support"), spanflow.step("qualify"):
        return extractor.extract(schema, said, **options)


def langchain(*replies: AIMessage) -> FakeLLM:
    return FakeLLM(replies=list(replies), streamed=False)


def proposing(values: dict[str, Any]) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "BudgetInfo", "args": values, "id": "call-1"}])


@tool
def lookup(key: str) -> str:
    """Look up what is known of an area."""
    return key


def test_in_a_graph_it_is_noted_once_on_its_step(flow: Flow) -> None:
    extractor = Extractor(Server(GOOD).openai(), model="gpt-4o-mini")

    def qualify(state: Any) -> Any:
        lookup.invoke({"key": "Shibuya"})
        extractor.extract(BudgetInfo, "around 95,000 in Shibuya")
        return {"log": ["qualified"]}

    nodes = {"greet": calling(llm(30, 10)), "qualify": qualify, "search": calling(llm(100, 25))}
    chain(*nodes, **nodes).invoke({"log": []})
    assert flow.sql(
        """SELECT s.name, e.kind, e.name FROM events e JOIN steps s USING (step_id)
           WHERE s.name = 'qualify' ORDER BY occurred_at"""
    ) == [
        ("qualify", "tool_call", "lookup"),
        ("qualify", "llm_call", "gpt-4o-mini-2024-07-18"),
        ("qualify", "extraction", "BudgetInfo"),
    ]
    assert extractions(flow) == [
        {"schema": "BudgetInfo", "values": GOOD, "valid": True, "json_schema": SHAPE}
    ]
    assert flow.sql("SELECT path, total_tokens FROM steps ORDER BY started_at") == [
        ("greet", 40),
        ("qualify", 84),
        ("search", 125),
    ]
    assert flow.one("SELECT total_tokens FROM engagements") == 249


def test_what_does_not_fit_is_noted_and_raised_as_it_was(flow: Flow) -> None:
    from instructor.core.exceptions import InstructorRetryException

    with pytest.raises(InstructorRetryException) as raised:
        extract(Server(BAD).openai(), max_retries=1)
    assert isinstance(raised.value.__cause__, ValidationError)
    [noted] = extractions(flow)
    assert (noted["schema"], noted["valid"], noted["values"]) == ("BudgetInfo", False, None)
    assert noted["error"] == [
        {"type": "int_type", "loc": ["budget"], "msg": "Input should be a valid integer"}
    ]
    assert flow.sql("SELECT status, total_tokens FROM llm_calls ORDER BY ALL") == [
        ("ok", 84),
        ("ok", 185),
    ]
    assert "Mr. Secret" not in json.dumps(noted)
    assert flow.sql("SELECT * FROM records WHERE kind = 'llm' AND records::TEXT LIKE '%Mr.%'") == []


def test_with_content_the_wrong_values_are_kept(flow: Flow, monkeypatch) -> None:
    monkeypatch.setenv(CONTENT, "SPAN_ONLY")
    with pytest.raises(Exception, match="Input should be"):
        extract(Server(BAD).openai(), max_retries=0)
    [noted] = extractions(flow)
    assert noted["values"] == BAD
    assert noted["error"][0]["input"] == BAD["budget"]
    [(attributes,)] = flow.sql("SELECT attributes FROM records WHERE kind = 'llm'")
    said = json.loads(attributes)
    assert "95,000" in json.dumps(said["gen_ai.input.messages"])
    assert "Mr. Secret" in json.dumps(said["gen_ai.output.messages"])


def test_an_answer_that_was_cut_off_does_not_fit(flow: Flow) -> None:
    from instructor.core.exceptions import IncompleteOutputException

    with pytest.raises(IncompleteOutputException):
        extract(Server(None).openai())
    [noted] = extractions(flow)
    assert (noted["valid"], noted["error"]) == (False, "IncompleteOutputException")
    assert flow.sql("SELECT status, total_tokens FROM llm_calls") == [("ok", 84)]


def test_a_request_that_fails_is_no_extraction(flow: Flow) -> None:
    with pytest.raises(Exception, match="no"):
        extract(Server(500).openai())
    assert extractions(flow) == []
    assert flow.sql("SELECT status, error_type FROM llm_calls") == [
        ("error", "InternalServerError")
    ]


class Area(BaseModel):
    """An area that somebody's own code looks at."""

    area: str

    @field_validator("area")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "Atlantis":
            msg = "nobody lives there"
            raise ValueError(msg)
        return value


def test_a_schemas_own_check_is_told(flow: Flow) -> None:
    with pytest.raises(Exception, match="nobody lives there"):
        extract(Server({"area": "Atlantis"}).openai(), Area, max_retries=0)
    [noted] = extractions(flow)
    assert noted["error"] == [
        {"type": "value_error", "loc": ["area"], "msg": "Value error, nobody lives there"}
    ]


def test_several_at_once_are_data(flow: Flow) -> None:
    found = extract(Server({"tasks": [GOOD, GOOD]}).openai(), list[BudgetInfo])
    assert [each.area for each in found] == ["Shibuya", "Shibuya"]
    [noted] = extractions(flow)
    assert noted["values"] == [GOOD, GOOD]
    assert "BudgetInfo" in noted["schema"]
    assert noted["json_schema"]["type"] == "array"


def test_what_is_still_to_be_streamed_is_left_to_its_reader(flow: Flow) -> None:
    streamed = iter([1, 2])
    client = instructor.from_openai(Server(GOOD).openai())
    client.create_fn = lambda **_: streamed
    assert list(extract(client)) == [1, 2]
    assert extractions(flow) == []


def test_a_name_is_its_classs_and_unicode_is_kept(flow: Flow) -> None:
    class Place(BaseModel):
        """An area."""

        model_config = {"title": "another"}
        area: str

    extract(Server({"area": "渋谷🎌\x00"}).openai(), Place)
    [noted] = extractions(flow)
    assert noted["schema"] == "Place"
    assert noted["values"] == {"area": "渋谷🎌\x00"}


def test_the_messages_of_a_graph_can_be_asked_with(flow: Flow) -> None:
    server = Server(GOOD)
    extract(server.openai(), said=[HumanMessage("95,000"), {"role": "user", "content": "hello"}])
    assert server.asked[0]["messages"] == [
        {"role": "user", "content": "95,000"},
        {"role": "user", "content": "hello"},
    ]


def test_an_apps_own_hooks_are_told_as_well(flow: Flow) -> None:
    from instructor.core.hooks import Hooks

    told: list[str] = []
    hooks = Hooks()
    hooks.on("completion:kwargs", lambda **request: told.append(request["model"]))
    extract(Server(GOOD).openai(), hooks=hooks)
    assert told == ["gpt-4o-mini"]
    assert flow.one("SELECT total_tokens FROM engagements") == 84


def test_a_run_that_is_left_out_leaves_it_out_too(flow: Flow) -> None:
    extractor = Extractor(Server(GOOD).openai(), model="gpt-4o-mini")

    def qualify(state: Any) -> Any:
        return {"log": [extractor.extract(BudgetInfo, "95,000").area]}

    config = {"metadata": {"spanflow_enabled": False}}
    out = chain("qualify", qualify=qualify).invoke({"log": []}, config)
    assert out["log"] == ["Shibuya"]
    assert guard.counts() == {}
    extract(Server(GOOD).openai())
    assert flow.one("SELECT count(*) FROM llm_calls") == 1
    assert len(extractions(flow)) == 1


def test_with_nothing_captured_it_is_just_instructor() -> None:
    server = Server(BAD, GOOD)
    assert (
        Extractor(server.openai(), model="gpt-4o-mini")
        .extract(BudgetInfo, "95,000", max_retries=1)
        .model_dump()
        == GOOD
    )
    assert len(server.asked) == 2


def test_telemetry_that_fails_is_counted_and_harms_nobody(flow: Flow, monkeypatch) -> None:
    guard.set_strict(False)
    monkeypatch.setattr("spanflow.instrument.instructor.Replies", lambda: 1 / 0)
    monkeypatch.setattr("spanflow.instrument.plain.marks.extraction", lambda *_: 1 / 0)
    assert extract(Server(GOOD).openai()).model_dump() == GOOD
    assert guard.counts() == {"instructor.replied": 1, "extraction.note": 1}
    assert flow.sql("SELECT status, total_tokens FROM llm_calls") == [("ok", None)]


def test_an_instructor_without_hooks_is_asked_all_the_same(flow: Flow, monkeypatch) -> None:
    guard.set_strict(False)
    monkeypatch.setitem(sys.modules, "instructor.core.hooks", None)
    assert extract(Server(GOOD).openai()).model_dump() == GOOD
    assert guard.counts() == {"instructor.hooks": 1}
    assert [noted["valid"] for noted in extractions(flow)] == [True]


def test_langchain_that_does_not_fit(flow: Flow) -> None:
    extractor = Extractor(langchain(proposing(BAD), AIMessage("I would rather not")))
    with spanflow.engagement("support"), spanflow.step("qualify"):
        with pytest.raises(ValidationError):
            extractor.extract(BudgetInfo, "95,000")
        with pytest.raises(OutputParserException, match="without values of BudgetInfo"):
            extractor.extract(BudgetInfo, "95,000")
    first, second = extractions(flow)
    assert [first["valid"], second["valid"]] == [False, False]
    assert first["error"][0]["loc"] == ["budget"]
    assert second["error"] == "OutputParserException"
    assert "Mr. Secret" not in json.dumps([first, second])


async def test_a_provider_by_name(flow: Flow) -> None:
    answer = {"choices": [{"message": {"content": json.dumps(GOOD)}}]}
    extractor = Extractor.from_provider("litellm/gpt-4o-mini")
    mocked = {"mock_response": litellm.ModelResponse(**answer)}
    with spanflow.engagement("support"), spanflow.step("qualify"):
        assert extractor.extract(BudgetInfo, "95,000", **mocked).model_dump() == GOOD
        assert (await extractor.aextract(BudgetInfo, "95,000", **mocked)).model_dump() == GOOD
    assert len(extractions(flow)) == 2


def test_without_a_client_the_way_out_is_named() -> None:
    with pytest.raises(ConfigurationError, match="from_provider"):
        Extractor()
    with pytest.raises(ConfigurationError, match=r"'dict'.*LangChain chat model"):
        Extractor({})
    with pytest.raises(ConfigurationError, match="drop model="):
        Extractor(langchain(proposing(GOOD)), model="gpt-4o-mini")
    with pytest.raises(ConfigurationError, match="aextract"):
        Extractor(Server(GOOD).async_openai()).extract(BudgetInfo, "95,000")


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "first",
    [
        "pass",
        "spanflow.extraction",
        "from spanflow.extraction import Extractor",
        "import spanflow.extraction",
        "from spanflow import extraction",
        "from spanflow.instrument.plain.marks import extraction",
        "import importlib; importlib.import_module('spanflow.extraction')",
    ],
)
def test_module_and_function_are_one_whatever_came_first(first) -> None:
    program = f"""
        import spanflow
        {first}
        spanflow.extraction("Budget", {{"budget": 1}})
        import spanflow.extraction
        from spanflow.extraction import Extractor
        from spanflow import extraction
        extraction("Budget", {{"budget": 1}}, valid=False, error="too little")
        assert spanflow.extraction.Extractor is extraction.Extractor is Extractor
        print("both")
    """
    assert run(program) == "both\n"


def test_importing_it_loads_nothing_heavy() -> None:
    program = """
        import sys, spanflow.extraction
        spanflow.extraction("Budget", {"budget": 1})
        heavy = {"instructor", "pydantic", "openai", "langchain_core", "opentelemetry.sdk"}
        print(heavy & set(sys.modules))
    """
    assert run(program) == "set()\n"


def test_without_instructor_the_extra_is_named() -> None:
    program = """
        import sys
        sys.modules["instructor"] = None
        from spanflow.extraction import Extractor
        try:
            Extractor(print)
        except ModuleNotFoundError as error:
            print(error)
    """
    assert run(program) == 'an Extractor needs Instructor: pip install "spanflow[extraction]"\n'


def test_said_by_the_app_itself(flow: Flow) -> None:
    with spanflow.engagement("support"), spanflow.step("qualify"):
        spanflow.extraction("Budget", {"budget": -1}, valid=False, error="too little")
    assert extractions(flow) == [
        {"schema": "Budget", "values": {"budget": -1}, "valid": False, "error": "too little"}
    ]
