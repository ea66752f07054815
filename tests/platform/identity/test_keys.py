"""Secret keys: a form that tells junk apart without a store."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_platform.identity import keys
from museway_platform.identity.keys import Kind

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def number(text: str) -> int:
    value = 0
    for character in text:
        value = value * 62 + BASE62.index(character)
    return value


@pytest.mark.parametrize("kind", ["live", "test"])
def test_form(kind: Kind) -> None:
    secret = keys.mint(kind)
    assert secret.startswith(f"mw_{kind}_")
    assert len(secret) == keys.LENGTH == 41
    assert number(secret[8:35]) < 2**160
    assert number(secret[35:]) == zlib.crc32(secret[:35].encode())
    assert keys.well_formed(secret)


def test_no_two_alike() -> None:
    assert len({keys.mint("live") for _ in range(1000)}) == 1000


@given(position=st.integers(0, keys.LENGTH - 1), character=st.characters())
def test_any_character_changed_is_noticed(position: int, character: str) -> None:
    secret = "mw_test_0TBbSF7Gfh9DJfOK4FuDgmhOmSl1dw9Nd"
    changed = secret[:position] + character + secret[position + 1 :]
    assert keys.well_formed(changed) == (changed == secret)


@given(st.text())
def test_any_text_is_judged_and_digested(text: str) -> None:
    assert not keys.well_formed(text)
    assert len(keys.digest(text)) == 32


def test_digest_is_sha256_of_the_whole_secret() -> None:
    secret = keys.mint("test")
    assert keys.digest(secret) == hashlib.sha256(secret.encode()).digest()


def test_hint_gives_little_away() -> None:
    secret = keys.mint("live")
    assert keys.hint(secret) == f"mw_live_…{secret[-4:]}"
