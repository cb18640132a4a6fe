"""References inside one schema: `#`, `#/a/b`, `#anchor`. Nothing is ever fetched."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from localllm.engine.grammar.limits import refuse


class References:
    """Finds what the references of a schema lead to, and names each target once."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        base = root.get("$id", root.get("id"))
        self._base = base.rstrip("#") if isinstance(base, str) else None
        self._names: dict[str, str] = {}
        self._anchors: dict[str, str] | None = None

    def resolve(self, reference: object, path: str) -> tuple[str, Any, str]:
        """The target's name, the target, and its own path. Raises InvalidRequestError."""
        if not isinstance(reference, str):
            refuse("a $ref that is no text", path=path)
        at = self._pointer(reference, path)
        target = self._follow(at, reference, path)
        return self._names.setdefault(at, f"r{len(self._names)}"), target, at

    def _pointer(self, reference: str, path: str) -> str:
        """A reference as the canonical path of its target."""
        base, _, fragment = reference.partition("#")
        if base and base != self._base:
            hint = "only references inside the schema are followed; put the other one into $defs"
            refuse(f"the remote $ref {reference!r}", hint=hint, path=path, keyword="$ref")
        fragment = unquote(fragment)
        if not fragment or fragment == "/":
            return "#"
        if fragment.startswith("/"):
            return "#" + fragment
        anchor = self._find_anchors().get(fragment)
        if anchor is None:
            refuse(f"$ref {reference!r} leads nowhere", path=path, keyword="$ref")
        return anchor

    def _follow(self, at: str, reference: str, path: str) -> Any:
        node: Any = self._root
        for part in at.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and re.fullmatch(r"\d{1,6}", key) and int(key) < len(node):
                node = node[int(key)]
            else:
                refuse(f"$ref {reference!r} leads nowhere", path=path, keyword="$ref")
        return node

    def _find_anchors(self) -> dict[str, str]:
        """Where each $anchor is."""
        if self._anchors is None:
            self._anchors = {}
            todo: list[tuple[Any, str]] = [(self._root, "#")]
            while todo:
                node, at = todo.pop()
                if isinstance(node, dict):
                    if isinstance(anchor := node.get("$anchor"), str):
                        self._anchors[anchor] = at
                    todo += [(value, child(at, key)) for key, value in node.items()]
                elif isinstance(node, list):
                    todo += [(value, child(at, index)) for index, value in enumerate(node)]
        return self._anchors


def child(path: str, key: str | int) -> str:
    """The JSON pointer of a member."""
    return f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
