"""What a request says about tools, checked: which it offers, which may be called, and whether one has to be. Pure."""

from __future__ import annotations

from localllm.api import ChatRequest, ToolSpec
from localllm.errors import InvalidRequestError

MAX_TOOLS = 512
MAX_NAME_CHARS = 256


def offered_tools(request: ChatRequest) -> tuple[ToolSpec, ...]:
    """The tools to tell the model about. Raises InvalidRequestError for a choice that cannot be kept."""
    choice = request.tool_choice
    names = [tool.name for tool in request.tools]
    if len(names) > MAX_TOOLS:
        raise InvalidRequestError(f"{len(names)} tools", hint=f"at most {MAX_TOOLS}", param="tools")
    for tool in request.tools:
        if not tool.name or len(tool.name) > MAX_NAME_CHARS:
            hint = f"a name has 1 to {MAX_NAME_CHARS} characters"
            raise InvalidRequestError(f"a tool name of {len(tool.name)} characters", hint=hint, param="tools")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequestError(f"two tools named {twice[:60]!r}", param="tools")
    if choice.mode == "none":
        return ()
    if not names and (choice.mode == "required" or choice.names):
        raise InvalidRequestError("tool_choice asks for a call, and there are no tools", param="tool_choice")
    for name in choice.names:
        if name not in names:
            hint = "it names one of the request's tools"
            raise InvalidRequestError(f"tool_choice names {name[:60]!r}", hint=hint, param="tool_choice")
    return request.tools


def callable_tools(request: ChatRequest) -> tuple[ToolSpec, ...]:
    """Those of the offered tools that may be called."""
    names = request.tool_choice.names
    return tuple(tool for tool in offered_tools(request) if not names or tool.name in names)


def is_bound(request: ChatRequest) -> bool:
    """Whether a grammar has to see to the calls: one is due, or which and how many may come is limited, or how."""
    if not offered_tools(request):
        return False
    choice = request.tool_choice
    limited = bool(choice.names) or not request.parallel_tool_calls
    return choice.mode == "required" or limited or any(tool.strict for tool in request.tools)
