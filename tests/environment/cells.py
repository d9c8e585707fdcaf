"""The combinations of variables that are tried, and what each must give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

# GRPC_ADDRESS, HTTP_ADDRESS, DEAD_ADDRESS and CONFIG_FILE_PATH stand for what is known only when a
# cell is run.

GRPC = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://GRPC_ADDRESS"}
HTTP = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://HTTP_ADDRESS",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}
LEDGER = {"SPANFLOW_LEDGER": "traces.duckdb"}
BOTH = {"OTEL_TRACES_EXPORTER": "otlp,duckdb"}
FILE = {"OTEL_CONFIG_FILE": "CONFIG_FILE_PATH"}

# OpenTelemetry says this of itself wherever it is given a file.
KWARGS = "OTEL_CONFIG_FILE is set; ignoring configurator kwargs"

OTLP_AND_OURS = """
file_format: "1.0"
resource:
  attributes:
    - {name: service.name, value: from-the-file}
tracer_provider:
  processors:
    - batch: {exporter: {otlp_http: {endpoint: "http://HTTP_ADDRESS/v1/traces"}}}
    - batch: {exporter: {duckdb: {}}}
"""
OURS_ELSEWHERE = """
file_format: "1.0"
tracer_provider:
  sampler: {always_off: {}}
  processors:
    - batch: {exporter: {duckdb: {ledger: elsewhere.duckdb}}}
"""
OTHERS_ONLY = """
file_format: "1.0"
tracer_provider:
  processors:
    - batch: {exporter: {otlp_grpc: {endpoint: "http://GRPC_ADDRESS", tls: {insecure: true}}}}
"""
DISABLED = """
file_format: "1.0"
disabled: true
tracer_provider:
  processors:
    - batch: {exporter: {duckdb: {}}}
"""
NO_TRACES = """
file_format: "1.0"
propagator: {composite: [{tracecontext: {}}]}
"""


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        variables: All that is set, but for the metrics' and logs' exporters, which are off.
        spans: Which of our spans the back end receives; ``some`` are whole turns.
        ledger: The ledger's file, with everything in it; None where there is no file at all.
        loaded: What of ours is imported: ``all``, the ``switches`` that find out that nothing is
            wanted, the ``exporter`` beside them, or ``nothing``.
        other: Whether the span of somebody else's instrumentor is received.
        said: What standard error tells; empty where it is silent.
        file: The text of a configuration file.
        launched: Whether it is started by ``opentelemetry-instrument``.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    spans: Literal["all", "some", "none"] = "none"
    ledger: str | None = None
    loaded: Literal["all", "switches", "exporter", "nothing"] = "all"
    other: bool = False
    said: tuple[str, ...] = ()
    file: str = ""
    launched: bool = True


def _sampled(sampler: str, ratio: str | None = None) -> dict[str, str]:
    named = {"OTEL_TRACES_SAMPLER": sampler}
    return named if ratio is None else {**named, "OTEL_TRACES_SAMPLER_ARG": ratio}


OURS = "spanflow.duckdb"
THEIRS = "traces.duckdb"
CELLS: dict[str, Cell] = {
    "plain": Cell({**LEDGER, **BOTH, **GRPC}, launched=False, loaded="nothing"),
    # -- exporters
    "none, ledger": Cell({**LEDGER, "OTEL_TRACES_EXPORTER": "none"}, ledger=THEIRS),
    "otlp by default": Cell(GRPC, spans="all", other=True),
    "otlp by HTTP": Cell(
        {**HTTP, **{f"OTEL_{signal}_EXPORTER": "otlp" for signal in ("TRACES", "METRICS", "LOGS")}},
        spans="all",
        other=True,
    ),
    "otlp, ledger": Cell(
        {**LEDGER, "OTEL_TRACES_EXPORTER": "otlp", **GRPC}, spans="all", ledger=THEIRS, other=True
    ),
    "duckdb": Cell({"OTEL_TRACES_EXPORTER": "duckdb", "OTEL_PROPAGATORS": "none"}, ledger=OURS),
    "otlp,duckdb by gRPC": Cell(
        {
            **BOTH,
            **GRPC,
            "OTEL_SERVICE_NAME": "desk",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=test",
        },
        spans="all",
        ledger=OURS,
        other=True,
    ),
    "otlp,duckdb by HTTP": Cell(
        {**BOTH, **HTTP, "OTEL_RESOURCE_ATTRIBUTES": "service.name=back%20office"},
        spans="all",
        ledger=OURS,
        other=True,
    ),
    "with spaces": Cell(
        {**GRPC, "OTEL_TRACES_EXPORTER": " duckdb , otlp", "OTEL_PROPAGATORS": "baggage"},
        spans="all",
        ledger=OURS,
        other=True,
    ),
    "an unknown exporter": Cell(
        {**GRPC, "OTEL_TRACES_EXPORTER": "otlp,duckdb,nosuch"},
        loaded="exporter",
        said=("Requested component 'nosuch' not found",),
    ),
    "none beside duckdb": Cell(
        {"OTEL_TRACES_EXPORTER": "none,duckdb"},
        loaded="nothing",
        said=("Requested component 'none' not found",),
    ),
    # -- samplers
    "ratio 0.5": Cell(
        {**BOTH, **GRPC, **_sampled("traceidratio", "0.5")}, spans="some", ledger=OURS
    ),
    "ratio 0.1": Cell(
        {**BOTH, **GRPC, **_sampled("parentbased_traceidratio", "0.1")}, spans="some", ledger=OURS
    ),
    "parent-based ratio 0": Cell(
        {**LEDGER, **GRPC, **_sampled("parentbased_traceidratio", "0")}, ledger=THEIRS
    ),
    # -- switched off
    "SDK disabled": Cell(
        {**LEDGER, **BOTH, **GRPC, "OTEL_SDK_DISABLED": "true"}, loaded="exporter"
    ),
    "switched off": Cell(
        {**LEDGER, **BOTH, **GRPC, "SPANFLOW_ENABLED": "false"}, loaded="exporter", other=True
    ),
    "ours left out": Cell(
        {**LEDGER, **GRPC, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "foo, spanflow"},
        loaded="nothing",
        other=True,
    ),
    "others left out": Cell(
        {**LEDGER, **GRPC, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "other"},
        spans="all",
        ledger=THEIRS,
    ),
    # -- a configuration file
    "file with both": Cell(
        FILE, spans="all", ledger=OURS, other=True, said=(KWARGS,), file=OTLP_AND_OURS
    ),
    "file with a ledger of its own": Cell(
        FILE, ledger="elsewhere.duckdb", said=(KWARGS,), file=OURS_ELSEWHERE
    ),
    "file beside variables": Cell(
        {**FILE, **BOTH, **_sampled("always_off")},
        spans="all",
        other=True,
        said=(KWARGS,),
        file=OTHERS_ONLY,
    ),
    "file that disables": Cell(
        {**FILE, **LEDGER}, loaded="switches", said=(KWARGS, "disabled=true"), file=DISABLED
    ),
    "file without traces": Cell({**FILE, **LEDGER}, ledger=THEIRS, said=(KWARGS,), file=NO_TRACES),
    # -- trouble, limits and other signals
    "dead by gRPC": Cell(
        {
            **BOTH,
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://DEAD_ADDRESS",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        },
        ledger=OURS,
        said=("Failed to export", "StatusCode.UNAVAILABLE"),
    ),
    "dead by HTTP": Cell(
        {
            **LEDGER,
            **HTTP,
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://DEAD_ADDRESS",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        },
        ledger=THEIRS,
        said=("Failed to export",),
    ),
    "few attributes": Cell(
        {**LEDGER, **GRPC, "OTEL_ATTRIBUTE_COUNT_LIMIT": "10"},
        spans="all",
        ledger=THEIRS,
        other=True,
        said=("Dropping the oldest",),
    ),
    "short attributes": Cell(
        {**LEDGER, **BOTH, **HTTP, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "12"},
        spans="all",
        ledger=THEIRS,
        other=True,
        said=("exceeds max length of 12",),
    ),
}
