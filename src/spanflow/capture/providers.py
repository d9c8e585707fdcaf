"""What the GenAI conventions call a provider that others call something else."""

from __future__ import annotations

from typing import Final

from spanflow.capture.payload import clean

__all__ = ["provider_name"]

_NAMES: Final = {
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "amazon_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "ibm": "ibm.watsonx.ai",
    "watsonx": "ibm.watsonx.ai",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
    "azure_ai": "azure.ai.inference",
    "text-completion-openai": "openai",
}
"""LangChain's and LiteLLM's provider names where the GenAI conventions have another."""


def provider_name(told: str) -> str:
    """Return ``gen_ai.provider.name`` for what LangChain or LiteLLM calls a provider."""
    return _NAMES.get(told, clean(told))
