"""The start-up probe: what a profile claims is proved on the worker, or replaced by what works everywhere.

It only tokenizes: nothing is generated, so nothing is to be counted apart (I9). About twenty small exchanges.
"""

from __future__ import annotations

import logging
from typing import Final

from msgspec import Raw
from msgspec.structs import replace

from museway_engine.completion import CalledTool, Completion, Message, Tool
from museway_engine.errors import EngineError
from museway_engine.profiles.facts import Facts, Overhead, ThinkingIds, common_prefix, common_suffix
from museway_engine.profiles.profile import GENERIC, Profile, profiles
from museway_engine.worker.encode import Kwargs
from museway_engine.worker.tokenizer import Tokenizer

log = logging.getLogger("museway.profiles")

_SLACK: Final = 4
"""Tokens added to each measured constant: the edges of texts may be cut otherwise than our samples'."""

_USER: Final = Message(role="user", content="x")
_CALL: Final = Message(role="assistant", tool_calls=(CalledTool("c", "f", "{}"),))
_RESULT: Final = Message(role="tool", content="x", tool_call_id="c")


class Probe:
    """Asks one worker about one profile. Raises WorkerLost."""

    def __init__(self, tokenizer: Tokenizer, model: str, profile: Profile) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._profile = profile
        self._notes: list[str] = []

    async def run(self, context: int) -> Facts:
        overhead = await self._overhead()
        tail = await self._user_tail()
        thinking = await self._thinking_ids()
        if thinking is None:
            self._profile = replace(self._profile, thinking=profiles()[GENERIC].thinking)
            thinking = await self._marked_ids(0, ())
        for note in self._notes:
            log.warning("profile %s: %s", self._profile.name, note)
        return Facts(
            profile=self._profile,
            context=context,
            overhead=overhead,
            thinking=thinking,
            user_tail=tail,
            special=await self._special(tail),
            notes=tuple(self._notes),
        )

    # ------------------------------------------------------------------ constants of the input bound

    async def _overhead(self) -> Overhead:
        one = len(await self._render(_USER))
        pair = await self._more(one, Message(role="assistant", content="x"), _USER)
        alone = [await self._more(one, Message(role=role, content="x")) for role in ("system", "developer")]
        call = await self._more(one, _CALL, _RESULT)
        first, second = await self._tools(one)
        return Overhead(
            base=one + _SLACK,
            message=max(-(-pair // 2), *alone) + _SLACK,
            tools=first + _SLACK,
            tool=second + _SLACK,
            call=call + _SLACK,
        )

    async def _tools(self, one: int) -> tuple[int, int]:
        """How many tokens one tool adds, and a second one; 0 where the template takes none (as in `_more`)."""
        tools = [Tool(name=name, parameters=Raw(b"{}")) for name in ("f", "g")]
        try:
            first = max(0, len(await self._render(_USER, tools=tools[:1])) - one)
            return first, max(0, len(await self._render(_USER, tools=tools)) - one - first)
        except EngineError:
            return 0, 0

    async def _more(self, one: int, *messages: Message) -> int:
        """How many tokens these messages add; 0 where the template refuses them (then the worker refuses them too)."""
        first = messages if messages[0].role in ("system", "developer") else ()
        later = () if first else messages
        try:
            return max(0, len(await self._render(*first, _USER, *later)) - one)
        except EngineError:
            return 0

    # ------------------------------------------------------------------ the places where ids are put in

    async def _user_tail(self) -> tuple[int, ...]:
        one = await self._render(Message(role="user", content="alpha"))
        other = await self._render(Message(role="user", content="Count to 7"))
        size = common_suffix(one, other)
        if size == 0 or size == min(len(one), len(other)):
            self._notes.append("the end of the user's turn was not found: hints go into the assistant's turn")
            return ()
        return tuple(one[-size:])

    async def _thinking_ids(self) -> ThinkingIds | None:
        """None where instant and thinking renderings differ elsewhere than at a constant tail."""
        wanted = {**self._profile.kwargs, **self._profile.thinking.kwargs}
        if wanted == self._profile.kwargs:
            return await self._marked_ids(0, ())
        tails: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        for messages in (
            (_USER,),
            (_USER, Message(role="assistant", content="y"), Message(role="user", content="why?")),
        ):
            instant = await self._render(*messages)
            thinking = await self._render(*messages, kwargs=wanted)
            shared = common_prefix(instant, thinking)
            tails.add((tuple(instant[shared:]), tuple(thinking[shared:])))
        if len(tails) != 1:
            self._notes.append("instant and thinking renderings differ before the tail: markers are used")
            return None
        drop, add = tails.pop()
        return await self._marked_ids(len(drop), add)

    async def _marked_ids(self, drop: int, add: tuple[int, ...]) -> ThinkingIds:
        """`add` is what the template itself puts there; where it opens the block already, our own `open` is left out."""
        rules = self._profile.thinking
        text = self._tokenizer.text
        opened = await self._tokenizer.detokenize(list(add), skip_special=False) if add else ""
        is_open = bool(rules.open.strip()) and opened.strip().endswith(rules.open.strip())
        close = await text(rules.close)
        if not close:
            self._notes.append("the close text has no tokens")
        return ThinkingIds(
            drop=drop,
            open=(*add, *(() if is_open else await text(rules.open))),
            close_id=close[0] if len(close) == 1 else None,
            after_close=tuple(await text(rules.after_close)),
            cut=tuple(await text(rules.cut)),
        )

    async def _special(self, tail: tuple[int, ...]) -> frozenset[int]:
        """Of the ids that frame a prompt those that are no text."""
        whole = await self._render(_USER)
        framing = {*tail, *whole[:3]}
        try:
            shown = {token: await self._tokenizer.detokenize([token], skip_special=True) for token in framing}
        except EngineError:
            self._notes.append("the worker does not detokenize: framing tokens are not known")
            return frozenset()
        return frozenset(token for token, text in shown.items() if not text)

    async def _render(
        self, *messages: Message, tools: list[Tool] | None = None, kwargs: Kwargs | None = None
    ) -> list[int]:
        sample = Completion(request_id="sys_probe", model=self._model, messages=messages, tools=tuple(tools or ()))
        return await self._tokenizer.conversation(sample, self._profile.kwargs if kwargs is None else kwargs)
