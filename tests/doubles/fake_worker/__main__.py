"""`python -m doubles.fake_worker`: serve until SIGTERM, or until standard input closes where asked for."""

import asyncio
import json
import os
import signal
import sys

from doubles.fake_worker.http import Connection
from doubles.fake_worker.options import Options, parse
from doubles.fake_worker.server import Server


async def serve(options: Options) -> None:
    """Listen, print `{"url", "pid"}` on one line, serve; returns at a signal."""
    loop = asyncio.get_running_loop()
    server, ending = Server(options), asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()
    lag_s = options.disconnect_lag_ms / 1000
    listener = await loop.create_server(
        lambda: Connection(server, lag_s=lag_s, tasks=tasks), options.host, options.port, backlog=4096
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    if options.exit_with_stdin:
        await loop.connect_read_pipe(lambda: _Parent(ending), sys.stdin)
    port = listener.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://{options.host}:{port}", "pid": os.getpid()}), flush=True)
    await ending.wait()
    listener.close()
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Parent(asyncio.Protocol):
    """Standard input, whose end means that the process that started us is gone."""

    def __init__(self, ending: asyncio.Event) -> None:
        self._ending = ending

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending.set()


if __name__ == "__main__":
    asyncio.run(serve(parse()))
