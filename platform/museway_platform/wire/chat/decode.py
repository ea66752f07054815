"""The body of a chat request → one `Completion` and what the encoder must know. Pure, and refuses only by `BadRequest`
and `UnknownModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from museway_engine.completion import Completion, Contemplating, Effort, Mode, Sampling
from museway_platform.wire.chat.messages import to_messages
from museway_platform.wire.chat.shapes import ChatRequest, ContemplatingOptions
from museway_platform.wire.chat.tools import to_response_format, to_tool_choice, to_tools
from museway_platform.wire.chat.unsupported import UNSUPPORTED
from museway_platform.wire.parse import Parser
from museway_platform.wire.refusals import BadRequest, UnknownModel

Names = Mapping[str, tuple[str, Mode | None]]
"""Every model id that a caller may use → the served name, and the mode of an alias."""

MIN_TOP_P: Final = 1e-6
"""OpenAI takes `top_p: 0` for "the likeliest token only"; SGLang wants more than 0."""

MAX_METADATA_KEY: Final = 64

_parser = Parser(ChatRequest, UNSUPPORTED)
_NO_SAMPLING = Sampling()
_NO_CONTEMPLATING = Contemplating()


class ChatCall(Struct, frozen=True, kw_only=True):
    """A decoded chat request. `model_as_asked` is echoed in the answer; `progress` asks for progress chunks."""

    completion: Completion
    model_as_asked: str
    include_usage: bool = False
    progress: bool = False
    max_cost_nano_usd: int | None = None


def decode_chat(body: bytes, *, request_id: str, names: Names) -> ChatCall:
    """Raises BadRequest and UnknownModel, whatever the body is."""
    request = _parser.parse(body)
    served, mode, effort = _model_and_mode(request, names)
    include_usage = _stream_options(request)
    _accepted_without_effect(request)
    completion = Completion(
        request_id=request_id,
        model=served,
        messages=to_messages(request.messages),
        stream=bool(request.stream),
        tools=to_tools(request.tools),
        tool_choice=to_tool_choice(request),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        response_format=to_response_format(request),
        sampling=_sampling(request),
        n=request.n or 1,
        max_tokens=_max_tokens(request),
        mode=mode,
        effort=effort,
        contemplating=_contemplating(request.contemplating),
        deadline_ms=request.deadline_ms,
        affinity=request.prompt_cache_key or None,
    )
    return ChatCall(
        completion=completion,
        model_as_asked=request.model,
        include_usage=include_usage,
        progress=bool(request.museway_progress),
        max_cost_nano_usd=request.max_cost_nano_usd,
    )


def _model_and_mode(request: ChatRequest, names: Names) -> tuple[str, Mode | None, Effort | None]:
    """DESIGN §5: `mode` > alias > effort; only `mode` against an alias is a conflict."""
    known = names.get(request.model)
    if known is None:
        raise UnknownModel(request.model)
    served, alias_mode = known
    mode = request.mode or alias_mode
    if request.mode is not None and alias_mode is not None and request.mode is not alias_mode:
        raise BadRequest(
            f"mode {request.mode.value!r} contradicts model {request.model!r}, which is mode {alias_mode.value!r}: "
            f"leave one of them out, or use model {served!r}.",
            param="mode",
            code="mode_conflict",
        )
    if mode is None and request.reasoning_effort is Effort.NONE:
        mode = Mode.INSTANT
    return served, mode, request.reasoning_effort


def _stream_options(request: ChatRequest) -> bool:
    options = request.stream_options
    if options is None:
        return False
    if not request.stream:
        raise BadRequest("'stream_options' is only allowed where 'stream' is true.", param="stream_options")
    if options.include_obfuscation:
        raise BadRequest(
            "Unsupported parameter: 'stream_options.include_obfuscation'. Chunks are not padded here.",
            param="stream_options.include_obfuscation",
            code="unsupported_parameter",
        )
    return bool(options.include_usage)


def _accepted_without_effect(request: ChatRequest) -> None:
    """What has no effect must still not promise one."""
    if request.store:
        raise BadRequest(
            "Unsupported value: 'store' may only be false; answers are not kept.",
            param="store",
            code="unsupported_parameter",
        )
    for key in request.metadata or ():
        if len(key) > MAX_METADATA_KEY:
            raise BadRequest(f"A key of 'metadata' is longer than {MAX_METADATA_KEY} characters.", param="metadata")


def _max_tokens(request: ChatRequest) -> int | None:
    older, newer = request.max_tokens, request.max_completion_tokens
    if older is not None and newer is not None and older != newer:
        raise BadRequest(
            f"'max_tokens' ({older}) and 'max_completion_tokens' ({newer}) differ: give one of them.",
            param="max_tokens",
        )
    return older if newer is None else newer


def _sampling(request: ChatRequest) -> Sampling:
    if request.top_logprobs is not None and not request.logprobs:
        raise BadRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    if not _samples(request):
        return _NO_SAMPLING
    if request.top_k == 0:
        raise BadRequest("Invalid value for 'top_k': expected -1 or an integer >= 1.", param="top_k")
    stop = request.stop
    return Sampling(
        temperature=request.temperature,
        top_p=None if request.top_p is None else max(request.top_p, MIN_TOP_P),
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=request.repetition_penalty,
        seed=request.seed,
        logit_bias=_logit_bias(request),
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        regex=request.regex,
        ebnf=request.ebnf,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs,
    )


def _samples(request: ChatRequest) -> bool:
    """Whether the request says anything of sampling: most do not, and share one Sampling."""
    return not (
        request.temperature is None
        and request.top_p is None
        and request.seed is None
        and request.stop is None
        and request.logprobs is None
        and request.top_k is None
        and request.min_p is None
        and request.presence_penalty is None
        and request.frequency_penalty is None
        and request.repetition_penalty is None
        and request.logit_bias is None
        and request.regex is None
        and request.ebnf is None
    )


def _logit_bias(request: ChatRequest) -> dict[str, float] | None:
    """Keys are token ids. That they are in the model's vocabulary is the engine's to check."""
    for key in request.logit_bias or ():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise BadRequest("The keys of 'logit_bias' are token ids.", param="logit_bias")
    return request.logit_bias or None


def _contemplating(shape: ContemplatingOptions | None) -> Contemplating:
    if shape is None:
        return _NO_CONTEMPLATING
    return Contemplating(
        agents=shape.agents,
        rounds=shape.rounds,
        agent_max_tokens=shape.agent_max_tokens,
        economy=bool(shape.economy),
        compose=shape.compose or "write",
    )
