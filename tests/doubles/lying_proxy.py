"""A proxy before a worker that changes what the worker reports: the wrong counts that no honest double can give."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

Change = Callable[[dict[str, Any]], None]
"""Edits one event (or whole answer) of a customer's call in place."""

_GENERATES = ("/v1/chat/completions", "/generate")


class LyingProxy:
    """A context manager; `url` stands for the worker's. Calls of ours (`sys_…`) pass unchanged."""

    def __init__(self, worker_url: str, change: Change) -> None:
        target = urlsplit(worker_url)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
                pass

            def do_GET(self) -> None:
                self._forward(b"")

            def do_POST(self) -> None:
                self._forward(self.rfile.read(int(self.headers.get("content-length", 0))))

            def _forward(self, body: bytes) -> None:
                upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
                try:
                    upstream.request(self.command, self.path, body, {"content-type": "application/json"})
                    answer = upstream.getresponse()
                    lies = self.path in _GENERATES and b'"rid":"req_' in body and answer.status == 200
                    kind = answer.getheader("content-type", "application/json")
                    if "event-stream" in kind:
                        self._stream(answer, kind, lies=lies)
                    else:
                        self._whole(answer, kind, lies=lies)
                except OSError:
                    self.close_connection = True
                finally:
                    upstream.close()

            def _whole(self, answer: http.client.HTTPResponse, kind: str, *, lies: bool) -> None:
                body = _lie(answer.read(), change) if lies else answer.read()
                self.send_response(answer.status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, answer: http.client.HTTPResponse, kind: str, *, lies: bool) -> None:
                self.send_response(answer.status)
                self.send_header("content-type", kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                rest = b""
                while data := answer.read1(65536):
                    *events, rest = (rest + data).split(b"\n\n")
                    for event in events:
                        payload = event.removeprefix(b"data: ")
                        told = _lie(payload, change) if lies and payload != b"[DONE]" else payload
                        self._chunk(b"data: " + told + b"\n\n")
                self.wfile.write(b"0\r\n\r\n")

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.flush()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def _lie(payload: bytes, change: Change) -> bytes:
    told: dict[str, Any] = json.loads(payload)
    change(told)
    return json.dumps(told, separators=(",", ":")).encode()
