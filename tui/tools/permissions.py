"""What a person allowed of tools, and which ones a conversation is not offered; kept in a small file beside `mcp.json`.

What holds for one conversation is forgotten with the program: another database may give its number to another one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec
from localllm_tui.tools.values import Extent, Permission, Tool

from localllm.errors import ConfigError

Key = tuple[str, str]


class _Allowed(msgspec.Struct, frozen=True):
    server: str
    tool: str
    fingerprint: str


class _Switched(msgspec.Struct, frozen=True):
    conversation: int
    server: str
    tool: str
    is_on: bool


class _Kept(msgspec.Struct, frozen=True):
    always: tuple[_Allowed, ...] = ()
    switched: tuple[_Switched, ...] = ()


class Permissions:
    """Per tool, by its server's name and its own: may it run unasked, and is it offered."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._always: dict[Key, str] = {}
        self._chat: dict[int, dict[Key, str]] = {}
        self._switched: dict[int, dict[Key, bool]] = {}

    def load(self) -> None:
        """Read the file, if there is one. Raises ConfigError; nothing is allowed then."""
        self._always, self._switched = {}, {}
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise ConfigError(f"cannot read {self._file}: {exc.strerror or exc}") from exc
        except (msgspec.DecodeError, RecursionError) as exc:
            hint = "tools will ask again; the next answer writes the file anew"
            raise ConfigError(f"{self._file}: {exc}", hint=hint) from exc
        self._always = {(one.server, one.tool): one.fingerprint for one in kept.always}
        for one in kept.switched:
            self._switched.setdefault(one.conversation, {})[one.server, one.tool] = one.is_on

    def permission(self, conversation: int, tool: Tool) -> Permission:
        """Whether the tool as it is now may run unasked."""
        if self._always.get(_key(tool)) == tool.fingerprint:
            return "always"
        if self._chat.get(conversation, {}).get(_key(tool)) == tool.fingerprint:
            return "chat"
        return "ask"

    def is_changed(self, conversation: int, tool: Tool) -> bool:
        """Whether a tool of this name was allowed, and is another one now."""
        allowed = (self._always.get(_key(tool)), self._chat.get(conversation, {}).get(_key(tool)))
        return any(allowed) and tool.fingerprint not in allowed

    def approve(self, conversation: int, tool: Tool, extent: Extent) -> None:
        """Keep what a person allowed. Raises ConfigError where it cannot be written; until the end it holds."""
        if extent == "chat":
            self._chat.setdefault(conversation, {})[_key(tool)] = tool.fingerprint
        elif extent == "always":
            self._always[_key(tool)] = tool.fingerprint
            self._save()

    def revoke(self, conversation: int, tool: Tool) -> None:
        """Ask again, here and everywhere. Raises ConfigError likewise."""
        self._chat.get(conversation, {}).pop(_key(tool), None)
        if self._always.pop(_key(tool), None) is not None:
            self._save()

    def is_on(self, conversation: int, tool: Tool) -> bool:
        """Whether the conversation offers the tool; what it does not say, conversation 0 says for all."""
        for place in (conversation, 0):
            said = self._switched.get(place, {}).get(_key(tool))
            if said is not None:
                return said
        return True

    def switch(self, conversation: int, tool: Tool, is_on: bool) -> None:
        """Offer the tool there, or do not. Raises ConfigError likewise."""
        self._switched.setdefault(conversation, {})[_key(tool)] = is_on
        self._save()

    def _save(self) -> None:
        kept = _Kept(
            tuple(_Allowed(*key, fingerprint) for key, fingerprint in self._always.items()),
            tuple(_Switched(place, *key, on) for place, said in self._switched.items() for key, on in said.items()),
        )
        partial = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, partial = tempfile.mkstemp(dir=self._file.parent, prefix=self._file.name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(msgspec.json.format(msgspec.json.encode(kept)))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, self._file)
        except OSError as exc:
            if partial is not None:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
            problem = f"cannot write {self._file}: {exc.strerror or exc}"
            raise ConfigError(problem, hint="it holds until the chat ends") from exc


def _key(tool: Tool) -> Key:
    return tool.server, tool.own_name
