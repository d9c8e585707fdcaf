"""Calls to models as somebody reported them, for tests of what counts."""

from __future__ import annotations

from hypothesis import strategies as st

from spanflow.spending import Call, Usage
from spanflow.tally import Verdict

COUNTED = Verdict(counted=True)

few_tokens = st.none() | st.integers(0, 3)
usages = st.builds(
    Usage.of,
    input_tokens=few_tokens,
    output_tokens=few_tokens,
    cache_read_tokens=few_tokens,
    total_tokens=few_tokens,
    cost_usd=st.none() | st.floats(0, 10),
)


def call(span_id, parent=None, **known):
    usage = known.pop("usage", Usage.of(input_tokens=10, output_tokens=5))
    return Call(
        **{
            "span_id": span_id,
            "parent_span_id": parent,
            "scope": "ours",
            "step_id": "step",
            "model": "m",
            "response_id": None,
            "started_ns": 0,
            "ended_ns": 100,
            "usage": usage,
        }
        | known
    )


def duplicate_of(span_id):
    return Verdict(counted=False, because="duplicate", counted_by=span_id)
