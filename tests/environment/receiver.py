"""A back end of the tests' own: it takes OTLP by gRPC and by HTTP and keeps what it got."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Received:
    """A span as it came."""

    trace_id: str
    span_id: str
    name: str
    scope: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Receiver:
    """Where it listens, and what it was sent."""

    grpc: str
    http: str
    spans: list[Received] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    @property
    def ours(self) -> dict[str, Received]:
        """Spanflow's own spans by id."""
        return {span.span_id: span for span in self.spans if span.scope == "spanflow"}

    def take_spans(self, request: ExportTraceServiceRequest) -> None:
        for told in request.resource_spans:
            for scoped in told.scope_spans:
                for span in scoped.spans:
                    self.spans.append(
                        Received(
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.name,
                            scoped.scope.name,
                            _values(span.attributes),
                            _values(told.resource.attributes),
                        )
                    )

    def take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for told in request.resource_metrics:
            for scoped in told.scope_metrics:
                self.metrics |= {metric.name for metric in scoped.metrics}


def _values(attributes: Sequence[Any]) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "", None) for a in attributes}


class _Traces(TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(  # noqa: N802 - the protocol's name
        self, request: ExportTraceServiceRequest, context: Any
    ) -> ExportTraceServiceResponse:
        self.receiver.take_spans(request)
        return ExportTraceServiceResponse()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                receiver.take_spans(ExportTraceServiceRequest.FromString(body))
            elif self.path == "/v1/metrics":
                receiver.take_metrics(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    return Handler


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on free ports of this host."""
    receiver = Receiver("", "")
    by_grpc = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(_Traces(receiver), by_grpc)
    receiver.grpc = f"127.0.0.1:{by_grpc.add_insecure_port('127.0.0.1:0')}"
    by_grpc.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver)) as by_http:
        receiver.http = f"127.0.0.1:{by_http.server_address[1]}"
        thread = threading.Thread(target=by_http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            by_http.shutdown()
            thread.join()
            by_grpc.stop(None).wait()
