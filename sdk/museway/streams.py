"""A streamed answer as it comes: iterate events inside `with`, then read `reply`.

    with client.stream("Why is the sky blue?") as stream:
        for event in stream:
            ...
    print(stream.reply.cost)

Leaving the `with` closes the connection, wherever the iteration was: the server then stops the answer and bills what it
had delivered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from typing import TYPE_CHECKING, Self

from museway import errors
from museway._chunks import ChunkReader
from museway._exchange import Answered, Flow
from museway.errors import MusewayError, StreamInterruptedError
from museway.events import Event, OutputDelta
from museway.reply import Reply

if TYPE_CHECKING:  # httpx2 takes 60 ms to import: the drivers are imported with the first client
    from museway._async import AsyncTransport
    from museway._sync import Transport


class _Reading:
    """What both kinds of stream know."""

    def __init__(self) -> None:
        self._reader: ChunkReader | None = None

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

    def _broken(self, error: errors.ConnectionError) -> StreamInterruptedError:
        return StreamInterruptedError(error.message, partial=self.partial, request_id=self.partial.request_id)


class Stream(_Reading):
    """A streamed answer. Enter it once; the request is sent then."""

    def __init__(self, transport: Transport, flow: Flow[Answered]) -> None:
        super().__init__()
        self._transport = transport
        self._flow = flow
        self._stack = ExitStack()
        self._events: Generator[Event] | None = None

    def __enter__(self) -> Self:
        """Raises StatusError, ConnectionError, TimeoutError: retried before, as every call."""
        from museway._sync import pieces

        answered, response = self._stack.enter_context(self._transport.opened(self._flow))
        assert response is not None
        self._reader = ChunkReader(answered.head.headers)
        self._events = self._stack.enter_context(closing(self._read(self._reader, pieces(response))))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._stack.close()

    def __iter__(self) -> Iterator[Event]:
        """Events, once. Raises StreamInterruptedError where the stream breaks off, StatusError where it says an error."""
        if self._events is None:
            raise MusewayError("Enter the stream first: with client.stream(…) as stream.")
        return self._events

    def text(self) -> Iterator[str]:
        """Only the answer's text, piece by piece."""
        return (event.text for event in self if isinstance(event, OutputDelta))

    def _read(self, reader: ChunkReader, pieces: Iterator[bytes]) -> Generator[Event]:
        try:
            for piece in pieces:
                yield from reader.feed(piece)
                if reader.done:
                    return
        except errors.ConnectionError as error:
            raise self._broken(error) from error
        reader.end()


class AsyncStream(_Reading):
    """A streamed answer on an event loop. Enter it once; the request is sent then."""

    def __init__(self, transport: AsyncTransport, flow: Flow[Answered]) -> None:
        super().__init__()
        self._transport = transport
        self._flow = flow
        self._stack = AsyncExitStack()
        self._events: AsyncGenerator[Event] | None = None

    async def __aenter__(self) -> Self:
        """Raises StatusError, ConnectionError, TimeoutError: retried before, as every call."""
        from museway._async import pieces

        answered, response = await self._stack.enter_async_context(self._transport.opened(self._flow))
        assert response is not None
        self._reader = ChunkReader(answered.head.headers)
        events = self._read(self._reader, pieces(response))
        self._events = await self._stack.enter_async_context(aclosing(events))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Events, once. Raises StreamInterruptedError where the stream breaks off, StatusError where it says an error."""
        if self._events is None:
            raise MusewayError("Enter the stream first: async with client.stream(…) as stream.")
        return self._events

    def text(self) -> AsyncIterator[str]:
        """Only the answer's text, piece by piece."""
        return (event.text async for event in self if isinstance(event, OutputDelta))

    async def _read(self, reader: ChunkReader, pieces: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
        try:
            async for piece in pieces:
                for event in reader.feed(piece):
                    yield event
                if reader.done:
                    return
        except errors.ConnectionError as error:
            raise self._broken(error) from error
        reader.end()
