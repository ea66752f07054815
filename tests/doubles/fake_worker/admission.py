"""From a request body to a run: prompt ids, sampling, and the speech that the model will give."""

import uuid
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec

from doubles.fake_worker.book import Entry
from doubles.fake_worker.engine import Engine, Run
from doubles.fake_worker.generation import Generation, Sampling
from doubles.fake_worker.refusal import Refusal
from doubles.fake_worker.schema import minimal_text
from doubles.fake_worker.script import Call, Rid
from doubles.fake_worker.shapes import ChatBody, GenerateBody, JsonObject, Message, Tool
from doubles.fake_worker.speech import CLOSE_TAG, OPEN_TAG, Wish, compose
from doubles.fake_worker.template import render
from doubles.fake_worker.vocabulary import decode, encode

_CHOICES_MAX = 4096


def is_thinking(kwargs: JsonObject | None, effort: str | None) -> bool:
    """Whether the template opens a think block: off unless asked for."""
    asked = (kwargs or {}).get("enable_thinking", (kwargs or {}).get("thinking"))
    return bool(asked) if asked is not None else effort not in (None, "none")


def prompt_ids(
    messages: list[Message],
    tools: list[Tool] | None,
    choice: str | JsonObject,
    *,
    thinking: bool,
    opens_answer: bool = True,
    continues: bool = False,
) -> list[int]:
    """Ids of a rendered conversation. As in SGLang, `tool_choice` none or a name takes tools out of the prompt."""
    shown = tools or []
    if choice == "none":
        shown = []
    elif isinstance(choice, dict):
        wanted = choice.get("function", {}).get("name")
        shown = [tool for tool in shown if tool.function.get("name") == wanted]
    return encode(render(messages, shown, thinking=thinking, opens_answer=opens_answer, continues=continues))


def chat_run(engine: Engine, body: ChatBody, drop: Callable[[], None]) -> Run:
    """Raises Refusal."""
    if not 1 <= body.n <= _CHOICES_MAX:
        raise Refusal(400, "range() arg 3 must not be zero", "BadRequest")
    thinking = is_thinking(body.chat_template_kwargs, body.reasoning_effort)
    prompt = body.input_ids or prompt_ids(
        body.messages, body.tools, body.tool_choice, thinking=thinking, continues=body.continue_final_message
    )
    engine.check_prompt(prompt)
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if limit is not None and limit > engine.options.context:
        raise Refusal(400, _too_large(limit, engine.options.context))
    if limit is not None and len(prompt) + limit > engine.options.context:
        raise Refusal(400, _beyond_context(len(prompt), limit, engine.options.context))
    limit = _checked(limit, body.temperature, body.top_p, engine.options.context - len(prompt))
    sampling = Sampling(
        limit=limit,
        stop=_texts(body.stop),
        stop_ids=frozenset(body.stop_token_ids or ()),
        keep_stop=body.no_stop_trim,
        ignore_eos=body.ignore_eos,
        skip_special=body.skip_special_tokens,
    )
    budget = (body.custom_params or {}).get("thinking_budget")
    wish = Wish(
        limit=limit,
        seed=body.seed,
        ignore_eos=body.ignore_eos,
        thinking=thinking if body.input_ids is None else thinking and _is_open(prompt),
        budget=cast("int | None", budget),
        counts_reasoning=engine.options.reasoning_parser,
        json_text=_constrained(body),
        calls=_calls(body),
    )
    return _run(engine, body, "chat", prompt, sampling, wish, body.n, drop)


def generate_run(engine: Engine, body: GenerateBody, drop: Callable[[], None]) -> Run:
    """Raises Refusal."""
    if body.input_ids is None and body.text is None:
        raise Refusal(400, "Either text, input_ids or input_embeds should be provided.")
    prompt = body.input_ids if body.input_ids is not None else encode(body.text or "")
    engine.check_prompt(prompt)
    asked = body.sampling_params
    limit = _checked(asked.max_new_tokens, asked.temperature, asked.top_p, engine.options.context - len(prompt))
    sampling = Sampling(
        limit=min(limit, max(0, engine.options.context - len(prompt))),
        stop=_texts(asked.stop),
        stop_ids=frozenset(asked.stop_token_ids or ()),
        keep_stop=asked.no_stop_trim,
        ignore_eos=asked.ignore_eos,
        skip_special=asked.skip_special_tokens,
    )
    json_text = minimal_text(msgspec.json.decode(asked.json_schema)) if asked.json_schema else None
    wish = Wish(
        limit=sampling.limit,
        seed=asked.sampling_seed,
        ignore_eos=asked.ignore_eos,
        thinking=_is_open(prompt),
        counts_reasoning=body.require_reasoning and engine.options.reasoning_parser,
        json_text=json_text,
    )
    return _run(engine, body, "generate", prompt, sampling, wish, 1, drop)


def _run(
    engine: Engine,
    body: ChatBody | GenerateBody,
    route: Literal["chat", "generate"],
    prompt: list[int],
    sampling: Sampling,
    wish: Wish,
    choices: int,
    drop: Callable[[], None],
) -> Run:
    rid = body.rid or uuid.uuid4().hex
    engine.check_rid(rid)
    behaviour = engine.rules.pick(text=decode(prompt, skip_special=False), rid=rid, route=route)
    if behaviour.status is not None:
        engine.book.refused += 1
        raise Refusal(behaviour.status, behaviour.message, "InternalServerError")
    agent = Rid.of(rid).agent
    generations: list[Generation] = []
    for choice in range(choices):
        speech = compose(prompt, msgspec.structs.replace(wish, choice=choice), behaviour, agent)
        generations.append(Generation(speech, sampling, overrun=behaviour.overrun))
    salt = f"{body.cache_salt or ''}\x1f{body.extra_key or ''}"
    entry = Entry(rid=rid, route=route, stream=body.stream, salt=salt, prompt=len(prompt), choices=choices)
    return Run(
        entry=entry,
        prompt=prompt,
        behaviour=behaviour,
        priority=body.priority or 0,
        generations=generations,
        drop=drop,
        abortable=choices == 1,
    )


def _checked(limit: int | None, temperature: float | None, top_p: float | None, room: int) -> int:
    if limit is not None and limit < 0:
        raise Refusal(400, f"max_new_tokens must be at least 0, got {limit}.")
    if temperature is not None and temperature < 0:
        raise Refusal(400, f"temperature must be a non-negative finite number, got {temperature}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise Refusal(400, f"top_p must be in (0, 1], got {top_p}.")
    return room if limit is None else limit


def _texts(stop: str | list[str] | None) -> tuple[str, ...]:
    given = [stop] if isinstance(stop, str) else stop or []
    return tuple(s for s in given if s)


def _is_open(prompt: list[int]) -> bool:
    text = decode(prompt[-2048:], skip_special=False)
    return text.rfind(OPEN_TAG) > text.rfind(CLOSE_TAG)


def _constrained(body: ChatBody) -> str | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_schema" and wanted.json_schema is not None:
        return minimal_text(wanted.json_schema.get("schema", {}))
    return "{}"


def _calls(body: ChatBody) -> tuple[Call, ...]:
    """A call where the choice demands one; with `auto`, one for every user turn and none after a tool's result."""
    tools, choice = body.tools or [], body.tool_choice
    if not tools or choice == "none":
        return ()
    if isinstance(choice, dict):
        wanted = choice.get("function", {}).get("name")
        tools = [tool for tool in tools if tool.function.get("name") == wanted]
    elif choice == "auto" and body.messages and body.messages[-1].role == "tool":
        return ()
    if not tools:
        return ()
    function: dict[str, Any] = tools[0].function
    return (
        Call(
            name=str(function.get("name", "")), arguments=minimal_text(function.get("parameters") or {"type": "object"})
        ),
    )


def _too_large(limit: int, context: int) -> str:
    return f"max_completion_tokens is too large: {limit}.This model supports at most {context} completion tokens."


def _beyond_context(prompt: int, limit: int, context: int) -> str:
    return (
        f"Requested token count exceeds the model's maximum context length of {context} tokens. "
        f"You requested a total of {prompt + limit} tokens: {prompt} tokens from the input messages and {limit} tokens "
        "for the completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit."
    )
