"""The body of a response, and what it asks for. Pure; no HTTP, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localllm.api import ChatRequest, ToolChoice, ToolSpec
from localllm.daemon.body import check_free_form
from localllm.daemon.openai.bodies import GenerationBody, ResponseFormat, SchemaBody, Text
from localllm.daemon.openai.requests import common_fields, sampling_of, think_of
from localllm.daemon.openai.responses.items import Item, Items, messages
from localllm.errors import InvalidRequestError

_LOGPROBS = "message.output_text.logprobs"
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class FormatBody(msgspec.Struct, frozen=True):
    """The form of the text."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextBody(msgspec.Struct, frozen=True):
    """What the text is like."""

    format: FormatBody | None = None
    verbosity: str | None = None


class ReasoningBody(msgspec.Struct, frozen=True):
    """How much to think, and whether thinking is wanted as a summary. It is not summed up: it is all there."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class FunctionTool(msgspec.Struct, frozen=True):
    """A tool; only functions are known."""

    type: str = "function"
    name: Annotated[str, Meta(max_length=256)] = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /v1/responses."""

    input: Text | Items = ""
    instructions: Text | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    max_output_tokens: Count | None = None
    include: list[str] | None = None
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    conversation: Any = None
    prompt: Any = None

    @property
    def is_stored(self) -> bool:
        """Whether the response is kept; it is unless the client says no."""
        return self.store is not False

    @property
    def summarizes(self) -> bool:
        """Whether thinking is asked for as a summary."""
        return self.reasoning is not None and bool(self.reasoning.summary or self.reasoning.generate_summary)

    @property
    def wants_logprobs(self) -> bool:
        """Whether log probabilities are asked for."""
        return bool(self.top_logprobs) or _LOGPROBS in (self.include or ())


def chat_request(
    body: ResponseBody, items: Sequence[Item], default_model: str, request_id: str | None = None
) -> ChatRequest:
    """What a body asks for; `items` are its input after what came before it."""
    _check(body)
    form = body.text.format if body.text is not None else None
    if form is not None:
        schema = None if form.schema is None else SchemaBody(form.name, form.schema)
        body = msgspec.structs.replace(body, response_format=ResponseFormat(form.type, schema))
    args: dict[str, Any] = {}
    think = think_of(body.reasoning.effort if body.reasoning else None, args)
    tools = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ()))
    max_tokens = body.max_tokens if body.max_output_tokens is None else body.max_output_tokens
    return ChatRequest(
        model=body.model or default_model,
        messages=messages(body.instructions, items),
        sampling=sampling_of(body, max_tokens, (body.top_logprobs or 0) if body.wants_logprobs else None),
        tools=tools,
        tool_choice=_choice(body.tool_choice, {tool.name for tool in tools}),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        think=think,
        truncate="oldest" if body.truncation == "auto" else "error",
        template_args=args,
        **common_fields(body, request_id) | {"client": (body.safety_identifier or body.user or "")[:256]},
    )


def _check(body: ResponseBody) -> None:
    if body.n is not None and body.n != 1:
        raise InvalidRequestError("a response is one answer", param="n")
    if body.conversation is not None:
        hint = "use previous_response_id"
        raise InvalidRequestError("conversations are not kept here", hint=hint, param="conversation")
    if body.prompt is not None:
        raise InvalidRequestError("stored prompts are not kept here", hint="send input", param="prompt")
    if body.background and not body.is_stored:
        raise InvalidRequestError("a response in the background has to be stored", param="store")


def _tool(tool: FunctionTool, where: str) -> ToolSpec:
    if tool.type != "function":
        raise InvalidRequestError(f"tools of type {tool.type!r} are not offered", hint="send functions", param=where)
    if not tool.name:
        raise InvalidRequestError(f"{where} has no name", param=f"{where}.name")
    check_free_form(tool.parameters, f"{where}.parameters")
    return ToolSpec(tool.name, tool.description or "", tool.parameters or {}, bool(tool.strict))


def _choice(choice: str | dict[str, Any] | None, names: set[str]) -> ToolChoice:
    if choice is None:
        return ToolChoice()
    if choice in ("auto", "none", "required"):
        return ToolChoice(choice)  # type: ignore[arg-type]
    if isinstance(choice, dict):
        wanted = choice.get("tools") if choice.get("type") == "allowed_tools" else [choice]
        named = [tool.get("name") for tool in wanted or () if isinstance(tool, dict) and tool.get("type") == "function"]
        mode = choice.get("mode", "auto") if choice.get("type") == "allowed_tools" else "required"
        if named and isinstance(wanted, list) and len(named) == len(wanted) and mode in ("auto", "required"):
            if missing := [name for name in named if name not in names]:
                raise InvalidRequestError(f"tool_choice names {missing[0]!r}, no tool here", param="tool_choice")
            return ToolChoice("auto" if mode == "auto" else "required", tuple(map(str, named)))
    hint = "it is auto, none, required, a function or allowed_tools of functions"
    raise InvalidRequestError("this tool_choice is not known", hint=hint, param="tool_choice")


def response_head(
    body: ResponseBody, response_id: str, created: int, default_model: str, **fields: Any
) -> dict[str, Any]:
    """A response before anything is in it: what was asked for, said back."""
    reasoning = body.reasoning
    form = body.text.format if body.text is not None and body.text.format is not None else FormatBody()
    shown = {"type": form.type} if form.type != "json_schema" else msgspec.to_builtins(form)
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "model": body.model or default_model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "service_tier": "default",
        "store": body.is_stored,
        "temperature": body.temperature,
        "text": {"format": shown},
        "tool_choice": body.tool_choice or "auto",
        "tools": [msgspec.to_builtins(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
        **fields,
    }
