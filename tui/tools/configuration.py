"""`mcp.json`: which servers there are, in the format other MCP clients use. Reads and checks; starts nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localllm.api.value import Value
from localllm.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
CALL_TIMEOUT_S = 120.0

_KNOWN = {"command", "args", "env", "cwd", "url", "headers", "disabled", "type", "call_timeout_s"}
_TYPES = {"stdio": "command", "http": "url", "streamable-http": "url", "streamableHttp": "url"}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class ServerConfig(Value, frozen=True):
    """One server: a command that speaks MCP over its stdin and stdout, or a URL. `problem`: why it cannot be used.

    `where` is the command line or the address as it was written: what variables stand for may be secret.
    """

    name: str
    where: str = ""
    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    is_disabled: bool = False
    call_timeout_s: float = CALL_TIMEOUT_S
    problem: str | None = None
    notes: tuple[str, ...] = ()


class _Wrong(Exception):
    """An entry cannot be used; says why, with the place."""


def load_servers(file: Path, environment: Mapping[str, str] | None = None) -> tuple[ServerConfig, ...]:
    """The servers of the file, in its order; none where there is no file.

    Raises ConfigError where the file as a whole makes no sense. What is wrong with one server is its `problem`.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror or exc}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES // 1_000_000} MB; that is no list of servers")
    servers = _servers_of(data, file)
    values = os.environ if environment is None else environment
    return tuple(_server(name, entry, file, values) for name, entry in servers.items())


def _servers_of(data: bytes, file: Path) -> dict[str, Any]:
    hint = 'it looks like this: {"mcpServers": {"files": {"command": "some-server", "args": ["/home/me/notes"]}}}'
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_twins)
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file} is not UTF-8 (byte {exc.start})") from exc
    except json.JSONDecodeError as exc:
        raise ConfigError(f"{file}, line {exc.lineno}, column {exc.colno}: {exc.msg}", hint=hint) from exc
    except RecursionError as exc:
        raise ConfigError(f"{file} is nested too deeply", hint=hint) from exc
    except _Wrong as exc:
        raise ConfigError(f"{file}: {exc}") from exc
    servers = document.get("mcpServers") if isinstance(document, dict) else None
    if not isinstance(servers, dict):
        raise ConfigError(f"{file} has no object mcpServers", hint=hint)
    return servers


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise _Wrong(f"{twin!r} stands twice in the same object")
    return seen


def _server(name: str, entry: Any, file: Path, environment: Mapping[str, str]) -> ServerConfig:
    place = f"{file.name}: mcpServers.{name}"
    try:
        return _checked(name, entry, place, environment)
    except _Wrong as exc:
        is_disabled = isinstance(entry, dict) and entry.get("disabled") is True
        return ServerConfig(name, problem=str(exc), is_disabled=is_disabled)


def _checked(name: str, entry: Any, place: str, environment: Mapping[str, str]) -> ServerConfig:
    if not name.strip():
        raise _Wrong(f"{place}: a server needs a name")
    if not isinstance(entry, dict):
        raise _Wrong(f"{place} is no object")

    def text(key: str) -> str:
        value = entry.get(key, "")
        if not isinstance(value, str):
            raise _Wrong(f"{place}.{key} is no text")
        return _filled(value, f"{place}.{key}", environment)

    def texts(key: str) -> tuple[tuple[str, str], ...]:
        values = entry.get(key) or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise _Wrong(f"{place}.{key} is no object of texts")
        return tuple((inner, _filled(value, f"{place}.{key}.{inner}", environment)) for inner, value in values.items())

    args = entry.get("args") or []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise _Wrong(f"{place}.args is no list of texts")
    timeout = entry.get("call_timeout_s", CALL_TIMEOUT_S)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 86_400:
        raise _Wrong(f"{place}.call_timeout_s is no number of seconds between 0 and 86400")
    if not isinstance(entry.get("disabled", False), bool):
        raise _Wrong(f"{place}.disabled is neither true nor false")
    config = ServerConfig(
        name,
        command=os.path.expanduser(text("command")),
        args=tuple(_filled(arg, f"{place}.args[{at}]", environment) for at, arg in enumerate(args)),
        env=texts("env"),
        cwd=os.path.expanduser(text("cwd")) or None,
        url=text("url"),
        headers=texts("headers"),
        is_disabled=entry.get("disabled", False),
        call_timeout_s=float(timeout),
        where=entry.get("url") or " ".join((entry.get("command", ""), *args)),
        notes=tuple(f"{place}.{key} is not known here and does nothing" for key in entry if key not in _KNOWN),
    )
    _check_way(config, entry.get("type"), place)
    return config


def _check_way(config: ServerConfig, kind: Any, place: str) -> None:
    if bool(config.command) == bool(config.url):
        raise _Wrong(f"{place} needs either a command or a url" + (", not both" if config.command else ""))
    if kind is not None and kind not in _TYPES:
        known = ", ".join(sorted(set(_TYPES) - {"streamableHttp"}))
        raise _Wrong(f"{place}.type: {kind!r} is not spoken here; known: {known}")
    if kind is not None and not getattr(config, _TYPES[kind]):
        raise _Wrong(f"{place}: type {kind!r} needs a {_TYPES[kind]}")
    if config.url and not config.url.lower().startswith(("http://", "https://")):
        raise _Wrong(f"{place}.url does not begin with http:// or https://")
    texts = (config.command, *config.args, config.url, *(part for pair in config.env + config.headers for part in pair))
    if any("\0" in text for text in texts):
        raise _Wrong(f"{place} holds a NUL character")
    if any("\n" in part or "\r" in part for pair in config.headers for part in pair):
        raise _Wrong(f"{place}.headers: a header is one line")


def _filled(text: str, place: str, environment: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name in environment:
            return environment[name]
        if default is None:
            raise _Wrong(f"{place}: the environment has no {name}")
        return default

    return _VARIABLE.sub(value, text)
