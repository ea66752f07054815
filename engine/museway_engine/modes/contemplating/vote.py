"""When agents agree: short answers made comparable, and how sure the lead of one over another is. Pure; never `eval`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Hashable
from fractions import Fraction
from math import comb
from typing import Final, NamedTuple

import msgspec

_FINAL: Final = re.compile(r"(?:^[\s>*_#`-]*(?i:FINAL)|\bFINAL)[*_` ]*:(.*)$", re.MULTILINE)
_HASHES: Final = re.compile(r"^\s*####\s*(.+)$", re.MULTILINE)
_BOXED: Final = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_MARKUP: Final = re.compile(r"[*_`$]|\\[()\[\]]|\\(?:text|mathrm)\b|[{}](?=\s|$)")
_NUMBER: Final = re.compile(
    r"""^(?P<sign>[-+−]?)\s*(?P<currency>[$€£¥])?\s*
    (?P<digits>\d{1,3}(?:[,\u202f\u00a0 ]\d{3})+(?:\.\d+)?|\d*\.?\d+|\d+\.)
    (?:\s*(?:[eE]|[x×*·]\s*10\s*\^?)\s*(?P<power>[-+−]?\d{1,3}))?
    (?:\s*/\s*(?P<over>\d+(?:\.\d+)?))?
    \s*(?P<unit>%|[^\d\s][^\d]{0,40})?$""",
    re.VERBOSE,
)
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_MEASURES: Final = {
    unit: name
    for name, spellings in {
        "%": "% percent",
        "usd": "$ usd dollar dollars",
        "eur": "€ eur euro euros",
        "gbp": "£ gbp pound pounds",
        "yen": "¥ yen jpy",
        "km": "km kilometer kilometers kilometre kilometres",
        "m": "m meter meters metre metres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "mm": "mm millimeter millimeters",
        "mi": "mi mile miles",
        "kg": "kg kilogram kilograms",
        "g": "g gram grams",
        "l": "l liter liters litre litres",
        "h": "h hr hrs hour hours",
        "min": "min mins minute minutes",
        "s": "s sec secs second seconds",
        "day": "day days",
    }.items()
    for unit in spellings.split()
}
_NOTHING: Final = {"", "n/a", "na", "none", "unknown", "?", "no short answer"}
_NAMED: Final = re.compile(r"^[A-Za-z]\w{0,11}\s*=\s*(?=\S)")
_QUOTES: Final = "\"'“”‘’"
_WORDS_MAX: Final = 6
_CHARACTERS_MAX: Final = 512
_CLOSE: Final = Fraction(1, 1_000_000)


class Number(NamedTuple):
    """A number as a key: equal within a millionth; a unit of measure counts, a thing that was counted does not."""

    value: Fraction
    unit: str


Key = Hashable


def short_answer(text: str) -> str | None:
    """What a draft gives as its short answer: after the last FINAL:, in the last box, after the last ####."""
    for pattern in (_FINAL, _BOXED, _HASHES):
        found: list[str] = pattern.findall(text)
        if found:
            return found[-1].strip()
    return None


def canon(text: str) -> Key | None:
    """The comparable form of a draft's short answer; None where there is none, or none that can be compared."""
    answer = short_answer(text)
    return None if answer is None else canon_answer(answer)


def canon_answer(answer: str) -> Key | None:
    """The comparable form of a short answer alone; None for one beyond 512 characters: it is not short."""
    raw = answer.strip()
    if len(raw) > _CHARACTERS_MAX:
        return None
    if boxed := _BOXED.search(raw):
        raw = boxed[1]
    if len(raw) > 2 and raw[0] == raw[-1] == "$":
        raw = raw[1:-1]
    if raw[:1] in ("{", "["):
        document = _json(raw)
        if document is not None:
            return document
    cleaned = unicodedata.normalize("NFKC", raw.translate(_SUPERSCRIPTS))
    cleaned = _MARKUP.sub("", cleaned) if not cleaned.startswith("$") else "$" + _MARKUP.sub("", cleaned[1:])
    plain = _NAMED.sub("", cleaned.strip()).lstrip(_QUOTES).rstrip(_QUOTES + " .,;:!?")
    if plain.casefold() in _NOTHING:
        return None
    number = _number(plain)
    if number is not None:
        return number
    letter = re.fullmatch(r"\(?([A-Ja-j])[).:]?", plain)
    if letter:
        return letter[1].upper()
    words = plain.casefold().split()
    if words and words[0].rstrip(",") in ("yes", "no") and len(words) <= 2 * _WORDS_MAX:
        return words[0].rstrip(",")
    return " ".join(words) if words and len(words) <= _WORDS_MAX else None


def _json(raw: str) -> Key | None:
    try:
        document = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return None
    return "json:" + json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _number(text: str) -> Number | None:
    found = _NUMBER.match(text.replace("−", "-"))
    if found is None:
        return None
    value = Fraction(re.sub(r"[,\s]", "", found["digits"]).rstrip(".") or "0")
    if found["power"]:
        value *= Fraction(10) ** int(found["power"])
    if found["over"]:
        below = Fraction(found["over"])
        if below == 0:
            return None
        value /= below
    unit = (found["currency"] or found["unit"] or "").strip().casefold().rstrip(".")
    first = unit.split()[0] if unit else ""
    if found["unit"] and len(unit.split()) > 3:
        return None  # a sentence that happens to start with a number
    return Number(-value if found["sign"] == "-" else value, _MEASURES.get(first, ""))


def are_equal(one: Key, other: Key) -> bool:
    """Numbers within a millionth of the larger, all else exactly."""
    if isinstance(one, Number) and isinstance(other, Number):
        larger = max(abs(one.value), abs(other.value))
        return one.unit == other.unit and abs(one.value - other.value) <= _CLOSE * larger
    return one == other


def lead(first: int, second: int) -> float:
    """How probable it is that the answer with `first` votes is really ahead of the one with `second` (Beta posterior)."""
    n = first + second + 1
    return sum(comb(n, k) for k in range(first + 1)) / (1 << n)


class Ballot:
    """Votes by agent. The first form of an answer stands for all that are equal to it."""

    def __init__(self) -> None:
        self._groups: list[tuple[Key, list[int]]] = []

    def add(self, agent: int, key: Key | None) -> None:
        """None does not vote."""
        if key is None:
            return
        for known, agents in self._groups:
            if are_equal(known, key):
                agents.append(agent)
                break
        else:
            self._groups.append((key, [agent]))
        self._groups.sort(key=lambda group: -len(group[1]))

    @property
    def top(self) -> Key | None:
        return self._groups[0][0] if self._groups else None

    @property
    def winners(self) -> list[int]:
        """The agents that gave the leading answer, the first to do so first."""
        return self._groups[0][1] if self._groups else []

    @property
    def votes(self) -> tuple[int, int]:
        """Of the two leading answers."""
        sizes = [len(agents) for _, agents in self._groups] + [0, 0]
        return sizes[0], sizes[1]

    def is_decided(self, left: int, sure: float) -> bool:
        """The lead is sure enough, or the agents that are left can't overturn it."""
        first, second = self.votes
        return lead(first, second) >= sure or 0 < left < first - second

    def has_majority(self, voters: int) -> bool:
        return 2 * self.votes[0] > voters
