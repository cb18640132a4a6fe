"""Measure how long `localllm chat` takes from exec to its first frame, and to a keypress that is echoed, on a terminal.

    python scripts/bench_chat_start.py [--rounds 9] [--conversations N] [--url URL]

Starts the installed command on a pseudo-terminal with a home of its own (of N generated conversations), as a person's
shell would. The first frame is there when the prompt's frame is drawn; the echo is a typed letter that comes back.
Medians are printed; the first round, with a cold disk, does not count. POSIX only.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "sk anything"  # the cursor stands on its first letter
TYPED = "~q~"


class Start:
    """One start on a pseudo-terminal."""

    def __init__(self, home: Path, args: list[str]) -> None:
        import pty
        import termios

        own, child = pty.openpty()
        termios.tcsetwinsize(own, (40, 120))
        environ = {**os.environ, "LOCALLLM_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        command = str(Path(sys.executable).with_name("localllm"))
        self._begun = time.perf_counter()
        self._process = subprocess.Popen(
            [command, "chat", *args], stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True
        )
        os.close(child)
        self._fd = own
        self._seen = ""

    def until(self, words: str) -> float:
        """Seconds from the start until `words` were drawn."""
        while words not in self._seen:
            if not self._read(10.0) or time.perf_counter() - self._begun > 20:
                raise SystemExit(f"{words!r} does not come:\n{self._seen[-2000:]}")
        return time.perf_counter() - self._begun

    def type(self, keys: str) -> float:
        """Seconds until typed text is seen."""
        at = time.perf_counter()
        os.write(self._fd, keys.encode())
        while keys not in self._seen:
            if not self._read(10.0) or time.perf_counter() - at > 20:
                raise SystemExit("what is typed does not come back")
        return time.perf_counter() - at

    def end(self) -> None:
        """Leave, as a person would."""
        os.write(self._fd, b"\x11")
        until = time.perf_counter() + 5
        while self._read(1.0) and time.perf_counter() < until:
            pass
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._fd)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:
            return False
        self._seen += data.decode("utf-8", "replace")
        return bool(data)


def generate(database: Path, num_conversations: int) -> None:
    """Conversations of four turns."""
    from localllm_tui.history.history import History

    history = History(database)
    for number in range(num_conversations):
        conversation = history.new(model="smollm2:135m", title=f"Conversation {number}")
        parent = None
        for turn in range(4):
            words = f"turn {turn} of conversation {number} is about subject {number * 7919 % 1000}"
            parent = history.add(conversation.id, parent, "user" if turn % 2 == 0 else "assistant", words).id
    history.close()


def main() -> None:
    """Start again and again, print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--conversations", type=int, default=0)
    parser.add_argument("--url", help="ask a daemon there instead of starting an engine")
    args = parser.parse_args()
    where = ["--url", args.url] if args.url else []
    frames: list[float] = []
    echoes: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "chat.db", args.conversations)
        for number in range(args.rounds + 1):
            home = Path(folder) / f"home{number}"
            home.mkdir()
            shutil.copy(Path(folder) / "chat.db", home)
            start = Start(home, ["--new", *where])
            frame = start.until(PROMPT)
            echo = start.type(TYPED)
            start.end()
            if number:
                frames.append(frame)
                echoes.append(echo)
    print(f"{args.conversations} conversations, {args.rounds} starts")
    for name, times in (("first frame", frames), ("then, a key to its echo", echoes)):
        print(f"{name}: median {statistics.median(times):.3f} s, from {min(times):.3f} to {max(times):.3f}")


if __name__ == "__main__":
    main()
