"""Anthropic's JSON to api values: what clients send, and what it means here. Pure; no HTTP, no clock.

Fields nobody here knows are ignored. What asks for something that cannot be given (images, documents, tools that run on
Anthropic's servers) is an InvalidRequestError that names it. `cache_control` is taken and needs nothing done: prefixes
are always kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localllm.api import (
    ChatRequest,
    JsonSchema,
    Message,
    Role,
    SamplingParams,
    ToolCall,
    ToolChoice,
    ToolSpec,
    check_sampling,
)
from localllm.daemon.body import check_free_form
from localllm.errors import InvalidRequestError

Text = Annotated[str, Meta(max_length=16 * 1024 * 1024)]
_NAMES: dict[str, str] = {"image": "images", "document": "documents", "search_result": "search results"}
_EFFORTS = {"xhigh": "high", "max": "high"}


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all bodies."""


class Block(_Body, frozen=True):
    """A block of a message's content, of any type; each type has some of the fields."""

    type: str
    text: Text | None = None
    thinking: Text | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    tool_use_id: str | None = None
    content: Text | list[Block] | None = None
    is_error: bool | None = None


class MessageBody(_Body, frozen=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: Text | list[Block]


class Tool(_Body, frozen=True):
    """A tool; only the client's own are known."""

    name: Annotated[str, Meta(min_length=1, max_length=256)] = "-"
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class Choice(_Body, frozen=True):
    """Which tools to call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(_Body, frozen=True):
    """Whether to think, and how long."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class Metadata(_Body, frozen=True):
    """Who the request is made for."""

    user_id: Annotated[str, Meta(max_length=256)] | None = None


class OutputFormat(_Body, frozen=True):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(_Body, frozen=True):
    """The form of the answer, and how much work goes into it."""

    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class CountBody(_Body, frozen=True, kw_only=True):
    """The body of /v1/messages/count_tokens."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=100_000)]
    model: str | None = None
    system: Text | list[Block] | None = None
    tools: Annotated[list[Tool], Meta(max_length=256)] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    mcp_servers: list[Any] | None = None


class MessagesBody(CountBody, frozen=True, kw_only=True):
    """The body of /v1/messages."""

    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None


def chat_request(body: CountBody, default_model: str, request_id: str | None = None) -> ChatRequest:
    """What a body asks for."""
    if body.mcp_servers:
        raise InvalidRequestError("MCP servers are not called from here", param="mcp_servers")
    form = body.output_config.format if body.output_config and body.output_config.format else body.output_format
    if form is not None:
        check_free_form(form.schema, "output_config.format.schema")
    tools = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ()))
    thinking = body.thinking
    effort = body.output_config.effort if body.output_config else None
    metadata = body.metadata if isinstance(body, MessagesBody) else None
    return ChatRequest(
        model=body.model or default_model,
        messages=_messages(body),
        sampling=_sampling(body) if isinstance(body, MessagesBody) else SamplingParams(),
        tools=tools,
        tool_choice=_choice(body.tool_choice, tools),
        parallel_tool_calls=not (body.tool_choice and body.tool_choice.disable_parallel_tool_use),
        think=None if thinking is None else thinking.type != "disabled",
        reasoning_budget=thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else None,
        template_args={} if effort is None else {"reasoning_effort": _EFFORTS.get(effort, effort)},
        constraint=None if form is None else JsonSchema(form.schema),
        client=(metadata.user_id or "") if metadata is not None else "",
        request_id=request_id,
        prompt_usage=isinstance(body, MessagesBody) and bool(body.stream),
    )


def _sampling(body: MessagesBody) -> SamplingParams:
    params = SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        max_tokens=body.max_tokens,
        # The API ignores empty ones.
        stop=tuple(stop for stop in body.stop_sequences or () if stop) or None,
    )
    check_sampling(params)
    return params


def _tool(tool: Tool, where: str) -> ToolSpec:
    if tool.type not in (None, "custom"):
        raise InvalidRequestError(
            f"tools of type {tool.type!r} are not offered", hint="send tools with an input_schema", param=where
        )
    if tool.input_schema is None:
        raise InvalidRequestError(f"{where} has no input_schema", param=where)
    check_free_form(tool.input_schema, f"{where}.input_schema")
    return ToolSpec(tool.name, tool.description or "", tool.input_schema, bool(tool.strict))


def _choice(choice: Choice | None, tools: tuple[ToolSpec, ...]) -> ToolChoice:
    if choice is None or choice.type == "auto":
        return ToolChoice()
    if choice.type == "none":
        return ToolChoice("none")
    if choice.type == "any":
        return ToolChoice("required")
    if choice.name not in {tool.name for tool in tools}:
        raise InvalidRequestError(f"tool_choice names {choice.name!r}, which is no tool here", param="tool_choice.name")
    return ToolChoice("required", (choice.name,))


def _messages(body: CountBody) -> tuple[Message, ...]:
    messages: list[Message] = []
    if body.system and (system := _text(body.system, "system")):
        messages.append(Message("system", system))
    called: dict[str, str] = {}
    for i, message in enumerate(body.messages):
        where = f"messages[{i}].content"
        if message.role == "assistant":
            turn = _assistant(message.content, where)
            called |= {call.id: call.name for call in turn.tool_calls}
            messages.append(turn)
        else:
            messages += _said(message.role, message.content, where, called)
    return tuple(messages)


def _said(role: Role, content: str | list[Block], where: str, called: dict[str, str]) -> list[Message]:
    """A user's turn: first the results of tools, each a message, then what is said."""
    if isinstance(content, str):
        return [Message(role, content)]
    results: list[Message] = []
    texts: list[str] = []
    for i, block in enumerate(content):
        if block.type == "tool_result":
            results.append(_result(block, f"{where}[{i}]", called))
        else:
            texts.append(_words(block, f"{where}[{i}]"))
    return [*results, Message(role, "\n".join(texts))] if texts or not results else results


def _result(block: Block, where: str, called: dict[str, str]) -> Message:
    if block.tool_use_id is None:
        raise InvalidRequestError(f"{where} has no tool_use_id", param=f"{where}.tool_use_id")
    text = _text(block.content or "", f"{where}.content")
    # No chat template knows of failed calls: the words say it.
    text = f"Error: {text}" if block.is_error else text
    return Message("tool", text, called.get(block.tool_use_id), tool_call_id=block.tool_use_id)


def _assistant(content: str | list[Block], where: str) -> Message:
    if isinstance(content, str):
        return Message("assistant", content)
    texts, thoughts, calls = [], [], []
    for i, block in enumerate(content):
        match block.type:
            case "thinking":
                thoughts.append(block.thinking or "")
            case "redacted_thinking":
                pass
            case "tool_use":
                check_free_form(block.input, f"{where}[{i}].input")
                calls.append(ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode()))
            case _:
                texts.append(_words(block, f"{where}[{i}]"))
    return Message("assistant", "\n".join(texts), None, "\n".join(thoughts) or None, tuple(calls))


def _text(content: str | list[Block], where: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_words(block, f"{where}[{i}]") for i, block in enumerate(content))


def _words(block: Block, where: str) -> str:
    if block.type == "text" and block.text is not None:
        return block.text
    name = _NAMES.get(block.type, f"blocks of type {block.type!r}")
    raise InvalidRequestError(f"{name} are not taken", hint="send text", param=where)
