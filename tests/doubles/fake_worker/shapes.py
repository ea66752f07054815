"""Request bodies, as far as the double reads them. Unknown fields are ignored, as SGLang ignores them."""

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

JsonObject: TypeAlias = dict[str, Any]
"""What stands between two braces; the double passes it on or looks up single names."""


class Message(Struct, kw_only=True):
    """One message of a conversation."""

    role: str
    content: str | list[JsonObject] | None = None
    reasoning_content: str | None = None
    tool_calls: list[JsonObject] | None = None
    tool_call_id: str | None = None


class Tool(Struct, kw_only=True):
    """One tool; `function` holds name, description, parameters."""

    type: str = "function"
    function: JsonObject = field(default_factory=dict[str, Any])


class StreamOptions(Struct, kw_only=True):
    """Which usage a stream carries."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class ResponseFormat(Struct, kw_only=True):
    """A constraint on the text."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"] = "text"
    json_schema: JsonObject | None = None


class ChatBody(Struct, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[Message]
    model: str = "default"
    input_ids: list[int] | None = None
    rid: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int = 1
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    no_stop_trim: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: bool = False
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | JsonObject = "auto"
    response_format: ResponseFormat | None = None
    cache_salt: str | None = None
    extra_key: str | None = None
    priority: int | None = None
    chat_template_kwargs: JsonObject | None = None
    reasoning_effort: str | None = None
    separate_reasoning: bool = True
    continue_final_message: bool = False
    custom_params: JsonObject | None = None


class SamplingParams(Struct, kw_only=True):
    """`sampling_params` of `/generate`."""

    max_new_tokens: int | None = 128
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    no_stop_trim: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    sampling_seed: int | None = None
    json_schema: str | None = None


class GenerateBody(Struct, kw_only=True):
    """`POST /generate`."""

    text: str | None = None
    input_ids: list[int] | None = None
    sampling_params: SamplingParams = field(default_factory=SamplingParams)
    rid: str | None = None
    stream: bool = False
    return_logprob: bool = False
    top_logprobs_num: int = 0
    logprob_start_len: int = -1
    cache_salt: str | None = None
    extra_key: str | None = None
    priority: int | None = None
    require_reasoning: bool = False


class TokenizeBody(Struct, kw_only=True):
    """`POST /v1/tokenize`: a prompt, several, or a conversation."""

    prompt: str | list[str] | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | JsonObject = "auto"
    chat_template_kwargs: JsonObject | None = None
    reasoning_effort: str | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    model: str = "default"


class DetokenizeBody(Struct, kw_only=True):
    """`POST /v1/detokenize`."""

    tokens: list[int | list[int]]
    skip_special_tokens: bool = True


class AbortBody(Struct, kw_only=True):
    """`POST /abort_request`."""

    rid: str = ""
    abort_all: bool = False
