"""The editor a person has chosen, run on a text in a file of its own. Blocks; whoever calls it gave up the terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from localllm.errors import UsageError
from localllm.terminal_text import safe_line

_POSIX = ("editor", "nano", "vim", "vi")
_HINT = "set VISUAL or EDITOR to one, such as EDITOR=nano"


def command(environ: Mapping[str, str]) -> list[str]:
    """The editor as words of a command: VISUAL, EDITOR, else what this system has. Raises UsageError where none is."""
    chosen = environ.get("VISUAL", "").strip() or environ.get("EDITOR", "").strip()
    if not chosen:
        fallbacks = ("notepad",) if sys.platform == "win32" else _POSIX
        chosen = next((name for name in fallbacks if shutil.which(name)), "")
        if not chosen:
            raise UsageError("there is no editor", hint=_HINT)
    words = _words(chosen)
    if not words or shutil.which(words[0]) is None:
        raise UsageError(f"the editor {safe_line(chosen)} is not there", hint=_HINT)
    return words


def edit(text: str, words: Sequence[str]) -> str:
    """`text` after the editor ended. Raises UsageError, and the text is as it was, where the editor failed."""
    folder = tempfile.mkdtemp(prefix="localllm-")  # for its owner only
    try:
        file = Path(folder) / "prompt.md"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        _run([*words, str(file)])
        return _read(file, words[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _words(chosen: str) -> list[str]:
    if sys.platform == "win32":
        return [word.strip('"') for word in shlex.split(chosen, posix=False)]
    with contextlib.suppress(ValueError):
        return shlex.split(chosen)
    return [chosen]


def _run(words: list[str]) -> None:
    shown = safe_line(words[0])
    try:
        ended = subprocess.run(words, check=False)
    except OSError as exc:
        raise UsageError(f"{shown} cannot be started: {exc.strerror or exc}", hint=_HINT) from exc
    if ended.returncode:
        how = f"status {ended.returncode}" if ended.returncode > 0 else f"signal {-ended.returncode}"
        raise UsageError(f"{shown} ended with {how}", hint="the text is as it was before")


def _read(file: Path, editor: str) -> str:
    try:
        edited = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        hint = "the text is as it was before"
        raise UsageError(f"what {safe_line(os.path.basename(editor))} saved cannot be read", hint=hint) from exc
    edited = edited.replace("\r\n", "\n")
    return edited.removesuffix("\n")  # editors end a file with a line end
