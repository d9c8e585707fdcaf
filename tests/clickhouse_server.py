"""ClickHouse itself behind its HTTP interface: the embedded one, in a process of its own.

A server cannot be had as a package, and the embedded one would leave threads in the tests' process,
which then must not fork. This speaks as much of the interface as the client library asks for.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


def main(folder: str) -> None:
    """Serve a folder until the standard input ends; the port is the first line printed."""
    from chdb.session import Session

    session, lock = Session(folder), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = given.get("query", "") + body.decode()
            told = {
                name.removeprefix("param_"): value
                for name, value in given.items()
                if name.startswith("param_")
            }
            wanted = self.headers.get("X-ClickHouse-Format") or given.get("default_format", "TSV")
            with lock:
                try:
                    status, answer = 200, session.query(query, wanted, params=told).bytes()
                except RuntimeError as error:
                    # What it wrote before it failed would come with the next answer.
                    session.query("SELECT 1")
                    status, answer = 500, str(error).encode()
            self.send_response(status)
            if status != 200:
                self.send_header("X-ClickHouse-Exception-Code", "1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(bytes(answer))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()
    server.server_close()
    session.close()


if __name__ == "__main__":
    main(sys.argv[1])
