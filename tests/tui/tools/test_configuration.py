"""mcp.json: what is read, what is refused, and that the words name the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from localllm_tui.tools.configuration import MAX_FILE_BYTES, ServerConfig, load_servers

from localllm.errors import ConfigError


def one(tmp_path: Path, entry: Any, environment: dict[str, str] | None = None) -> ServerConfig:
    """The one server of a file with this entry."""
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"it": entry}}))
    (config,) = load_servers(file, environment or {})
    return config


def test_both_ways_with_variables_from_the_environment(tmp_path: Path) -> None:
    entry = {
        "command": "${TOOLS}/run",
        "args": ["--key=${KEY}", "${ABSENT:-fallback}"],
        "env": {"TOKEN": "${KEY}"},
        "cwd": "/tmp",
        "disabled": True,
    }
    config = one(tmp_path, entry, {"TOOLS": "/opt", "KEY": "k"})
    assert config.problem is None
    assert (config.command, config.args, config.env, config.cwd) == (
        "/opt/run",
        ("--key=k", "fallback"),
        (("TOKEN", "k"),),
        "/tmp",
    )
    assert config.is_disabled
    assert config.where == "${TOOLS}/run --key=${KEY} ${ABSENT:-fallback}"
    config = one(
        tmp_path, {"type": "http", "url": "https://${H}/mcp", "headers": {"A": "B ${KEY}"}}, {"H": "h", "KEY": "s"}
    )
    assert (config.url, config.headers, config.problem) == ("https://h/mcp", (("A", "B s"),), None)
    # What is shown of a server is what stands in the file.
    assert config.where == "https://${H}/mcp"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([], "is no object"),
        ({}, "needs either a command or a url"),
        ({"command": "a", "url": "http://b"}, "not both"),
        ({"command": 1}, "it.command is no text"),
        ({"command": "a", "args": "b"}, "it.args is no list of texts"),
        ({"command": "a", "args": ["${NOPE}"]}, "it.args[0]: the environment has no NOPE"),
        ({"command": "a", "env": {"X": 1}}, "it.env is no object of texts"),
        ({"command": "a", "env": {"X": "${NOPE}"}}, "it.env.X: the environment has no NOPE"),
        ({"command": "a\0b"}, "NUL"),
        ({"url": "file:///etc"}, "does not begin with http"),
        ({"url": "http://a", "headers": {"A": "b\r\nC: d"}}, "a header is one line"),
        ({"url": "http://a", "type": "sse"}, "type: 'sse' is not spoken here"),
        ({"url": "http://a", "type": "stdio"}, "type 'stdio' needs a command"),
        ({"command": "a", "call_timeout_s": 0}, "call_timeout_s"),
        ({"command": "a", "disabled": "yes"}, "disabled is neither"),
    ],
)
def test_what_is_wrong_with_a_server_is_said_with_its_place(tmp_path: Path, entry: Any, words: str) -> None:
    problem = one(tmp_path, entry).problem
    assert problem is not None
    assert problem.startswith("mcp.json: mcpServers.it")
    assert words in problem


def test_a_wrong_server_keeps_no_other_away(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"bad": 1, "good": {"command": "c", "autoApprove": []}}, "other": 1}')
    bad, good = load_servers(file, {})
    assert bad.problem
    assert good.problem is None
    assert good.notes == ("mcp.json: mcpServers.good.autoApprove is not known here and does nothing",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mcpServers": {\n  "a": }}', "line 2, column 8"),
        ("[]", "no object mcpServers"),
        ('{"mcpServers": {"a": {"command": "x", "command": "y"}}}', "'command' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        (" " * (MAX_FILE_BYTES + 1), "larger than 1 MB"),
    ],
    ids=["comma", "list", "twins", "deep", "large"],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_servers(file)


def test_no_file_means_no_servers(tmp_path: Path) -> None:
    assert load_servers(tmp_path / "mcp.json") == ()
    (tmp_path / "mcp.json").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        load_servers(tmp_path / "mcp.json")
