"""The tools of OpenAI's requests, and the choice among them, as api values. Pure."""

from __future__ import annotations

from typing import Any

from localllm.api import ToolChoice, ToolSpec
from localllm.daemon.body import check_free_form
from localllm.daemon.openai.bodies import AllowedTools, ChatBody, NamedFunction, ToolBody, ToolChoiceBody
from localllm.errors import InvalidRequestError


def tools_of(body: ChatBody) -> dict[str, Any]:
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
