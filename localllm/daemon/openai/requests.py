"""OpenAI's JSON to api values: what clients send, and what it means here. Pure; no HTTP, no clock.

Fields nobody here knows are ignored, as clients of this API send many. A field with a wrong type, and one that asks for
something that cannot be given, is an InvalidRequestError that names it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

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
    ToolChoice,
    ToolSpec,
    Truncate,
    check_sampling,
)
from localllm.daemon.body import check_free_form
from localllm.errors import InvalidRequestError

MAX_ANSWERS = 8
MAX_PROMPTS = 64
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Text = Annotated[str, Meta(max_length=16 * 1024 * 1024)]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all bodies."""


class StreamOptions(_Body, frozen=True):
    """What a stream has besides its text."""

    include_usage: bool = False


class SchemaBody(_Body, frozen=True):
    """A named JSON Schema."""

    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(_Body, frozen=True):
    """The form of the answer. `schema` beside json_object is llama.cpp's spelling of json_schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: SchemaBody | None = None
    schema: dict[str, Any] | None = None


class GenerationBody(_Body, frozen=True):
    """What chats and completions have in common: OpenAI's fields, llama.cpp's samplers, and ways to bind the form."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    max_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    logit_bias: dict[TokenId, float] | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    speculate: bool | None = None
    deterministic: bool = False
    end_runaway: bool = False


class Part(_Body, frozen=True):
    """A part of a message's content."""

    type: str
    text: Text | None = None


class FunctionCall(_Body, frozen=True):
    """The function of a tool call; `arguments` is JSON text, or the object itself."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCallBody(_Body, frozen=True):
    """A call the model asked for earlier."""

    function: FunctionCall
    id: str = ""


class MessageBody(_Body, frozen=True):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[ToolCallBody], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None


class FunctionBody(_Body, frozen=True):
    """What a tool is called and takes."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(_Body, frozen=True):
    """A tool; only functions are known."""

    type: str = "function"
    function: FunctionBody | None = None


class NamedFunction(_Body, frozen=True):
    """A tool as a choice names it."""

    name: str


class NamedTool(_Body, frozen=True):
    """The same with its kind around it."""

    type: str = "function"
    function: NamedFunction | None = None


class AllowedTools(_Body, frozen=True):
    """Some of the tools, and whether one of them has to be called."""

    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[NamedTool], Meta(max_length=512)] = []


class ToolChoiceBody(_Body, frozen=True):
    """A choice that says more than a word: one tool, or those allowed."""

    type: str = "function"
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolBody], Meta(max_length=128)] | None = None
    tool_choice: str | ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    reasoning_budget: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    truncate: Truncate = "error"


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /v1/completions. A prompt is text or token ids, or a list of either."""

    prompt: Text | Annotated[list[Text | TokenId | list[TokenId]], Meta(min_length=1)]
    suffix: Text | None = None
    echo: bool = False
    best_of: int | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


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
        **_tools(body),
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


def _tools(body: ChatBody) -> dict[str, Any]:
    """The tools and what is said about calling them."""
    tools = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ()))
    choice = tool_choice(body.tool_choice)
    names = {tool.name for tool in tools}
    if (choice.mode == "required" or choice.names) and not names:
        raise InvalidRequestError("tool_choice asks for a call, and there are no tools", param="tool_choice")
    for name in choice.names:
        if name not in names:
            hint = "it names one of the request's tools"
            raise InvalidRequestError(f"tool_choice names {name[:60]!r}", hint=hint, param="tool_choice")
    if not tools:
        return {}
    # Who names one tool wants one call of it.
    several = not isinstance(body.tool_choice, ToolChoiceBody) or body.tool_choice.function is None
    return {
        "tools": tools,
        "tool_choice": choice,
        "parallel_tool_calls": several if body.parallel_tool_calls is None else body.parallel_tool_calls,
    }


def tool_choice(given: str | ToolChoiceBody | None) -> ToolChoice:
    """What a choice means, in each of its forms. Mistral's clients say any for required."""
    match given:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required" | "any":
            return ToolChoice("required")
        case ToolChoiceBody(type="function", function=NamedFunction(name)):
            return ToolChoice("required", (name,))
        case ToolChoiceBody(type="allowed_tools", allowed_tools=AllowedTools(mode, tools)):
            if any(tool.type != "function" or tool.function is None for tool in tools):
                raise InvalidRequestError("only functions are tools here", param="tool_choice.allowed_tools")
            return ToolChoice(mode, tuple(tool.function.name for tool in tools if tool.function is not None))
        case ToolChoiceBody(type="auto" | "none" | "required" | "any" as word):
            return tool_choice(word)
    said = given if isinstance(given, str) else given.type
    hint = "it is auto, none, required, a function, or allowed_tools"
    raise InvalidRequestError(f"the tool_choice {said[:60]!r}", hint=hint, param="tool_choice")


def _tool(tool: ToolBody, where: str) -> ToolSpec:
    if tool.type != "function" or tool.function is None:
        raise InvalidRequestError(f"{where} is no function", param=where)
    parameters = tool.function.parameters or {}
    check_free_form(parameters, f"{where}.function.parameters")
    return ToolSpec(tool.function.name, tool.function.description or "", parameters, bool(tool.function.strict))


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
