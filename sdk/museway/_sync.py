"""The driver of an exchange that blocks. All that knows httpx2 on the synchronous side."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import httpx2

from museway import errors
from museway._exchange import Flow, Got, Head, ReadBody, Result, Send, Wait
from museway._settings import Settings
from museway.errors import MusewayError


class Transport:
    """A pool of connections to one server. Safe to share between threads."""

    def __init__(self, settings: Settings, client: httpx2.Client | None) -> None:
        self._base_url = settings.base_url
        self._timeout = httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s)
        self._own = client is None
        self._client = client or httpx2.Client(proxy=settings.proxy, timeout=self._timeout)

    def close(self) -> None:
        """Close the connections; a client that was given stays open."""
        if self._own:
            self._client.close()

    def run(self, flow: Flow[Result]) -> Result:
        """Drive the flow to its end."""
        with self.opened(flow) as (result, _):
            return result

    @contextmanager
    def opened(self, flow: Flow[Result]) -> Generator[tuple[Result, httpx2.Response | None]]:
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
                    got = _body(response)
                    continue
                if response is not None:
                    response.close()
                    response = None
                if isinstance(step, Wait):
                    time.sleep(step.seconds)
                    got = None
                else:
                    response, got = self._send(step)
        finally:
            if response is not None:
                response.close()
            flow.close()

    def _send(self, step: Send) -> tuple[httpx2.Response | None, Head | MusewayError]:
        timeout = self._timeout if step.timeout_s is None else httpx2.Timeout(step.timeout_s)
        try:
            request = self._client.build_request(
                step.method,
                self._base_url + step.target,
                headers=dict(step.headers),
                content=step.content,
                timeout=timeout,
            )
            response = self._client.send(request, stream=True)
        except httpx2.RequestError as error:
            return None, transport_error(error)
        return response, Head(response.status_code, dict(response.headers))


def _body(response: httpx2.Response) -> bytes | MusewayError:
    try:
        return response.read()
    except httpx2.RequestError as error:
        return transport_error(error)


def pieces(response: httpx2.Response) -> Iterator[bytes]:
    """The body as it comes. Raises ConnectionError and TimeoutError of this package."""
    try:
        yield from response.iter_bytes()
    except httpx2.RequestError as error:
        raise transport_error(error) from error


def transport_error(error: httpx2.RequestError) -> MusewayError:
    """httpx2's error as ours. Its text names no header and no body."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    made = errors.TimeoutError if isinstance(error, httpx2.TimeoutException) else errors.ConnectionError
    return made(f"The request did not get through ({what}).")
