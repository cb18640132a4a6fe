"""Measure the terminal chat while an answer streams into it: its own CPU, and how long a key takes to be seen.

    python scripts/bench_chat.py [--before 70000] [--seconds 30] [--rate 100] [--side chat|textual|both] [--json]

A child process runs the real app (its history, its turns, its widgets; 120 x 40 in a pseudo-terminal) over a backend
that plays a generated Markdown answer: `--before` characters at once, then `--rate` pieces of four characters a second
for `--seconds`. The child tells the CPU time it took from the first piece to the last. Meanwhile keys are typed into
the terminal, and the time is taken until each is on it. `--before 0 --seconds 250` is the whole answer of 100 KB.
The other side is Textual's own Markdown widget with its stream, in an app of its own, fed with the same pieces.
Not for Windows, which has no pseudo-terminals of this kind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from long_answer import answer

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    Finished,
    LoadedModel,
    ModelInfo,
    Notice,
    Progress,
    Ranking,
    Rendered,
    RerankRequest,
    TextDelta,
    Timings,
    Usage,
)

MODEL = "bench:1b"
SIZE = (120, 40)
PIECE_CHARS = 4
KEY_EVERY_S = 0.15
# No answer has these, so that one on the terminal is the echo of a key.
KEYS = [
    chr(code) for block in ((0x430, 0x450), (0x3B1, 0x3CA), (0x561, 0x587), (0x10D0, 0x10F1)) for code in range(*block)
]


# --- the child --------------------------------------------------------------------------------------------------------


class Meter:
    """CPU and wall time between two moments, written to a file for the parent."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._start = (0.0, 0.0)

    def begin(self) -> None:
        """The first measured piece."""
        self._file.with_suffix(".begun").touch()
        self._start = (time.process_time(), time.perf_counter())

    def end(self) -> None:
        """The last one."""
        cpu_s, wall_s = time.process_time() - self._start[0], time.perf_counter() - self._start[1]
        whole = self._file.with_suffix(".part")
        whole.write_text(json.dumps({"cpu_s": cpu_s, "wall_s": wall_s}))
        whole.rename(self._file)


async def pieces(text: str, num_before: int, rate: float, meter: Meter) -> AsyncIterator[str]:
    """What a model would send, at its pace; what comes late comes at once, as it would."""
    if num_before:
        yield text[:num_before]
        await asyncio.sleep(2.0)
    meter.begin()
    start = time.perf_counter()
    for number, at in enumerate(range(num_before, len(text), PIECE_CHARS)):
        wait_s = start + number / rate - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        yield text[at : at + PIECE_CHARS]
    meter.end()


class PacedBackend:
    """A Backend that answers with one text at a given pace."""

    def __init__(self, text: str, num_before: int, rate: float, meter: Meter) -> None:
        self._of_stream = (text, num_before, rate, meter)
        self._is_used = False

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """The text, the first time; one word for all that is asked beside it."""
        if self._is_used or request.priority < 0:
            yield TextDelta("Title")
        else:
            self._is_used = True
            async for piece in pieces(*self._of_stream):
                yield TextDelta(piece)
        yield Finished("stop", Usage(num_prompt_tokens=10, num_output_tokens=100), Timings(decode_s=1.0))

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:  # noqa: ARG002
        """Not asked for."""
        yield Finished("stop", Usage())

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:  # noqa: ARG002
        """A token is a word."""
        return list(range(len(text.split())))

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """Not asked for."""
        raise NotImplementedError

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Not asked for."""
        raise NotImplementedError

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Not asked for."""
        raise NotImplementedError

    async def list_models(self) -> list[ModelInfo]:
        """The one."""
        return [ModelInfo(MODEL, 1, "sha256:" + "11" * 32, "bench", "2026-01-01T00:00:00+00:00")]

    async def list_loaded(self) -> list[LoadedModel]:
        """The one."""
        return [LoadedModel(MODEL, 1, 131072, 1, 131072, "CPU")]

    async def render(self, request: ChatRequest) -> Rendered:
        """As text."""
        text = "".join(message.content for message in request.messages)
        return Rendered(text, tuple(range(len(text.split()))))

    async def control(self, request_id: str, control: Control) -> bool:  # noqa: ARG002
        """Nothing to steer."""
        return False

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,  # noqa: ARG002
        pin: bool | None = None,  # noqa: ARG002
        num_ctx: int | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Progress | Notice]:
        """It is loaded."""
        yield Progress("load", model, 1.0, 1.0, "fraction")

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        """It is there."""
        yield Progress("download", model, 1, 1)

    async def unload(self, model: str) -> None:
        """It stays."""

    async def close(self) -> None:
        """Nothing is held."""


def run_chat(folder: Path, text: str, num_before: int, rate: float) -> None:
    """The real app."""
    from localllm_tui.app import ChatApp
    from localllm_tui.options import ChatOptions

    backend = PacedBackend(text, num_before, rate, Meter(folder / "result.json"))

    ChatApp(lambda: backend, ChatOptions(model=MODEL, database=folder / "chat.db", conversation=0)).run()


def run_textual(folder: Path, text: str, num_before: int, rate: float) -> None:
    """Textual's Markdown widget, fed through its stream, over an input."""
    from textual.app import App, ComposeResult
    from textual.containers import VerticalScroll
    from textual.widgets import Input, Markdown

    meter = Meter(folder / "result.json")

    class Plain(App[None]):
        def compose(self) -> ComposeResult:
            with VerticalScroll():
                yield Markdown()
            yield Input()

        def on_mount(self) -> None:
            self.query_one(VerticalScroll).anchor()
            self.query_one(Input).focus()

        def on_input_submitted(self, event: Input.Submitted) -> None:
            event.input.clear()
            self.run_worker(self.stream())

        async def stream(self) -> None:
            stream = Markdown.get_stream(self.query_one(Markdown))
            async for piece in pieces(text, num_before, rate, meter):
                await stream.write(piece)
            await stream.stop()

    Plain().run()


# --- the parent -------------------------------------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal with the child in it: keys go in, what is drawn comes out and is looked at for their echo."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        import fcntl
        import pty
        import termios

        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        self.process = subprocess.Popen(
            command, stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True
        )
        os.close(child)
        self.num_bytes = 0
        self.shown = b""
        self._tail = b""

    def read(self, within_s: float) -> bytes:
        """What comes within a time; nothing where nothing does."""
        ready, _, _ = select.select([self._fd], [], [], within_s)
        if not ready:
            return b""
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:
            return b""
        self.num_bytes += len(data)
        self.shown = (self.shown + data)[-4096:]
        return data

    def echo_s(self, key: str, limit_s: float = 5.0) -> float | None:
        """Seconds from a key to its being drawn; None: not within the limit."""
        wanted = key.encode()
        start = time.perf_counter()
        os.write(self._fd, wanted)
        self._tail = b""
        while (left := start + limit_s - time.perf_counter()) > 0:
            self._tail = self._tail[-8:] + self.read(left)
            if wanted in self._tail:
                return time.perf_counter() - start
        return None

    def type(self, text: str) -> None:
        """Keys, without looking for them."""
        os.write(self._fd, text.encode())

    def drain(self, seconds: float) -> None:
        """Take what comes for a while."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if not self.read(left) and self.process.poll() is not None:
                return

    def close(self) -> None:
        """End the child."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


def measure(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run of one side."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--child", side, "--folder", name]
        for option in ("before", "seconds", "rate"):
            command += [f"--{option}", str(getattr(options, option))]
        environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_CONFIG_HOME": name}
        terminal = Terminal(command, environment)
        try:
            return _measure(terminal, folder, options)
        finally:
            terminal.close()


def _measure(terminal: Terminal, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    result, begun = folder / "result.json", folder / "result.begun"
    deadline = time.monotonic() + 60
    terminal.drain(2.5)
    terminal.type("Tell me everything.\r")
    while not begun.exists():
        if time.monotonic() > deadline or terminal.process.poll() is not None:
            raise SystemExit(f"the app did not begin: {terminal.shown.decode(errors='replace')}")
        terminal.drain(0.1)
    before = terminal.num_bytes
    echoes: list[float] = []
    num_lost = 0
    deadline = time.monotonic() + options.seconds * 4 + 30
    for key in KEYS * 40:
        if result.exists() or time.monotonic() > deadline:
            break
        # A key that is on the screen already would be found in any redraw of its line.
        if key == KEYS[0] and echoes:
            terminal.type("\x7f" * (len(KEYS) + 8))
            terminal.drain(1.0)
        echo = terminal.echo_s(key)
        if echo is None:
            num_lost += 1
        else:
            echoes.append(echo)
        terminal.drain(KEY_EVERY_S * random.uniform(0.5, 1.5))
    num_bytes = terminal.num_bytes - before
    while not result.exists() and time.monotonic() < deadline:
        terminal.drain(0.1)
    if not result.exists():
        raise SystemExit("the stream did not end")
    found: dict[str, Any] = json.loads(result.read_text())
    echoes.sort()
    return {
        "cpu_share": found["cpu_s"] / found["wall_s"],
        "cpu_s": found["cpu_s"],
        "wall_s": found["wall_s"],
        "num_keys": len(echoes),
        "num_lost_keys": num_lost,
        "echo_median_ms": statistics.median(echoes) * 1000 if echoes else None,
        "echo_p95_ms": echoes[int(len(echoes) * 0.95)] * 1000 if echoes else None,
        "echo_max_ms": echoes[-1] * 1000 if echoes else None,
        "bytes_per_s": num_bytes / found["wall_s"],
    }


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=int, default=70_000, help="characters that are there at once")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long it streams")
    parser.add_argument("--rate", type=float, default=100.0, help="pieces of four characters a second")
    parser.add_argument("--side", choices=("chat", "textual", "both"), default="chat")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        text = answer(options.before + int(options.rate * options.seconds) * PIECE_CHARS)
        (run_chat if options.child == "chat" else run_textual)(options.folder, text, options.before, options.rate)
        return 0
    sides = ("chat", "textual") if options.side == "both" else (options.side,)
    results = {side: measure(side, options) for side in sides}
    if options.json:
        print(json.dumps(results, indent=2))
        return 0
    for side, found in results.items():
        print(
            f"{side:8} CPU {found['cpu_share']:.1%} of a core over {found['wall_s']:.1f} s; key to echo median "
            f"{found['echo_median_ms']:.1f} ms, p95 {found['echo_p95_ms']:.1f} ms, max {found['echo_max_ms']:.1f} ms "
            f"({found['num_keys']} keys, {found['num_lost_keys']} lost); {found['bytes_per_s'] / 1000:.0f} kB/s drawn"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
