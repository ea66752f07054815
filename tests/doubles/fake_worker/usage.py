"""Usage objects and token log probabilities, as SGLang 0.5.23 spells them."""

import hashlib

from doubles.fake_worker.book import Entry
from doubles.fake_worker.generation import Made
from doubles.fake_worker.options import CacheDetails
from doubles.fake_worker.script import Behaviour
from doubles.fake_worker.shapes import JsonObject
from doubles.fake_worker.vocabulary import BYTES_OF


def usage(entry: Entry, completion: int, reasoning: int, details: CacheDetails) -> JsonObject:
    """The chat routes' object; `reasoning_tokens` stands at the top level always."""
    shows_cached = details == "always" or (details == "positive" and entry.cached > 0)
    return {
        "prompt_tokens": entry.prompt,
        "total_tokens": entry.prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": entry.cached} if shows_cached else None,
        "reasoning_tokens": reasoning,
        "completion_tokens_details": {"reasoning_tokens": reasoning} if reasoning else None,
    }


def logprob_of(made: Made, behaviour: Behaviour) -> float:
    """Scripted, or a number between -3 and 0 that the token fixes."""
    if behaviour.logprob is not None:
        return behaviour.logprob
    return -hashlib.blake2b(made.token.to_bytes(4), digest_size=1).digest()[0] / 85.0


def chat_logprobs(made: list[Made], top: int, behaviour: Behaviour) -> JsonObject:
    """The `logprobs` of a choice or a chunk."""
    content: list[JsonObject] = []
    for one in made:
        raw = BYTES_OF[one.token]
        token: JsonObject = {
            "token": raw.decode(errors="replace"),
            "bytes": list(raw),
            "logprob": logprob_of(one, behaviour),
        }
        others = ({**token, "logprob": token["logprob"] - rank} for rank in range(1, top))
        content.append({**token, "top_logprobs": [dict(token), *others] if top else []})
    return {"content": content}
