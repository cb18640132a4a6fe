"""OpenAI's JSON to api values: what clients' bodies mean here. Pure; no HTTP, no clock.

What asks for something that cannot be given is an InvalidRequestError that names it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from localllm.api import (
    ChatRequest,
    Choice,
    CompletionRequest,
    Constraint,
    Gbnf,
    JsonObject,
    JsonSchema,
    Lark,
    Message,
    Regex,
    Role,
    SamplingParams,
    ToolCall,
    check_sampling,
)
from localllm.daemon.body import check_free_form
from localllm.daemon.openai.bodies import (
    MAX_PROMPTS,
    ChatBody,
    CompletionBody,
    GenerationBody,
    MessageBody,
    Part,
    ResponseFormat,
)
from localllm.daemon.openai.tools import tools_of
from localllm.errors import InvalidRequestError

# Fields that mean here what they mean there.
_SAMPLING = tuple(f for f in SamplingParams.__struct_fields__ if f in GenerationBody.__struct_fields__)
_OWN_MEANING = frozenset({"stop", "seed", "max_tokens", "dry_sequence_breakers"})
_TEMPLATE_ARGS_REFUSED = frozenset({"chat_template", "messages", "tools", "tokenize", "return_dict"})


def chat_request(body: ChatBody, default_model: str, request_id: str | None = None) -> ChatRequest:
    """What a chat body asks for."""
    if body.functions:
        raise InvalidRequestError("functions are not taken", hint="send them as tools", param="functions")
    if body.chat_template is not None:
        raise InvalidRequestError("clients cannot bring a template", param="chat_template")
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    args = dict(body.chat_template_kwargs or {})
    think = think_of(body.reasoning_effort, args)
    return ChatRequest(
        model=body.model or default_model,
        messages=tuple(_message(message, f"messages[{i}]") for i, message in enumerate(body.messages)),
        sampling=sampling_of(body, max_tokens, logprobs),
        **tools_of(body),
        think=think,
        truncate=body.truncate,
        template_args=args,
        reasoning_budget=body.reasoning_budget,
        **common_fields(body, request_id),
    )


def completion_requests(
    body: CompletionBody, default_model: str, request_id: str | None = None
) -> list[CompletionRequest]:
    """What a completion body asks for: one request for each of its prompts."""
    n = body.n or 1
    if body.best_of is not None and body.best_of != n:
        raise InvalidRequestError("best_of other than n is not offered", param="best_of")
    all_prompts = prompts(body.prompt, "prompt")
    if len(all_prompts) > MAX_PROMPTS:
        raise InvalidRequestError(f"{len(all_prompts)} prompts", hint=f"at most {MAX_PROMPTS}", param="prompt")
    if len(all_prompts) > 1 and body.echo and body.logprobs is not None:
        raise InvalidRequestError("echo with logprobs takes one prompt at a time", param="echo")
    common = common_fields(body, None)
    # OpenAI's default is 16 tokens, which nobody who leaves it out expects of a local model.
    sampling = sampling_of(body, body.max_tokens, body.logprobs)
    return [
        CompletionRequest(
            model=body.model or default_model,
            prompt=prompt,
            sampling=sampling,
            suffix=body.suffix,
            prompt_logprobs=body.logprobs if body.echo else None,
            **common | {"request_id": request_id and (f"{request_id}-{i}" if len(all_prompts) > 1 else request_id)},
        )
        for i, prompt in enumerate(all_prompts)
    ]


def common_fields(body: GenerationBody, request_id: str | None) -> dict[str, Any]:
    """The fields of a request that chats, completions and responses have in common."""
    return {
        "request_id": request_id,
        "constraint": _constraint(body),
        "n": body.n or 1,
        "speculate": body.speculate,
        "deterministic": body.deterministic,
        "end_runaway": body.end_runaway,
    }


def sampling_of(body: GenerationBody, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    """How a body wants tokens to be chosen."""
    values: dict[str, Any] = {f: getattr(body, f) for f in _SAMPLING if f not in _OWN_MEANING}
    if body.repetition_penalty is not None and body.repeat_penalty is None:
        values["repeat_penalty"] = body.repetition_penalty
    if body.dry_sequence_breakers is not None:
        values["dry_sequence_breakers"] = tuple(body.dry_sequence_breakers)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    params = SamplingParams(
        **values,
        stop=stop or None,
        # llama.cpp's -1 is "whatever"; its seeds have 32 bits, OpenAI's 64.
        seed=None if body.seed is None or body.seed == -1 else body.seed & 0xFFFFFFFF,
        max_tokens=None if max_tokens == -1 else max_tokens,
        logprobs=logprobs,
    )
    check_sampling(params)
    return params


def think_of(effort: str | None, args: dict[str, Any]) -> bool | None:
    """Whether to think; what the template alone can tell of it stays in `args`."""
    check_free_form(args, "chat_template_kwargs")
    for name in args:
        if name in _TEMPLATE_ARGS_REFUSED:
            raise InvalidRequestError(f"chat_template_kwargs may not set {name}", param="chat_template_kwargs")
    think = args.pop("enable_thinking", None)
    if think is not None and not isinstance(think, bool):
        raise InvalidRequestError("enable_thinking is true or false", param="chat_template_kwargs")
    if effort is None:
        return think
    if effort == "none":
        return False
    args.setdefault("reasoning_effort", effort)
    return True if think is None else think


def _message(body: MessageBody, where: str) -> Message:
    role: Role = "system" if body.role == "developer" else body.role
    content = body.content
    if isinstance(content, list):
        content = "\n".join(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    if content is None and not body.tool_calls and role != "assistant":
        raise InvalidRequestError(f"{where} has no content", param=f"{where}.content")
    calls = tuple(
        ToolCall(call.id or f"call_{i}", call.function.name, _text(call.function.arguments))
        for i, call in enumerate(body.tool_calls or ())
    )
    return Message(role, content or "", body.name, body.reasoning_content, calls, body.tool_call_id)


def _text(arguments: str | dict[str, Any]) -> str:
    if isinstance(arguments, str):
        return arguments
    check_free_form(arguments, "arguments")
    return msgspec.json.encode(arguments).decode()


def _part(part: Part, where: str) -> str:
    if part.type in ("text", "input_text", "output_text") and part.text is not None:
        return part.text
    raise InvalidRequestError(f"content of type {part.type!r} is not taken", hint="send text", param=where)


def _constraint(body: GenerationBody) -> Constraint | None:
    """The one form asked for, in whichever of the spellings."""
    found: dict[str, Constraint] = {}
    if (form := body.response_format) is not None and (bound := _of_format(form)) is not None:
        found["response_format"] = bound
    for name in ("json_schema", "guided_json"):
        if (schema := getattr(body, name)) is not None:
            check_free_form(schema, name)
            found[name] = JsonSchema(schema)
    if body.grammar:
        found["grammar"] = Gbnf(body.grammar)
    if body.guided_regex:
        found["guided_regex"] = Regex(body.guided_regex)
    if body.guided_choice:
        found["guided_choice"] = Choice(tuple(body.guided_choice))
    if body.guided_grammar:
        found["guided_grammar"] = Lark(body.guided_grammar)
    if len(found) > 1:
        raise InvalidRequestError(f"{' and '.join(found)} both bind the answer's form", param=list(found)[-1])
    return next(iter(found.values()), None)


def _of_format(form: ResponseFormat) -> Constraint | None:
    if form.type == "text":
        return None
    schema = form.json_schema.schema if form.json_schema else form.schema
    if schema is not None:
        check_free_form(schema, "response_format")
        return JsonSchema(schema)
    if form.type == "json_schema":
        raise InvalidRequestError("response_format has no schema", param="response_format.json_schema.schema")
    return JsonObject()


def prompts(given: str | list[Any], param: str) -> list[str | tuple[int, ...]]:
    """The prompts of a body, whichever of the four forms it has: text, token ids, or a list of either."""
    if isinstance(given, str):
        return [given]
    if all(isinstance(part, int) for part in given):
        return [tuple(given)]
    if any(isinstance(part, int) for part in given):
        raise InvalidRequestError(f"{param} mixes token ids with whole inputs", param=param)
    if any(isinstance(part, list) and not part for part in given):
        raise InvalidRequestError(f"{param} has one of no tokens", param=param)
    return [part if isinstance(part, str) else tuple(part) for part in given]
