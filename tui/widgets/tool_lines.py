"""Tools and their servers in lines: how they stand, what they do, what a person allowed. Pure but for its Content."""

from __future__ import annotations

import json

from localllm_tui.tools.values import ServerStatus, Tool, ToolState
from textual.content import Content

from localllm.terminal_text import cut, safe_line, safe_stream, width

_SIGNS = {"ready": "●", "starting": "◌", "failed": "✗", "stopped": "○", "disabled": "○"}
_COLOURS = {"ready": "$success", "starting": "$warning", "failed": "$error"}
_PERMISSIONS = {"ask": "asks", "chat": "allowed in this chat", "always": "always allowed"}
_MUTED = "$text-muted"

EXAMPLE = """{
  "mcpServers": {
    "notes": {
      "command": "some-mcp-server",
      "args": ["/home/me/notes"]
    },
    "search": {
      "url": "https://example.com/mcp",
      "headers": {"Authorization": "Bearer ${SEARCH_TOKEN}"}
    }
  }
}"""


def server_line(status: ServerStatus) -> Content:
    """A server: a sign, its name, how it is in words."""
    number = f" · {status.num_tools} tool{'s' * (status.num_tools != 1)}" if status.state == "ready" else ""
    return Content.assemble(
        (_SIGNS[status.state], _COLOURS.get(status.state, _MUTED)),
        (f" {safe_line(status.name)}", "bold"),
        (f"   {safe_line(status.words)}{number}", _MUTED),
    )


def tool_line(state: ToolState, columns: int) -> Content:
    """A tool, its name in `columns`: offered or not, its name, what a person allowed."""
    name = cut(safe_line(state.tool.own_name), columns)
    name += " " * (columns - width(name))
    if not state.is_on:
        return Content.assemble((f"  ○ {name}   switched off", "$text-disabled"))
    said = ("has changed: asks again", "$warning") if state.is_changed else (_PERMISSIONS[state.permission], _MUTED)
    return Content.assemble(("  ● ", "$accent"), name, "   ", said)


def about_tool(state: ToolState) -> Content:
    """Everything that is known of a tool."""
    tool = state.tool
    parts: list[str | tuple[str, str]] = [(safe_line(tool.own_name), "bold"), (f"   {safe_line(tool.server)}", _MUTED)]
    if state.is_changed:
        parts.append(("\n\nIts server says something else of it than when it was allowed. It asks again.", "$warning"))
    parts.append(f"\n\n{safe_stream(tool.description or 'Its server does not say what it does.')}")
    for name, words, is_needed in parameters(tool):
        parts += [
            (f"\n\n{safe_line(name)}", "bold"),
            (f"   {safe_line(words)}" + ("" if is_needed else "   may be left out"), _MUTED),
        ]
    parts.append((f"\n\nModels call it {tool.name}", _MUTED))
    return Content.assemble(*parts)


def parameters(tool: Tool) -> list[tuple[str, str, bool]]:
    """What it takes: name, kind and description in a line, whether it is needed."""
    schema = tool.parameters
    properties, needed = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    names = set(needed) if isinstance(needed, list) else set()
    found = []
    for name, inner in properties.items():
        about = inner if isinstance(inner, dict) else {}
        kind = about.get("type") or ("one of " + json.dumps(about["enum"]) if "enum" in about else "anything")
        words = " ".join(str(about.get("description", "")).split())
        found.append(
            (str(name), f"{kind if isinstance(kind, str) else json.dumps(kind)}   {words}".strip(), name in names)
        )
    return found


def about_server(status: ServerStatus, log: tuple[str, ...]) -> Content:
    """Everything that is known of a server, and the end of its log."""
    parts: list[str | tuple[str, str]] = [
        (safe_line(status.name), "bold"),
        f"\n\n{safe_stream(status.words)}",
        (f"\n{safe_line(status.where)}", _MUTED),
    ]
    parts += [(f"\n\n{safe_line(note)}", "$warning") for note in status.notes]
    if log:
        parts.append(("\n\nLog\n", "bold"))
        parts.append((safe_stream("\n".join(log)), _MUTED))
    return Content.assemble(*parts)


def nothing_yet(file: str) -> Content:
    """How tools are had."""
    return Content.assemble(
        "No servers yet. Tools come from MCP servers, which are named in\n",
        (safe_line(file), "bold"),
        "\nlike this:\n\n",
        (EXAMPLE, _MUTED),
        ("\n\nThen press R here.", ""),
    )
