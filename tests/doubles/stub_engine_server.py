"""Stands in for SGLang's processes, not for its wire: one file decides how it behaves, and the test rewrites that file.

    python stub_engine_server.py PORT CONTROL

CONTROL holds words, read at start and at every request: numbers are the status of /health, the first answer's, the
second's, …, the last for all that follow; "hang" gives no answer, "exit:N" ends it when asked, "die:N" ends it at start,
"deaf" ignores TERM, "brood" starts a deaf child and another in a session of its own.
"""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_DEAF_CHILD = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); threading.Event().wait()"

control = Path(sys.argv[2])
served = dict[str, int]()  # answers given under these words


def words() -> list[str]:
    return control.read_text().split()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = words()
        if "hang" in said:
            threading.Event().wait()
        for word in said:
            if word.startswith("exit:"):
                os._exit(int(word[5:]))
        statuses = [int(word) for word in said if word.isdigit()]
        key = " ".join(said)
        served[key] = served.get(key, 0) + 1
        self.send_response(statuses[min(served[key], len(statuses)) - 1])
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the log is for what the tests look for."""


def main() -> None:
    said = words()
    if "deaf" in said:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "brood" in said:
        subprocess.Popen([sys.executable, "-c", _DEAF_CHILD])
        subprocess.Popen([sys.executable, "-c", _DEAF_CHILD], start_new_session=True)
    for word in said:
        if word.startswith("die:"):
            print("about to die\nthe last line", flush=True)
            sys.exit(int(word[4:]))
    for line in ("Load weight begin.", "Load weight end.", "Engine startup timings"):
        print(line, flush=True)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.pause() if "deaf" not in said else threading.Event().wait()


if __name__ == "__main__":
    main()
