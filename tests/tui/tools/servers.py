"""A toolbox over real servers in child processes."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localllm_tui.tools.toolbox import Toolbox
from localllm_tui.tools.values import ServerStatus, ToolResult

from localllm.api import ToolCall

SERVER = Path(__file__).with_name("echo_server.py")
ECHO: dict[str, Any] = {"command": sys.executable, "args": [str(SERVER)]}


def write_servers(folder: Path, **servers: Any) -> Path:
    """An `mcp.json` with these servers."""
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": servers}))
    return file


def call(toolbox: Toolbox, name: str, **arguments: Any) -> ToolResult:
    """One call, from its start to its end."""
    return asyncio.run(toolbox.call(ToolCall("1", name, json.dumps(arguments))))


def status(toolbox: Toolbox, name: str) -> ServerStatus:
    """One server's."""
    return next(one for one in toolbox.status() if one.name == name)


def wait_for(predicate: Callable[[], object], limit_s: float = 15.0) -> None:
    """What happens in the background, outside every event loop of the test's."""
    deadline = time.monotonic() + limit_s
    while not predicate():
        assert time.monotonic() < deadline, f"still not so after {limit_s:g} s"
        time.sleep(0.01)
