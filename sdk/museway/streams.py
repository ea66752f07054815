"""A streamed answer as it comes: iterate events inside `with`, then read `reply`.

    with client.stream("Why is the sky blue?") as stream:
        for event in stream:
            ...
    print(stream.reply.cost)

A connection that breaks off on the way is made again, and the stream goes on after the last event that came: nothing is
lost, doubled or billed twice. Leaving the `with` closes the connection and, where the answer was not at its end, cancels
the request: the server then stops it and bills what it had delivered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from museway import errors
from museway._call import Call
from museway._chunks import ChunkReader
from museway._exchange import Answered, Attempt, Flow
from museway._resume import Resumption
from museway.errors import MusewayError, StatusError, StreamInterruptedError
from museway.events import Event, OutputDelta
from museway.reply import Reply

if TYPE_CHECKING:  # httpx2 takes 60 ms to import: the drivers are imported with the first client
    from museway._async import AsyncTransport
    from museway._sync import Transport


class _Reading:
    """What both kinds of stream know."""

    def __init__(self, call: Call[Any], attempt: Attempt) -> None:
        self._reader: ChunkReader | None = None
        self._resumption = Resumption(call, attempt)
        self._is_over = False
        """Closed, or ended by the server: there is nothing to cancel."""

    @property
    def reply(self) -> Reply:
        """The whole answer, once the events are over. Raises MusewayError before that: see `partial`."""
        if self._reader is None or not self._reader.done:
            raise MusewayError("The stream is not at its end: iterate it first.")
        return self._reader.reply()

    @property
    def partial(self) -> Reply:
        """What has come so far."""
        return Reply(text="") if self._reader is None else self._reader.reply()

    def _again(self, reader: ChunkReader, error: errors.ConnectionError) -> Flow[Answered]:
        flow = self._resumption.again(reader, error)
        if flow is None:
            raise self._broken(error) from error
        return flow

    def _broken(self, error: errors.ConnectionError) -> StreamInterruptedError:
        return StreamInterruptedError(error.message, partial=self.partial, request_id=self.partial.request_id)

    def _cancelling(self) -> Flow[object] | None:
        """What is left to tell the server, once."""
        is_over, self._is_over = self._is_over, True
        return None if is_over else self._resumption.cancel(self._reader)


class Stream(_Reading):
    """A streamed answer. Enter it once; the request is sent then."""

    def __init__(self, transport: Transport, call: Call[Any], attempt: Attempt) -> None:
        super().__init__(call, attempt)
        self._transport = transport
        self._connection = ExitStack()
        self._events: Generator[Event] | None = None

    def __enter__(self) -> Self:
        """Raises StatusError, ConnectionError, TimeoutError: retried before, as every call."""
        answered, pieces = self._connect(self._resumption.begin())
        self._reader = ChunkReader(answered.head.headers)
        self._events = self._read(self._reader, pieces)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, and cancel what is not at its end. Idempotent; raises nothing where the server is away."""
        if self._events is not None:
            self._events.close()
        self._connection.close()
        flow = self._cancelling()
        if flow is not None:
            with suppress(MusewayError):
                self._transport.run(flow)

    def __iter__(self) -> Iterator[Event]:
        """Events, once. Raises StreamInterruptedError where the stream breaks off for good, StreamRestartedError where the
        server can't go on with it, StatusError where it says an error."""
        if self._events is None:
            raise MusewayError("Enter the stream first: with client.stream(…) as stream.")
        return self._events

    def text(self) -> Iterator[str]:
        """Only the answer's text, piece by piece."""
        return (event.text for event in self if isinstance(event, OutputDelta))

    def _connect(self, flow: Flow[Answered]) -> tuple[Answered, Iterator[bytes]]:
        from museway._sync import pieces

        self._connection.close()
        answered, response = self._connection.enter_context(self._transport.opened(flow))
        assert response is not None
        return answered, pieces(response)

    def _read(self, reader: ChunkReader, pieces: Iterator[bytes]) -> Generator[Event]:
        while True:
            try:
                for piece in pieces:
                    yield from reader.feed(piece)
                    if reader.done:
                        return
                reader.end()
            except errors.ConnectionError as error:
                flow = self._again(reader, error)
            except StatusError:
                self._is_over = True
                raise
            else:
                return
            try:
                _, pieces = self._connect(flow)
            except errors.ConnectionError as error:
                raise self._broken(error) from error
            except StatusError:
                self._is_over = True
                raise


class AsyncStream(_Reading):
    """A streamed answer on an event loop. Enter it once; the request is sent then."""

    def __init__(self, transport: AsyncTransport, call: Call[Any], attempt: Attempt) -> None:
        super().__init__(call, attempt)
        self._transport = transport
        self._connection = AsyncExitStack()
        self._events: AsyncGenerator[Event] | None = None

    async def __aenter__(self) -> Self:
        """Raises StatusError, ConnectionError, TimeoutError: retried before, as every call."""
        answered, pieces = await self._connect(self._resumption.begin())
        self._reader = ChunkReader(answered.head.headers)
        self._events = self._read(self._reader, pieces)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, and cancel what is not at its end. Idempotent; raises nothing where the server is away."""
        if self._events is not None:
            await self._events.aclose()
        await self._connection.aclose()
        flow = self._cancelling()
        if flow is not None:
            with suppress(MusewayError):
                await self._transport.run(flow)

    def __aiter__(self) -> AsyncIterator[Event]:
        """Events, once. Raises StreamInterruptedError where the stream breaks off for good, StreamRestartedError where the
        server can't go on with it, StatusError where it says an error."""
        if self._events is None:
            raise MusewayError("Enter the stream first: async with client.stream(…) as stream.")
        return self._events

    def text(self) -> AsyncIterator[str]:
        """Only the answer's text, piece by piece."""
        return (event.text async for event in self if isinstance(event, OutputDelta))

    async def _connect(self, flow: Flow[Answered]) -> tuple[Answered, AsyncIterator[bytes]]:
        from museway._async import pieces

        await self._connection.aclose()
        answered, response = await self._connection.enter_async_context(self._transport.opened(flow))
        assert response is not None
        return answered, pieces(response)

    async def _read(self, reader: ChunkReader, pieces: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
        while True:
            try:
                async for piece in pieces:
                    for event in reader.feed(piece):
                        yield event
                    if reader.done:
                        return
                reader.end()
            except errors.ConnectionError as error:
                flow = self._again(reader, error)
            except StatusError:
                self._is_over = True
                raise
            else:
                return
            try:
                _, pieces = await self._connect(flow)
            except errors.ConnectionError as error:
                raise self._broken(error) from error
            except StatusError:
                self._is_over = True
                raise
