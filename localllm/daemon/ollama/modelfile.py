"""A Modelfile's text to the fields of a create body. Pure.

Instructions are a word and the rest of the line; a value in three quotes may have many lines, one in single quotes
keeps its spaces. What the store cannot hold is refused where the fields are read, not here.
"""

from __future__ import annotations

import re
from typing import Any

from localllm.errors import InvalidRequestError

_NAMED = {
    "SYSTEM": "system",
    "TEMPLATE": "template",
    "RENDERER": "renderer",
    "PARSER": "parser",
    "REQUIRES": "requires",
}
_DIGEST = re.compile(r"@?sha256[:-](?P<hex>[0-9a-f]{64})")
_QUOTES = '"""'


def parse_modelfile(text: str) -> dict[str, Any]:
    """The fields that the instructions stand for. Raises InvalidRequestError naming the line that says nothing."""
    fields: dict[str, Any] = {}
    for number, word, value in _instructions(text):
        match word:
            case "FROM":
                _from(value, fields)
            case "PARAMETER":
                name, _, setting = value.partition(" ")
                known = fields.setdefault("parameters", {}).setdefault(name.lower(), [])
                known.append(_unquoted(setting.strip()))
            case "ADAPTER":
                fields.setdefault("adapters", {})[value] = value
            case "LICENSE":
                fields["license"] = value
            case "MESSAGE":
                role, _, content = value.partition(" ")
                fields.setdefault("messages", []).append({"role": role, "content": _unquoted(content)})
            case _ if word in _NAMED:
                fields[_NAMED[word]] = value
            case _:
                raise InvalidRequestError(f"modelfile line {number}: {word[:40]} is no instruction", param="modelfile")
    parameters = fields.get("parameters", {})
    fields["parameters"] = {n: v if n == "stop" else v[-1] for n, v in parameters.items()}
    return fields


def _from(value: str, fields: dict[str, Any]) -> None:
    digest = _DIGEST.fullmatch(value)
    if digest is not None:
        fields.setdefault("files", {})["model.gguf"] = f"sha256:{digest['hex']}"
    else:
        fields["from"] = value


def _instructions(text: str) -> list[tuple[int, str, str]]:
    """Line number, instruction and value of each."""
    found: list[tuple[int, str, str]] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        number, stripped = at + 1, lines[at].strip()
        at += 1
        if not stripped or stripped.startswith("#"):
            continue
        word, _, value = stripped.partition(" ")
        value = value.strip()
        opened = value.find(_QUOTES)
        if opened >= 0 and value.count(_QUOTES) == 1:
            rest = [value]
            while at < len(lines) and _QUOTES not in lines[at]:
                rest.append(lines[at])
                at += 1
            if at == len(lines):
                raise InvalidRequestError(f"modelfile line {number}: its quotes are not closed", param="modelfile")
            rest.append(lines[at])
            at += 1
            value = "\n".join(rest).rstrip()
        found.append((number, word.upper(), _unquoted(value)))
    return found


def _unquoted(value: str) -> str:
    for quotes in (_QUOTES, '"'):
        if len(value) >= 2 * len(quotes) and value.startswith(quotes) and value.endswith(quotes):
            return value[len(quotes) : -len(quotes)]
    return value
