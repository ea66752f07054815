"""Fields that others take and we refuse, each with the reason that the caller reads. A table, no logic."""

from __future__ import annotations

from typing import Final

_WORKER = "It may not be set by a caller."
_TEXT_ONLY = "Only text is served here."
_OLD = "Use 'tools' and 'tool_choice'."
_NOT_HERE = "This API has no such feature."

UNSUPPORTED: Final[dict[str, str]] = {
    # OpenAI's, which this model or this API does not have
    "audio": _TEXT_ONLY,
    "modalities": _TEXT_ONLY,
    "functions": _OLD,
    "function_call": _OLD,
    "allowed_tools": _NOT_HERE,
    "best_of": _NOT_HERE,
    "echo": _NOT_HERE,
    "moderation": _NOT_HERE,
    "prediction": _NOT_HERE,
    "prompt": "Use 'messages'.",
    "input": "Use 'messages'.",
    "instructions": "Use a message of role 'system'.",
    "max_output_tokens": "Use 'max_completion_tokens'.",
    "prompt_cache_breakpoint": "Prefixes are cached without being marked.",
    "prompt_cache_options": "Prefixes are cached without being marked.",
    "prompt_cache_retention": "Prefixes are cached as long as there is room.",
    "reasoning": "Use 'mode' and 'reasoning_effort'.",
    "suffix": _NOT_HERE,
    "thinking": "Use 'mode' and 'reasoning_effort'.",
    "verbosity": _NOT_HERE,
    "web_search_options": _NOT_HERE,
    # SGLang's, which would let a caller into a worker or into others' cache
    "background": _WORKER,
    "bootstrap_host": _WORKER,
    "bootstrap_port": _WORKER,
    "bootstrap_room": _WORKER,
    "cache_salt": _WORKER,
    "chat_template": _WORKER,
    "chat_template_kwargs": _WORKER,
    "continue_final_message": _WORKER,
    "conversation_id": _WORKER,
    "custom_labels": _WORKER,
    "custom_logit_processor": _WORKER,
    "custom_params": _WORKER,
    "data_parallel_rank": _WORKER,
    "external_trace_header": _WORKER,
    "extra_key": _WORKER,
    "ignore_eos": _WORKER,
    "input_embeds": _WORKER,
    "input_ids": _WORKER,
    "lora_path": _WORKER,
    "max_thinking_tokens": _WORKER,
    "min_tokens": _WORKER,
    "no_logs": _WORKER,
    "no_stop_trim": _WORKER,
    "priority": _WORKER,
    "require_reasoning": _WORKER,
    "return_cached_tokens_details": _WORKER,
    "return_hidden_states": _WORKER,
    "return_meta_info": _WORKER,
    "return_token_ids": _WORKER,
    "rid": _WORKER,
    "routed_dp_rank": _WORKER,
    "routing_key": _WORKER,
    "sampling_params": _WORKER,
    "separate_reasoning": _WORKER,
    "session_id": _WORKER,
    "session_params": _WORKER,
    "skip_special_tokens": _WORKER,
    "stop_regex": _WORKER,
    "stop_token_ids": _WORKER,
    "stream_reasoning": _WORKER,
}
