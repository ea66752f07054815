"""A request → the body that a worker gets. An allow-list: what is not written here never reaches a worker (DESIGN §5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from museway_engine.completion import Completion, Message, Sampling

_encode = msgspec.json.Encoder().encode


class _Function(Struct, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: Raw | None = None
    strict: bool = False


class _Tool(Struct):
    function: _Function
    type: Literal["function"] = "function"


class _CalledFunction(Struct):
    name: str
    arguments: str


class _Called(Struct):
    id: str
    function: _CalledFunction
    type: Literal["function"] = "function"


class _Message(Struct, omit_defaults=True):
    role: str
    content: str | None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Called] | None = None
    tool_call_id: str | None = None


class _StreamOptions(Struct):
    include_usage: bool = True
    continuous_usage_stats: bool = True


class _JsonSchema(Struct, omit_defaults=True):
    name: str
    schema: Raw | None = None
    strict: bool = False


class _Format(Struct, omit_defaults=True):
    type: str
    json_schema: _JsonSchema | None = None


class _NamedFunction(Struct):
    name: str


class _NamedTool(Struct):
    function: _NamedFunction
    type: Literal["function"] = "function"


class _Chat(Struct, omit_defaults=True):
    model: str
    messages: list[_Message]
    rid: str
    max_completion_tokens: int | None = None
    cache_salt: str | None = None
    priority: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    input_ids: Sequence[int] | None = None
    chat_template_kwargs: dict[str, bool | str] | None = None
    separate_reasoning: bool = True
    tools: list[_Tool] | None = None
    tool_choice: str | _NamedTool | None = None
    parallel_tool_calls: bool = True
    response_format: _Format | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    stop: tuple[str, ...] | None = None
    regex: str | None = None
    ebnf: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class _SamplingParams(Struct, omit_defaults=True):
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    sampling_seed: int | None = None
    logit_bias: dict[str, float] | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    no_stop_trim: bool = False
    skip_special_tokens: bool = True


class _Generate(Struct, omit_defaults=True):
    input_ids: Sequence[int]
    sampling_params: _SamplingParams
    rid: str
    stream: bool = False
    cache_salt: str | None = None
    priority: int | None = None


class _Tokenize(Struct, omit_defaults=True):
    model: str
    messages: list[_Message] | None = None
    prompt: str | None = None
    tools: list[_Tool] | None = None
    chat_template_kwargs: dict[str, bool | str] | None = None
    add_special_tokens: bool = True


Kwargs = dict[str, bool | str]
_PLAIN: Final = Sampling()
"""Most requests say nothing of sampling: fourteen arguments that do nothing cost as much as encoding the rest."""
_STUB: Final = [_Message(role="user", content="x")]
"""What a chat call by ids carries as `messages`: the worker wants some, and reads none."""


class Envelope(Struct, frozen=True, kw_only=True):
    """What is ours in a call, never the client's. `priority` is None where the worker schedules without priorities."""

    rid: str
    max_tokens: int
    cache_salt: str
    priority: int | None = None


def encode_chat(
    completion: Completion,
    envelope: Envelope,
    *,
    stream: bool,
    kwargs: Kwargs,
    input_ids: Sequence[int] | None = None,
    separate_reasoning: bool = True,
    choice: int = 0,
) -> bytes:
    """The body of `/v1/chat/completions` for one choice. With `input_ids` (only ever this worker's own) no text is sent.

    The client's seed is another for each choice, else `n` answers would be one.
    """
    sampling = completion.sampling
    body = _Chat(
        model=completion.model,
        messages=_STUB if input_ids is not None else [_message(m) for m in completion.messages],
        rid=envelope.rid,
        max_completion_tokens=envelope.max_tokens,
        cache_salt=envelope.cache_salt,
        priority=envelope.priority,
        stream=stream,
        stream_options=_StreamOptions() if stream else None,
        input_ids=input_ids,
        chat_template_kwargs=kwargs or None,
        separate_reasoning=separate_reasoning,
        tools=_tools(completion),
        tool_choice=_tool_choice(completion),
        parallel_tool_calls=completion.parallel_tool_calls,
        response_format=_format(completion),
    )
    if sampling != _PLAIN:
        _add_sampling(body, sampling, choice)
    return _encode(body)


def _add_sampling(body: _Chat, sampling: Sampling, choice: int) -> None:
    body.temperature = sampling.temperature
    body.top_p = sampling.top_p
    body.top_k = sampling.top_k
    body.min_p = sampling.min_p
    body.presence_penalty = sampling.presence_penalty
    body.frequency_penalty = sampling.frequency_penalty
    body.repetition_penalty = sampling.repetition_penalty
    body.seed = None if sampling.seed is None else sampling.seed + choice
    body.logit_bias = sampling.logit_bias
    body.stop = sampling.stop or None
    body.regex = sampling.regex
    body.ebnf = sampling.ebnf
    body.logprobs = sampling.logprobs
    body.top_logprobs = sampling.top_logprobs


def encode_generate(
    input_ids: Sequence[int],
    sampling: Sampling,
    envelope: Envelope,
    *,
    stop: tuple[str, ...] = (),
    stop_token_ids: tuple[int, ...] = (),
    temperature: float | None = None,
    seed: int | None = None,
) -> bytes:
    """The body of a streaming `/generate` over ids. The client's `stop`, grammar and log probabilities are left out.

    `temperature` and `seed` win over the client's. A text that stops the call stays in its output (`no_stop_trim`).
    """
    params = _SamplingParams(
        max_new_tokens=envelope.max_tokens,
        temperature=sampling.temperature if temperature is None else temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        sampling_seed=sampling.seed if seed is None else seed,
        logit_bias=sampling.logit_bias,
        stop=stop or None,
        stop_token_ids=stop_token_ids or None,
        no_stop_trim=True,
    )
    return _encode(
        _Generate(
            input_ids=input_ids,
            sampling_params=params,
            rid=envelope.rid,
            stream=True,
            cache_salt=envelope.cache_salt,
            priority=envelope.priority,
        )
    )


def encode_tokenize(completion: Completion, kwargs: Kwargs) -> bytes:
    """`/v1/tokenize` of a conversation as a chat call would render it."""
    return _encode(
        _Tokenize(
            model=completion.model,
            messages=[_message(m) for m in completion.messages],
            tools=_tools(completion),
            chat_template_kwargs=kwargs or None,
        )
    )


def encode_tokenize_text(model: str, text: str) -> bytes:
    """`/v1/tokenize` of a plain text, without the tokenizer's own begin token."""
    return _encode(_Tokenize(model=model, prompt=text, add_special_tokens=False))


def _message(message: Message) -> _Message:
    return _Message(
        role=message.role,
        content=message.content,
        name=message.name,
        reasoning_content=message.reasoning,
        tool_calls=[_Called(c.id, _CalledFunction(c.name, c.arguments)) for c in message.tool_calls] or None,
        tool_call_id=message.tool_call_id,
    )


def _tools(completion: Completion) -> list[_Tool] | None:
    if not completion.tools:
        return None
    return [_Tool(_Function(t.name, t.description, t.parameters, t.strict)) for t in completion.tools]


def _tool_choice(completion: Completion) -> str | _NamedTool | None:
    choice = completion.tool_choice
    if choice.kind == "named" and choice.name is not None:
        return _NamedTool(_NamedFunction(choice.name))
    return None if choice.kind == "auto" or not completion.tools else choice.kind


def _format(completion: Completion) -> _Format | None:
    wanted = completion.response_format
    if wanted.kind == "text":
        return None
    if wanted.kind == "json_object":
        return _Format("json_object")
    return _Format("json_schema", _JsonSchema(wanted.name or "answer", wanted.schema, wanted.strict))
