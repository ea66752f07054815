"""Placement is stateless: equal on every gateway, stable over turns, and moves little when a worker goes."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from museway_engine.completion import Completion, Message, Tool
from museway_engine.pool.affinity import affinity_key, rank
from museway_engine.pool.isolation import cache_salt


class _Place(Struct, frozen=True):
    url: str


_PLACES = [_Place(f"http://worker-{n}:30000") for n in range(5)]
_KEYS = [affinity_key(Completion(request_id="r", model="m", messages=(), affinity=str(n)), "salt") for n in range(2000)]


def _conversation(turns: int, *, first: str = "Tell me about cats", system: str = "Be brief") -> Completion:
    messages = [Message(role="system", content=system), Message(role="user", content=first)]
    for turn in range(turns):
        messages += [Message(role="assistant", content=f"answer {turn}"), Message(role="user", content=f"more {turn}")]
    return Completion(request_id=f"req_{turns}", model="m", messages=tuple(messages))


def test_the_key_is_equal_over_the_turns_of_a_conversation() -> None:
    assert len({affinity_key(_conversation(turns), "salt") for turns in range(4)}) == 1


def test_the_key_differs_between_conversations_tenants_tools_and_systems() -> None:
    one = _conversation(0)
    keys = {
        affinity_key(one, "salt"),
        affinity_key(one, "other"),
        affinity_key(_conversation(0, first="Tell me about dogs"), "salt"),
        affinity_key(_conversation(0, system="Be long"), "salt"),
        affinity_key(replace(one, tools=(Tool(name="f"),)), "salt"),
        affinity_key(replace(one, affinity="mine"), "salt"),
    }
    assert len(keys) == 6


def test_the_callers_key_wins_over_the_text() -> None:
    one, other = (replace(_conversation(0, first=text), affinity="mine") for text in ("a", "b"))
    assert affinity_key(one, "salt") == affinity_key(other, "salt")


def test_only_the_first_4_kib_of_a_long_first_message_count() -> None:
    text = "x" * 4096
    one, other = (_conversation(0, first=text + end) for end in ("a", "b"))
    assert affinity_key(one, "salt") == affinity_key(other, "salt")


def test_ranks_do_not_depend_on_the_order_of_workers() -> None:
    for key in _KEYS[:50]:
        assert rank(key, _PLACES) == rank(key, _PLACES[::-1])


def test_a_worker_that_goes_moves_only_its_own_conversations() -> None:
    gone = _PLACES[2]
    left = [place for place in _PLACES if place is not gone]
    for key in _KEYS:
        before = rank(key, _PLACES)
        assert rank(key, left) == [place for place in before if place is not gone]


def test_keys_are_spread_evenly() -> None:
    first = [rank(key, _PLACES)[0].url for key in _KEYS]
    sizes = [first.count(place.url) for place in _PLACES]
    assert min(sizes) > 0.8 * len(_KEYS) / 5
    assert max(sizes) < 1.2 * len(_KEYS) / 5


def test_the_placement_of_a_known_key_never_moves() -> None:
    """A restart, or another gateway, must find the conversation where it was."""
    key = affinity_key(_conversation(0), "salt")
    assert key.hex() == "b090219fdfaaf357429a4a83ea26c904"
    assert [place.url[14] for place in rank(key, _PLACES)] == list("10432")


def test_cache_salts() -> None:
    one = cache_salt(b"secret", "org_1")
    assert one == cache_salt(b"secret", "org_1")
    assert len({one, cache_salt(b"secret", "org_2"), cache_salt(b"other", "org_1")}) == 3
    assert len(one) == 64
    assert "org_1" not in one
