"""Whatever the bytes are, decoding ends in a call, a `BadRequest` or an `UnknownModel`."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from museway_engine.completion import Mode
from museway_platform.wire.chat.decode import ChatCall, decode_chat
from museway_platform.wire.chat.shapes import ChatRequest
from museway_platform.wire.refusals import BadRequest, UnknownModel

NAMES: dict[str, tuple[str, Mode | None]] = {"muse": ("muse", None), "muse-auto": ("muse", Mode.AUTO)}
FIELDS = ChatRequest.__struct_fields__
BODY: dict[str, Any] = {
    "model": "muse",
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "é \U0001f600 \u2028"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [1, {"b": None}]}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$defs": {}}}},
    "logit_bias": {"1": 1.5},
    "stream": True,
    "stream_options": {"include_usage": True},
    "seed": 7,
}


def outcome(body: bytes) -> ChatCall | BadRequest | UnknownModel:
    try:
        return decode_chat(body, request_id="req_1", names=NAMES)
    except (BadRequest, UnknownModel) as refusal:
        return refusal


def test_the_body_to_be_changed_is_valid() -> None:
    assert isinstance(outcome(json.dumps(BODY).encode()), ChatCall)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    assert not isinstance(outcome(body), ChatCall)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3))
def test_any_json_in_any_field(fields: dict[str, Any]) -> None:
    outcome(json.dumps({**BODY, **fields}).encode())


@settings(max_examples=200)
@given(st.text(max_size=20).filter(lambda name: name not in FIELDS))
def test_no_unknown_field_passes(name: str) -> None:
    refusal = outcome(json.dumps({"model": "muse", "messages": [{"role": "user", "content": "x"}], name: 1}).encode())
    assert isinstance(refusal, BadRequest)
    assert refusal.code in ("unknown_parameter", "unsupported_parameter")
    assert refusal.param == name[:80]


@settings(max_examples=200)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_text_arrives_as_it_was_sent(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    call = outcome(json.dumps({"model": "muse", "messages": messages}).encode())
    assert isinstance(call, ChatCall)
    assert [message.content for message in call.completion.messages] == texts


@pytest.mark.parametrize("seed", range(4))
def test_mutated_bodies(seed: int) -> None:
    """Bytes of a valid body flipped, cut, doubled and shuffled: the seed replays a failure."""
    source = json.dumps(BODY, ensure_ascii=False).encode()
    dice = random.Random(seed)
    for _ in range(1500):
        outcome(_mutate(source, dice))


def _mutate(source: bytes, dice: random.Random) -> bytes:
    body = bytearray(source)
    for _ in range(dice.randint(1, 4)):
        at, to = sorted((dice.randrange(len(body) + 1), dice.randrange(len(body) + 1)))
        match dice.randrange(5):
            case 0:
                body[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                del body[at:to]
            case 2:
                body[at:at] = body[at:to]
            case 3:
                body[at:at] = dice.choice([b"null", b'"', b"{", b"[", b"\\u", b"1e99", b",", b"-", b"\x00", b"true"])
            case _:
                del body[at:]
    return bytes(body)
