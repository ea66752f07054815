"""Keys shared by several gateway processes, through Redis: who runs one now, and what was answered under it a while ago.

A claim is one atomic step there and lapses with its process: it is renewed while the run goes on. Finished answers are
sealed as on the disk, so Redis can't read them; they stay for an hour, the process that made one keeps it for a day.

A run can only be attached to in its own process. Elsewhere it is `RunningElsewhere`: try again, there or later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from importlib.resources import files
from typing import Final

from museway_platform.database.redis import RedisServer, RedisUnavailable
from museway_platform.idempotency.frame import HEADER_BYTES, Header, Kind, mark, seal, unseal
from museway_platform.idempotency.kept import Answer, AnswerNotKept, OtherBody
from museway_platform.idempotency.names import Name

log = logging.getLogger("museway.idempotency")

LEASE_S: Final = 15.0
"""How long a key stays claimed after its process died."""
TTL_S: Final = 3600.0
ANSWER_BYTES_MAX: Final = 1 << 20
"""Sealed. What is larger is not put there, only that it was answered."""
_OWNER_BYTES: Final = 16
_SCRIPT: Final = files("museway_platform.idempotency").joinpath("share.lua").read_text()


class RunningElsewhere(Exception):
    """Another process answers this request now."""


class AnsweredElsewhere(Exception):
    """Another process has answered it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.request_id)
        self.answer = answer


class Share:
    """One process's part in it. Everything raises RedisUnavailable where it says nothing else."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._owner = os.urandom(_OWNER_BYTES)
        self._server: RedisServer | None = None
        self._script = ""
        self._connecting = asyncio.Lock()
        self._claimed: set[Name] = set()

    async def look(self, name: Name) -> Answer | None:
        """What another process answered; None where the key is free. Raises RunningElsewhere, OtherBody, AnswerNotKept."""
        return self._understood(name, await self._call("look", name))

    async def claim(self, name: Name) -> None:
        """Take the key. Raises AnsweredElsewhere, RunningElsewhere, OtherBody, AnswerNotKept."""
        answer = self._understood(name, await self._call("claim", name, LEASE_S))
        if answer is not None:
            raise AnsweredElsewhere(answer)
        self._claimed.add(name)

    async def done(self, name: Name, request_id: str, entries: list[bytes]) -> None:
        """Put the answer where the claim was. Logs where it can't: this process has it on its disk."""
        now = int(time.time())
        frame = await asyncio.to_thread(seal, name, request_id, entries, now)
        if len(frame) > ANSWER_BYTES_MAX:
            frame = mark(Kind.NOT_KEPT, name.hash, name.fingerprint, request_id, now)
        self._claimed.discard(name)
        await self._try("done", name, TTL_S, b"D" + frame)

    async def free(self, name: Name) -> None:
        """Let go of a claim; nothing where it is answered by now."""
        if name in self._claimed:
            self._claimed.discard(name)
            await self._try("free", name)

    async def run(self) -> None:
        """Renew the claims of what runs, until cancelled."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            for name in list(self._claimed):
                if name in self._claimed:
                    await self._try("renew", name, LEASE_S)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()

    def _understood(self, name: Name, value: bytes) -> Answer | None:
        """What stands under the key: nothing, a claim with the fingerprint of its body, or a frame."""
        if not value:
            return None
        if value[:1] == b"R":
            if value[1 + _OWNER_BYTES :] != name.fingerprint:
                raise OtherBody
            raise RunningElsewhere
        frame = value[1:]
        header = Header.decode(frame[:HEADER_BYTES])
        if header is None:
            raise AnswerNotKept
        if header.fingerprint != name.fingerprint:
            raise OtherBody
        entries = unseal(name, frame) if header.kind is Kind.ANSWER else None
        if entries is None:
            raise AnswerNotKept
        return Answer(header.request_id, entries)

    async def _try(self, verb: str, name: Name, seconds: float = 0.0, value: bytes = b"") -> None:
        try:
            await self._call(verb, name, seconds, value)
        except RedisUnavailable as error:
            log.warning("the processes beside this one were not told of a key (%s): %s", verb, error)

    async def _call(self, verb: str, name: Name, seconds: float = 0.0, value: bytes = b"") -> bytes:
        server = await self._connected()
        claim = b"R" + self._owner + name.fingerprint
        arguments = [verb.encode(), claim, b"%d" % int(seconds * 1000), value]
        (answer,) = await server.run(self._script, [([f"museway:key:{name.hash.hex()}"], arguments)])
        if isinstance(answer, str):
            raise RedisUnavailable(answer)
        return answer

    async def _connected(self) -> RedisServer:
        async with self._connecting:
            if self._server is None or self._server.is_broken:
                server = await RedisServer.connect(self._url)
                self._script = await server.load(_SCRIPT)
                self._server = server
            return self._server
