"""Who stands beside us in the interop tests, and what is known of what they report."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENINFERENCE = "openinference-instrumentation-langchain>=0.1.80"
OPENLLMETRY = "opentelemetry-instrumentation-langchain>=0.62"
# Only pre-releases exist, and a lower bound that names one lets the installer take them.
OFFICIAL = "opentelemetry-instrumentation-genai-langchain>=1.3b0"
LANGFUSE = "langfuse>=4"
LANGSMITH = "langsmith[otel]>=0.4"
LITELLM = "litellm>=1.80"
OPENINFERENCE_OPENAI = "openinference-instrumentation-openai>=0.1.66"
OFFICIAL_OPENAI = "opentelemetry-instrumentation-genai-openai>=1.3b0"
CLIENT = "langchain-openai>=1"
PYDANTIC_AI = "pydantic-ai-slim>=2"
OPENAI_AGENTS = "openai-agents>=0.24"
OPENINFERENCE_AGENTS = "openinference-instrumentation-openai-agents>=2"

# No server, and no network: what they would send is kept, dropped, or goes nowhere.
LANGFUSE_VARIABLES = MappingProxyType(
    {"LANGFUSE_PUBLIC_KEY": "pk-none", "LANGFUSE_SECRET_KEY": "none"}
)
LANGSMITH_VARIABLES = MappingProxyType(
    {
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_OTEL_ENABLED": "true",
        "LANGSMITH_OTEL_ONLY": "true",
        "LANGSMITH_API_KEY": "none",
        "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
    }
)


@dataclass(frozen=True)
class Beside:
    """One environment: an app, other people's packages, and who reports its model calls there.

    Attributes:
        name: What the matrix calls it.
        packages: What is installed beside us; the matrix tells their versions.
        scopes: Instrumentation scopes that report calls to models.
        app: The program, in `interop/`.
        unreported: Numbers that nobody there tells.
        variables: Environment variables of the program.
        shares: Another one whose environment this is, too.
        conflicts: Why steps may tell less than the ledger there.
        is_later: The program switches us on, and then the others; nothing does that before it runs.
    """

    name: str
    packages: tuple[str, ...]
    scopes: frozenset[str]
    app: str = "graph_app.py"
    unreported: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    shares: str | None = None
    conflicts: frozenset[str] = frozenset()
    is_later: bool = False

    @property
    def environment(self) -> str:
        """The name of its environment."""
        return self.shares or self.name.replace(" ", "-").replace(",", "")


_US = "spanflow"
_OPENINFERENCE = "openinference.instrumentation.langchain"
_OPENLLMETRY = "opentelemetry.instrumentation.langchain"
_OFFICIAL = "opentelemetry.instrumentation.genai.langchain"
_LANGFUSE = "langfuse-sdk"
_OPENINFERENCE_OPENAI = "openinference.instrumentation.openai"

GRAPH = (
    Beside("nobody", (), frozenset({_US})),
    Beside("OpenInference", (OPENINFERENCE,), frozenset({_OPENINFERENCE})),
    Beside(
        "OpenLLMetry",
        (OPENLLMETRY,),
        frozenset({_OPENLLMETRY}),
        unreported=frozenset({"reasoning_tokens"}),
    ),
    Beside("official", (OFFICIAL,), frozenset({_OFFICIAL})),
    Beside(
        "Langfuse",
        (LANGFUSE,),
        frozenset({_US, _LANGFUSE}),
        app="langfuse_app.py",
        variables=LANGFUSE_VARIABLES,
    ),
    Beside(
        "LangSmith",
        (LANGSMITH,),
        frozenset({_US, "langsmith"}),
        app="langsmith_app.py",
        variables=LANGSMITH_VARIABLES,
    ),
    Beside(
        "LiteLLM",
        (LITELLM,),
        frozenset({_US, "litellm"}),
        app="litellm_app.py",
        # It makes its spans in a thread of its own, as often as not after the step has ended.
        conflicts=frozenset({"late_span"}),
    ),
    Beside(
        "OpenInference, official",
        (OPENINFERENCE, OFFICIAL),
        frozenset({_OPENINFERENCE, _OFFICIAL}),
    ),
    Beside(
        "OpenLLMetry, Langfuse",
        (OPENLLMETRY, LANGFUSE),
        frozenset({_OPENLLMETRY, _LANGFUSE}),
        app="langfuse_app.py",
        variables=LANGFUSE_VARIABLES,
    ),
)
"""Beside these the graph is run whose models are fakes."""

PROVIDER = (
    Beside(
        "OpenInference, OpenInference for OpenAI",
        (OPENINFERENCE, OPENINFERENCE_OPENAI, CLIENT),
        frozenset({_OPENINFERENCE, _OPENINFERENCE_OPENAI}),
        app="provider_app.py",
    ),
    Beside(
        "OpenInference for OpenAI",
        (OPENINFERENCE_OPENAI, CLIENT),
        frozenset({_US, _OPENINFERENCE_OPENAI}),
        app="provider_app.py",
        variables=MappingProxyType({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "langchain"}),
        shares="OpenInference-OpenInference-for-OpenAI",
    ),
    Beside(
        "official for OpenAI",
        (OFFICIAL_OPENAI, CLIENT),
        frozenset({_US, "opentelemetry.instrumentation.genai.openai"}),
        app="provider_app.py",
    ),
    Beside(
        "OpenInference, OpenLLMetry, OpenInference for OpenAI",
        (OPENINFERENCE, OPENLLMETRY, OPENINFERENCE_OPENAI, CLIENT),
        frozenset({_OPENINFERENCE, _OPENLLMETRY, _OPENINFERENCE_OPENAI}),
        app="provider_app.py",
    ),
)
"""Beside these the graph is run that talks to a provider's own client, once without LangChain."""

AGENTS = (
    Beside("Pydantic AI", (PYDANTIC_AI,), frozenset({"pydantic-ai"}), app="pydantic_ai_app.py"),
    Beside(
        "OpenInference for OpenAI Agents",
        (OPENAI_AGENTS, OPENINFERENCE_AGENTS),
        frozenset({"openinference.instrumentation.openai_agents"}),
        app="openai_agents_app.py",
    ),
)
"""Frameworks whose agents are told by somebody else's spans alone."""


def _later(name: str, package: str, instrumentor: str) -> Beside:
    return Beside(
        f"{name}, switched on later",
        (package,),
        frozenset(),
        app="later_app.py",
        variables=MappingProxyType({"LATER": instrumentor}),
        shares=name,
        is_later=True,
    )


LATER = (
    _later("OpenInference", OPENINFERENCE, f"{_OPENINFERENCE}:LangChainInstrumentor"),
    _later("OpenLLMetry", OPENLLMETRY, f"{_OPENLLMETRY}:LangchainInstrumentor"),
    _later("official", OFFICIAL, f"{_OFFICIAL}:LangChainInstrumentor"),
)
"""These come after us, and wrap what we have wrapped."""
