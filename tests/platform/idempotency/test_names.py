"""What is kept of a key."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from museway_platform.idempotency.names import InvalidKey, Name, Namer

OLD, NEW = b"o" * 32, b"n" * 32


def name(namer: Namer, *, project: str = "prj_a", route: str = "/r", key: bytes = b"k", body: object = "x") -> Name:
    return namer.names(project=project, route=route, key=key, body=body)[0]


def test_a_scope_and_a_key_make_a_name() -> None:
    namer = Namer([NEW])
    assert name(namer) == name(namer)
    others = [
        name(namer, project="prj_b"),
        name(namer, route="/s"),
        name(namer, key=b"l"),
        name(namer, route="/r\0k", key=b"k"),
        name(Namer([OLD])),
    ]
    assert len({name(namer).hash, *(other.hash for other in others)}) == 6


def test_a_body_is_known_by_what_it_says() -> None:
    namer = Namer([NEW])
    assert name(namer, body={"a": 1, "b": 2}) == name(namer, body={"b": 2, "a": 1})
    assert name(namer, body={"a": 1}).fingerprint != name(namer, body={"a": 2}).fingerprint
    assert name(namer, body={"a": 1}).fingerprint != name(Namer([OLD]), body={"a": 1}).fingerprint


def test_it_does_not_show_what_it_is_made_of() -> None:
    made = name(Namer([NEW]), key=b"raw-key")
    assert "raw-key" not in f"{made!r} {made}"
    assert repr(made) == f"Name({made.hash.hex()})"


def test_older_secrets_come_after_the_newest() -> None:
    both = Namer([NEW, OLD]).names(project="prj_a", route="/r", key=b"k", body="x")
    assert both == [name(Namer([NEW])), name(Namer([OLD]))]


def test_the_cipher_needs_the_secret_and_the_key() -> None:
    sealed = name(Namer([NEW])).cipher().encrypt(bytes(12), b"text", None)
    assert name(Namer([NEW])).cipher().decrypt(bytes(12), sealed, None) == b"text"
    for other in (name(Namer([OLD])), name(Namer([NEW]), key=b"l"), name(Namer([NEW]), project="prj_b")):
        with pytest.raises(InvalidTag):
            other.cipher().decrypt(bytes(12), sealed, None)


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", b"a\n", b"\x7f", "ü".encode()])
def test_no_key(key: bytes) -> None:
    with pytest.raises(InvalidKey):
        name(Namer([NEW]), key=key)
