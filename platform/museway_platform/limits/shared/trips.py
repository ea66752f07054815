"""Operations on shared counters, gathered: while one round trip is under way, whatever else is asked goes with the next.

One script call an organization and trip, however many operations it has (`script.lua`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias

import msgspec

from museway_platform.database.redis import RedisServer, RedisUnavailable
from museway_platform.limits.limiter import LimiterUnavailable

SCRIPT: Final = files("museway_platform").joinpath("limits/shared/script.lua").read_text()
OPERATIONS_MAX: Final = 128
"""In one script call: Redis does nothing else meanwhile."""

Answer: TypeAlias = "tuple[Any, int]"
"""What the operation gave, and when it was done: microseconds since the epoch by Redis's clock."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


class ScriptFault(Exception):
    """The script failed on an operation: a fault of ours. Nothing of its call was done."""


class _Asked:
    __slots__ = ("arguments", "done", "entering", "name", "track")

    def __init__(
        self, name: str, track: bytes | None, arguments: tuple[Any, ...], entering: bool, done: asyncio.Future[Answer]
    ) -> None:
        self.name = name
        self.track = track
        self.arguments = arguments
        self.entering = entering
        self.done = done


class RoundTrips:
    """Of one process. `now_us` 0: Redis's own time. `lost` is called where counters turn out to be older than they were."""

    def __init__(self, journal: str, *, lost: Callable[[str], None], now_us: Callable[[], int] = lambda: 0) -> None:
        self._journal = journal
        self._lost = lost
        self._now_us = now_us
        self._server: RedisServer | None = None
        self._script = ""
        self._generation = 0
        self._seen: dict[str, int] = {}
        self._waiting: dict[str, list[_Asked]] = {}
        self._wake = asyncio.Event()
        self.sequences: dict[str, int] = {}
        """Of the money that came in, by organization: all up to this one is applied."""

    async def use(self, server: RedisServer, generation: int) -> None:
        """From now on ask `server`, in this generation; what waits is not asked any more. Raises RedisUnavailable."""
        self.stop()
        self._script = await server.load(SCRIPT)
        self._server = server
        if generation != self._generation:
            self._generation = generation
            self._seen.clear()
            self.sequences.clear()

    def stop(self) -> None:
        """Ask nobody. What is under way ends by itself."""
        self._server = None
        waiting, self._waiting = self._waiting, {}
        for asked in (one for many in waiting.values() for one in many):
            _fail(asked, LimiterUnavailable("Redis is away"))

    def ask(
        self, organization: str, name: str, *arguments: Any, track: bytes | None = None, entering: bool = False
    ) -> asyncio.Future[Answer]:
        """One operation of the script; operations on one organization are done in the order in which they are asked.

        The future ends with LimiterUnavailable where there is no answer: then it may have been done, or not.
        `entering`: what is there of an older generation gives way.
        """
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        asked = _Asked(name, track, arguments, entering, done)
        if self._server is None:
            _fail(asked, LimiterUnavailable("Redis is away"))
            return done
        self._waiting.setdefault(organization, []).append(asked)
        self._wake.set()
        return done

    async def run(self) -> None:
        """Make the trips, until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._trip(self._next())
        finally:
            self.stop()

    def _next(self) -> list[tuple[str, list[_Asked]]]:
        """What goes with the next trip; the rest of a long queue goes with the one after it."""
        batches: list[tuple[str, list[_Asked]]] = []
        waiting, self._waiting = self._waiting, {}
        for organization, asked in waiting.items():
            batches.append((organization, asked[:OPERATIONS_MAX]))
            if len(asked) > OPERATIONS_MAX:
                self._waiting[organization] = asked[OPERATIONS_MAX:]
                self._wake.set()
        return batches

    async def _trip(self, batches: list[tuple[str, list[_Asked]]]) -> None:
        server, generation = self._server, self._generation
        calls = [(_keys(organization), self._call(organization, asked)) for organization, asked in batches]
        try:
            answers = None if server is None else await server.run(self._script, calls)
        except RedisUnavailable as error:
            _fail_all(batches, str(error))
            if server is self._server:
                self._server = None
                self._lost("")
            return
        except asyncio.CancelledError:
            _fail_all(batches, "the process ends")
            raise
        if answers is None or generation != self._generation:
            _fail_all(batches, "Redis went away")
            return
        for (organization, asked), answer in zip(batches, answers, strict=True):
            self._take(organization, asked, answer)

    def _call(self, organization: str, asked: list[_Asked]) -> list[bytes]:
        tracks: dict[bytes, int] = {}
        operations: list[bytes] = []
        entering = False
        for one in asked:
            index = -1 if one.track is None else tracks.setdefault(one.track, len(tracks))
            entering = entering or one.entering
            operations.append(_encode((one.name, index, *one.arguments)))
        seen = self._seen.get(organization, 0)
        header = (self._generation, seen, self._now_us(), entering, self._journal, len(tracks))
        return [_encode(header), *tracks, *operations]

    def _take(self, organization: str, asked: list[_Asked], answer: bytes | str) -> None:
        if isinstance(answer, str):
            for one in asked:
                _fail(one, ScriptFault(answer))
            return
        said = _decode(answer)
        if len(said) == 1:
            for one in asked:
                _fail(one, LimiterUnavailable(f"the counters of {organization} are {said[0]}"))
            if said[0] != "closed":
                self._lost(f"counters of {organization} are {said[0]}")
            return
        self._seen[organization], now, self.sequences[organization], answers = said
        for one, given in zip(asked, answers, strict=True):
            if not one.done.done():
                one.done.set_result((given, now))


async def answers_of(asked: Sequence[asyncio.Future[Answer]]) -> None:
    """Wait for all; raises the first failure."""
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def _keys(organization: str) -> tuple[str, str, str]:
    """Tagged, so that all of an organization's stand on one node of a cluster."""
    return f"museway:{{{organization}}}", f"museway:{{{organization}}}:holds", f"museway:{{{organization}}}:ended"


def _fail_all(batches: list[tuple[str, list[_Asked]]], why: str) -> None:
    for asked in (one for _, many in batches for one in many):
        _fail(asked, LimiterUnavailable(why))


def _fail(asked: _Asked, error: Exception) -> None:
    if not asked.done.done():
        asked.done.set_exception(error)
