"""A server that answers by script: one `Scripted` a request, in order. It writes raw HTTP, so it can break off anywhere.

It stands for servers and networks that our own gateway never is; the SDK against the gateway is tested elsewhere.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from msgspec import Struct

PATIENCE_S = 10.0


class Scripted(Struct, frozen=True, kw_only=True):
    """What one request is answered. `pieces` are written one by one; `cut` closes the connection without an end, `hang`
    keeps it open until the client is gone."""

    status: int = 200
    headers: dict[str, str] = {}
    pieces: tuple[bytes, ...] = ()
    cut: bool = False
    hang: bool = False
    refuse: bool = False


def answer(body: object, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Scripted:
    named = {"content-type": "application/json", **(headers or {})}
    return Scripted(status=status, headers=named, pieces=(json.dumps(body).encode(),))


def stream(*pieces: bytes, cut: bool = False, hang: bool = False) -> Scripted:
    return Scripted(
        headers={"content-type": "text/event-stream", "x-request-id": "req_9"}, pieces=pieces, cut=cut, hang=hang
    )


def refusal(status: int, code: str, kind: str = "server_error", **headers: str) -> Scripted:
    """Header names with underscores."""
    error = {"message": f"It is {code}.", "type": kind, "param": None, "code": code, "doc_url": None}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer({"error": error, "request_id": "req_9"}, named, status=status)


class Heard(Struct, frozen=True):
    """One request as it came. Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Listens on loopback while entered."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.gone = threading.Event()
        """Set when a client left an answer that hangs."""
        self._script: list[Scripted] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                owner.serve(self)

            def do_POST(self) -> None:
                owner.serve(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name of the method it replaces)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def script(self, *answers: Scripted) -> None:
        """What the next requests are answered."""
        self._script.extend(answers)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)
        assert not self._script, "answers that nobody asked for"

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.rfile.read(int(headers.get("content-length", "0")))
        self.heard.append(Heard(request.command, request.path, headers, body))
        scripted = self._script.pop(0)
        if scripted.refuse:
            _reset(request.connection)
            request.close_connection = True
            return
        try:
            self._write(request, scripted)
        except ConnectionError:
            request.close_connection = True

    def _write(self, request: BaseHTTPRequestHandler, scripted: Scripted) -> None:
        lines = [f"HTTP/1.1 {scripted.status} Scripted", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in scripted.headers.items()]
        request.wfile.write("\r\n".join([*lines, "", ""]).encode())
        for piece in scripted.pieces:
            request.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            request.wfile.flush()
        if scripted.hang:
            request.connection.settimeout(PATIENCE_S)
            if request.rfile.read(1) == b"":
                self.gone.set()
        if scripted.cut or scripted.hang:
            request.close_connection = True
            return
        request.wfile.write(b"0\r\n\r\n")


def _reset(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def by_pieces(body: bytes, size: int) -> Sequence[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]
