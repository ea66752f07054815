"""What stands on a worker's wire, as far as we read or write it (DESIGN §11; facts of SGLang 0.5.23).

Answers are read leniently: unknown fields are skipped, and what a double may leave out has a default. -1 is "not said":
unknown is not zero.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct, field

NULL: Final = Raw(b"null")


class CachedTokens(Struct, gc=False):
    cached_tokens: int | None = None


class ReasoningTokens(Struct, gc=False):
    reasoning_tokens: int | None = None


class Usage(Struct, gc=False):
    """`completion_tokens` includes `reasoning_tokens`; the latter stands on top, or only in the details."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: ReasoningTokens | None = None

    @property
    def cached(self) -> int:
        """0 where the worker runs without its cache report: then nothing is known to be cached."""
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0

    @property
    def reasoning(self) -> int:
        if self.reasoning_tokens is not None:
            return self.reasoning_tokens
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0


class FunctionDelta(Struct, gc=False):
    name: str | None = None
    arguments: Raw = NULL


class ToolDelta(Struct, gc=False):
    """Of a stream; in a whole answer `index` is missing and the place in the list counts."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(Struct, gc=False):
    """Texts stay JSON literals: they are spliced into the client's stream without decoding."""

    content: Raw = NULL
    reasoning_content: Raw = NULL
    tool_calls: list[ToolDelta] | None = None


class ChunkChoice(Struct, gc=False):
    delta: Delta = field(default_factory=Delta)
    index: int = 0
    finish_reason: str | None = None
    logprobs: Raw = NULL


class Chunk(Struct, gc=False):
    """One event of a chat stream."""

    choices: list[ChunkChoice] = []
    usage: Usage | None = None
    error: Raw = NULL


class AnswerChoice(Struct, gc=False):
    message: Delta = field(default_factory=Delta)
    index: int = 0
    finish_reason: str | None = None
    logprobs: Raw = NULL


class Answer(Struct, gc=False):
    """A whole chat answer."""

    choices: list[AnswerChoice] = []
    usage: Usage | None = None
    error: Raw = NULL


class GenerateFinish(Struct, gc=False):
    type: str
    matched: int | str | None = None
    status_code: int | None = None
    message: str | None = None


class Meta(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: GenerateFinish | None = None


class Generated(Struct, gc=False):
    """One event of `/generate`: cumulative, or a delta with `--incremental-streaming-output`."""

    text: str = ""
    output_ids: list[int] = []
    meta_info: Meta | None = None
    error: Raw = NULL


class ErrorBody(Struct, gc=False):
    """An error in any of the three shapes SGLang uses; `code` is the status it would have had."""

    message: str | None = None
    code: int | str | None = None
    error: Raw = NULL


class Tokens(Struct, gc=False):
    tokens: list[int]
    max_model_len: int | None = None


class Served(Struct, gc=False):
    id: str
    max_model_len: int | None = None


class ServedModels(Struct, gc=False):
    data: list[Served] = []


class WorkerLoad(Struct, gc=False):
    num_running_reqs: int = 0
    num_waiting_reqs: int = 0
    num_waiting_uncached_tokens: int = 0
    token_usage: float = 0.0
    max_running_requests: int | None = None
    max_total_num_tokens: int | None = None


class WorkerLoads(Struct, gc=False):
    loads: list[WorkerLoad] = []


class ModelFacts(Struct, gc=False):
    """`/model_info`."""

    model_path: str = ""
    served_model_name: str = ""
    model_type: str | None = None


class ServerFacts(Struct, gc=False):
    """`/server_info`: all settings of the worker; these are what we act on."""

    device: str | None = None
    max_running_requests: int | None = None
    enable_priority_scheduling: bool = False
    context_length: int | None = None


chunk_decoder: Final = msgspec.json.Decoder(Chunk)
answer_decoder: Final = msgspec.json.Decoder(Answer)
generated_decoder: Final = msgspec.json.Decoder(Generated)
error_decoder: Final = msgspec.json.Decoder(ErrorBody)
