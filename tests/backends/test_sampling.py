"""Which turns the shipped tail sampling lets through to a real Jaeger, and which it does not."""

from __future__ import annotations

import hashlib

import pytest
from backends import reading, servers
from backends.conftest import SERVICE
from backends.sending import send_turn, tracing

pytestmark = [pytest.mark.backends, pytest.mark.timeout(600)]

AT_ONCE = {"DECISION_WAIT": "4s", "DECISION_WAIT_AFTER_ROOT": "1s"}


def _kept(jaeger, service):
    traces = reading.Jaeger(jaeger.query).traces(service)
    return {span.trace_id: len(trace) for trace in traces for span in trace}


def test_what_somebody_will_look_at_is_kept_and_nothing_else(program, tmp_path):
    with servers.jaeger(tmp_path) as jaeger:
        sampling = {"KEEP_PERCENT": "0", "BACKEND": jaeger.otlp, **AT_ONCE}
        with servers.collector(tmp_path, "tail-sampling.yaml", **sampling) as sending:
            one = {"spanflow__engagement__id": "e", "spanflow__turn__kind": "new"}
            done = {**one, "spanflow__turn__outcome": "completed"}
            with tracing(sending, "turns") as tracer:
                kept = {
                    "failed": send_turn(tracer, **one, spanflow__turn__outcome="failed"),
                    "cancelled": send_turn(tracer, **one, spanflow__turn__outcome="cancelled"),
                    "left": send_turn(tracer, **one, spanflow__turn__outcome="left"),
                    "paused": send_turn(tracer, **one, spanflow__turn__outcome="paused"),
                    "resumed": send_turn(tracer, **{**done, "spanflow__turn__kind": "resume"}),
                    "abandoned": send_turn(
                        tracer, **done, spanflow__engagement__status="abandoned"
                    ),
                    "an error within": send_turn(tracer, error=True, **done),
                    "slow": send_turn(tracer, 31, **done),
                    "many tokens": send_turn(tracer, **done, spanflow__usage__total_tokens=50_000),
                    "costly": send_turn(tracer, **done, spanflow__usage__cost_usd=0.51),
                }
                dropped = {
                    "plain": send_turn(tracer, **done),
                    "complete": send_turn(tracer, **done, spanflow__engagement__status="completed"),
                    "not slow": send_turn(tracer, 29, **done),
                    "few tokens": send_turn(tracer, **done, spanflow__usage__total_tokens=49_999),
                    "cheap": send_turn(tracer, **done, spanflow__usage__cost_usd=0.49),
                    "not ours": send_turn(tracer, http__route="/"),
                }
            agent = program(tmp_path, sending)
            agent.run("begin", "trip-1")
            agent.run("answer", "trip-1")
            agent.run("break", "trip-2")
        names = {trace_id: name for name, trace_id in {**kept, **dropped}.items()}
        found = {names[trace_id]: spans for trace_id, spans in _kept(jaeger, "turns").items()}
        assert found == dict.fromkeys(kept, 2)
        # Paused, answered and failed: whole turns, as the ledger has them.
        assert sorted(_kept(jaeger, SERVICE).values()) == [3, 4, 16]


def test_a_share_of_the_engagements_is_kept_with_all_their_turns(tmp_path):
    names = [f"01890000-0000-7000-8000-{number:012d}" for number in range(400)]
    with servers.jaeger(tmp_path) as jaeger:
        sampling = {"KEEP_PERCENT": "25", "BACKEND": jaeger.otlp, **AT_ONCE}
        with (
            servers.collector(tmp_path, "tail-sampling.yaml", **sampling) as sending,
            tracing(sending, "turns") as tracer,
        ):
            said = {"spanflow__turn__outcome": "completed", "spanflow__turn__kind": "new"}
            sent = {
                send_turn(tracer, spanflow__engagement__id=name, **said): name
                for _ in range(3)
                for name in names
            }
            others = {send_turn(tracer, http__route="/") for _ in range(400)}
        kept = _kept(jaeger, "turns").keys()
    expected = {
        name
        for name in names
        if int(hashlib.sha256(name.encode()).hexdigest()[:6], 16) / 2**24 < 0.25
    }
    assert 60 < len(expected) < 140
    assert sorted(sent[trace] for trace in kept & sent.keys()) == sorted([*expected] * 3)
    assert 50 < len(kept & others) < 150
