"""Messages of a chat request → the domain's turns. Pure; raises BadRequest with the path of the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from museway_engine.completion import CalledTool, Message
from museway_platform.wire.chat.shapes import (
    AssistantMessage,
    AssistantTextPart,
    AssistantToolCall,
    ChatMessage,
    DeveloperMessage,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from museway_platform.wire.refusals import BadRequest


def to_messages(shapes: Sequence[ChatMessage]) -> tuple[Message, ...]:
    return tuple([_message(shape, index) for index, shape in enumerate(shapes)])


def _message(shape: ChatMessage, index: int) -> Message:
    match shape:
        case UserMessage():
            return Message(role="user", content=_text(shape.content), name=shape.name)
        case AssistantMessage():
            return _assistant(shape, index)
        case SystemMessage():
            return Message(role="system", content=_text(shape.content), name=shape.name)
        case DeveloperMessage():
            return Message(role="developer", content=_text(shape.content), name=shape.name)
        case ToolMessage():
            return Message(role="tool", content=_text(shape.content), tool_call_id=shape.tool_call_id)
        case _:
            assert_never(shape)


def _text(content: str | Sequence[TextPart]) -> str:
    """Pieces are joined as they are: splitting a text into parts must not change what the model reads."""
    return content if isinstance(content, str) else "".join([part.text for part in content])


def _assistant(shape: AssistantMessage, index: int) -> Message:
    content = _answer_text(shape)
    calls = shape.tool_calls or ()
    if content is None and not calls:
        param = f"messages[{index}].content"
        raise BadRequest(
            f"Missing required parameter: {param!r}. An assistant's message has content, or tool_calls.",
            param=param,
            code="missing_required_parameter",
        )
    return Message(
        role="assistant",
        content=content,
        name=shape.name,
        tool_calls=tuple([_call(call) for call in calls]),
        reasoning=shape.reasoning_content or None,
    )


def _answer_text(shape: AssistantMessage) -> str | None:
    if isinstance(shape.content, list):
        return "".join([_part_text(part) for part in shape.content])
    return shape.refusal if shape.content is None else shape.content


def _part_text(part: AssistantTextPart | RefusalPart) -> str:
    return part.text if isinstance(part, AssistantTextPart) else part.refusal


def _call(call: AssistantToolCall) -> CalledTool:
    return CalledTool(call.id, call.function.name, call.function.arguments)
