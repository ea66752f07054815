"""Tools, their choice and the answer's format → the domain. What needs two fields to be judged is judged here."""

from __future__ import annotations

from collections.abc import Sequence

from museway_engine.completion import ResponseFormat, Tool, ToolChoice
from museway_platform.wire.chat.shapes import (
    ChatRequest,
    FunctionDefinition,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedToolChoice,
)
from museway_platform.wire.parse import free_object
from museway_platform.wire.refusals import BadRequest

_AUTO = ToolChoice()
_TEXT = ResponseFormat()
_JSON_OBJECT = ResponseFormat(kind="json_object")


def to_tools(shapes: Sequence[FunctionTool] | None) -> tuple[Tool, ...]:
    """Raises BadRequest where a schema is no object or two functions have one name."""
    if not shapes:
        return ()
    names = {shape.function.name for shape in shapes}
    if len(names) < len(shapes):
        raise BadRequest("Two tools have the same function name.", param="tools")
    return tuple([_tool(shape.function, index) for index, shape in enumerate(shapes)])


def _tool(function: FunctionDefinition, index: int) -> Tool:
    parameters = bytes(function.parameters)
    absent = parameters in (b"", b"null")
    return Tool(
        name=function.name,
        description=function.description,
        parameters=None if absent else free_object(parameters, f"tools[{index}].function.parameters"),
        strict=bool(function.strict),
    )


def to_tool_choice(request: ChatRequest) -> ToolChoice:
    """Raises BadRequest where a call is demanded of no tool, or of one that is not there."""
    choice = request.tool_choice
    if choice is None or choice == "auto":
        return _AUTO
    if choice == "none":
        return ToolChoice("none")
    if not request.tools:
        raise BadRequest("'tool_choice' may demand a call only where 'tools' are given.", param="tool_choice")
    if isinstance(choice, NamedToolChoice):
        name = choice.function.name
        if all(tool.function.name != name for tool in request.tools):
            raise BadRequest(f"No tool is named {name!r}.", param="tool_choice.function.name")
        return ToolChoice("named", name)
    return ToolChoice("required")


def to_response_format(request: ChatRequest) -> ResponseFormat:
    """Raises BadRequest where a schema is no object, or a second grammar is given beside it."""
    form = request.response_format
    if form is None and request.regex is None and request.ebnf is None:
        return _TEXT
    grammars = [name for name in ("regex", "ebnf") if getattr(request, name) is not None]
    structured = isinstance(form, JsonObjectFormat | JsonSchemaFormat)
    if len(grammars) + structured > 1:
        names = " and ".join(["response_format"] * structured + grammars)
        raise BadRequest(f"An answer can follow one grammar only: {names} exclude each other.", param=grammars[-1])
    if isinstance(form, JsonSchemaFormat):
        schema = free_object(bytes(form.json_schema.schema), "response_format.json_schema.schema")
        strict = bool(form.json_schema.strict)
        return ResponseFormat(kind="json_schema", name=form.json_schema.name, schema=schema, strict=strict)
    return _JSON_OBJECT if isinstance(form, JsonObjectFormat) else _TEXT
