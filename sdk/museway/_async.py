"""The driver of an exchange on an event loop: the twin of `_sync`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from museway._exchange import Flow, Got, Head, ReadBody, Result, Send, Wait
from museway._settings import Settings
from museway._sync import transport_error
from museway.errors import MusewayError


class AsyncTransport:
    """A pool of connections to one server, for one event loop."""

    def __init__(self, settings: Settings, client: httpx2.AsyncClient | None) -> None:
        self._base_url = settings.base_url
        self._timeout = httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s)
        self._own = client is None
        self._client = client or httpx2.AsyncClient(proxy=settings.proxy, timeout=self._timeout)

    async def close(self) -> None:
        """Close the connections; a client that was given stays open."""
        if self._own:
            await self._client.aclose()

    async def run(self, flow: Flow[Result]) -> Result:
        """Drive the flow to its end."""
        async with self.opened(flow) as (result, _):
            return result

    @asynccontextmanager
    async def opened(self, flow: Flow[Result]) -> AsyncGenerator[tuple[Result, httpx2.Response | None]]:
        """The flow's result, and the answer whose body it left unread. The answer is closed on leaving."""
        response: httpx2.Response | None = None
        got: Got = None
        try:
            while True:
                try:
                    step = flow.send(got)
                except StopIteration as stop:
                    yield stop.value, response
                    return
                if isinstance(step, ReadBody):
                    assert response is not None
                    got = await _body(response)
                    continue
                if response is not None:
                    await response.aclose()
                    response = None
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                    got = None
                else:
                    response, got = await self._send(step)
        finally:
            if response is not None:
                await response.aclose()
            flow.close()

    async def _send(self, step: Send) -> tuple[httpx2.Response | None, Head | MusewayError]:
        timeout = self._timeout if step.timeout_s is None else httpx2.Timeout(step.timeout_s)
        try:
            request = self._client.build_request(
                step.method,
                self._base_url + step.target,
                headers=dict(step.headers),
                content=step.content,
                timeout=timeout,
            )
            response = await self._client.send(request, stream=True)
        except httpx2.RequestError as error:
            return None, transport_error(error)
        return response, Head(response.status_code, dict(response.headers))


async def _body(response: httpx2.Response) -> bytes | MusewayError:
    try:
        return await response.aread()
    except httpx2.RequestError as error:
        return transport_error(error)


async def pieces(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ConnectionError, TimeoutError."""
    try:
        async for piece in response.aiter_bytes():
            yield piece
    except httpx2.RequestError as error:
        raise transport_error(error) from error
