"""Where a command's words go: data to standard output, narration to standard error, in human, JSON or quiet form.

Owns colour, terminal width and encoding decisions. Knows no command.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TextIO

from localllm import terminal_text as text
from localllm.cli import table

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


class Output:
    """One command's output. `json`: data as one JSON document; `quiet`: no narration, warnings and errors only."""

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        out: TextIO | None = None,
        err: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.json = json
        self.quiet = quiet
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self._environ = os.environ if environ is None else environ
        self.out_is_tty = _is_tty(self.out)
        self.err_is_tty = _is_tty(self.err)

    # -- data

    def document(self, value: Any) -> None:
        """Write a value as one indented JSON document. Structs keep every field, also those at their default."""
        import msgspec

        body = msgspec.json.format(msgspec.json.encode(plain(value)), indent=2)
        self.out.write(body.decode() + "\n")

    def line(self, words: str = "") -> None:
        """One line of data; control characters are shown, never sent."""
        self.out.write(text.safe_line(words) + "\n")

    def lines(self, many: Sequence[str]) -> None:
        """Lines of data that are safe already."""
        self.out.write("".join(f"{line}\n" for line in many))

    def table(self, columns: Sequence[table.Column], rows: Sequence[Sequence[str]]) -> None:
        """An aligned table with a heading, fitted to the terminal where there is one."""
        heading, *body = table.lines(columns, rows, self.columns() if self.out_is_tty else None)
        self.lines([self.styled(heading, "bold"), *body])

    # -- narration

    def note(self, words: str) -> None:
        """One line about what happens; silent under `--quiet`."""
        if not self.quiet:
            self._say("", words)

    def warn(self, words: str, label: str = "", style: str = "bold") -> None:
        """One line that is shown in any case, behind a label such as `error:`."""
        self._say(self.mark(label, style) + " " if label else "", words)

    def columns(self) -> int:
        """Width of the terminal: `COLUMNS`, else what the terminal says, else 80."""
        return max(20, shutil.get_terminal_size().columns)

    def styled(self, words: str, style: str) -> str:
        """`words` in a style where standard output is a terminal that shows colours."""
        return f"\x1b[{_STYLES[style]}m{words}\x1b[0m" if self.colour(self.out) else words

    def mark(self, words: str, style: str) -> str:
        """The same for standard error."""
        return f"\x1b[{_STYLES[style]}m{words}\x1b[0m" if self.colour(self.err) else words

    def colour(self, stream: TextIO) -> bool:
        """Whether escape sequences may be written to `stream`: a terminal, and neither NO_COLOR nor TERM=dumb."""
        return _is_tty(stream) and not self._environ.get("NO_COLOR") and self._environ.get("TERM") != "dumb"

    def flush(self) -> None:
        """Send what is written on its way, so that an answer shows as it comes."""
        self.out.flush()

    def _say(self, label: str, words: str) -> None:
        self.out.flush()
        self.err.write(label + text.safe_stream(words) + "\n")
        self.err.flush()


def plain(value: Any) -> Any:
    """Structs as dicts with all their fields, paths as text, so that the keys of a document never depend on values."""
    import msgspec

    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def prepare_streams() -> None:
    """Make the standard streams safe to write any text to, once, before anything is written.

    A missing stream becomes a sink; what an encoding lacks becomes `?`; pipes carry UTF-8 on Windows too; a Windows
    console is told to obey escape sequences.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (lives as long as the process)
        elif hasattr(stream, "reconfigure"):
            encoding = "utf-8" if sys.platform == "win32" and not _is_tty(stream) else None
            stream.reconfigure(encoding=encoding, errors="replace")
    if sys.platform == "win32":
        _obey_escapes()


def discard_stdout() -> None:
    """Point standard output nowhere, so that nothing more fails once its reader has gone."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (lives as long as the process)


def _is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _obey_escapes() -> None:
    if sys.platform == "win32":
        import ctypes

        for number in (-11, -12):
            handle = ctypes.windll.kernel32.GetStdHandle(number)
            mode = ctypes.c_uint32()
            if ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode)):
                ctypes.windll.kernel32.SetConsoleMode(handle, mode.value | 4)
