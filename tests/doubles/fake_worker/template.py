"""The chat template: messages to the text that the model would read (ChatML, an optional open `<think>` block)."""

import json
from collections.abc import Sequence

from doubles.fake_worker.refusal import Refusal
from doubles.fake_worker.shapes import JsonObject, Message, Tool

_ROLES = {"system", "user", "assistant", "tool", "developer", "function"}


def render(
    messages: Sequence[Message], tools: Sequence[Tool], *, thinking: bool, opens_answer: bool, continues: bool
) -> str:
    """Text with the generation prompt at its end, or with the last message left open.

    Raises Refusal for no message, an unknown role or an image.
    """
    if not messages:
        raise Refusal(400, "Messages cannot be empty.")
    parts: list[str] = []
    if tools:
        listed = "\n".join(json.dumps(tool.function, sort_keys=True) for tool in tools)
        parts.append(f"<|im_start|>system\nYou may call these functions:\n{listed}<|im_end|>\n")
    for at, message in enumerate(messages):
        if message.role not in _ROLES:
            raise Refusal(400, _bad_role(at))
        body = _text(message.content)
        if message.reasoning_content and at == len(messages) - 1:
            body = f"<think>\n{message.reasoning_content}\n</think>\n\n{body}"
        for call in message.tool_calls or ():
            body += f"\n<tool_call>\n{json.dumps(call.get('function'), sort_keys=True)}\n</tool_call>"
        parts.append(f"<|im_start|>{message.role}\n{body}<|im_end|>\n")
    if continues:
        return "".join(parts).removesuffix("<|im_end|>\n")
    if opens_answer:
        parts.append("<|im_start|>assistant\n" + ("<think>\n" if thinking else ""))
    return "".join(parts)


def _text(content: str | list[JsonObject] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.get("type") != "text":
            kind = part.get("type")
            raise Refusal(400, f"Model only supports text input; received unsupported content type '{kind}'.")
    return "".join(str(part.get("text", "")) for part in content)


def _bad_role(at: int) -> str:
    # The path and the line are there on purpose: a gateway must never hand a worker's message on.
    return (
        "1 validation error:\n  {'type': 'value_error', 'loc': ('body', 'messages', "
        f"{at}, 'role')}}\n\n"
        '  File "/opt/engine/sglang/srt/entrypoints/http_server.py", line 1870'
    )
