"""Measure the history of the terminal chat with many conversations: opening, listing, search, answers, memory, size.

    python scripts/bench_history.py [--conversations 10000] [--turns 8] [--app] [--keep FILE] [--json]

The conversations are made of words whose frequencies fall as they do in a language, with code, accents and Chinese in
some; the same every time. Opening, listing and search are of a fresh process, with the file in the system's cache.
With `--app` the chat itself is started on a terminal (not on Windows): seconds from exec until list and prompt are
seen, median of three starts after one that is not counted; and its memory three seconds later, without its child.
With `--keep` the database stays (one that is there is used), for trying the chat itself with it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localllm_tui.history.history import History
from localllm_tui.history.values import Bundle, Conversation, Node, Stats

from localllm.api import Role

SYLLABLES = "ba co di fu ga he ki lo mu na pe ri so tu va we xi yo za bre cla dro fle gri pla sto tri"
COMMON = (
    "the of and to in is you that it for was on are with as be this have from or one had by word but not what all"
    " were when your can said there use an each which she do how their if will up other about out many then them"
    " these so some her would make like him into time has look two more write go see number no way could people"
)
RARE = "quantization lighthouse marmalade kubernetes espresso saxophone tardigrade borrowck heisenbug semaphore"
CHINESE = "机器学习模型的量化方法可以减少内存占用并且提高推理速度今天天气很好我们去公园散步吧"
CODE = "\n```python\ndef read_file(path: str) -> bytes:\n    return open(path, 'rb').read()\n```\n"
QUERIES = (
    "the", "t", "th", "qu", "quant", "quantization", "lighthouse keeper", "read_file", "def read", "marmalade the",
    "the of and", '"of the"', "学习", "内存", "机器学习", "café", "cafe", "people number", "a b c d", "zzzzz", "e",
    "heisenbug semaphore", "tardigrade", "espresso and", "open(path", "import numpy as np", "saxo", "你好", "s t r",
)  # fmt: skip


def vocabulary(rng: random.Random) -> tuple[list[str], list[float]]:
    """30,000 words and how often each comes, summed up."""
    words, syllables = COMMON.split(), SYLLABLES.split()
    known = set(words)
    while len(words) < 30_000:
        word = "".join(rng.choice(syllables) for _ in range(rng.randint(2, 5)))
        if word not in known:
            known.add(word)
            words.append(word)
    total, sums = 0.0, []
    for rank in range(1, len(words) + 1):
        total += 1 / rank
        sums.append(total)
    return words, sums


def bundles(num_conversations: int, num_turns: int) -> Iterator[Bundle]:
    """Conversations, the newest an hour old, the oldest two years."""
    rng = random.Random(7)
    words, sums = vocabulary(rng)
    rare = RARE.split()
    now = time.time()
    for number in range(num_conversations):
        created = now - 3600 - 63e6 * number / num_conversations
        pool = rng.choices(words, cum_weights=sums, k=num_turns * 100)
        nodes = []
        for turn in range(num_turns):
            is_question = turn % 2 == 0
            text = " ".join(pool[turn * 100 : turn * 100 + rng.randint(8, 30 if is_question else 100)])
            match rng.randrange(40):
                case 0:
                    text += CODE
                case 1:
                    text += " café"
                case 2:
                    start = rng.randrange(20)
                    text += CHINESE[start : start + 15]
                case 3:
                    text += f" {rng.choice(rare)} {rng.choice(rare)}"
            role: Role = "user" if is_question else "assistant"
            stats = None if is_question else Stats(300, 100, 90, 0.1, 0.5, 1.5, 0.6)
            parent = turn if turn else None
            nodes.append(Node(turn + 1, 0, parent, role, text, model="m", stats=stats, created=created + turn))
        conversation = Conversation(
            0,
            title=" ".join(pool[:5]),
            titled_by="model",
            folder=rng.choice(("", "", "", "work", "reading")),
            is_pinned=number < 5,
            model="smollm2:135m",
            leaf=num_turns,
            created=created,
            updated=created + num_turns,
        )
        yield Bundle(f"bench-{number}", conversation, tuple(nodes))


def fill(file: Path, num_conversations: int, num_turns: int) -> float:
    """Make the database; gives the seconds that taking in took, without making up the words."""
    given = list(bundles(num_conversations, num_turns))
    history = History(file)
    began = time.perf_counter()
    history.take_in(given)
    took = time.perf_counter() - began
    history.close()
    return took


def measure(file: Path) -> dict[str, Any]:
    """The figures, in this process; seconds unless the name says otherwise."""
    before = _rss_mib()
    began = time.perf_counter()
    history = History(file)
    figures: dict[str, Any] = {"open_s": time.perf_counter() - began}
    figures["first_page_s"] = _median(lambda: history.conversations(limit=100))
    began = time.perf_counter()
    everything = history.conversations(limit=1_000_000)
    figures["whole_list_s"] = time.perf_counter() - began
    figures["memory_of_list_mib"] = _rss_mib() - before
    figures["open_conversation_s"] = _median(lambda: history.path(everything[5000 % len(everything)].leaf or 0))
    first = {query: _timed(lambda query=query: history.search(query)) for query in QUERIES}
    again = {query: _median(lambda query=query: history.search(query)) for query in QUERIES}
    figures["search_first_worst_s"] = max(first.values())
    figures["search_median_s"] = statistics.median(again.values())
    figures["search_worst_s"] = max(again.values())
    figures["search_worst_query"] = max(again, key=lambda query: again[query])
    figures |= _streaming(history)
    figures["memory_mib"] = _rss_mib()
    figures["file_mib"] = file.stat().st_size / 2**20
    figures["searches"] = {query: round(seconds * 1000, 2) for query, seconds in again.items()}
    history.close()
    return figures


def _streaming(history: History) -> dict[str, float]:
    """An answer of 100 KB, kept 200 times while it grows, then finished."""
    conversation = history.new(model="m", title="streaming")
    node = history.add(conversation.id, None, "assistant", state="streaming")
    text = "some words of an answer " * 4300
    steps = [_timed(lambda at=at: history.update(node.id, content=text[: at * 500])) for at in range(1, 200)]
    end = _timed(lambda: history.update(node.id, content=text, state="complete"))
    history.delete(conversation.id)
    return {
        "stream_update_median_s": statistics.median(steps),
        "stream_update_worst_s": max(steps),
        "stream_end_s": end,
    }


def app(file: Path, rounds: int = 4) -> dict[str, float]:
    """The chat's start and memory with a copy of the database."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copy(file, Path(home) / "chat.db")
        starts = [_start(Path(home)) for _ in range(rounds)][1:]
    return {
        "app_start_s": statistics.median(start for start, _ in starts),
        "app_memory_mib": max(memory for _, memory in starts),
    }


def _start(home: Path) -> tuple[float, float]:
    """Start the chat on a terminal of 110 columns and end it; seconds to the first whole frame, and MiB."""
    import fcntl
    import os
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 34, 110, 0, 0))
    env = {**os.environ, "LOCALLLM_HOME": str(home), "TERM": "xterm-256color"}
    began = time.perf_counter()
    command = [sys.executable, "-m", "localllm", "chat", "--local"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    try:
        shown, took = b"", 0.0
        while not took:
            shown += os.read(ours, 65536)
            if b"sk anything" in shown and b"Pinned" in shown:
                took = time.perf_counter() - began
        _drain(ours, time.perf_counter() + 3)
        status = Path(f"/proc/{process.pid}/status").read_text() if sys.platform == "linux" else ""
        resident = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")), "0")
        os.write(ours, b"\x11")  # Ctrl+Q
        _drain(ours, time.perf_counter() + 5)
        return took, int(resident) / 1024
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _drain(terminal: int, until: float) -> None:
    """Read what is written until a time, or until the other side is closed."""
    import os
    import select

    while (left := until - time.perf_counter()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                if not os.read(terminal, 65536):
                    return
            except OSError:
                return


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _median(work: Any, rounds: int = 5) -> float:
    return statistics.median(_timed(work) for _ in range(rounds))


def _rss_mib() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="the database to use, made where it is not there")
    parser.add_argument("--app", action="store_true", help="start the chat itself, too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.keep)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = args.keep or Path(folder) / "chat.db"
        made = {} if file.exists() else {"take_in_s": fill(file, args.conversations, args.turns)}
        command = [sys.executable, __file__, "--measure", "--keep", str(file)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures = made | json.loads(done.stdout)
        if args.app:
            figures |= app(file)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:.4f}" if isinstance(value, float) else f"{name:24} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
