"""What the model would say: the tokens of one answer, fixed before the first of them is made."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from enum import Enum

from msgspec import Struct, field

from doubles.fake_worker.script import Behaviour, Call
from doubles.fake_worker.shapes import JsonObject
from doubles.fake_worker.vocabulary import END, SPACED_WORD_IDS, encode, piece

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
_LENGTH_LONGEST = 120
_ODD = tuple(tuple(encode(text)) for text in (".\n", ",", " é", " 🙂", " 42", " – "))


class Lane(Enum):
    """Where the text of a token goes."""

    REASONING = "reasoning"
    CONTENT = "content"
    CLOSE = "close"
    """The close tag: counted as reasoning, shown nowhere."""
    CALL = "call"
    """Part of a tool call: shown by the deltas that stand beside it."""
    END = "end"


class Speech(Struct):
    """Tokens with their lanes, and the tool-call deltas that appear once so many tokens are made."""

    steps: list[tuple[int, Lane]] = field(default_factory=list[tuple[int, Lane]])
    deltas: dict[int, list[JsonObject]] = field(default_factory=dict[int, list[JsonObject]])

    @property
    def has_calls(self) -> bool:
        return bool(self.deltas)

    def say(self, ids: Sequence[int], lane: Lane) -> None:
        self.steps.extend((token, lane) for token in ids)


class Wish(Struct, kw_only=True):
    """What the request asks of the text."""

    limit: int
    seed: int | None = None
    choice: int = 0
    ignore_eos: bool = False
    thinking: bool = False
    """The prompt ends inside an open think block."""
    budget: int | None = None
    """Tokens after which the worker itself closes the block."""
    counts_reasoning: bool = True
    """A parser tells reasoning from content."""
    json_text: str | None = None
    calls: tuple[Call, ...] = ()


def compose(prompt: Sequence[int], wish: Wish, behaviour: Behaviour, agent: int) -> Speech:
    """The same prompt, seed and choice give the same speech. Long enough for `limit` tokens, or ended by the end token."""
    digest = hashlib.sha256(repr((wish.seed, wish.choice)).encode() + b"".join(i.to_bytes(4) for i in prompt)).digest()
    words = _words(random.Random(digest))
    drawn = random.Random(digest[::-1])
    speech = Speech()
    if wish.thinking or behaviour.reasoning is not None:
        _think(speech, wish, behaviour, words, drawn)
    calls = tuple(behaviour.calls or ()) or (wish.calls if behaviour.text is None else ())
    text = _text(wish, behaviour, agent)
    if calls:
        for index, call in enumerate(calls):
            _call(speech, call, index, f"call_{digest.hex()[index : index + 24]}")
    elif text is not None:
        speech.say(encode(text), Lane.CONTENT)
    else:
        length = behaviour.tokens if behaviour.tokens is not None else drawn.randint(4, _LENGTH_LONGEST)
        speech.say([next(words) for _ in range(length)], Lane.CONTENT)
    if wish.ignore_eos:
        missing = wish.limit + behaviour.overrun - len(speech.steps)
        speech.say([next(words) for _ in range(missing)], Lane.CONTENT)
    elif behaviour.end_token:
        speech.say([END], Lane.END)
    return speech


def _text(wish: Wish, behaviour: Behaviour, agent: int) -> str | None:
    if behaviour.texts:
        return behaviour.texts[agent % len(behaviour.texts)]
    return behaviour.text if behaviour.text is not None else wish.json_text


def _words(rng: random.Random) -> Iterator[int]:
    """Endless plausible tokens; now and then a character that takes several tokens."""
    while True:
        yield rng.choice(SPACED_WORD_IDS)
        if rng.random() < 0.04:
            yield from rng.choice(_ODD)


def _think(speech: Speech, wish: Wish, behaviour: Behaviour, words: Iterator[int], drawn: random.Random) -> None:
    if behaviour.reasoning is not None:
        thought = encode(behaviour.reasoning)
    else:
        thought = [next(words) for _ in range(drawn.randint(4, _LENGTH_LONGEST))]
    if wish.budget is not None:
        thought = thought[: max(0, wish.budget)]
    speech.say(thought, Lane.REASONING if wish.counts_reasoning else Lane.CONTENT)
    speech.say(encode(CLOSE_TAG), Lane.CLOSE if wish.counts_reasoning else Lane.CONTENT)
    speech.say(encode("\n\n"), Lane.CONTENT)


def _call(speech: Speech, call: Call, index: int, call_id: str) -> None:
    head = encode(f'<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": ')
    speech.say(head, Lane.CALL)
    speech.deltas[len(speech.steps)] = [_delta(index, call_id, call.name, "")]
    arguments = encode(call.arguments)
    shown = b""
    for at, token in enumerate(arguments, 1):
        speech.say([token], Lane.CALL)
        shown += piece(token)
        text = shown.decode(errors="ignore") if at < len(arguments) else shown.decode(errors="replace")
        if len(text.encode()) == len(shown) or at == len(arguments):
            speech.deltas.setdefault(len(speech.steps), []).append(_delta(index, None, None, text))
            shown = b""
    speech.say(encode("}\n</tool_call>"), Lane.CALL)


def _delta(index: int, call_id: str | None, name: str | None, arguments: str) -> JsonObject:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "index": index, "type": "function", "function": function}
