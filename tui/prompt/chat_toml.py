"""Adds a persona or a snippet to a person's chat.toml. Everything that stands there stays, comments too."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from localllm_tui.prompt.placeholders import literal

from localllm.errors import ConfigError, UsageError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
MAX_NAME = 60


def add_persona(file: Path, name: str, system: str) -> None:
    """Append a persona of this system prompt. Raises UsageError, ConfigError; the file is whole or as it was."""
    name = _checked(name, system)
    _add(file, "personas", name, {"system": literal(system)}, _persona)


def add_snippet(file: Path, name: str, text: str) -> None:
    """Append a snippet. Raises likewise."""
    name = _checked(name, text)
    _add(file, "snippets", name, literal(text), _snippet)


def _checked(name: str, text: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError("it needs a name", hint=f"of up to {MAX_NAME} letters")
    if not text.strip():
        raise UsageError(f"there is no text to be kept as {name}")
    return name


def _add(file: Path, kind: str, name: str, value: Any, write: Any) -> None:
    file = file.resolve()  # a link into a folder of dotfiles stays one
    old, line_end = _read(file)
    known = _parsed(old, file)
    if name in known.get(kind, {}):
        raise UsageError(f"there is one called {name} already", hint=f"another name, or change it in {file}")
    text = write(old, name, value)
    wanted = {**known, kind: {**known.get(kind, {}), name: value}}
    # Whatever way the file is written in, it must now say what it said before and the new one besides.
    if _said(text) != wanted:
        entry = write("", name, value).strip()
        raise ConfigError(f"{file} is written in a way that cannot be added to", hint=f"add this yourself:\n{entry}")
    _replace(file, text.replace("\n", line_end))


def _said(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(tomllib.TOMLDecodeError):
        return tomllib.loads(text)
    return None


def _persona(old: str, name: str, value: dict[str, str]) -> str:
    entry = f"[personas.{_key(name)}]\nsystem = {_string(value['system'])}\n"
    return f"{old.rstrip()}\n\n{entry}" if old.strip() else entry


def _snippet(old: str, name: str, value: str) -> str:
    line = f"{_key(name)} = {_string(value)}\n"
    header = re.search(r"^[ \t]*\[[ \t]*snippets[ \t]*\][^\n]*(?:\n|\Z)", old, re.MULTILINE)
    if header is not None:
        head = old[: header.end()]
        return head + ("" if head.endswith("\n") else "\n") + line + old[header.end() :]
    return f"{old.rstrip()}\n\n[snippets]\n{line}" if old.strip() else f"[snippets]\n{line}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """A TOML string: on several lines where the text has some."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped)
    return f'"""\n{escaped}"""' if "\n" in escaped else '"' + escaped.replace("\t", "\\t") + '"'


def _read(file: Path) -> tuple[str, str]:
    """The file's text, with line ends as here, and its own line end."""
    try:
        text = file.read_bytes().decode("utf-8")
        return text.replace("\r\n", "\n"), "\r\n" if "\r\n" in text else "\n"
    except FileNotFoundError:
        return "", "\n"
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {file}: {getattr(exc, 'strerror', None) or exc}") from exc


def _parsed(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{file} is no valid TOML: {exc}", hint="mend it first; nothing was written") from exc


def _replace(file: Path, text: str) -> None:
    """Write it beside the old one, then take that one's place."""
    partial: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        number, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with open(number, "wb") as out:
            out.write(text.encode("utf-8"))
            out.flush()
            os.fsync(out.fileno())
        if file.exists():
            os.chmod(partial, file.stat().st_mode & 0o777)
        os.replace(partial, file)
    except OSError as exc:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        raise ConfigError(f"{file} cannot be written: {exc.strerror or exc}") from exc
