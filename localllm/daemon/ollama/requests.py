"""Ollama's bodies to api values: what they mean here. Pure; no HTTP, no clock.

What is asked for and cannot be given is an InvalidRequestError that names it. A
prompt that does not fit is an error, too, unless `truncate` is true: nothing is cut in silence.
"""

from __future__ import annotations

from typing import Any

import msgspec

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Constraint,
    EmbedRequest,
    JsonObject,
    JsonSchema,
    Message,
    Role,
    SamplingParams,
    ToolCall,
    ToolSpec,
)
from localllm.daemon.body import check_free_form
from localllm.daemon.ollama.bodies import (
    ChatBody,
    EmbedBody,
    EmbeddingBody,
    FunctionCall,
    GenerateBody,
    GenerationBody,
    MessageBody,
    ToolBody,
)
from localllm.daemon.ollama.keep_alive import keep_alive_s
from localllm.daemon.ollama.options import Options, read_options
from localllm.daemon.ollama.values import model_name
from localllm.errors import InvalidRequestError

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def chat_request(body: ChatBody, options: Options, request_id: str | None = None) -> ChatRequest:
    """What a chat body asks for; it has messages."""
    return ChatRequest(
        messages=_with_call_ids([_message(message, i) for i, message in enumerate(body.messages or ())]),
        tools=tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ())),
        **_thinking(body),
        **_common(body, options, request_id),
    )


def generate_request(body: GenerateBody, options: Options, request_id: str | None = None) -> ChatRequest:
    """What a generate body asks for that is answered as a conversation of one turn."""
    system = (Message("system", body.system),) if body.system else ()
    return ChatRequest(
        messages=(*system, Message("user", body.prompt or "")),
        **_thinking(body),
        **_common(body, options, request_id),
    )


def raw_request(body: GenerateBody, options: Options, request_id: str | None = None) -> CompletionRequest:
    """What a generate body asks for that is answered without a chat template: `raw`, or with a `suffix`."""
    return CompletionRequest(
        prompt=body.prompt or "",
        suffix=body.suffix or None,
        parse_special=bool(body.raw),
        **_common(body, options, request_id),
    )


def continued_request(request: ChatRequest, context: tuple[int, ...], rendered: tuple[int, ...]) -> CompletionRequest:
    """A turn that goes on from the tokens of an earlier answer: those, then the turn's own prompt."""
    common = {name: getattr(request, name) for name in CompletionRequest.__struct_fields__ if hasattr(request, name)}
    return CompletionRequest(**common, prompt=(*context, *rendered))


def check_generate(body: GenerateBody) -> None:
    """Refuse what cannot be done at all, by its name."""
    if body.images:
        raise InvalidRequestError("images are not taken", hint="send text", param="images")
    if body.template:
        hint = "the model's own template is used; with raw the prompt is taken as it is"
        raise InvalidRequestError("clients cannot bring a template", hint=hint, param="template")
    if body.raw and (body.system or body.context):
        raise InvalidRequestError("raw takes the prompt as it is, without system and context", param="raw")
    if body.suffix and (body.system or body.context):
        name = "system" if body.system else "context"
        raise InvalidRequestError(f"{name} has no place beside a suffix", param=name)
    if body.context and body.think:
        raise InvalidRequestError("think has no place beside context", hint="use /api/chat", param="think")


def embed_request(body: EmbedBody) -> EmbedRequest:
    """What an embed body asks for. Too long an input loses its end unless `truncate` is false: that is documented."""
    inputs = (body.input,) if isinstance(body.input, str) else tuple(body.input or ())
    return EmbedRequest(
        model_name(body.model),
        tuple(text for text in inputs if text) if isinstance(body.input, str) else inputs,
        dimensions=body.dimensions or None,
        truncate=body.truncate is not False,
        keep_alive_s=keep_alive_s(body.keep_alive),
    )


def embedding_request(body: EmbeddingBody) -> EmbedRequest:
    """What a body of the older route asks for: one vector, of the length the model gives it."""
    inputs = (body.prompt,) if body.prompt else ()
    return EmbedRequest(model_name(body.model), inputs, normalize=False, keep_alive_s=keep_alive_s(body.keep_alive))


def options_of(body: GenerationBody | EmbedBody | EmbeddingBody) -> Options:
    """A body's options."""
    return read_options(body.options)


def _common(body: GenerationBody, options: Options, request_id: str | None) -> dict[str, Any]:
    sampling: SamplingParams = options.sampling
    if body.logprobs:
        sampling = msgspec.structs.replace(sampling, logprobs=body.top_logprobs or 0)
    return {
        "model": model_name(body.model),
        "request_id": request_id,
        "sampling": sampling,
        "constraint": _constraint(body.format),
        "keep_alive_s": keep_alive_s(body.keep_alive),
    }


def _thinking(body: GenerationBody) -> dict[str, Any]:
    """Whether to think, and what to do with a conversation that is too long."""
    values: dict[str, Any] = {"think": bool(body.think) if body.think is not None else None}
    if isinstance(body.think, str):
        values["template_args"] = {"reasoning_effort": "high" if body.think == "max" else body.think}
    if body.truncate:
        values["truncate"] = "oldest"
    return values


def _constraint(form: str | dict[str, Any] | None) -> Constraint | None:
    if form is None or form == "":
        return None
    if form == "json":
        return JsonObject()
    if isinstance(form, dict):
        check_free_form(form, "format")
        return JsonSchema(form)
    raise InvalidRequestError(f"the format {form[:40]!r}", hint='it is "json" or a JSON Schema', param="format")


def _with_call_ids(messages: list[Message]) -> tuple[Message, ...]:
    """The conversation with each tool's result under the id of its call: clients of this API give at most a name.

    A result belongs to the first call of its name that has none yet; without a name, to the first call.
    """
    found: list[Message] = []
    unanswered: list[ToolCall] = []
    for message in messages:
        if message.role == "tool" and message.tool_call_id is None:
            call = next((c for c in unanswered if message.name in (None, c.name)), None)
            if call is not None:
                unanswered.remove(call)
                message = msgspec.structs.replace(message, tool_call_id=call.id)  # noqa: PLW2901
        elif message.role == "tool":
            unanswered = [call for call in unanswered if call.id != message.tool_call_id]
        elif message.tool_calls:
            unanswered = list(message.tool_calls)
        found.append(message)
    return tuple(found)


def _message(body: MessageBody, index: int) -> Message:
    where = f"messages[{index}]"
    role = _ROLES.get(body.role.lower())
    if role is None:
        hint = f"it is one of {', '.join(_ROLES)}"
        raise InvalidRequestError(f"{where} has the role {body.role[:40]!r}", hint=hint, param=f"{where}.role")
    if body.images:
        raise InvalidRequestError("images are not taken", hint="send text", param=f"{where}.images")
    calls = tuple(
        ToolCall(call.id or f"call_{index}_{i}", call.function.name, _arguments(call.function, where))
        for i, call in enumerate(body.tool_calls or ())
    )
    return Message(role, body.content or "", body.tool_name, body.thinking or None, calls, body.tool_call_id)


def _arguments(function: FunctionCall, where: str) -> str:
    if isinstance(function.arguments, str):
        return function.arguments or "{}"
    check_free_form(function.arguments or {}, f"{where}.tool_calls")
    return msgspec.json.encode(function.arguments or {}).decode()


def _tool(tool: ToolBody, where: str) -> ToolSpec:
    if tool.type not in (None, "", "function") or tool.function is None:
        raise InvalidRequestError(f"{where} is no function", param=where)
    parameters = tool.function.parameters or {}
    check_free_form(parameters, f"{where}.function.parameters")
    return ToolSpec(tool.function.name, tool.function.description or "", parameters)
