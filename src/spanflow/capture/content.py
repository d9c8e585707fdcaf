"""Whether what was said may be kept: one switch, OpenTelemetry's own."""

from __future__ import annotations

import functools
import os

from opentelemetry.util.genai.environment_variables import (  # pyright: ignore[reportMissingTypeStubs]
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT,
)
from opentelemetry.util.genai.utils import (  # pyright: ignore[reportMissingTypeStubs]
    get_content_capturing_mode,
)

__all__ = ["captures_content"]


def captures_content() -> bool:
    """Tell whether content is captured now; it is not unless the variable says so.

    The variable is ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``.
    """
    return _captures(os.environ.get(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT))


@functools.lru_cache(maxsize=8)
def _captures(_value: str | None) -> bool:
    # Asked once for each value: util-genai warns of a wrong one whenever it is asked.
    return get_content_capturing_mode().name != "NO_CONTENT"
