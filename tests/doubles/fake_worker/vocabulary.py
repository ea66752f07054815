"""A tokenizer with stable ids that detokenizes exactly: special tokens, the 256 bytes, letter pairs, common words.

As with a real BPE vocabulary, `encode(decode(ids))` need not give `ids` back (a word made of pieces comes back as one
token), so code that continues an answer by text instead of by ids is caught. Any text survives `decode(encode(text))`.
"""

import re
from functools import lru_cache
from itertools import chain

ENDOFTEXT, START, END = 0, 1, 2
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_FIRST_BYTE = len(SPECIALS)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    "a about after again all also always an and answer any are as at back be because before between both but by call "
    "can case check come cost could count day different do does down each early end even every example fact few find "
    "first follow for from get give go good great had has have he help her here high him his hold how I idea if in "
    "into is it its just keep know large last left less let life like line list little live long look made make many "
    "may me mean might model more most move much must my name near need never new next no not note now number of off "
    "often old on once one only open or order other our out over own part people place plan point possible price "
    "problem put question quite rather read real reason result right same say second see seem send set shall short "
    "should show side simple since small so some step still such system take tell than that the their them then there "
    "these they thing think this those three through time to today together token too total try turn two under up us "
    "use user value very walk want was way we week well went were what when where which while who why will with word "
    "work world would year yes you young your assistant system tool function name arguments role content true false "
    "null FINAL Let Final reasoning"
).split()
_PIECE = re.compile(r" ?[A-Za-z]+|\s|[0-9]|[^\sA-Za-z0-9]")
_SPECIAL = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")
_LONGEST = 12


def _vocabulary() -> tuple[bytes, ...]:
    pairs = (a + b for a in _LETTERS for b in _LETTERS)
    spaced = (" " + word for word in WORDS)
    letters = (" " + letter for letter in _LETTERS + _LETTERS.upper())
    pieces = dict.fromkeys(chain(WORDS, spaced, letters, pairs))
    return (
        *(s.encode() for s in SPECIALS),
        *(bytes([b]) for b in range(256)),
        *(p.encode() for p in pieces if len(p) > 1),
    )


BYTES_OF = _vocabulary()
SIZE = len(BYTES_OF)
_ID_OF = {piece.decode(): i for i, piece in enumerate(BYTES_OF) if i >= _FIRST_BYTE + 256}
SPACED_WORD_IDS = tuple(_ID_OF[" " + word] for word in WORDS)


@lru_cache(maxsize=65536)
def _ids_of_piece(piece: str) -> tuple[int, ...]:
    whole = _ID_OF.get(piece)
    if whole is not None:
        return (whole,)
    ids: list[int] = []
    at = 0
    while at < len(piece):
        for size in range(min(_LONGEST, len(piece) - at), 1, -1):
            found = _ID_OF.get(piece[at : at + size])
            if found is not None:
                ids.append(found)
                at += size
                break
        else:
            ids.extend(_FIRST_BYTE + byte for byte in piece[at].encode())
            at += 1
    return tuple(ids)


def encode(text: str) -> list[int]:
    """Ids of a text; the spelling of a special token becomes that token, as in the tokenizers of real chat models."""
    ids: list[int] = []
    for part in _SPECIAL.split(text):
        if part in SPECIALS:
            ids.append(SPECIALS.index(part))
        else:
            ids.extend(chain.from_iterable(map(_ids_of_piece, _PIECE.findall(part))))
    return ids


def piece(token: int, *, skip_special: bool = True) -> bytes:
    """Bytes of one token, possibly a part of a character. Raises IndexError beyond the vocabulary."""
    if token < 0:
        raise IndexError(token)
    return b"" if skip_special and token < _FIRST_BYTE else BYTES_OF[token]


def decode(ids: list[int], *, skip_special: bool = True) -> str:
    """Text of ids; a character cut at either end becomes U+FFFD."""
    return b"".join(piece(i, skip_special=skip_special) for i in ids).decode(errors="replace")
